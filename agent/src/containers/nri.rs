//! The NRI plugin: the runtime tells it of every pod and container, and asks it before a container is made.
//!
//! It connects, introduces itself, and answers; when the runtime goes away it waits for it to come back. The runtime
//! lets a plugin go that does not answer in time, and makes containers without it, so every answer has its time.

mod events;
mod frames;
mod session;

pub use frames::FrameError;

use super::{
    injection::{Adjustment, Spec},
    member::Member,
    registry::Registry,
};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{net::UnixStream, sync::watch, time};

/// Where runtimes have the socket, unless they are told otherwise.
pub const SOCKET: &str = "/var/run/nri/nri.sock";

/// How long the plugin waits before it connects again, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// How often the registry is held against the kernel, for pods whose end the runtime does not tell.
const SWEEP: Duration = Duration::from_secs(5);

/// What a container is given, worked out by whoever knows the local CA; an error keeps the container from being made.
pub type Adjust = dyn Fn(&Member, &Spec) -> Result<Adjustment, String> + Send + Sync;

/// How the plugin stands with the runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// No runtime answers, and why.
    #[default]
    Starting,
    /// The runtime is not there, or has let the plugin go.
    Apart(String),
    /// Everything that is there is in the registry, and nothing starts without the plugin.
    Synchronized {
        /// The runtime's name and version.
        runtime: String,
    },
}

/// The plugin.
pub struct Plugin {
    /// Where the runtime listens.
    pub socket: PathBuf,
    /// Its name, and the two digits by which the runtime orders plugins: later ones see what earlier ones have changed.
    pub name: String,
    /// Those digits.
    pub index: String,
    /// The cgroup2 mount.
    pub cgroups: PathBuf,
    /// Where pods and containers are entered.
    pub registry: Arc<Registry>,
    /// What containers are given that a workload claims.
    pub adjust: Arc<Adjust>,
    /// How it stands.
    pub state: watch::Sender<State>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no runtime.
    #[error("cannot connect to the runtime at `{}`", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Reading or writing failed.
    #[error("the connection to the runtime broke")]
    Io(#[from] io::Error),
    /// The runtime closed it.
    #[error("the runtime closed the connection")]
    Closed,
    /// The runtime is going away, and has said so.
    #[error("the runtime shuts down")]
    Shutdown,
    /// Its bytes are not NRI's.
    #[error("what the runtime sent is not NRI")]
    Frame(#[from] FrameError),
    /// A message is not what it should be.
    #[error("a message of the runtime cannot be read")]
    Message(#[from] prost::DecodeError),
    /// It does not want the plugin.
    #[error("the runtime refused the plugin: {0}")]
    Refused(String),
    /// It has said nothing.
    #[error("the runtime has not answered the plugin's introduction")]
    Silent,
    /// It has more than one node can have.
    #[error("the runtime tells of more than {0} pods and containers")]
    TooMany(usize),
}

impl Plugin {
    /// With this registry, and a runtime at this socket.
    pub fn new(socket: PathBuf, cgroups: PathBuf, registry: Arc<Registry>, adjust: Arc<Adjust>) -> Self {
        Self {
            socket,
            cgroups,
            name: "tidegate".into(),
            // Late, so that it sees the variables and mounts of the others.
            index: "90".into(),
            registry,
            adjust,
            state: watch::Sender::default(),
        }
    }

    /// Serves until the future is dropped.
    pub async fn serve(&self) {
        tokio::join!(self.connect(), self.sweep());
    }

    async fn sweep(&self) {
        loop {
            time::sleep(SWEEP).await;
            let is_there =
                |path: &Path| path.strip_prefix("/").is_ok_and(|path| self.cgroups.join(path).is_dir());
            self.registry.sweep(is_there).await;
        }
    }

    async fn connect(&self) {
        let [first, longest] = PAUSES;
        let mut pause = first;
        loop {
            let ended = self.connect_and_serve().await;
            let was_there = matches!(*self.state.borrow(), State::Synchronized { .. });
            let causes =
                std::iter::successors(Some(&ended as &dyn std::error::Error), |error| error.source());
            let why = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
            if was_there {
                tracing::warn!(
                    why,
                    "apart from the container runtime: containers start without the local CA"
                );
                pause = first;
            } else if self.state.send_if_modified(|state| *state == State::Starting) {
                tracing::info!(why, "no container runtime yet");
            }
            self.state.send_replace(State::Apart(why));
            time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    async fn connect_and_serve(&self) -> Error {
        match UnixStream::connect(&self.socket).await {
            Ok(stream) => match session::Session::new(self, stream).serve().await {
                Ok(never) => match never {},
                Err(error) => error,
            },
            Err(source) => Error::Connect { path: self.socket.clone(), source },
        }
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Plugin").field("socket", &self.socket).finish_non_exhaustive()
    }
}
