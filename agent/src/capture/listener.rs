//! The agent's listeners in one network namespace, and the join of what they accept with its flow.

use super::{Captured, Error, FLOW_LIFETIME, destination, maps::FlowTable, netns};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
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
/// without one gets none, so that its connects fail at once and clients fall back to the other.
///
/// # Errors
/// When no port below 1024 is free, or the kernel does not tell the namespace's cookie.
pub fn bind(avoid: &[u16]) -> Result<Vec<Listener>, Error> {
    let mut listeners = Vec::new();
    for (v6, loopback) in [(false, IpAddr::V4(Ipv4Addr::LOCALHOST)), (true, IpAddr::V6(Ipv6Addr::LOCALHOST))]
    {
        if netns::has_global_route(v6) {
            listeners.push(bind_one(loopback, avoid)?);
        } else {
            tracing::info!(family = if v6 { 6 } else { 4 }, "no global route: connects of this family fail");
        }
    }
    Ok(listeners)
}

fn bind_one(ip: IpAddr, avoid: &[u16]) -> Result<Listener, Error> {
    let failed = |source| Error::Io {
        action: format!("listen on {ip} with a port of {} to {}", PORTS.start(), PORTS.end()),
        source,
    };
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in PORTS.rev().filter(|port| !avoid.contains(port)) {
        let address = SocketAddr::new(ip, port);
        match listen(address) {
            Ok(socket) => {
                let netns_cookie = netns::cookie(&socket).map_err(|source| Error::Io {
                    action: "learn the network namespace's cookie".to_owned(),
                    source,
                })?;
                return Ok(Listener { socket, address, netns_cookie });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(last))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    // Never SO_REUSEPORT: a second process could share the port and steal connections.
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Listener {
    /// Accepts one connection and takes its flow out of the table.
    ///
    /// # Errors
    /// Errors of accept itself, such as a lack of descriptors.
    pub async fn accept(&self, flows: &SharedFlows) -> io::Result<Result<Captured, NoFlow>> {
        let (stream, peer): (TcpStream, SocketAddr) = self.socket.accept().await?;
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
