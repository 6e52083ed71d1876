//! How listeners pass from the agent that ends to one that waits to follow it, over a connection to the control socket:
//! what connects meanwhile waits in them, and is accepted by the next.
//!
//! ```text
//! the agent at work                                  the one that waits
//!   keeps the connection            ←── follow ────
//!   is told to end: accepts no more, follows nothing
//!                                   ─── NAME ─────→   for each listener, with its socket
//!                                   ─── end COUNT ─→
//!   unlocks what is pinned          ←── taken ─────
//!   lets requests under way end                       locks it, starts, accepts
//!   is gone: the connection closes                    looks for what the other has left unrecorded
//! ```

mod turn;

pub(super) use turn::{Inheritance, published};
pub use turn::{Turn, wait_for};

use super::handover;
use crate::capture::listener::Listener;
use rustix::{
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
};
use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long the other end may take for one message. A hundred pods' listeners take milliseconds.
const PATIENCE: Duration = Duration::from_secs(3);

/// More than the listeners of a node with as many pods as any can have.
const MAX_LISTENERS: usize = 8_192;
/// More than all of their names.
const MAX_BYTES: usize = 1 << 20;

/// What the last line begins with, and what it is answered with.
const END: &str = "end ";
const TAKEN: &[u8; 6] = b"taken\n";

/// The agent that waits to follow this one, if any does.
#[derive(Clone, Debug, Default)]
pub(super) struct Succession(Arc<Mutex<Option<UnixStream>>>);

impl Succession {
    /// Keeps its connection, in the place of an earlier one's.
    pub(super) fn keep(&self, follower: UnixStream) {
        tracing::info!("another agent waits to follow this one");
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(follower);
    }

    /// Its connection, if there is one. It is to stay open until this agent has recorded everything.
    pub(super) fn take(&self) -> Option<UnixStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Gives these away. It blocks, for a moment where all is well.
///
/// # Errors
/// When the other end is gone or does not say in time that it has them: it may have some of them all the same.
pub(super) fn give(follower: &UnixStream, listeners: &[Listener]) -> io::Result<()> {
    let named = listeners.iter().map(|listener| {
        (handover::name_elsewhere(listener.netns_cookie, listener.address), listener.descriptor())
    });
    send_all(follower, named)
}

fn send_all<'d>(
    mut follower: &UnixStream,
    named: impl ExactSizeIterator<Item = (String, BorrowedFd<'d>)>,
) -> io::Result<()> {
    follower.set_write_timeout(Some(PATIENCE))?;
    follower.set_read_timeout(Some(PATIENCE))?;
    let count = named.len();
    for (name, descriptor) in named {
        send(follower, &format!("{name}\n"), &[descriptor])?;
    }
    follower.write_all(format!("{END}{count}\n").as_bytes())?;
    let mut answer = [0; TAKEN.len()];
    follower.read_exact(&mut answer)?;
    if &answer == TAKEN { Ok(()) } else { Err(wrong("its answer is not understood")) }
}

fn send(stream: &UnixStream, line: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(descriptors));
    let sent = loop {
        match sendmsg(stream, &[IoSlice::new(line.as_bytes())], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => break sent?,
        }
    };
    // The descriptors went with the first byte.
    let mut rest = stream;
    rest.write_all(line.as_bytes().get(sent..).unwrap_or_default())
}

/// Waits until the agent at work gives its listeners away, and says that they were taken. None where it ends without
/// that.
///
/// # Errors
/// When what came is not whole, or not understood.
fn receive(mut from: &UnixStream) -> io::Result<Option<Vec<(String, OwnedFd)>>> {
    // It may be at work for a year.
    from.set_read_timeout(None)?;
    from.set_write_timeout(Some(PATIENCE))?;
    let (mut text, mut descriptors) = (Vec::new(), Vec::new());
    while !is_whole(&text) {
        if receive_once(from, &mut text, &mut descriptors)? == 0 {
            return if text.is_empty() { Ok(None) } else { Err(wrong("it ended within its message")) };
        }
        if text.len() > MAX_BYTES || descriptors.len() > MAX_LISTENERS {
            return Err(wrong("it gives more listeners than there can be"));
        }
        from.set_read_timeout(Some(PATIENCE))?;
    }
    let listeners = matched(&text, descriptors)?;
    from.write_all(TAKEN)?;
    Ok(Some(listeners))
}

fn receive_once(from: &UnixStream, text: &mut Vec<u8>, descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut buffer = [0; 4 << 10];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(from, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            received => break received?,
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    text.extend_from_slice(buffer.get(..received.bytes).unwrap_or_default());
    Ok(received.bytes)
}

fn is_whole(text: &[u8]) -> bool {
    let last = text.strip_suffix(b"\n").and_then(|text| text.rsplit(|byte| *byte == b'\n').next());
    last.is_some_and(|last| last.starts_with(END.as_bytes()))
}

/// Each socket with its name: both come in one order.
fn matched(text: &[u8], descriptors: Vec<OwnedFd>) -> io::Result<Vec<(String, OwnedFd)>> {
    let text = std::str::from_utf8(text).map_err(io::Error::other)?;
    let mut names: Vec<&str> = text.lines().collect();
    let count = names.pop().and_then(|last| last.strip_prefix(END)?.parse().ok());
    if count != Some(names.len()) || names.len() != descriptors.len() {
        return Err(wrong("not every listener came with its name"));
    }
    Ok(names.into_iter().map(str::to_owned).zip(descriptors).collect())
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;
