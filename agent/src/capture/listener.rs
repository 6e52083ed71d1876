//! The agent's listeners in one network namespace, and the join of what they accept with its flow.

use super::{
    Captured, Error, FLOW_LIFETIME, destination,
    maps::FlowTable,
    netns::{self, Namespace},
    own_sockets::OwnSockets,
};
use rustix::net::{ipproto, sockopt};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Privileged, so that no unprivileged process can take the port of an agent that is gone; above the
/// well-known services.
const PORTS: RangeInclusive<u16> = 600..=1023;

/// How many connections may wait for their accept.
const BACKLOG: u32 = 1024;

/// One bound socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    /// Its address.
    pub address: SocketAddr,
    /// The namespace it listens in.
    pub netns_cookie: u64,
}

/// A connection that arrived and has no flow: nobody knows whose it is.
#[derive(Debug)]
pub struct NoFlow {
    /// The other end.
    pub peer: SocketAddr,
}

/// Binds a listener for each family that the calling thread's namespace has a global route of. A family
/// without one gets none, so that its connects fail at once and clients fall back to the other. A family that
/// `has` a listener, of IPv4 and IPv6, needs no other. `port_before` says which port a namespace had (by its cookie) for a family.
///
/// # Errors
/// When no port below 1024 is free, or the kernel does not tell the namespace's cookie.
pub fn bind(
    own_sockets: &OwnSockets,
    avoid: &[u16],
    has: [bool; 2],
    port_before: impl Fn(u64, bool) -> Option<u16>,
) -> Result<Vec<Listener>, Error> {
    let mut listeners = Vec::new();
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    for ((v6, loopback), has) in [false, true].into_iter().zip(loopback).zip(has) {
        if has {
            continue;
        }
        if netns::has_global_route(v6) {
            let before = netns::own_cookie().map_err(no_cookie)?;
            listeners.push(bind_one(own_sockets, loopback, avoid, port_before(before, v6))?);
        } else {
            tracing::debug!(family = if v6 { 6 } else { 4 }, "no global route: connects of this family fail");
        }
    }
    Ok(listeners)
}

fn bind_one(
    own_sockets: &OwnSockets,
    ip: IpAddr,
    avoid: &[u16],
    before: Option<u16>,
) -> Result<Listener, Error> {
    let failed = |source| Error::Io {
        action: format!("listen on {ip} with a port of {} to {}", PORTS.start(), PORTS.end()),
        source,
    };
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    let before = before.filter(|port| PORTS.contains(port));
    for port in before.into_iter().chain(PORTS.rev()).filter(|port| !avoid.contains(port)) {
        let address = SocketAddr::new(ip, port);
        match listen(own_sockets, address) {
            Ok(socket) => {
                let netns_cookie = netns::cookie(&socket).map_err(no_cookie)?;
                return Ok(Listener { socket, address, netns_cookie });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(last))
}

fn no_cookie(source: io::Error) -> Error {
    Error::Io { action: "learn the network namespace's cookie".to_owned(), source }
}

fn listen(own_sockets: &OwnSockets, address: SocketAddr) -> io::Result<TcpListener> {
    // Never SO_REUSEPORT: a second process could share the port and steal connections.
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    own_sockets.bind(&socket, address)?;
    socket.listen(BACKLOG)
}

/// Whether there is one for IPv4, and for IPv6.
pub fn families<'a>(listeners: impl Iterator<Item = &'a Listener>) -> [bool; 2] {
    let mut families = [false; 2];
    for listener in listeners {
        let [v4, v6] = &mut families;
        *if listener.address.is_ipv6() { v6 } else { v4 } = true;
    }
    families
}

impl Listener {
    /// A listener that an earlier agent has handed over, if it is one that [`bind`] could have made, in whatever
    /// namespace.
    ///
    /// # Errors
    /// Says what else it is.
    pub fn adopt(descriptor: OwnedFd) -> io::Result<Self> {
        let other = |what: &str| io::Error::other(format!("the socket {what}"));
        if !sockopt::socket_acceptconn(&descriptor)? {
            return Err(other("does not listen"));
        }
        if sockopt::socket_protocol(&descriptor)? != Some(ipproto::TCP) {
            return Err(other("is not of TCP"));
        }
        let socket = std::net::TcpListener::from(descriptor);
        let address = socket.local_addr()?;
        if !address.ip().is_loopback() || !PORTS.contains(&address.port()) {
            return Err(other("has another address than the agent's"));
        }
        let netns_cookie = netns::cookie(&socket)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: TcpListener::from_std(socket)?, address, netns_cookie })
    }

    /// The namespace that it listens in.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn namespace(&self) -> io::Result<Namespace> {
        Namespace::of_socket(&self.socket)
    }

    /// Its descriptor, to be handed over.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Accepts one connection and takes its flow out of the table.
    ///
    /// # Errors
    /// Errors of accept itself, such as a lack of descriptors.
    pub async fn accept(&self, flows: &SharedFlows) -> io::Result<Result<Captured, NoFlow>> {
        let (stream, peer): (TcpStream, SocketAddr) = self.socket.accept().await?;
        // Answers and somebody else's protocols are of small pieces, which must not wait for an acknowledgement.
        let _best_effort = stream.set_nodelay(true);
        let flow = match flows.take(self.netns_cookie, peer) {
            Ok(flow) => flow,
            Err(error) => {
                tracing::error!(%error, "flow table unreadable");
                None
            }
        };
        Ok(flow.map(|flow| Captured { stream, destination: destination(&flow), flow }).ok_or(NoFlow { peer }))
    }
}

/// The flow table, for several listeners.
#[derive(Clone)]
pub struct SharedFlows(Arc<Mutex<FlowTable>>);

impl SharedFlows {
    /// Shares the table.
    pub fn new(table: FlowTable) -> Self {
        Self(Arc::new(Mutex::new(table)))
    }

    fn take(&self, netns_cookie: u64, peer: SocketAddr) -> Result<Option<tidegate_ebpf_common::Flow>, Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take_flow(netns_cookie, peer)
    }

    /// Removes flows whose accept never came, for as long as the agent runs.
    pub async fn sweep(self) {
        let mut interval = tokio::time::interval(FLOW_LIFETIME);
        loop {
            interval.tick().await;
            let swept = self.0.lock().unwrap_or_else(PoisonError::into_inner).sweep();
            if swept > 0 {
                tracing::debug!(swept, "flows without an accept");
            }
        }
    }
}
