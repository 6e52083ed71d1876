//! The control socket: one request, one answer, each a line of JSON.

pub mod client;
pub mod peer;

pub use client::{Error, follow, reload, run, status};

use crate::health::status::Status;
use peer::Peer;
use rustix::{
    fs::{Mode, fchmod},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fs, io,
    os::unix::{
        fs::{PermissionsExt, chown},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
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

/// Conversations of one user at once, and of all users but root, who can be many in a user namespace: so nobody keeps
/// the others, nor all together root, from being heard. More are not answered.
const MAX_OF_USER: usize = 4;
const MAX_OF_USERS: usize = 12;

/// The group whose members may ask everything, where it exists.
pub const GROUP: &str = "tidegate";
const BACKLOG: i32 = 64;

/// How long accept rests when the process has no descriptor to give.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How is everything?
    Status {},
    /// Make the asking process one of this workload's.
    Run {
        /// The workload's name.
        workload: String,
    },
    /// Read the configuration and the policies again.
    Reload {},
    /// Let the asking agent follow this one: at the end, the listeners come over this connection, which it keeps.
    Follow {
        /// What the maps mean to it ([`tidegate_ebpf_common::LAYOUT`]).
        layout: u32,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Run`]: it is one now, for good.
    Run(Admission),
    /// To [`Request::Reload`]: what has changed.
    Reload {
        /// For people.
        message: String,
    },
    /// To [`Request::Follow`]: it will.
    Follow {},
    /// Why there is no answer.
    Error {
        /// For people.
        message: String,
    },
}

/// What a process that was made a workload's has to know.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Admission {
    /// The workload's policy.
    pub policy: String,
    /// A file of the local CA's certificates.
    pub anchors: PathBuf,
    /// A file of the system's certificates and the local CA's.
    pub bundle: PathBuf,
}

/// Who answers.
pub trait Desk: Send + Sync + 'static {
    /// Whether the process is a subject, by its cgroup, its user, or what it once was.
    fn is_subject(&self, peer: &Peer) -> bool;
    /// Whether it may ask how everything is, and for a reload.
    fn is_trusted(&self, peer: &Peer) -> bool;
    /// The state of everything.
    fn status(&self) -> Status;
    /// Makes the process the workload's, for good.
    ///
    /// # Errors
    /// Says why it stays what it is, for people.
    fn admit(&self, peer: &Peer, workload: &str) -> Result<Admission, String>;
    /// Reads configuration and policies again. What has changed, for people.
    ///
    /// # Errors
    /// Says why everything stays as it is, for people.
    fn reload(&self) -> Result<String, String>;
    /// Whether an agent to which the maps mean this may follow.
    ///
    /// # Errors
    /// Says why not, for people.
    fn may_follow(&self, layout: u32) -> Result<(), String>;
    /// Keeps the connection of the agent that is to follow.
    fn keep_follower(&self, follower: UnixStream);
}

/// Whom the socket's file lets connect. What each may ask is decided by the desk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Root, and this group.
    Group(Option<u32>),
    /// Everybody: some workload can be run by others.
    Everybody,
}

/// The listening socket.
#[derive(Debug)]
pub struct Control(net::UnixListener);

impl Control {
    /// Listens at `path` in the place of whatever is there.
    ///
    /// # Errors
    /// When the path cannot be used.
    pub fn bind(path: &Path, callers: Callers) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // The file gets the mode that the socket has at this moment, so at no moment can others connect.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        let (group, mode) = match callers {
            Callers::Group(group) => (group, 0o660),
            Callers::Everybody => (None, 0o666),
        };
        chown(path, None, group)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        listen(&socket, BACKLOG)?;
        net::UnixListener::from_std(socket.into()).map(Self)
    }

    /// Answers, for as long as the agent runs.
    pub async fn serve(self, desk: Arc<impl Desk>) {
        let places = Arc::new(Semaphore::new(MAX_CONVERSATIONS));
        let present = Present::default();
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.0.accept().await {
                Ok((stream, _)) => {
                    let Some(visit) = stream.peer_cred().ok().and_then(|peer| present.come(peer.uid()))
                    else {
                        continue;
                    };
                    let desk = Arc::clone(&desk);
                    tokio::spawn(async move {
                        if let Ok(Err(error)) = timeout(PATIENCE, converse(stream, desk)).await {
                            tracing::debug!(%error, "a conversation on the control socket broke off");
                        }
                        drop((visit, place));
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

/// How many conversations each user has.
#[derive(Clone, Debug, Default)]
struct Present(Arc<Mutex<HashMap<u32, usize>>>);

/// One conversation of a user's. It ends when this is dropped.
#[derive(Debug)]
struct Visit {
    present: Present,
    uid: u32,
}

impl Present {
    /// None where the user, or all users together, have enough already. Root never has.
    fn come(&self, uid: u32) -> Option<Visit> {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = users.iter().filter(|(uid, _)| **uid != 0).map(|(_, count)| count).sum();
        let own = users.get(&uid).copied().unwrap_or_default();
        if uid != 0 && (own >= MAX_OF_USER || all >= MAX_OF_USERS) {
            return None;
        }
        users.insert(uid, own + 1);
        Some(Visit { present: self.clone(), uid })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut users = self.present.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = users.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                users.remove(&self.uid);
            }
        }
    }
}

async fn converse(mut stream: net::UnixStream, desk: Arc<impl Desk>) -> io::Result<()> {
    let peer = Peer::of(&stream);
    let (reader, mut writer) = stream.split();
    let mut line = Vec::new();
    tokio::io::BufReader::new(reader.take(MAX_REQUEST_BYTES)).read_until(b'\n', &mut line).await?;
    let asked = Arc::clone(&desk);
    let answered = tokio::task::spawn_blocking(move || answer(peer, &line, asked.as_ref()));
    let answered = answered.await.map_err(io::Error::other)?;
    let mut text = serde_json::to_vec(&answered)?;
    text.push(b'\n');
    writer.write_all(&text).await?;
    if answered != (Answer::Follow {}) {
        return writer.shutdown().await;
    }
    let follower = stream.into_std()?;
    follower.set_nonblocking(false)?;
    desk.keep_follower(follower);
    Ok(())
}

fn answer(peer: io::Result<Peer>, line: &[u8], desk: &impl Desk) -> Answer {
    let refused = |message: String| Answer::Error { message };
    let peer = match peer {
        Err(error) => return refused(format!("tidegate cannot tell who asks: {error}")),
        Ok(peer) if desk.is_subject(&peer) => {
            tracing::warn!(pid = peer.pid, uid = peer.uid, "a subject asks on the control socket: refused");
            return refused("a subject gets no answer from tidegate".to_owned());
        }
        Ok(peer) => peer,
    };
    let request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => {
            return refused(format!("this version of tidegate does not understand the request: {error}"));
        }
    };
    if !matches!(request, Request::Run { .. }) && !desk.is_trusted(&peer) {
        return refused(format!("only root and the members of the group `{GROUP}` may ask that"));
    }
    // What is captured goes to whoever has the listeners.
    if matches!(request, Request::Follow { .. }) && peer.uid != 0 {
        return refused("only root's agent may follow".to_owned());
    }
    match request {
        Request::Follow { layout } => match desk.may_follow(layout) {
            Ok(()) => Answer::Follow {},
            Err(message) => refused(message),
        },
        Request::Status {} => Answer::Status(Box::new(desk.status())),
        Request::Run { workload } => match desk.admit(&peer, &workload) {
            Ok(admission) => Answer::Run(admission),
            Err(message) => refused(message),
        },
        Request::Reload {} => match desk.reload() {
            Ok(message) => Answer::Reload { message },
            Err(message) => refused(message),
        },
    }
}

#[cfg(test)]
mod tests;
