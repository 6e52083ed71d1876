//! A pipe through which the kernel passes bytes from socket to socket, by splice(2): they are never copied to this process.

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::{
    io,
    os::fd::OwnedFd,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::{Context, Poll, ready},
};
use tokio::{io::Interest, net::TcpStream};

/// As many bytes as are asked for at once: more than the pipe has places for.
const AT_ONCE: usize = 1 << 20;

/// What a pipe is to have room for, in bytes that lie one to a page; the kernel grants unprivileged users some thousands of pages.
const ROOM: usize = 256 << 10;

/// As many pipes as there may be: each takes two descriptors, of which connections need the others.
const MOST: usize = 256;

static PIPES: AtomicUsize = AtomicUsize::new(0);

/// A pipe, and how much is in it.
#[derive(Debug)]
pub(super) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    held: usize,
}

impl Pipe {
    /// An empty one; None where there are enough, or no descriptors for it.
    pub(super) fn new() -> Option<Self> {
        if PIPES.fetch_add(1, Relaxed) >= MOST {
            PIPES.fetch_sub(1, Relaxed);
            return None;
        }
        let Ok((out, into)) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) else {
            PIPES.fetch_sub(1, Relaxed);
            return None;
        };
        // One of the usual size passes on as much, in more calls.
        let _best_effort = fcntl_setpipe_size(&into, ROOM);
        Some(Self { out, into, held: 0 })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes what there is from a socket; 0 is its end. Only for an empty pipe, since a full one cannot be told from a
    /// socket that has nothing.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, from: &TcpStream) -> Poll<io::Result<usize>> {
        let filled = ready!(poll_io(cx, from, Interest::READABLE, || {
            Ok(splice(from, None, &self.into, None, AT_ONCE, SpliceFlags::NONBLOCK)?)
        }))?;
        self.held += filled;
        Poll::Ready(Ok(filled))
    }

    /// Gives a socket some of what it holds, and answers how much.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<usize>> {
        let drained = ready!(poll_io(cx, to, Interest::WRITABLE, || {
            Ok(splice(&self.out, None, to, None, self.held, SpliceFlags::NONBLOCK)?)
        }))?;
        if drained == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.held = self.held.saturating_sub(drained);
        Poll::Ready(Ok(drained))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        PIPES.fetch_sub(1, Relaxed);
    }
}

/// Tries it whenever the socket is ready, until it does not say that it would block.
fn poll_io(
    cx: &mut Context<'_>,
    socket: &TcpStream,
    interest: Interest,
    mut io: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        if interest.is_readable() {
            ready!(socket.poll_read_ready(cx))?;
        } else {
            ready!(socket.poll_write_ready(cx))?;
        }
        match socket.try_io(interest, &mut io) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
}
