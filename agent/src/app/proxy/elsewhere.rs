//! What the process that serves has no right to, asked for at the one that has.

use super::message::{Answer, Failed, Request};
use crate::{
    capture::own_sockets::{Opener, Opening},
    forward::upstream::Resolve,
    host::HostName,
    identify::runtime::witness::Witness,
    link::{Link, Message},
    record::{
        signer::{Signed, SignedHead},
        sink::{
            self,
            place::{Identity, Place, Signature},
        },
    },
    session::gate::{Clients, Looking},
    terminate::{
        Minted,
        ca::{self, Mint},
    },
};
use rustix::io::{Errno, read};
use serde::de::DeserializeOwned;
use std::{
    fmt,
    fs::File,
    io,
    net::TcpStream,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use tokio::net::TcpSocket;

/// How long nobody is asked whether the log is where it was.
const ASKED_WITHIN: Duration = Duration::from_secs(1);

/// The process that has the rights.
#[derive(Clone)]
pub(super) struct Elsewhere {
    pub(super) link: Arc<Link>,
    /// The path of the log, for errors.
    pub(super) path: PathBuf,
    log: Arc<Mutex<Watched>>,
}

/// What is known of the log's place.
#[derive(Default)]
struct Watched {
    /// Tells when the file is moved.
    moves: Option<OwnedFd>,
    /// When somebody was asked.
    asked: Option<Instant>,
}

impl Elsewhere {
    pub(super) fn new(link: Arc<Link>, path: PathBuf) -> Self {
        Self { link, path, log: Arc::default() }
    }

    /// Resolves names there.
    pub(super) fn resolve(&self) -> Resolve {
        let link = Arc::clone(&self.link);
        Arc::new(move |host: HostName| {
            let link = Arc::clone(&link);
            Box::pin(async move {
                let request = Request::Resolve(host.as_str().to_owned());
                value(&link.ask(&request, &[]).await?)
            })
        })
    }

    fn ask_now<T: DeserializeOwned>(&self, request: &Request) -> io::Result<T> {
        value(&self.link.ask_now(request, &[])?)
    }
}

/// What an answer holds.
fn value<T: DeserializeOwned>(answer: &Message) -> io::Result<T> {
    let answer: Answer<T> = answer.read()?;
    answer.map_err(io::Error::from)
}

impl Opener for Elsewhere {
    fn open(&self, netns_cookie: Option<u64>, is_v6: bool) -> Opening<'_> {
        Box::pin(async move {
            let mut answer = self.link.ask(&Request::Socket { netns_cookie, is_v6 }, &[]).await?;
            value::<()>(&answer)?;
            let socket = answer.descriptors.pop().ok_or_else(|| io::Error::other("no socket came"))?;
            Ok(TcpSocket::from_std_stream(TcpStream::from(socket)))
        })
    }
}

impl Mint for Elsewhere {
    /// Once a name and day, so that nobody minds the wait.
    fn mint(&self, name: &HostName, _now: SystemTime) -> Result<Minted, ca::Error> {
        let leaf = self.ask_now(&Request::Leaf(name.as_str().to_owned()));
        leaf.map_err(|error| ca::Error::Elsewhere(error.to_string()))
    }
}

impl Clients for Elsewhere {
    fn look(self: Arc<Self>, witness: Witness) -> Looking {
        Box::pin(async move {
            let (pid, path, place) = witness.parts();
            let request = Request::Look { pid, path: path.to_owned() };
            let place: Vec<_> = place.into_iter().collect();
            let answer = self.link.ask(&request, &place).await;
            let looked: io::Result<Option<_>> = answer.and_then(|answer| value(&answer));
            looked.inspect_err(|error| tracing::debug!(%error, "a client is not looked at")).ok().flatten()
        })
    }
}

impl Place for Elsewhere {
    fn open(&self) -> Result<File, sink::Error> {
        let failed = |source| sink::Error::Open { path: self.path.clone(), source };
        let answer = self.link.ask_now(&Request::OpenLog, &[]).map_err(failed)?;
        value::<()>(&answer).map_err(failed)?;
        let mut descriptors = answer.descriptors.into_iter();
        let log = descriptors.next().ok_or_else(|| failed(io::Error::other("no file came")))?;
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) =
            Watched { moves: descriptors.next(), asked: Some(Instant::now()) };
        Ok(log.into())
    }

    /// The kernel tells of a move in the moment in which it happens, so that nobody need be asked before each record. Of
    /// what happens to the directories above it does not.
    fn has(&self, file: Identity) -> bool {
        {
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            let is_moved = log.moves.as_ref().is_none_or(|moves| {
                let mut events = [0; 1024];
                !matches!(read(moves.as_fd(), &mut events), Err(Errno::AGAIN))
            });
            let is_late = log.asked.is_none_or(|asked| asked.elapsed() >= ASKED_WITHIN);
            if !is_moved && !is_late {
                return true;
            }
            log.asked = Some(Instant::now());
        }
        let asked = self.ask_now(&Request::HasLog(file));
        asked.inspect_err(|error| tracing::error!(%error, "nobody tells where the log is")).unwrap_or(true)
    }

    fn rotate(&self, _now: SystemTime) -> bool {
        let rotated = self.ask_now(&Request::RotateLog);
        rotated.inspect_err(|error| tracing::error!(%error, "the log cannot be rotated")).unwrap_or(false)
    }

    fn sign(&self, signed: &Signed) -> Option<Signature> {
        let made: io::Result<Option<_>> = self.ask_now(&Request::Sign(signed.clone()));
        made.inspect_err(|error| tracing::error!(%error, "the log cannot be signed")).ok().flatten()
    }

    fn keep(&self, newest: &SignedHead) {
        let kept: io::Result<()> = self.ask_now(&Request::Keep(newest.clone()));
        if let Err(error) = kept {
            tracing::error!(%error, "how far the log goes cannot be kept");
        }
    }
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elsewhere").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Failed {
    /// That something never came.
    pub(super) fn missing(what: &str) -> Self {
        io::Error::other(format!("no {what} came")).into()
    }
}
