//! What two processes of the agent say to each other, over a pair of sockets: messages with descriptors, of which some
//! want an answer.

mod packet;
#[cfg(test)]
mod tests;

use packet::{Kind, Packet};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::HashMap,
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};
use tokio::sync::{oneshot, watch};
use zeroize::Zeroizing;

/// How long a thread waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// One end of the pair. Whatever comes in is read at once, by a thread of its own, so that neither end ever waits for the
/// other to have room.
pub(crate) struct Link {
    socket: Arc<OwnedFd>,
    waiting: Arc<Waiting>,
    next: AtomicU64,
    open: watch::Receiver<bool>,
}

/// Who waits for an answer; none once the other end is gone.
type Waiting = Mutex<Option<HashMap<u64, Waiter>>>;

enum Waiter {
    Thread(mpsc::SyncSender<Message>),
    Task(oneshot::Sender<Message>),
}

/// What the other end has said.
#[derive(Debug)]
pub(crate) struct Message {
    /// Some hold keys.
    body: Zeroizing<Vec<u8>>,
    /// What came with it.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// Where it wants its answer; none where it wants none.
    pub(crate) reply: Option<Reply>,
}

/// Where an answer goes. One that is dropped leaves the other end waiting until its patience ends.
#[derive(Debug)]
pub(crate) struct Reply {
    socket: Arc<OwnedFd>,
    id: u64,
}

impl Message {
    /// What it says.
    ///
    /// # Errors
    /// When that is something else.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> io::Result<T> {
        serde_json::from_slice(&self.body).map_err(io::Error::from)
    }
}

impl Reply {
    /// Answers.
    ///
    /// # Errors
    /// When the other end is gone.
    pub(crate) fn send<T: Serialize>(self, answer: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        packet::send(self.socket.as_fd(), Kind::Answer, self.id, &written(answer)?, descriptors)
    }
}

impl Link {
    /// Begins to read. `take` gets everything that is no answer, in the order in which it was said, and must not wait.
    ///
    /// # Errors
    /// When there is no thread to read.
    pub(crate) fn start(socket: OwnedFd, mut take: impl FnMut(Message) + Send + 'static) -> io::Result<Self> {
        let (socket, waiting) = (Arc::new(socket), Arc::new(Mutex::new(Some(HashMap::new()))));
        let (is_open, open) = watch::channel(true);
        let (reading, answered) = (Arc::clone(&socket), Arc::clone(&waiting));
        let read = move || {
            let ended = packet::read_all(reading.as_fd(), |Packet { kind, id, body, descriptors }| {
                let reply = match kind {
                    Kind::Tell => None,
                    Kind::Ask => Some(Reply { socket: Arc::clone(&reading), id }),
                    Kind::Answer => {
                        return give(&answered, id, Message { body, descriptors, reply: None });
                    }
                };
                take(Message { body, descriptors, reply });
            });
            if let Err(error) = ended {
                tracing::error!(%error, "what another process of the agent says is not understood; it is given up");
            }
            // Whoever waits learns that there is nobody to answer.
            answered.lock().unwrap_or_else(PoisonError::into_inner).take();
            is_open.send_replace(false);
        };
        thread::Builder::new().name("link".to_owned()).spawn(read)?;
        Ok(Self { socket, waiting, next: AtomicU64::new(0), open })
    }

    /// Says something.
    ///
    /// # Errors
    /// When the other end is gone.
    pub(crate) fn tell<T: Serialize>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        packet::send(self.socket.as_fd(), Kind::Tell, 0, &written(message)?, descriptors)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When the other end is gone.
    pub(crate) async fn ask<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<Message> {
        let (waiter, answer) = oneshot::channel();
        self.begin(message, descriptors, Waiter::Task(waiter))?;
        answer.await.map_err(|_| gone())
    }

    /// As [`Self::ask`], for what cannot be a task. It blocks.
    ///
    /// # Errors
    /// When the other end is gone, or has not answered within 10 seconds.
    pub(crate) fn ask_now<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<Message> {
        let (waiter, answer) = mpsc::sync_channel(1);
        self.begin(message, descriptors, Waiter::Thread(waiter))?;
        answer.recv_timeout(PATIENCE).map_err(|error| match error {
            mpsc::RecvTimeoutError::Disconnected => gone(),
            mpsc::RecvTimeoutError::Timeout => io::ErrorKind::TimedOut.into(),
        })
    }

    /// Ends it, for both ends.
    pub(crate) fn close(&self) {
        // The threads that read hold the sockets, and learn from this that nobody is there any more.
        let _is_open = rustix::net::shutdown(&*self.socket, rustix::net::Shutdown::Both);
    }

    /// Waits until the other end is gone.
    pub(crate) async fn closed(&self) {
        let mut open = self.open.clone();
        // The reader is gone as well where this fails.
        let _is_closed = open.wait_for(|open| !open).await;
    }

    fn begin<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
        waiter: Waiter,
    ) -> io::Result<()> {
        let id = self.next.fetch_add(1, Relaxed);
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.as_mut().ok_or_else(gone)?.insert(id, waiter);
        }
        let body = written(message);
        let sent = body.and_then(|body| packet::send(self.socket.as_fd(), Kind::Ask, id, &body, descriptors));
        sent.inspect_err(|_| {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.as_mut().and_then(|waiting| waiting.remove(&id));
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("socket", &self.socket).finish_non_exhaustive()
    }
}

fn give(waiting: &Waiting, id: u64, answer: Message) {
    let waiter =
        waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(|all| all.remove(&id));
    // Whoever asked may have lost patience.
    match waiter {
        Some(Waiter::Thread(waiter)) => drop(waiter.send(answer)),
        Some(Waiter::Task(waiter)) => drop(waiter.send(answer)),
        None => {}
    }
}

fn written<T: Serialize>(message: &T) -> io::Result<Zeroizing<Vec<u8>>> {
    Ok(Zeroizing::new(serde_json::to_vec(message)?))
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the other process of the agent is gone")
}
