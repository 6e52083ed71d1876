//! What the process that serves may have: each request answered by the one that has the right to it.

use super::message::{Answer, Failed, Request};
use crate::{
    capture::own_sockets::OwnSockets,
    forward::upstream::Resolve,
    host::HostName,
    identify::runtime::{Guess, witness::Witness},
    link::{Message, Reply},
    record::{
        chain::Head,
        signer::Signed,
        sink::place::{Own, Place, Signature},
    },
    session::gate::{Clients, OwnEyes},
    terminate::{Minted, ca::Mint},
};
use rustix::fs::inotify;
use serde::Serialize;
use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::SystemTime,
};
use tokio::task::spawn_blocking;

/// What it may ask for.
pub(in crate::app) struct Rights {
    pub(in crate::app) own_sockets: OwnSockets,
    pub(in crate::app) resolve: Resolve,
    pub(in crate::app) authority: RwLock<Arc<dyn Mint>>,
    pub(in crate::app) log: Arc<Own>,
    pub(in crate::app) clients: Arc<OwnEyes>,
    pub(in crate::app) signed: Mutex<Option<Head>>,
}

impl Rights {
    /// From here on this authority signs.
    pub(in crate::app) fn sign_with(&self, authority: Arc<dyn Mint>) {
        *self.authority.write().unwrap_or_else(PoisonError::into_inner) = authority;
    }

    /// Answers a request.
    pub(super) async fn answer(self: Arc<Self>, mut message: Message) {
        let (Ok(request), Some(reply)) = (message.read(), message.reply.take()) else {
            tracing::error!("the process that serves connections asks for what is unknown here");
            return;
        };
        let sent = match request {
            Request::Socket { netns_cookie, is_v6 } => self.socket(netns_cookie, is_v6, reply).await,
            Request::Resolve(name) => send(reply, self.resolved(&name).await),
            Request::Leaf(name) => send(reply, self.leaf(&name)),
            Request::Look { pid, path } => {
                let place = message.descriptors.into_iter().next();
                send(reply, Ok(self.look(pid, path, place).await))
            }
            // What touches files waits elsewhere.
            Request::OpenLog => blocking(move || self.open_log(reply)).await,
            Request::HasLog(identity) => blocking(move || send(reply, Ok(self.log.has(identity)))).await,
            Request::RotateLog => blocking(move || send(reply, Ok(self.log.rotate(SystemTime::now())))).await,
            Request::Sign(signed) => send(reply, Ok(self.sign(&signed))),
            Request::Keep(newest) => {
                blocking(move || {
                    self.log.keep(&newest);
                    send(reply, Ok(()))
                })
                .await
            }
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "the process that serves connections gets no answer");
        }
    }

    async fn socket(&self, netns_cookie: Option<u64>, is_v6: bool, reply: Reply) -> io::Result<()> {
        match self.own_sockets.open(netns_cookie, is_v6).await {
            Ok(socket) => reply.send(&Answer::Ok(()), &[socket.as_fd()]),
            Err(error) => send::<()>(reply, Err(error.into())),
        }
    }

    async fn resolved(&self, name: &str) -> Answer<Vec<IpAddr>> {
        let name = HostName::parse(name).map_err(|error| Failed::of(&error))?;
        Ok((self.resolve)(name).await?)
    }

    fn leaf(&self, name: &str) -> Answer<Minted> {
        let name = HostName::parse(name).map_err(|error| Failed::of(&error))?;
        let authority = Arc::clone(&self.authority.read().unwrap_or_else(PoisonError::into_inner));
        authority.mint(&name, SystemTime::now()).map_err(|error| Failed::of(&error))
    }

    fn sign(&self, signed: &Signed) -> Option<Signature> {
        let mut last = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        if !goes_on(last.as_ref(), &signed.head) {
            tracing::error!(
                "a signature is refused: the process that serves connections wants to alter what it has recorded"
            );
            return None;
        }
        *last = Some(signed.head.clone());
        self.log.sign(signed)
    }

    async fn look(&self, pid: Option<u32>, path: PathBuf, place: Option<OwnedFd>) -> Option<Guess> {
        Arc::clone(&self.clients).look(Witness::of_parts(pid, path, place)).await
    }

    fn open_log(&self, reply: Reply) -> io::Result<()> {
        let log = match self.log.open() {
            Ok(log) => log,
            Err(error) => return send::<()>(reply, Err(Failed::of(&error))),
        };
        // A user has a limited number of watches, and others may have taken all of root's. Without one it is asked before
        // each record.
        let watch = watch(log.as_fd());
        let watch = watch.inspect_err(|error| tracing::warn!(%error, "moves of the audit log are not told"));
        let descriptors: Vec<_> = [log.as_fd()].into_iter().chain(watch.iter().map(AsFd::as_fd)).collect();
        reply.send(&Answer::Ok(()), &descriptors)
    }
}

/// Whether a head is of the one chain that a process writes, and not behind what was signed before: who takes the process
/// over can lie from then on, and change nothing of what was.
fn goes_on(last: Option<&Head>, head: &Head) -> bool {
    last.is_none_or(|last| last.id == head.id && (head.sequence > last.sequence || head == last))
}

/// Becomes readable when the file is moved or removed.
fn watch(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let events =
        inotify::WatchFlags::MOVE_SELF | inotify::WatchFlags::DELETE_SELF | inotify::WatchFlags::ATTRIB;
    // Of what is open, whatever its path names by now.
    inotify::add_watch(&watch, format!("/proc/self/fd/{}", file.as_raw_fd()), events)?;
    Ok(watch)
}

async fn blocking(answer: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    spawn_blocking(answer).await.map_err(io::Error::other)?
}

fn send<T: Serialize>(reply: Reply, answer: Answer<T>) -> io::Result<()> {
    reply.send(&answer, &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn head(id: &str, sequence: u64, byte: u8) -> Head {
        Head { id: id.to_owned(), sequence, hash: [byte; 32] }
    }

    #[test_case(None, head("a", 7, 1), true; "the first")]
    #[test_case(Some(head("a", 7, 1)), head("a", 8, 2), true; "the next")]
    #[test_case(Some(head("a", 7, 1)), head("a", 7, 1), true; "the same again, in the next file")]
    #[test_case(Some(head("a", 7, 1)), head("a", 7, 2), false; "the same number with another content")]
    #[test_case(Some(head("a", 7, 1)), head("a", 6, 1), false; "an earlier one")]
    #[test_case(Some(head("a", 7, 1)), head("b", 8, 2), false; "another chain")]
    fn only_what_goes_on_is_signed(last: Option<Head>, head: Head, expected: bool) {
        assert_eq!(goes_on(last.as_ref(), &head), expected);
    }
}
