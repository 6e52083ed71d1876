//! A command without root: the daemon makes this process a workload's, and what this process starts is that as well.
//!
//! The gate stands in the kernel whatever happens here. What this process does for its part: it keeps no connection from
//! before, gives up whatever would let the command gain privileges, and tells programs to trust the local CA.

use super::{
    child::{FAILED, NOT_EXECUTABLE, NOT_FOUND},
    descriptors,
    isolation::{self, Isolation},
    signals::Forwarder,
    status_of,
    trust::{self, Installed},
};
use crate::{
    control::{self, Admission},
    trust::Surroundings,
};
use rustix::thread::set_no_new_privs;
use std::{
    env,
    error::Error as StdError,
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Why a command could not be run as a workload of the daemon's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon is not there, or refuses.
    #[error(transparent)]
    Control(#[from] control::Error),
    /// An inherited descriptor leads past the gate.
    #[error(transparent)]
    Descriptors(#[from] descriptors::Error),
    /// The command could gain privileges, or reach processes outside.
    #[error("cannot keep the command from gaining privileges")]
    Privileges(#[source] io::Error),
    /// The same.
    #[error("cannot keep the command apart from the processes outside")]
    Isolation(#[from] landlock::RulesetError),
    /// Programs would refuse the local CA's certificates.
    #[error("cannot make programs trust the local CA")]
    Trust(#[source] Box<dyn StdError + Send + Sync>),
    /// Signals, a directory or the process cannot be had.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// There is no such program, or it is none.
    #[error("cannot execute `{}`", program.display())]
    Exec {
        /// The program.
        program: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Error {
    /// The exit status of `tidegate run`, as that of env(1).
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Exec { source, .. } if source.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Self::Exec { .. } => NOT_EXECUTABLE,
            Self::Control(_)
            | Self::Descriptors(_)
            | Self::Privileges(_)
            | Self::Isolation(_)
            | Self::Trust(_)
            | Self::System { .. } => FAILED,
        }
    }
}

/// Runs the command as the daemon's workload and answers with its exit status. The calling process stays one of that
/// workload's.
///
/// # Errors
/// Says why the command has not run.
pub fn run(socket: &Path, workload: &str, command: &[OsString]) -> Result<u8, Error> {
    let system = |action| move |source| Error::System { action, source };
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| Error::Exec { program: PathBuf::new(), source: io::ErrorKind::NotFound.into() })?;
    let forwarder = Forwarder::start(|| false).map_err(system("handle signals"))?;
    let admission = control::run(socket, workload)?;
    // From here on nothing passes the gate but what was connected before.
    descriptors::close_leaky()?;
    set_no_new_privs(true).map_err(|errno| Error::Privileges(errno.into()))?;
    if isolation::enter()? == Isolation::None {
        say(
            "warning: this kernel has no Landlock, so that the command can trace the same user's processes outside",
        );
    }
    let directory = tempfile::Builder::new().prefix("tidegate-").tempdir();
    let directory = directory.map_err(system("make a directory for temporary files"))?;
    let trust = trust_of(&directory, &admission, command)?;
    say(
        "without root no trust store is covered: programs learn of the local CA from environment variables alone, and \
         those that read none, such as Java, refuse its certificates; so does what clears its environment",
    );
    for warning in &trust.warnings {
        say(&format!("warning: {warning}"));
    }
    let started = Command::new(program).args(arguments).envs(trust.variables).spawn();
    let mut process = started.map_err(|source| Error::Exec { program: program.into(), source })?;
    forwarder.attach(process.id()).map_err(system("watch the command"))?;
    Ok(status_of(process.wait().map_err(system("wait for the command"))?))
}

fn trust_of(directory: &TempDir, admission: &Admission, command: &[OsString]) -> Result<Installed, Error> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let working_directory = env::current_dir().ok();
    let surroundings = Surroundings {
        root: Path::new("/"),
        home: home.as_deref(),
        working_directory: working_directory.as_deref(),
        command,
        lookup: &|name| env::var_os(name),
    };
    let installed = trust::by_variables(directory.path(), admission, &surroundings);
    installed.map_err(|error| Error::Trust(error.into()))
}

fn say(message: &str) {
    // There is nobody left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "tidegate: {message}");
}
