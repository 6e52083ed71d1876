//! The process that becomes the command: it encloses itself, then executes it.
//!
//! It runs before tidegate has any thread, because a thread cannot enter namespaces alone.

use crate::{
    run::{
        cgroup::{self, Cgroup},
        descriptors,
        directory::{self, read_json},
        isolation::{self, Isolation},
        limits::OpenFiles,
        namespace, privileges, trust,
        user::User,
    },
    trust::Surroundings,
};
use nix::sys::signal::SigSet;
use serde::{Deserialize, Serialize};
use std::{
    env,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// The hidden subcommand that runs [`main`] with a run's directory and the command.
pub const SUBCOMMAND: &str = "__child";

/// tidegate itself failed.
pub const FAILED: u8 = 125;
/// The command was found and cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// The command was not found.
pub const NOT_FOUND: u8 = 127;

/// What the child has to do, in `child.json`.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Task {
    /// To join.
    pub(super) cgroup: PathBuf,
    /// To hide, and to put the trust files in.
    pub(super) run_dir: PathBuf,
    /// To hide as well.
    pub(super) hidden: Vec<PathBuf>,
    /// Directories to keep from being changed.
    pub(super) read_only: Vec<PathBuf>,
    /// The local CA's certificate.
    pub(super) trust_anchor: String,
    /// To become.
    pub(super) user: Option<User>,
    /// To be held to.
    pub(super) open_files: OpenFiles,
}

/// What the child could not do, in `failure`.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Failure {
    /// The exit status for it.
    pub(super) status: u8,
    /// For people, causes included.
    pub(super) message: String,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no command was given")]
    NoCommand,
    #[error(transparent)]
    Directory(#[from] directory::Error),
    #[error("`{}` is missing", .0.display())]
    NoTask(PathBuf),
    #[error(transparent)]
    Descriptors(#[from] descriptors::Error),
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    #[error(transparent)]
    Namespace(#[from] namespace::Error),
    #[error(transparent)]
    Trust(#[from] trust::Error),
    #[error("cannot keep the command apart from the processes outside")]
    Isolation(#[from] landlock::RulesetError),
    #[error("cannot give the command its limit on open files")]
    Limits(#[source] io::Error),
    #[error("cannot limit the command's capabilities")]
    Privileges(#[source] io::Error),
    #[error("cannot become the user of --user")]
    User(#[source] io::Error),
    #[error("cannot enter `{}` as the command sees it", path.display())]
    WorkingDirectory { path: PathBuf, source: io::Error },
    #[error("cannot execute `{}`", program.display())]
    Exec { program: PathBuf, source: io::Error },
}

/// The child process itself. It returns only when it fails.
pub fn main(directory: &Path, command: &[OsString]) -> ExitCode {
    let path = directory.join("failure");
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let Err(error) = enclose(directory, command);
    let failure = Failure { status: error.status(), message: chain(&error) };
    let reported = file.and_then(|mut file| report(&mut file, &failure));
    if reported.is_err() {
        say(&failure.message);
    }
    ExitCode::from(failure.status)
}

fn enclose(directory: &Path, command: &[OsString]) -> Result<std::convert::Infallible, Error> {
    let (program, arguments) = command.split_first().ok_or(Error::NoCommand)?;
    let path = directory.join("child.json");
    let task: Task = read_json(&path)?.ok_or(Error::NoTask(path))?;
    let working_directory = env::current_dir().map_err(Error::working_directory(Path::new(".")))?;

    descriptors::close_leaky()?;
    Cgroup::at(task.cgroup.clone()).join()?;
    namespace::enter()?;
    namespace::protect_kernel(&task.cgroup)?;
    let run_dir = fs::canonicalize(&task.run_dir).map_err(Error::working_directory(&task.run_dir))?;
    namespace::hide(&run_dir)?;
    // Before what is hidden, which may lie there.
    task.read_only.iter().try_for_each(|path| namespace::keep(path))?;
    task.hidden.iter().try_for_each(|path| namespace::mask(path))?;
    let lookup = |name: &str| {
        let mut of_user = task.user.iter().flat_map(User::variables);
        of_user
            .find(|(of_user, _)| *of_user == name)
            .map(|(_, value)| value.to_owned())
            .or_else(|| env::var_os(name))
    };
    let home = lookup("HOME").map(PathBuf::from);
    let surroundings = Surroundings {
        root: Path::new("/"),
        home: home.as_deref(),
        working_directory: Some(&working_directory),
        command,
        lookup: &lookup,
    };
    let trust = trust::prepare(&run_dir.join("trust"), &task.trust_anchor, &surroundings)?;
    namespace::make_read_only(&run_dir)?;
    let trust = trust.install()?;
    for warning in &trust.warnings {
        say(&format!("warning: {warning}"));
    }
    // By its path again, since the directory that the process is in may be under a cover.
    env::set_current_dir(&working_directory).map_err(Error::working_directory(&working_directory))?;

    if isolation::enter()? == Isolation::None && task.user.is_none() {
        say(
            "warning: this kernel has no Landlock, so that a command that runs as root can reach the host through \
             other processes: use --user NAME, or a kernel from 5.19 on with `landlock` in its list of LSMs",
        );
    }
    let mut command = Command::new(program);
    command.args(arguments).envs(trust.variables);
    task.open_files.restore().map_err(Error::Limits)?;
    privileges::limit().map_err(Error::Privileges)?;
    if let Some(user) = &task.user {
        command.envs(user.variables());
        user.assume().map_err(Error::User)?;
    }
    SigSet::empty().thread_set_mask().map_err(|errno| Error::Privileges(errno.into()))?;
    Err(Error::Exec { program: program.into(), source: command.exec() })
}

impl Error {
    fn status(&self) -> u8 {
        match self {
            Self::Exec { source, .. } if source.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Self::Exec { .. } => NOT_EXECUTABLE,
            Self::NoCommand
            | Self::Directory(_)
            | Self::NoTask(_)
            | Self::Descriptors(_)
            | Self::Cgroup(_)
            | Self::Namespace(_)
            | Self::Trust(_)
            | Self::Isolation(_)
            | Self::Limits(_)
            | Self::Privileges(_)
            | Self::User(_)
            | Self::WorkingDirectory { .. } => FAILED,
        }
    }

    fn working_directory(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::WorkingDirectory { path, source }
    }
}

fn report(file: &mut File, failure: &Failure) -> io::Result<()> {
    file.write_all(&serde_json::to_vec(failure)?)
}

fn say(message: &str) {
    let _ = writeln!(io::stderr(), "tidegate: {message}");
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
