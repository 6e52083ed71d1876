//! Asks the daemon.

use super::{Admission, Answer, MAX_ANSWER_BYTES, PATIENCE, Request};
use crate::health::status::Status;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("no tidegate daemon answers at `{}`; start it, for instance with `systemctl start tidegate`", .0.display())]
    NoDaemon(PathBuf),
    /// The socket is not the caller's to use.
    #[error("cannot ask the tidegate daemon at `{}`; root can, with sudo for instance", path.display())]
    Forbidden {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the tidegate daemon at `{}` does not answer", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// It answered that it will not.
    #[error("the tidegate daemon refuses: {0}")]
    Refused(String),
}

impl Error {
    fn of(source: io::Error, path: PathBuf) -> Self {
        use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
        let kind = source.kind();
        if [NotFound, ConnectionRefused].contains(&kind) {
            Self::NoDaemon(path)
        } else if kind == PermissionDenied {
            Self::Forbidden { path, source }
        } else {
            Self::Broken { path, source }
        }
    }
}

/// Asks the daemon how everything is.
///
/// # Errors
/// Says whether there is none, or it does not answer.
pub fn status(path: &Path) -> Result<Status, Error> {
    let found = |answer| if let Answer::Status(status) = answer { Some(*status) } else { None };
    about(path, &Request::Status {}, found)
}

/// Asks the daemon to make this process one of a workload's, for good.
///
/// # Errors
/// Says whether there is no daemon, or why it refuses. The process is then what it was.
pub fn run(path: &Path, workload: &str) -> Result<Admission, Error> {
    let found = |answer| if let Answer::Run(admission) = answer { Some(admission) } else { None };
    about(path, &Request::Run { workload: workload.to_owned() }, found)
}

/// Asks the daemon to read configuration and policies again, and answers what has changed.
///
/// # Errors
/// Says whether there is no daemon, or why everything stays as it is.
pub fn reload(path: &Path) -> Result<String, Error> {
    let found = |answer| if let Answer::Reload { message } = answer { Some(message) } else { None };
    about(path, &Request::Reload {}, found)
}

fn about<T>(path: &Path, request: &Request, found: impl FnOnce(Answer) -> Option<T>) -> Result<T, Error> {
    match ask(path, request) {
        Ok(Answer::Error { message }) => Err(Error::Refused(message)),
        Ok(answer) => found(answer).ok_or_else(|| {
            let source = io::Error::other("it answers what was not asked");
            Error::Broken { path: path.to_owned(), source }
        }),
        Err(source) => Err(Error::of(source, path.to_owned())),
    }
}

fn ask(path: &Path, request: &Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(2 * PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(MAX_ANSWER_BYTES)).read_until(b'\n', &mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}
