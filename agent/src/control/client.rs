//! Asks the daemon.

use super::{Admission, Answer, MAX_ANSWER_BYTES, PATIENCE, Request};
use crate::health::status::Status;
use rustix::net::sockopt::socket_peercred;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

const READ_AT_ONCE: usize = 8 << 10;

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

/// Asks the daemon to hand its listeners over when it ends: they come over the connection that is answered, which stays
/// open until then.
///
/// # Errors
/// Says whether there is no daemon, or why it will not.
pub fn follow(path: &Path, layout: u32) -> Result<UnixStream, Error> {
    let failed = |source| Error::of(source, path.to_owned());
    let mut stream = UnixStream::connect(path).map_err(failed)?;
    if !socket_peercred(&stream).map_err(|errno| failed(errno.into()))?.uid.is_root() {
        return Err(failed(io::Error::other("whoever listens there is not root")));
    }
    // What comes behind the answer has descriptors, which are for whoever follows to take.
    match converse(&mut stream, &Request::Follow { layout }, 1).map_err(failed)? {
        Answer::Follow {} => Ok(stream),
        Answer::Error { message } => Err(Error::Refused(message)),
        Answer::Status(_) | Answer::Run(_) | Answer::Reload { .. } => {
            Err(failed(io::Error::other("it answers what was not asked")))
        }
    }
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
    converse(&mut UnixStream::connect(path)?, request, READ_AT_ONCE)
}

/// Says one line and hears one, of which `at_once` bytes are read at once.
fn converse(stream: &mut UnixStream, request: &Request, at_once: usize) -> io::Result<Answer> {
    stream.set_read_timeout(Some(2 * PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    BufReader::with_capacity(at_once, stream.take(MAX_ANSWER_BYTES)).read_until(b'\n', &mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}
