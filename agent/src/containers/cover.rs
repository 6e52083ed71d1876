//! The local CA for a container that is there already: copies of the stores that its programs read, in which the local
//! CA is trusted, too, are laid read-only over them in the container's own mount namespace.
//!
//! ```text
//! agent ─Task→ inside: a process of its own, which can be killed whatever the container makes it wait for, and has the
//!                       rights that it takes, where the service manager makes it
//!                process   the container's process, opened once
//!                mounts    copies become mounts that belong to nobody yet, and are put into the container
//!       ←Answer─
//! ```

pub mod inside;
mod mounts;
mod process;

use super::{
    Container,
    injection::{ANCHORS, Spec},
};
use serde::{Deserialize, Serialize};
use std::{
    env, fmt, fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    process::Command,
    time::timeout,
};

/// The variable that names the service manager's socket: whoever connects to it has such a process at the other end.
const SOCKET: &str = "TIDEGATE_COVER_SOCKET";

/// How long all of it may take: real images take some ten milliseconds.
const LIMIT: Duration = Duration::from_secs(10);
/// How much is heard of what the process has to say.
const MAX_ANSWER: u64 = 1 << 20;
/// How the directories of copies that were laid over something are called.
const PREFIX: &str = "cover-";

/// What the process is to do.
#[derive(Debug, Deserialize, Serialize)]
struct Task {
    /// A process of the container's.
    pid: u32,
    /// The container's cgroup, from the mount's root.
    cgroup: PathBuf,
    /// An empty directory for copies.
    copies: PathBuf,
    /// The local CA's certificates, PEM.
    anchors: String,
    /// With what the container's first program is made. A process that has not become that program yet does not show it.
    made_with: Option<Spec>,
    /// Whether that is to be waited for.
    is_new: bool,
}

/// What came of it.
#[derive(Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Covered {
    /// The stores that a copy lies over now. What trusted the local CA before is not among them.
    pub stores: Vec<PathBuf>,
    /// What could not be done.
    pub warnings: Vec<String>,
}

/// Why nothing was laid over anything.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime tells of no cgroup, or nothing runs in it.
    #[error("none of its processes is known")]
    NoProcess,
    /// A file of the agent's own cannot be read or made.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The process that does it could not be started, or broke off.
    #[error("the process that enters the container failed")]
    Process(#[source] io::Error),
    /// Something in the container keeps it waiting.
    #[error("a file of the container's could not be read within {LIMIT:?}")]
    Late,
    /// It says why.
    #[error("{0}")]
    Told(Failure),
}

impl Error {
    /// Whether it may be that the runtime is still making the container.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::NoProcess => true,
            Self::Told(failure) => failure.is_passing,
            Self::File { .. } | Self::Process(_) | Self::Late => false,
        }
    }
}

/// What the process that does it says of a failure.
#[derive(Debug, Deserialize, Serialize)]
pub struct Failure {
    /// Why, with its causes.
    message: String,
    /// Whether it may be that the runtime is still making the container.
    is_passing: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What covers stores.
#[derive(Clone, Debug)]
pub struct Cover {
    /// The directory with the local CA's certificates.
    pub published: PathBuf,
    /// The directory in which each container has one for its copies.
    pub copies: PathBuf,
    /// The cgroup2 mount.
    pub cgroups: PathBuf,
}

impl Cover {
    /// A process of the container's: its first one, or any in its cgroup where that is not known.
    pub fn process_of(&self, container: &Container) -> Option<u32> {
        container.pid.or_else(|| {
            let cgroup = container.cgroup.as_ref()?.strip_prefix("/").ok()?.to_owned();
            let text = fs::read_to_string(self.cgroups.join(cgroup).join("cgroup.procs")).ok()?;
            // Those of processes that cannot be seen from here are 0.
            text.lines().filter_map(|line| line.parse().ok()).find(|pid| *pid != 0)
        })
    }

    /// Covers the stores that programs of the container read, by a process of its. One that `is_new` may still be the
    /// runtime's, which is an error. Dropping the future ends it.
    ///
    /// # Errors
    /// When nothing was done, and why.
    pub async fn cover(&self, container: &Container, pid: u32, is_new: bool) -> Result<Covered, Error> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { action, path, source }
        };
        let cgroup = container.cgroup.clone().ok_or(Error::NoProcess)?;
        let published = self.published.join(ANCHORS);
        let anchors = fs::read_to_string(&published).map_err(failed("read", &published))?;
        let own = self.copies.join(&container.id);
        fs::create_dir_all(&own).map_err(failed("make", &own))?;
        // Gone with this future, unless something in it lies over a store.
        let copies = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&own);
        let copies = copies.map_err(failed("make a directory in", &own))?;
        let made_with = container.made_with.as_ref().map(|made_with| Spec::clone(&made_with.0));
        let task = Task { pid, cgroup, copies: copies.path().to_owned(), anchors, made_with, is_new };
        let covered = timeout(LIMIT, run(&task)).await.map_err(|_| Error::Late)??;
        if !covered.stores.is_empty() {
            let _is_kept = copies.keep();
        }
        Ok(covered)
    }
}

async fn run(task: &Task) -> Result<Covered, Error> {
    let answer = async {
        let task = serde_json::to_vec(task)?;
        let answer = match env::var_os(SOCKET) {
            Some(socket) => ask_service(Path::new(&socket), &task).await?,
            None => ask_child(&task).await?,
        };
        if answer.is_empty() {
            return Err(io::Error::other("it ended without an answer"));
        }
        Ok(serde_json::from_slice::<Result<Covered, Failure>>(&answer)?)
    };
    answer.await.map_err(Error::Process)?.map_err(Error::Told)
}

/// The service manager ends it when it takes too long.
async fn ask_service(socket: &Path, task: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await.map_err(|error| {
        io::Error::other(format!("{SOCKET}: cannot connect to `{}`: {error}", socket.display()))
    })?;
    stream.write_all(task).await?;
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(answer)
}

async fn ask_child(task: &[u8]) -> io::Result<Vec<u8>> {
    let mut child = Command::new("/proc/self/exe")
        .arg(inside::SUBCOMMAND)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let missing = || io::Error::other("it has no pipes");
    // Dropped when it is written, which is its end.
    child.stdin.take().ok_or_else(missing)?.write_all(task).await?;
    let mut answer = Vec::new();
    child.stdout.take().ok_or_else(missing)?.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    child.wait().await?;
    Ok(answer)
}

#[cfg(test)]
mod tests;
