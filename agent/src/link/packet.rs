//! One message as it crosses the sockets (`SOCK_SEQPACKET`, which keeps messages apart).
//!
//! ```text
//! ┌──────┬───────────┬───────┐   and up to 8 descriptors
//! │ kind │ id, 8, LE │ body  │   kind + 128: the body is in a memfd instead, the last descriptor
//! └──────┴───────────┴───────┘
//! ```

use rustix::{
    fs::{MemfdFlags, memfd_create},
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};
use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
};
use zeroize::{Zeroize, Zeroizing};

/// As much of a body as goes through the socket; its buffer must have room for many such.
const MAX_INLINE: usize = 16 << 10;
/// The longest body: many times the policies of the largest machine.
const MAX_BODY: u64 = 256 << 20;
const MAX_DESCRIPTORS: usize = 8;
const HEAD: usize = 9;
const IN_MEMORY: u8 = 128;

/// What is wanted of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tell = 1,
    Ask = 2,
    Answer = 3,
}

/// A message.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) kind: Kind,
    pub(super) id: u64,
    pub(super) body: Zeroizing<Vec<u8>>,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// Sends one. It waits only where the other end does not read.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    kind: Kind,
    id: u64,
    body: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    if body.len() <= MAX_INLINE {
        return send_packet(socket, kind as u8, id, body, descriptors);
    }
    let mut memory = File::from(memfd_create("tidegate-message", MemfdFlags::CLOEXEC)?);
    memory.write_all(body)?;
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().copied().chain([memory.as_fd()]).collect();
    send_packet(socket, kind as u8 | IN_MEMORY, id, &[], &descriptors)
}

fn send_packet(
    socket: BorrowedFd<'_>,
    kind: u8,
    id: u64,
    body: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let id = id.to_le_bytes();
    let parts = [IoSlice::new(std::slice::from_ref(&kind)), IoSlice::new(&id), IoSlice::new(body)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    loop {
        match sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return sent.map(drop).map_err(io::Error::from),
        }
    }
}

/// Reads messages until the other end is gone.
///
/// # Errors
/// When what came is no message.
pub(super) fn read_all(socket: BorrowedFd<'_>, mut take: impl FnMut(Packet)) -> io::Result<()> {
    let mut buffer = vec![0; HEAD + MAX_INLINE];
    while let Some(packet) = receive(socket, &mut buffer)? {
        take(packet);
    }
    Ok(())
}

fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<Packet>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(None),
            received => break received?,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(wrong("a message was cut off"));
    }
    let text = buffer.get(..received.bytes).unwrap_or_default();
    let (kind, rest) = text.split_first().ok_or_else(|| wrong("a message has no head"))?;
    let (id, body) = rest.split_first_chunk().ok_or_else(|| wrong("a message has no head"))?;
    let body = if kind & IN_MEMORY == 0 {
        Zeroizing::new(body.to_vec())
    } else {
        read_memory(descriptors.pop().ok_or_else(|| wrong("a message has no body"))?)?
    };
    let kind = match kind & !IN_MEMORY {
        1 => Kind::Tell,
        2 => Kind::Ask,
        3 => Kind::Answer,
        _ => return Err(wrong("a message is of no known kind")),
    };
    let id = u64::from_le_bytes(*id);
    buffer.get_mut(..received.bytes).unwrap_or_default().zeroize();
    Ok(Some(Packet { kind, id, body, descriptors }))
}

/// Whoever has sent it can still change it, and cut it shorter meanwhile, which then is an error.
fn read_memory(memory: OwnedFd) -> io::Result<Zeroizing<Vec<u8>>> {
    let memory = File::from(memory);
    let length = memory.metadata()?.len();
    if length > MAX_BODY {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
    }
    let mut body = Zeroizing::new(vec![0; usize::try_from(length).map_err(io::Error::other)?]);
    memory.read_exact_at(&mut body, 0)?;
    Ok(body)
}
