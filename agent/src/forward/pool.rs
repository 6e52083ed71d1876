//! The upstream connections that are open, each for one namespace, destination, host, offer and workload:
//! nothing that one workload's connection carries can meet another's.

use super::{
    Error, Key,
    behind::{Behind, behind},
    body::Outgoing,
    upstream::{Dialer, Dialled},
};
use http::{Request, Response, Version};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    collections::HashMap,
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

/// Shorter than common servers keep an idle connection, so that rarely one closes while it is being used.
const IDLE: Duration = Duration::from_secs(50);
/// How often idle connections are looked for.
const SWEEP: Duration = Duration::from_secs(10);
/// Idle HTTP/1 connections for one key.
const MAX_IDLE_PER_KEY: usize = 32;
/// Connections that are kept for later use, in all: beyond it each serves one request.
const MAX_KEPT: usize = 1024;
/// Requests under way on one HTTP/2 connection, where the upstream allows more.
const MAX_STREAMS: usize = 100;
/// A stream's window times [`MAX_STREAMS`] is the connection's, so that no stalled answer stops the others.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * 100;
/// How long the last answer's end may take to make its connection ready for the next request.
const SETTLE: Duration = Duration::from_millis(50);
/// How often HTTP/2 asks whether the upstream is there, and how long that may take.
const PING: Duration = Duration::from_secs(20);

/// Open connections by key.
pub(super) struct Pool {
    dialer: Dialer,
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    kept: Arc<()>,
}

/// The connections of one key.
#[derive(Default)]
struct Slot {
    connections: Mutex<Connections>,
    /// Held by whoever dials while nobody knows yet what the upstream speaks.
    dialling: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Connections {
    idle: Vec<Idle>,
    shared: Vec<Shared>,
    http1: bool,
    /// Failed dials so far, and what the last came to.
    failures: u64,
    failure: Option<Error>,
}

struct Idle {
    sender: http1::SendRequest<Outgoing>,
    kept: Arc<()>,
    since: Instant,
}

struct Shared {
    sender: http2::SendRequest<Outgoing>,
    /// Its count is that of the requests under way, and one.
    streams: Arc<()>,
    /// How many the upstream allows.
    limit: Arc<AtomicUsize>,
    used: Instant,
    _kept: Arc<()>,
}

/// The right to send one request on a connection.
pub(super) struct Lease {
    sender: Sender,
    /// Counts an HTTP/2 connection's requests.
    _stream: Option<Arc<()>>,
    slot: Weak<Slot>,
    kept: Option<Arc<()>>,
}

enum Sender {
    Http1(http1::SendRequest<Outgoing>),
    Http2(http2::SendRequest<Outgoing>),
}

impl Pool {
    /// An empty pool, which forgets idle connections as long as it lives.
    pub(super) fn start(dialer: Dialer) -> Arc<Self> {
        let pool = Arc::new(Self { dialer, slots: Mutex::default(), kept: Arc::new(()) });
        let weak = Arc::downgrade(&pool);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(pool) = weak.upgrade() else { return };
                pool.sweep();
            }
        });
        pool
    }

    /// A connection that is open, or a new one.
    pub(super) async fn lease(&self, key: &Key) -> Result<Lease, Error> {
        let slot = self.slot(key);
        if let Some(lease) = slot.take().await {
            return Ok(lease);
        }
        let failures = {
            let connections = lock(&slot.connections);
            if connections.http1 { None } else { Some(connections.failures) }
        };
        // Until the first connection shows what the upstream speaks, the others wait for it: it may carry all.
        if let Some(failures) = failures {
            let _dialling = slot.dialling.lock().await;
            if let Some(lease) = slot.take().await {
                return Ok(lease);
            }
            if let Some(failure) = slot.failure_since(failures) {
                return Err(failure);
            }
            if !lock(&slot.connections).http1 {
                return Box::pin(self.dial_into(key, &slot)).await;
            }
        }
        // Apart, since each request would otherwise have room for what hardly one needs.
        Box::pin(self.dial_into(key, &slot)).await
    }

    fn slot(&self, key: &Key) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(key) {
            return Arc::clone(slot);
        }
        Arc::clone(slots.entry(key.clone()).or_default())
    }

    /// Closes what is idle of a namespace, whose sockets would keep it.
    pub(super) fn forget(&self, netns_cookie: u64) {
        lock(&self.slots).retain(|key, _| key.netns_cookie != netns_cookie);
    }

    /// A new connection, whatever is open.
    pub(super) async fn dial(&self, key: &Key) -> Result<Lease, Error> {
        let slot = self.slot(key);
        Box::pin(self.dial_into(key, &slot)).await
    }

    /// A new connection on a stream that leads to the key's host.
    pub(super) async fn adopt(&self, key: &Key, stream: TcpStream) -> Result<Lease, Error> {
        let slot = self.slot(key);
        self.keep(key, &slot, self.dialer.secure(key, stream, key.destination).await).await
    }

    async fn dial_into(&self, key: &Key, slot: &Arc<Slot>) -> Result<Lease, Error> {
        self.keep(key, slot, self.dialer.dial(key).await).await
    }

    async fn keep(
        &self,
        key: &Key,
        slot: &Arc<Slot>,
        dialled: Result<Dialled, Error>,
    ) -> Result<Lease, Error> {
        let dialled = dialled.inspect_err(|error| {
            let mut connections = lock(&slot.connections);
            connections.failures += 1;
            connections.failure = Some(error.clone());
        })?;
        let kept = (Arc::strong_count(&self.kept) <= MAX_KEPT).then(|| Arc::clone(&self.kept));
        let failed = |source| Error::failed(&key.host, source);
        let slot_of_lease = Arc::downgrade(slot);
        if !dialled.http2 {
            let sender = Sender::Http1(start_http1(dialled).await.map_err(failed)?);
            lock(&slot.connections).http1 = true;
            return Ok(Lease { sender, _stream: None, slot: slot_of_lease, kept });
        }
        let (sender, limit) = start_http2(dialled).await.map_err(failed)?;
        let streams = Arc::new(());
        let mut connections = lock(&slot.connections);
        connections.http1 = false;
        if let Some(kept) = &kept {
            connections.shared.push(Shared {
                sender: sender.clone(),
                streams: Arc::clone(&streams),
                limit,
                used: Instant::now(),
                _kept: Arc::clone(kept),
            });
        }
        Ok(Lease { sender: Sender::Http2(sender), _stream: Some(streams), slot: slot_of_lease, kept })
    }

    fn sweep(&self) {
        lock(&self.slots).retain(|_, slot| {
            let mut connections = lock(&slot.connections);
            connections.idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < IDLE);
            connections.shared.retain(|shared| {
                let in_use = Arc::strong_count(&shared.streams) > 1;
                !shared.sender.is_closed() && (in_use || shared.used.elapsed() < IDLE)
            });
            let empty = connections.idle.is_empty() && connections.shared.is_empty();
            drop(connections);
            // One count is the map's own: nobody is about to put a connection in.
            !empty || Arc::strong_count(slot) > 1
        });
    }
}

impl Slot {
    async fn take(self: &Arc<Self>) -> Option<Lease> {
        if let Some(lease) = self.take_shared() {
            return Some(lease);
        }
        while let Some(Idle { mut sender, kept, .. }) = self.take_idle() {
            if matches!(timeout(SETTLE, sender.ready()).await, Ok(Ok(()))) {
                let sender = Sender::Http1(sender);
                return Some(Lease { sender, _stream: None, slot: Arc::downgrade(self), kept: Some(kept) });
            }
        }
        None
    }

    fn take_shared(self: &Arc<Self>) -> Option<Lease> {
        let mut connections = lock(&self.connections);
        connections.shared.retain(|shared| !shared.sender.is_closed());
        let shared = connections.shared.iter_mut().find(|shared| {
            Arc::strong_count(&shared.streams) <= shared.limit.load(Relaxed).clamp(1, MAX_STREAMS)
        })?;
        shared.used = Instant::now();
        let sender = Sender::Http2(shared.sender.clone());
        let stream = Some(Arc::clone(&shared.streams));
        Some(Lease { sender, _stream: stream, slot: Arc::downgrade(self), kept: None })
    }

    /// The connection that was used last, since the upstream is the least likely to close that.
    fn take_idle(&self) -> Option<Idle> {
        let mut connections = lock(&self.connections);
        connections.idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < IDLE);
        connections.idle.pop()
    }

    fn failure_since(&self, failures: u64) -> Option<Error> {
        let connections = lock(&self.connections);
        connections.failure.clone().filter(|_| connections.failures > failures)
    }
}

impl Lease {
    /// The protocol that the request must be written for.
    pub(super) fn version(&self) -> Version {
        match self.sender {
            Sender::Http1(_) => Version::HTTP_11,
            Sender::Http2(_) => Version::HTTP_2,
        }
    }

    /// Sends the request; gives it back where nothing of it has reached the upstream.
    pub(super) async fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Outgoing>>> {
        match &mut self.sender {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(sender) => sender.try_send_request(request).await,
        }
    }

    /// Leaves the connection to the next request. A lease that is dropped instead closes an HTTP/1 connection.
    pub(super) fn give_back(self) {
        let Self { sender: Sender::Http1(sender), slot, kept: Some(kept), .. } = self else { return };
        let Some(slot) = slot.upgrade().filter(|_| !sender.is_closed()) else { return };
        let mut connections = lock(&slot.connections);
        if connections.idle.len() < MAX_IDLE_PER_KEY {
            connections.idle.push(Idle { sender, kept, since: Instant::now() });
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("version", &self.version()).finish_non_exhaustive()
    }
}

async fn start_http1(dialled: Dialled) -> hyper::Result<http1::SendRequest<Outgoing>> {
    let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(dialled.stream)).await?;
    tokio::spawn(async move {
        // Whoever waits for an answer learns of an error there; here it is only of interest to a developer.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream HTTP/1 connection ended");
        }
    });
    Ok(sender)
}

/// Also gives what the upstream's limit of concurrent requests is at any time.
async fn start_http2(dialled: Dialled) -> hyper::Result<(http2::SendRequest<Outgoing>, Arc<AtomicUsize>)> {
    let (sender, connection) = http2::Builder::new(Behind)
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(dialled.stream))
        .await?;
    let limit = Arc::new(AtomicUsize::new(MAX_STREAMS));
    let written = Arc::clone(&limit);
    tokio::spawn(async move {
        let mut connection = pin!(connection);
        let ended = poll_fn(|cx| {
            let polled = connection.as_mut().poll(cx);
            written.store(connection.current_max_send_streams(), Relaxed);
            polled
        });
        if let Err(error) = behind(ended).await {
            tracing::debug!(%error, "upstream HTTP/2 connection ended");
        }
    });
    Ok((sender, limit))
}

/// No code panics while it holds one of these locks, and each leaves whole values behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
