//! The two bodies on their way: streamed, counted, and never waited for without end.

use super::{Error, pool::Lease};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep};

/// Why a request's body ended before its end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    /// The client sent nothing for too long.
    #[error("the request body stopped arriving for {0:?}")]
    Timeout(Duration),
    /// The connection or stream to the client broke.
    #[error("the request body broke off")]
    Gone(#[source] Arc<hyper::Error>),
    /// Trailers, which nothing judges.
    #[error("request trailers are not supported")]
    Trailers,
}

/// What became of a request's body so far, for whoever does not hold it.
#[derive(Debug)]
pub struct Progress {
    bytes: AtomicU64,
    begun: AtomicBool,
    ended: AtomicBool,
    fault: OnceLock<Fault>,
    origin: Instant,
    /// Microseconds from `origin` to the last piece.
    last: AtomicU64,
}

impl Progress {
    fn new(ended: bool) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            begun: AtomicBool::new(false),
            ended: AtomicBool::new(ended),
            fault: OnceLock::new(),
            origin: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    /// Bytes of the body taken so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Whether anyone has begun to take the body, so that it cannot be sent again.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Relaxed)
    }

    /// Whether the body was taken to its end.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    /// Why the body broke off, if it did.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.get()
    }

    /// When the last piece of the body passed, or the request began.
    pub(super) fn last(&self) -> Instant {
        self.origin + Duration::from_micros(self.last.load(Relaxed))
    }

    fn mark(&self) {
        let micros = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.store(micros, Relaxed);
    }
}

/// A clock that runs while a body is waited for.
#[derive(Debug)]
struct IdleTimer {
    patience: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    fn new(patience: Duration) -> Self {
        Self { patience, sleep: None }
    }

    fn stop(&mut self) {
        self.sleep = None;
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let patience = self.patience;
        self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience))).as_mut().poll(cx)
    }
}

/// A request's body on its way to the upstream.
#[derive(Debug)]
pub struct Outgoing {
    inner: Incoming,
    progress: Arc<Progress>,
    idle: IdleTimer,
}

impl Outgoing {
    /// The client's body, which may pause for `patience`.
    pub fn new(inner: Incoming, patience: Duration) -> Self {
        let progress = Arc::new(Progress::new(inner.is_end_stream()));
        Self { inner, progress, idle: IdleTimer::new(patience) }
    }

    /// What tells how far it came.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    fn fail(&mut self, fault: Fault) -> Fault {
        self.idle.stop();
        // Only the first can be set: after it the body is not polled any more.
        let _ = self.progress.fault.set(fault.clone());
        fault
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = self.get_mut();
        this.progress.begun.store(true, Relaxed);
        let Poll::Ready(next) = Pin::new(&mut this.inner).poll_frame(cx) else {
            return this.idle.poll_expired(cx).map(|()| {
                let patience = this.idle.patience;
                Some(Err(this.fail(Fault::Timeout(patience))))
            });
        };
        this.idle.stop();
        this.progress.mark();
        let frame = match next {
            Some(Ok(frame)) => frame,
            Some(Err(source)) => return Poll::Ready(Some(Err(this.fail(Fault::Gone(Arc::new(source)))))),
            None => {
                this.progress.ended.store(true, Relaxed);
                return Poll::Ready(None);
            }
        };
        let Some(data) = frame.data_ref() else {
            return Poll::Ready(Some(Err(this.fail(Fault::Trailers))));
        };
        this.progress.bytes.fetch_add(data.len() as u64, Relaxed);
        if this.inner.is_end_stream() {
            this.progress.ended.store(true, Relaxed);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body on its way to the client. It holds the upstream connection, and gives it back to the
/// pool when it was read to its end.
#[derive(Debug)]
pub struct Answer {
    inner: Incoming,
    idle: IdleTimer,
    lease: Option<Lease>,
    ended: bool,
}

impl Answer {
    pub(super) fn new(inner: Incoming, patience: Duration, lease: Lease) -> Self {
        Self { inner, idle: IdleTimer::new(patience), lease: Some(lease), ended: false }
    }

    /// Whether nothing of it is missing. A server does not ask for more than the length that was announced.
    pub fn is_complete(&self) -> bool {
        self.ended || self.inner.is_end_stream() || self.inner.size_hint().exact() == Some(0)
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let Poll::Ready(next) = Pin::new(&mut this.inner).poll_frame(cx) else {
            return this.idle.poll_expired(cx).map(|()| {
                this.lease = None;
                Some(Err(Error::SlowToAnswer { what: "go on with its answer", after: this.idle.patience }))
            });
        };
        this.idle.stop();
        Poll::Ready(match next {
            Some(Ok(mut frame)) => {
                frame.trailers_mut().map(super::headers::remove_claims);
                // Behind trailers nothing comes, and nobody asks for it.
                this.ended = frame.is_trailers();
                Some(Ok(frame))
            }
            Some(Err(source)) => {
                this.lease = None;
                Some(Err(Error::Broken(Arc::new(source))))
            }
            None => {
                this.ended = true;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.is_complete()
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }
}
