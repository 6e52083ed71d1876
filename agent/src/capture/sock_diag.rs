//! NETLINK_SOCK_DIAG: the sockets of one network namespace, and how to end them.
//!
//! Written against the kernel's own structures (`linux/inet_diag.h`): of the crates for it, none ends sockets or
//! reads their cgroups.

use rustix::{
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    time::Duration,
};

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const UDP_LITE: u8 = 136;

const V4: u8 = 2;
const V6: u8 = 10;

/// Message types, and flags of requests.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const REQUEST: u16 = 0x001;
const ACK: u16 = 0x004;
const DUMP: u16 = 0x300;

/// The attribute that tells the cgroup (Linux 5.8).
const CGROUP_ID: u16 = 21;

/// States in which a socket has a remote end and data could still leave, by their numbers in the kernel. A TCP
/// socket that listens or has long been closed by both ends is none; neither is a UDP socket that never connected.
const OPEN_STATES: [u32; 7] = [
    1,  // established; also a UDP socket that has connected
    2,  // the SYN is sent
    4,  // FIN_WAIT1
    5,  // FIN_WAIT2
    8,  // CLOSE_WAIT
    9,  // LAST_ACK
    11, // CLOSING
];

/// The kernel answers in microseconds; this bounds a defect.
const PATIENCE: Duration = Duration::from_secs(5);

/// No single answer is longer.
const BUFFER_BYTES: usize = 64 << 10;

/// `struct inet_diag_sockid`: ports, addresses, interface and cookie, as the kernel wants it back.
type SocketId = [u8; 48];

/// A socket with a remote end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    family: u8,
    protocol: u8,
    id: SocketId,
    /// Where it is connected to, an IPv4-mapped address as IPv4.
    pub(super) remote: SocketAddr,
    /// The kernel's own name for it, never used again.
    pub(super) cookie: u64,
    /// The user whose process made it.
    pub(super) uid: u32,
    /// What its descriptors' links in `/proc/PID/fd` name; 0 where no process has it any more.
    pub(super) inode: u32,
    /// The cgroup that it was made in.
    pub(super) cgroup_id: Option<u64>,
}

/// A netlink socket of the network namespace that the calling thread was in.
#[derive(Debug)]
pub(super) struct Diag {
    socket: OwnedFd,
    sequence: u32,
}

impl Diag {
    pub(super) fn open() -> io::Result<Self> {
        let protocol = Some(netlink::SOCK_DIAG);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, protocol)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The connected sockets of a protocol, of both families.
    pub(super) fn connected(&mut self, protocol: u8) -> io::Result<Vec<Socket>> {
        let mut found = Vec::new();
        for family in [V4, V6] {
            let states = OPEN_STATES.iter().fold(0, |states, state| states | 1 << state);
            self.send(SOCK_DIAG_BY_FAMILY, DUMP, &request(family, protocol, states, &[0; 48]))?;
            self.receive(|kind, payload| {
                if kind == SOCK_DIAG_BY_FAMILY {
                    found.extend(parse(protocol, payload));
                }
            })?;
        }
        Ok(found)
    }

    /// Ends a socket: whoever waits on it gets ECONNABORTED, the other end a reset.
    pub(super) fn destroy(&mut self, socket: &Socket) -> io::Result<()> {
        let Socket { family, protocol, id, .. } = socket;
        self.send(SOCK_DESTROY, ACK, &request(*family, *protocol, u32::MAX, id))?;
        self.receive(|_, _| ())
    }

    /// Asks for the end of a socket that there cannot be: the answer tells whether the kernel could.
    pub(super) fn try_destroy(&mut self) -> io::Result<()> {
        self.send(SOCK_DESTROY, ACK, &request(V4, TCP, u32::MAX, &[0; 48]))?;
        match self.receive(|_, _| ()) {
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(()),
            result => result,
        }
    }

    fn send(&mut self, kind: u16, flags: u16, payload: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let length = u32::try_from(HEADER_BYTES + payload.len()).map_err(io::Error::other)?;
        let mut message = Vec::with_capacity(HEADER_BYTES + payload.len());
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags | REQUEST).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend(payload);
        retry_on_intr(|| send(&self.socket, &message, SendFlags::empty()))?;
        Ok(())
    }

    /// Hands every message of the answer to `each`, up to its end.
    fn receive(&self, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let (_, length) = retry_on_intr(|| recv(&self.socket, buffer.as_mut_slice(), RecvFlags::TRUNC))?;
            let Some(datagram) = buffer.get(..length).filter(|datagram| !datagram.is_empty()) else {
                return Err(io::Error::other("the kernel's answer is too long"));
            };
            for message in Messages(datagram).filter(|message| message.sequence == self.sequence) {
                match message.kind {
                    // Both end the answer, and carry what went wrong: an end without, nothing.
                    ERROR | DONE => return ended(message.payload),
                    kind => each(kind, message.payload),
                }
            }
        }
    }
}

/// The result that stands in an error message, or at the end of a dump.
fn ended(payload: &[u8]) -> io::Result<()> {
    match payload.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(code) if code < 0 => Err(Errno::from_raw_os_error(-code).into()),
        _ => Ok(()),
    }
}

/// `struct inet_diag_req_v2`.
fn request(family: u8, protocol: u8, states: u32, id: &SocketId) -> Vec<u8> {
    let mut request = vec![family, protocol, 0, 0];
    request.extend(states.to_ne_bytes());
    request.extend(id);
    request
}

const HEADER_BYTES: usize = 16;

struct Message<'a> {
    kind: u16,
    sequence: u32,
    payload: &'a [u8],
}

/// The messages of a datagram, up to the first that is cut short.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let mut rest = self.0;
        let length = usize::try_from(u32::from_ne_bytes(take(&mut rest)?)).ok()?;
        let kind = u16::from_ne_bytes(take(&mut rest)?);
        let _flags: [u8; 2] = take(&mut rest)?;
        let sequence = u32::from_ne_bytes(take(&mut rest)?);
        let payload = self.0.get(HEADER_BYTES..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, sequence, payload })
    }
}

/// `struct inet_diag_msg` and its attributes.
fn parse(protocol: u8, payload: &[u8]) -> Option<Socket> {
    let mut rest = payload;
    let [family, _state, _timer, _retransmissions] = take(&mut rest)?;
    let id: SocketId = take(&mut rest)?;
    let _expiry_and_queues: [u8; 12] = take(&mut rest)?;
    let uid = u32::from_ne_bytes(take(&mut rest)?);
    let inode = u32::from_ne_bytes(take(&mut rest)?);

    let mut ends = id.as_slice();
    let _local_port: [u8; 2] = take(&mut ends)?;
    let port = u16::from_be_bytes(take(&mut ends)?);
    let _local_address: [u8; 16] = take(&mut ends)?;
    let address: [u8; 16] = take(&mut ends)?;
    let _interface: [u8; 4] = take(&mut ends)?;
    let cookie = u64::from_ne_bytes(take(&mut ends)?);
    let ip = match family {
        V4 => IpAddr::from(Ipv4Addr::from(*address.first_chunk::<4>()?)),
        V6 => IpAddr::from(Ipv6Addr::from(address)).to_canonical(),
        _ => return None,
    };
    let cgroup_id = attribute(rest, CGROUP_ID).and_then(|mut value| take(&mut value).map(u64::from_ne_bytes));
    Some(Socket { family, protocol, id, remote: SocketAddr::new(ip, port), cookie, uid, inode, cgroup_id })
}

/// The value of the first attribute of this kind.
fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let mut header = rest;
        let length = usize::from(u16::from_ne_bytes(take(&mut header)?));
        let kind = u16::from_ne_bytes(take(&mut header)?);
        let value = rest.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests;
