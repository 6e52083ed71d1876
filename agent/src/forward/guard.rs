//! The reader under the HTTP/1 server: passes on exactly the bytes that [`Grammar`] found sound, and ends
//! the stream where it finds the first that is not.
//!
//! HTTP libraries are lenient (hyper takes a bare LF, and Content-Length beside Transfer-Encoding), and what
//! tidegate judges must be what every other reader of the same bytes would see.

pub mod grammar;

#[cfg(test)]
mod tests;

use grammar::{Grammar, Position, Rule, Violation};
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// How long a client may stay silent.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the first head to begin, and for any head to end once it began.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
}

/// Tells the session what the guard saw: the first violation, if any.
#[derive(Debug, Default)]
pub struct Watch(OnceLock<Violation>);

impl Watch {
    /// The violation that ended the request stream.
    pub fn violation(&self) -> Option<&Violation> {
        self.0.get()
    }
}

/// A stream whose reads are held to [`Grammar`]. Its end of file is either the client's, or a violation's.
#[derive(Debug)]
pub struct Guard<S> {
    inner: S,
    grammar: Grammar,
    watch: Arc<Watch>,
    patience: Patience,
    /// The running timer, with the position in the stream that it was started at.
    timer: Option<(Position, u64, Pin<Box<Sleep>>)>,
    ended: bool,
}

impl<S> Guard<S> {
    /// A guard on a stream from which nothing has been read yet.
    pub fn new(inner: S, patience: Patience) -> Self {
        Self {
            inner,
            grammar: Grammar::default(),
            watch: Arc::new(Watch::default()),
            patience,
            timer: None,
            ended: false,
        }
    }

    /// What tells the violation.
    pub fn watch(&self) -> Arc<Watch> {
        Arc::clone(&self.watch)
    }

    /// The stream itself, for what is written and read after the last request.
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn end(&mut self, violation: Option<Violation>) {
        self.ended = true;
        self.timer = None;
        if let Some(violation) = violation {
            // Only the first can be set: after it nothing is read any more.
            let _ = self.watch.0.set(violation);
        }
    }

    /// Whether the client was silent for longer than it may be here. Bodies have their own clock, beside
    /// whoever reads them.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (position, requests) = (self.grammar.position(), self.grammar.requests());
        let patience = match position {
            Position::Body => return Poll::Pending,
            Position::Head => self.patience.head,
            Position::Idle if requests == 0 => self.patience.head,
            Position::Idle => self.patience.idle,
        };
        let fits = |timer: &(Position, u64, _)| (timer.0, timer.1) == (position, requests);
        if !self.timer.as_ref().is_some_and(fits) {
            let sleep = Box::pin(tokio::time::sleep_until(Instant::now() + patience));
            self.timer = Some((position, requests, sleep));
        }
        match &mut self.timer {
            Some((_, _, sleep)) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ended || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(&mut this.inner).poll_read(cx, buf) else {
            ready!(this.poll_patience(cx));
            let late = this.grammar.position() == Position::Head;
            this.end(late.then(|| this.grammar.violation(Rule::HeadTimeout)));
            return Poll::Ready(Ok(()));
        };
        read?;
        let (sound, violation) = this.grammar.inspect(buf.filled().get(before..).unwrap_or_default());
        buf.set_filled(before + sound);
        if violation.is_some() {
            this.end(violation);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
