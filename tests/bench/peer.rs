//! Who is measured. Each is started for its turn and ended after it, so that none costs another anything.

mod agent;
pub(crate) mod bare;
mod bumping;
mod fixed;
pub(crate) mod tunnel;

use crate::{
    load::h2load::Load,
    place::{Answer, Place, Role},
    word,
};
use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use nix::sys::signal::Signal;
use std::{fs, net::SocketAddr, os::unix::net::UnixDatagram, path::PathBuf, time::Duration};
use tidegate_tests::{
    netns::addresses::{API, API_NAME, OTHER, OTHER_NAME},
    process::{Process, wait_until},
};

pub(crate) use agent::Setup;

/// Where every proxy but tidegate listens.
const LISTEN: &str = "127.0.0.1:8443";
/// How long a peer may take to start.
const STARTS: Duration = Duration::from_secs(60);

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// No proxy.
    Direct,
    Haproxy,
    Nginx,
    /// hyper and rustls that do nothing.
    Bare,
    /// With a policy, capture, identity and audit.
    Tidegate,
    /// With 1,000 policies of 50 rules.
    TidegatePolicies,
    /// Whose audit log is thrown away.
    TidegateUnrecorded,
    Squid,
    Mitmproxy,
}

/// What a peer is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    Http1,
    Http2,
    /// TLS that is passed on unread.
    Bytes,
}

/// How clients come to a peer, and what they trust.
pub(crate) struct Target {
    /// None where it is the address that the host's name has.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) role: Role,
    pub(crate) ca_file: PathBuf,
}

/// A peer at work.
pub(crate) struct Running {
    pub(crate) target: Target,
    /// In the order in which they end.
    processes: Vec<Process>,
    /// Where tidegate records.
    audit: Option<PathBuf>,
    /// What tidegate tells when it is ready; it tells more later.
    _notify: Option<UnixDatagram>,
}

impl Target {
    /// The address that clients connect to for this host.
    pub(crate) fn reached(&self, host: &str) -> SocketAddr {
        let named = if host == OTHER_NAME { OTHER } else { API };
        self.address.unwrap_or_else(|| SocketAddr::new(named, 443))
    }

    /// The upstream itself.
    pub(crate) fn direct(place: &Place) -> Self {
        Self { address: None, role: Role::Load, ca_file: place.directory().join("ca.pem") }
    }
}

impl Peer {
    pub(crate) fn name(self) -> String {
        word(&self)
    }

    /// Whether it can do this; squid bumps HTTP/1.1 alone.
    pub(crate) fn speaks_http2(self) -> bool {
        self != Self::Squid
    }

    /// Starts it for clients of this protocol, which the peers that can also speak upstream, and waits for an answer.
    pub(crate) fn start(self, place: &Place, carried: Carried) -> Result<Running> {
        let mut running = match self {
            Self::Direct => Running::of(Target::direct(place), Vec::new()),
            Self::Haproxy => fixed::haproxy(place, carried)?,
            Self::Nginx => fixed::nginx(place)?,
            Self::Bare => bare::start(place)?,
            Self::Tidegate => agent::start(place, &Setup::default())?,
            Self::TidegatePolicies => agent::start(place, &Setup { policies: 1_000, ..Setup::default() })?,
            Self::TidegateUnrecorded => {
                agent::start(place, &Setup { audit: Some("/dev/null".into()), ..Setup::default() })?
            }
            Self::Squid => bumping::squid(place)?,
            Self::Mitmproxy => bumping::mitmproxy(place)?,
        };
        running
            .wait_for_answer(place, carried == Carried::Http2)
            .with_context(|| format!("starting {}", self.name()))?;
        Ok(running)
    }
}

impl Running {
    fn of(target: Target, processes: Vec<Process>) -> Self {
        Self { target, processes, audit: None, _notify: None }
    }

    /// Who listens where all do, and shows a certificate of this authority.
    fn listening(ca_file: PathBuf, processes: Vec<Process>) -> Result<Self> {
        Ok(Self::of(Target { address: Some(LISTEN.parse()?), role: Role::Load, ca_file }, processes))
    }

    pub(crate) fn wait_for_answer(&mut self, place: &Place, http2: bool) -> Result<()> {
        let load = Load { host: API_NAME, answer: Answer::Kib, http2, connections: 1, streams: 1 };
        wait_until("an answer through the peer", STARTS, || {
            for process in &mut self.processes {
                ensure!(process.ended()?.is_none(), "it ended: {}{}", process.stdout()?, process.stderr()?);
            }
            Ok(load.run(place, &self.target, 1).is_ok())
        })
        .with_context(|| {
            let said = self.processes.iter().map(|process| process.stderr().unwrap_or_default());
            said.collect::<String>()
        })
    }

    /// How many lines tidegate's audit log has, where it has one.
    pub(crate) fn records(&self) -> Result<Option<u64>> {
        let Some(audit) = self.audit.as_ref().filter(|audit| audit.is_file()) else {
            return Ok(None);
        };
        let log = fs::read(audit).with_context(|| format!("reading {}", audit.display()))?;
        Ok(Some(log.iter().filter(|&&byte| byte == b'\n').count() as u64))
    }

    /// tidegate with a setup that is no peer's.
    pub(crate) fn agent(place: &Place, setup: &Setup) -> Result<Self> {
        agent::start(place, setup)
    }

    /// Ends it, and waits until it is gone.
    pub(crate) fn stop(self, place: &Place) -> Result<()> {
        let audit = self.audit.clone();
        self.stop_keeping_records(place)?;
        if let Some(audit) = audit.filter(|audit| audit.is_file()) {
            fs::remove_file(audit)?;
        }
        Ok(())
    }

    /// As [`Running::stop`], and leaves the audit log where it is.
    pub(crate) fn stop_keeping_records(self, place: &Place) -> Result<()> {
        for process in self.processes {
            process.signal(Signal::SIGTERM)?;
            // It is killed where it takes too long; some wait for connections to end.
            let _ = process.finish(Duration::from_secs(10));
        }
        wait_until("the end of the peer's processes", Duration::from_secs(20), || {
            let left = place.proxy().processes()?;
            for pid in &left {
                // Helpers that the peer left behind, in a cgroup of this program's own.
                let pid = nix::unistd::Pid::from_raw(i32::try_from(*pid)?);
                let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
            }
            Ok(left.is_empty())
        })
    }
}
