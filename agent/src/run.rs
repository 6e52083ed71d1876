//! `tidegate run`: the enclosure of one command, which ends with it and leaves nothing behind.
//!
//! ```text
//! tidegate ── Enclosure::open: directory, reaper, bpffs, cgroup
//!    ├── reaper      waits for tidegate's end; takes the run down if tidegate could not
//!    └── child       joins the cgroup, encloses itself, becomes the command
//! ```
//!
//! Killed processes come first in every teardown and the pinned links last, so there is no moment at which the
//! command runs without them.

pub mod admitted;
pub mod cgroup;
pub mod child;
pub(crate) mod descriptors;
pub mod directory;
mod filesystem;
mod isolation;
pub mod limits;
pub(crate) mod mountinfo;
mod namespace;
mod privileges;
pub mod reaper;
pub mod signals;
pub mod subordinate;
pub mod sweep;
mod trust;
pub mod user;

use self::{
    cgroup::Cgroup,
    child::{Failure, Task},
    directory::RunDirectory,
    limits::OpenFiles,
    reaper::Reaper,
    user::User,
};
use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
};

/// Why a command could not be run in an enclosure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Namespaces, cgroups and BPF need root.
    #[error("`tidegate run` without a daemon needs root: use sudo, and --user NAME for the command")]
    NotRoot,
    /// A cgroup operation failed.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// The run's directory could not be prepared.
    #[error(transparent)]
    Directory(#[from] directory::Error),
    /// There is no reaper.
    #[error(transparent)]
    Reaper(#[from] reaper::Error),
    /// Something of the run stays.
    #[error("the run at `{}` could not be taken down", path.display())]
    Teardown {
        /// The run's directory.
        path: PathBuf,
        /// The cause.
        source: sweep::Error,
    },
    /// The child's process could not be made or waited for.
    #[error("cannot {action} the command's process")]
    Process {
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The child said that it failed.
    #[error("{message}")]
    Child {
        /// What it said.
        message: String,
        /// The exit status for it.
        status: u8,
    },
}

impl Error {
    /// The exit status of `tidegate run`, as that of env(1).
    pub fn exit_status(&self) -> u8 {
        if let Self::Child { status, .. } = self { *status } else { child::FAILED }
    }
}

/// What is to run.
#[derive(Clone, Debug)]
pub struct Order {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Whom to run it as; None is root.
    pub user: Option<User>,
    /// Directories and files that the command is not to see: the CA's key, the audit log.
    pub hidden: Vec<PathBuf>,
    /// Directories that it may read and not change: the policy's.
    pub read_only: Vec<PathBuf>,
    /// The local CA's certificate, PEM.
    pub trust_anchor: String,
    /// What limit on open files it is to have.
    pub open_files: OpenFiles,
}

/// The place for one command. Dropping it takes it down as [`Enclosure::close`] does, but only logs what fails.
#[derive(Debug)]
pub struct Enclosure {
    run_dir: PathBuf,
    directory: RunDirectory,
    cgroup: Cgroup,
    reaper: Option<Reaper>,
    closed: bool,
}

impl Enclosure {
    /// Removes what killed runs have left, then makes the place: below the cgroup `cgroup_root`, or else below
    /// the caller's own, and in `run_dir` ([`crate::config::RUN_DIR`], except in tests).
    ///
    /// # Errors
    /// Something cannot be made; what was made is removed.
    pub fn open(run_dir: &Path, cgroup_root: Option<&Path>) -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let parent = cgroup::parent(cgroup_root)?;
        sweep::sweep(run_dir)?;
        let directory = RunDirectory::create(run_dir, &parent)?;
        let cgroup = Cgroup::at(directory.cgroup_path(&parent));
        let mut enclosure = Self { run_dir: run_dir.into(), directory, cgroup, reaper: None, closed: false };
        // From here on a kill leaves nothing: the reaper watches before there is anything to remove.
        enclosure.reaper = Some(Reaper::start(enclosure.directory.path())?);
        enclosure.directory.mount_pins()?;
        enclosure.cgroup.create()?;
        Ok(enclosure)
    }

    /// The command's cgroup, empty until [`Enclosure::spawn`].
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// A bpffs directory in which to pin what must outlive tidegate until the command is dead.
    pub fn pins(&self) -> PathBuf {
        self.directory.pins()
    }

    /// Starts the command, as a child of this process. Everything that holds it back must be in place.
    ///
    /// # Errors
    /// The process cannot be made.
    pub fn spawn(&self, order: Order) -> Result<Running, Error> {
        let task = Task {
            cgroup: self.cgroup.path().to_owned(),
            run_dir: self.run_dir.clone(),
            hidden: order.hidden,
            read_only: order.read_only,
            trust_anchor: order.trust_anchor,
            user: order.user,
            open_files: order.open_files,
        };
        let path = self.directory.path();
        directory::write_json(&path.join("child.json"), &task)?;
        let process = Command::new("/proc/self/exe")
            .arg(child::SUBCOMMAND)
            .arg(path)
            .arg("--")
            .args(order.command)
            .spawn()
            .map_err(|source| Error::Process { action: "start", source })?;
        Ok(Running { process, failure: path.join("failure") })
    }

    /// Kills what is left of the command's processes and removes the place.
    ///
    /// # Errors
    /// Says what stays; the next run tries again.
    pub fn close(mut self) -> Result<(), Error> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<(), Error> {
        self.closed = true;
        let result = sweep::teardown(&self.directory)
            .map_err(|source| Error::Teardown { path: self.directory.path().to_owned(), source });
        if let Some(reaper) = self.reaper.take() {
            reaper.stop();
        }
        result
    }
}

impl Drop for Enclosure {
    fn drop(&mut self) {
        if !self.closed
            && let Err(error) = self.take_down()
        {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, "the run stays until the next one");
        }
    }
}

/// A command at work.
#[derive(Debug)]
pub struct Running {
    process: Child,
    failure: PathBuf,
}

impl Running {
    /// The process id of the command.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits for its end and gives its exit status, as a shell does: 128 + n for an end by signal n.
    ///
    /// # Errors
    /// The child could not become the command.
    pub fn wait(mut self) -> Result<u8, Error> {
        let status = self.process.wait().map_err(|source| Error::Process { action: "wait for", source })?;
        if let Some(Failure { status, message }) = directory::read_json(&self.failure)? {
            return Err(Error::Child { message, status });
        }
        Ok(status_of(status))
    }
}

/// As a shell has it: 128 + n for an end by signal n.
fn status_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(child::FAILED)
}
