//! The agent that waits: until no other is at work, and for what that one gives away.

use super::{super::handover, receive};
use crate::{
    app::Error,
    capture::{
        self,
        listener::Listener,
        pins::{
            self, BPFFS, Pins,
            lock::{self, Lock},
        },
    },
    config::{Config, RUN_DIR},
    control,
    run::cgroup,
};
use std::{
    error::Error as StdError,
    fs::DirBuilder,
    io,
    os::{
        fd::OwnedFd,
        unix::{fs::DirBuilderExt, net::UnixStream},
    },
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};
use tidegate_ebpf_common::LAYOUT;
use tokio::time::timeout;

/// How often it is looked whether the agent at work is gone, where nothing tells.
const LOOK: Duration = Duration::from_millis(100);
/// How often that agent is asked again to be followed.
const ASK: Duration = Duration::from_secs(2);
/// How long an agent that has given its listeners away may keep its locks. They keep the networks of pods, and what
/// connects to them waits.
const GIVEN: Duration = Duration::from_secs(10);
/// How long it may then take to be gone: more than Kubernetes lets it.
const ENDED: Duration = Duration::from_secs(60);

/// The right to be the next agent at work.
#[derive(Debug, Default)]
pub struct Turn {
    /// Held by the one that waits first; others wait for that.
    _first: Option<Lock>,
    pub(in crate::app) inheritance: Option<Inheritance>,
}

/// What the agent before has given away.
#[derive(Debug)]
pub(in crate::app) struct Inheritance {
    pub(super) listeners: Vec<(String, OwnedFd)>,
    pub(super) from: UnixStream,
}

/// Returns when no other daemon is at work, with what it has given away.
///
/// # Errors
/// When that cannot be told.
pub fn wait_for(config: &Config) -> Result<Turn, Error> {
    let failed = |error: pins::Error| Error::Capture(error.into());
    let root = cgroup::root(config.capture.cgroup_root.as_deref())?;
    let (pins, run) = (Pins::on(Path::new(BPFFS)), Path::new(RUN_DIR));
    let made = DirBuilder::new().mode(0o755).recursive(true).create(run);
    made.map_err(|source| Error::File { action: "make", path: run.to_owned(), source })?;
    let is_free = || lock::is_free(&pins, &root).map_err(failed);
    let mut told = String::new();
    let first = loop {
        match Lock::take(&[run]) {
            Ok(first) => break first,
            Err(pins::Error::Held { .. }) => {
                tell(&mut told, "another agent waits already; waiting behind it")
            }
            Err(error) => return Err(failed(error)),
        }
        sleep(LOOK);
    };
    let mut asked: Option<Instant> = None;
    while !is_free()? {
        if asked.is_some_and(|asked| asked.elapsed() < ASK) {
            sleep(LOOK);
            continue;
        }
        asked = Some(Instant::now());
        let from = match control::follow(&run.join(control::FILE_NAME), LAYOUT) {
            Ok(from) => from,
            Err(error) => {
                let text = "waiting for the agent that is at work to end, which hands nothing over";
                tell(&mut told, &format!("{text}: {error}"));
                continue;
            }
        };
        tell(&mut told, "waiting for the agent that is at work to end, and to hand its listeners over");
        match receive(&from) {
            Ok(Some(listeners)) if within(GIVEN, is_free)? => {
                let inheritance = Some(Inheritance { listeners, from });
                return Ok(Turn { _first: Some(first), inheritance });
            }
            Ok(Some(listeners)) => {
                let count = listeners.len();
                tracing::error!(
                    count,
                    "an agent has handed its listeners over and does not end; they are closed"
                );
            }
            Ok(None) => tracing::info!("the agent that is at work ends, and has handed nothing over"),
            Err(error) => {
                let error: &dyn StdError = &error;
                tracing::error!(
                    error,
                    "what the agent that ends hands over is of no use; connects are refused"
                );
            }
        }
    }
    Ok(Turn { _first: Some(first), inheritance: None })
}

/// Whether that comes to hold in time.
fn within(limit: Duration, holds: impl Fn() -> Result<bool, Error>) -> Result<bool, Error> {
    let begun = Instant::now();
    while !holds()? {
        if begun.elapsed() >= limit {
            return Ok(false);
        }
        sleep(LOOK / 10);
    }
    Ok(true)
}

/// Says something once for as long as it stays the same.
fn tell(told: &mut String, text: &str) {
    if told != text {
        tracing::info!("{text}");
        text.clone_into(told);
    }
}

impl Inheritance {
    /// The listeners, as far as they are what their names say, one of each family and network namespace. To be called
    /// within the runtime.
    pub(in crate::app) fn listeners(&mut self) -> Vec<Listener> {
        let mut listeners: Vec<Listener> = Vec::new();
        for (name, descriptor) in std::mem::take(&mut self.listeners) {
            let adopted = Listener::adopt(descriptor).and_then(|listener| {
                let (cookie, address) = (listener.netns_cookie, listener.address);
                let is_first = listeners.iter().all(|other| {
                    (other.netns_cookie, other.address.is_ipv6()) != (cookie, address.is_ipv6())
                });
                match handover::name_elsewhere(cookie, address) == name && is_first {
                    true => Ok(listener),
                    false => Err(io::Error::other("it is another one than its name says, or one too many")),
                }
            });
            match adopted {
                Ok(listener) => listeners.push(listener),
                Err(error) => {
                    tracing::error!(name, %error, "a listener that was handed over is of no use; closed")
                }
            }
        }
        listeners
    }

    /// Waits until whoever has given it is gone, and what was under way there is recorded.
    pub(in crate::app) async fn ended(self) {
        let ended = async {
            self.from.set_nonblocking(true)?;
            let from = tokio::net::UnixStream::from_std(self.from)?;
            loop {
                from.readable().await?;
                match from.try_read(&mut [0; 64]) {
                    Ok(0) => return Ok(()),
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    Ok(_) | Err(_) => {}
                }
            }
        };
        match timeout(ENDED, ended).await {
            // Reset is gone as well.
            Ok(Ok(()) | Err(_)) => {}
            Err(_) => tracing::error!("the agent before has handed over and is still there"),
        }
    }
}

/// Which of these the kernel side sends connections to; the others are closed.
pub(in crate::app) fn published(
    listeners: Vec<Listener>,
    published: &capture::maps::Listeners,
) -> Vec<Listener> {
    let is_published = |listener: &Listener| {
        let (cookie, address) = (listener.netns_cookie, listener.address);
        let is_it = published.port(cookie, address.is_ipv6()) == Some(address.port());
        if is_it {
            tracing::info!(netns_cookie = cookie, %address, "took over a listener with what waits in it");
        } else {
            tracing::error!(netns_cookie = cookie, %address, "nothing is sent to a listener that was handed over; closed");
        }
        is_it
    };
    listeners.into_iter().filter(is_published).collect()
}
