//! How the agent makes connections of its own: from the network namespace of whoever it makes them for, and past its own
//! capture, where the agent itself runs as a subject.

use super::{Error, maps::Exempt, netns::Namespace};
use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
};
use tokio::{
    net::{TcpSocket, TcpStream},
    task::spawn_blocking,
};

/// Makes connections; clones share what they are exempt by, and the namespaces.
#[derive(Clone, Default)]
pub struct OwnSockets(Arc<Shared>);

#[derive(Default)]
struct Shared {
    exempt: OnceLock<Mutex<Exempt>>,
    /// The cookie of the agent's own namespace.
    home: OnceLock<u64>,
    /// The other namespaces that it serves, by their cookies.
    others: RwLock<HashMap<u64, Arc<Namespace>>>,
}

impl OwnSockets {
    /// From now on every connection is exempt from capture; only the first call counts.
    pub fn exempt(&self, exempt: Exempt) {
        let _is_set = self.0.exempt.set(Mutex::new(exempt));
    }

    /// Tells the agent's own namespace from others; only the first call counts. Until then there is no other.
    pub fn live_in(&self, netns_cookie: u64) {
        let _is_set = self.0.home.set(netns_cookie);
    }

    /// Connections for this namespace are made in there from now on.
    pub fn enter(&self, netns_cookie: u64, namespace: Arc<Namespace>) {
        self.0.others.write().unwrap_or_else(PoisonError::into_inner).insert(netns_cookie, namespace);
    }

    /// No connection is made for this namespace any more.
    pub fn leave(&self, netns_cookie: u64) {
        self.0.others.write().unwrap_or_else(PoisonError::into_inner).remove(&netns_cookie);
    }

    /// Connects from the agent's own namespace.
    ///
    /// # Errors
    /// As connect(2), or when the socket cannot be exempted, so that it would come back to the agent.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.connect_by(socket(address)?, address).await
    }

    /// Connects from a namespace, so that its routes, rules and source address count.
    ///
    /// # Errors
    /// As [`Self::connect`], or when the namespace is not served (any more).
    pub async fn connect_from(&self, netns_cookie: u64, address: SocketAddr) -> io::Result<TcpStream> {
        if self.0.home.get().is_none_or(|home| *home == netns_cookie) {
            return self.connect(address).await;
        }
        let gone = || io::Error::other("its network namespace is gone");
        let namespace = self.other(netns_cookie).ok_or_else(gone)?;
        let opened = spawn_blocking(move || namespace.within(|| socket(address)));
        self.connect_by(opened.await.map_err(io::Error::other)??, address).await
    }

    fn other(&self, netns_cookie: u64) -> Option<Arc<Namespace>> {
        let others = self.0.others.read().unwrap_or_else(PoisonError::into_inner);
        others.get(&netns_cookie).map(Arc::clone)
    }

    async fn connect_by(&self, socket: TcpSocket, address: SocketAddr) -> io::Result<TcpStream> {
        if let Some(exempt) = self.0.exempt.get() {
            let added = exempt.lock().unwrap_or_else(PoisonError::into_inner).add(&socket);
            added.map_err(|error: Error| io::Error::other(error))?;
        }
        socket.connect(address).await
    }
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

impl fmt::Debug for OwnSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnSockets").field("is_exempt", &self.0.exempt.get().is_some()).finish()
    }
}
