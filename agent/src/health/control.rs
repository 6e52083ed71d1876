//! The control socket: one request, one answer, each a line of JSON.

pub mod peer;

use super::status::Status;
use peer::Peer;
use rustix::{
    fs::{Mode, fchmod},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net,
    sync::Semaphore,
    time::{sleep, timeout},
};

/// Its file's name in [`crate::config::RUN_DIR`].
pub const FILE_NAME: &str = "control.sock";

/// For a whole conversation.
const PATIENCE: Duration = Duration::from_secs(5);

const MAX_REQUEST_BYTES: u64 = 4 << 10;

/// A machine full of workloads has far less to tell.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// Conversations at once; more wait.
const MAX_CONVERSATIONS: usize = 16;
const BACKLOG: i32 = 64;

/// How long accept rests when the process has no descriptor to give.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How is everything?
    Status {},
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// Why there is no answer.
    Error {
        /// For people.
        message: String,
    },
}

/// Who answers.
pub trait Desk: Send + Sync + 'static {
    /// Whether the process is a subject, by its cgroup, its user, or what it once was.
    fn is_subject(&self, peer: &Peer) -> bool;
    /// The state of everything.
    fn status(&self) -> Status;
}

/// The listening socket.
#[derive(Debug)]
pub struct Control(net::UnixListener);

impl Control {
    /// Listens at `path` in the place of whatever is there, for root alone.
    ///
    /// # Errors
    /// When the path cannot be used.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // The file gets the mode that the socket has at this moment, so at no moment can others connect.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
        listen(&socket, BACKLOG)?;
        net::UnixListener::from_std(socket.into()).map(Self)
    }

    /// Answers, for as long as the agent runs.
    pub async fn serve(self, desk: Arc<impl Desk>) {
        let places = Arc::new(Semaphore::new(MAX_CONVERSATIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.0.accept().await {
                Ok((stream, _)) => {
                    let desk = Arc::clone(&desk);
                    tokio::spawn(async move {
                        if let Ok(Err(error)) = timeout(PATIENCE, converse(stream, desk)).await {
                            tracing::debug!(%error, "a conversation on the control socket broke off");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept on the control socket");
                    sleep(ACCEPT_REST).await;
                }
            }
        }
    }
}

async fn converse(mut stream: net::UnixStream, desk: Arc<impl Desk>) -> io::Result<()> {
    let peer = Peer::of(&stream);
    let (reader, mut writer) = stream.split();
    let mut line = Vec::new();
    tokio::io::BufReader::new(reader.take(MAX_REQUEST_BYTES)).read_until(b'\n', &mut line).await?;
    let answered = tokio::task::spawn_blocking(move || answer(peer, &line, desk.as_ref()));
    let mut text = serde_json::to_vec(&answered.await.map_err(io::Error::other)?)?;
    text.push(b'\n');
    writer.write_all(&text).await?;
    writer.shutdown().await
}

fn answer(peer: io::Result<Peer>, line: &[u8], desk: &impl Desk) -> Answer {
    let refused = |message: String| Answer::Error { message };
    match peer {
        Err(error) => return refused(format!("tidegate cannot tell who asks: {error}")),
        Ok(peer) if desk.is_subject(&peer) => {
            tracing::warn!(pid = peer.pid, uid = peer.uid, "a subject asks on the control socket: refused");
            return refused("a subject gets no answer from tidegate".to_owned());
        }
        Ok(_) => {}
    }
    match serde_json::from_slice(line) {
        Ok(Request::Status {}) => Answer::Status(Box::new(desk.status())),
        Err(error) => refused(format!("this version of tidegate does not understand the request: {error}")),
    }
}

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
    match ask(path, &Request::Status {}) {
        Ok(Answer::Status(status)) => Ok(*status),
        Ok(Answer::Error { message }) => Err(Error::Refused(message)),
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

#[cfg(test)]
mod tests;
