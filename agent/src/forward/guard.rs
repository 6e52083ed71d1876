//! The reader under the HTTP/1 server: passes on exactly the bytes that [`Grammar`] found sound, a head only as
//! a whole, and ends the stream where it finds the first that is not.
//!
//! HTTP libraries are lenient (hyper takes a bare LF, and Content-Length beside Transfer-Encoding), and what
//! tidegate judges must be what every other reader of the same bytes would see.

pub mod grammar;

#[cfg(test)]
mod tests;

use grammar::{Grammar, Position, Rule, Violation};
use std::{
    future::Future,
    io, mem,
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
    /// What was read of a head that is not complete.
    held: Vec<u8>,
    /// What may be passed on, from the position on.
    sound: (Vec<u8>, usize),
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
            held: Vec::new(),
            sound: (Vec::new(), 0),
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
        let here = (position, requests);
        let later = || Instant::now() + patience;
        match &mut self.timer {
            Some((position, requests, _)) if (*position, *requests) == here => {}
            // One that is only put off costs less than a new one.
            Some((position, requests, sleep)) => {
                sleep.as_mut().reset(later());
                (*position, *requests) = here;
            }
            None => self.timer = Some((position, requests, Box::pin(tokio::time::sleep_until(later())))),
        }
        match &mut self.timer {
            Some((_, _, sleep)) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> Guard<S> {
    /// Reads into `buf` and leaves there what may be passed on.
    fn poll_inspected(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(cx, buf) else {
            ready!(self.poll_patience(cx));
            let late = self.grammar.position() == Position::Head;
            self.end(late.then(|| self.grammar.violation(Rule::HeadTimeout)));
            return Poll::Ready(Ok(()));
        };
        read?;
        let input = buf.filled().get(before..).unwrap_or_default();
        if input.is_empty() {
            self.end(None);
            return Poll::Ready(Ok(()));
        }
        let (sound, violation) = self.grammar.inspect(input);
        // The end of what is held and new is what belongs to an unfinished head.
        let passed = (self.held.len() + sound).saturating_sub(self.grammar.unfinished());
        if self.held.is_empty() {
            self.held.extend_from_slice(input.get(passed..sound).unwrap_or_default());
            buf.set_filled(before + passed);
        } else {
            self.held.extend_from_slice(input.get(..sound).unwrap_or_default());
            let unfinished = self.held.split_off(passed);
            self.sound = (mem::replace(&mut self.held, unfinished), 0);
            buf.set_filled(before);
        }
        if violation.is_some() {
            self.end(violation);
        }
        Poll::Ready(Ok(()))
    }

    /// Passes on what waits for it; false when nothing does.
    fn pass_on(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let (bytes, position) = &mut self.sound;
        let rest = bytes.get(*position..).unwrap_or_default();
        let passed = rest.get(..buf.remaining()).unwrap_or(rest);
        buf.put_slice(passed);
        *position += passed.len();
        !passed.is_empty()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        loop {
            if this.pass_on(buf) || this.ended || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_inspected(cx, buf))?;
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
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
