//! How the agent makes connections of its own: from the network namespace of whoever it makes them for, and past its own
//! capture, where the agent itself runs as a subject.

use super::{Error, maps::Exempt, netns::Namespace};
use std::{
    collections::HashMap,
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
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
    /// Opens them all, where this process may not.
    opener: Option<Arc<dyn Opener>>,
    exempt: OnceLock<Mutex<Exempt>>,
    /// The cookie of the agent's own namespace.
    home: OnceLock<u64>,
    /// The other namespaces that it serves, by their cookies.
    others: RwLock<HashMap<u64, Arc<Namespace>>>,
}

/// Opens sockets for whoever may not do that itself.
pub trait Opener: Send + Sync {
    /// A socket that is exempt from capture: in the namespace of that cookie, or in the agent's own.
    fn open(&self, netns_cookie: Option<u64>, is_v6: bool) -> Opening<'_>;
}

/// A socket on its way.
pub type Opening<'a> = Pin<Box<dyn Future<Output = io::Result<TcpSocket>> + Send + 'a>>;

impl OwnSockets {
    /// Those that somebody else opens, and this process connects.
    pub fn opened_by(opener: Arc<dyn Opener>) -> Self {
        Self(Arc::new(Shared { opener: Some(opener), ..Shared::default() }))
    }

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
        self.open(None, address.is_ipv6()).await?.connect(address).await
    }

    /// Connects from a namespace, so that its routes, rules and source address count.
    ///
    /// # Errors
    /// As [`Self::connect`], or when the namespace is not served (any more).
    pub async fn connect_from(&self, netns_cookie: u64, address: SocketAddr) -> io::Result<TcpStream> {
        self.open(Some(netns_cookie), address.is_ipv6()).await?.connect(address).await
    }

    /// A socket that is exempt from capture, in the namespace of that cookie, or in the agent's own.
    ///
    /// # Errors
    /// When there is none to be had, it cannot be exempted, or the namespace is not served (any more).
    pub async fn open(&self, netns_cookie: Option<u64>, is_v6: bool) -> io::Result<TcpSocket> {
        if let Some(opener) = &self.0.opener {
            return opener.open(netns_cookie, is_v6).await;
        }
        let is_home = |cookie: &u64| self.0.home.get().is_none_or(|home| home == cookie);
        let socket = match netns_cookie.filter(|cookie| !is_home(cookie)) {
            None => socket(is_v6)?,
            Some(cookie) => {
                let gone = || io::Error::other("its network namespace is gone");
                let namespace = self.other(cookie).ok_or_else(gone)?;
                let opened = spawn_blocking(move || namespace.within(|| socket(is_v6)));
                opened.await.map_err(io::Error::other)??
            }
        };
        self.exempted(socket)
    }

    /// Gives a socket this address, also where that is a listener's and the agent itself is in a container of which nobody
    /// has told it anything yet: it cannot follow the runtime before it listens.
    ///
    /// # Errors
    /// As bind(2), or when the socket cannot be exempted for it.
    pub fn bind(&self, socket: &TcpSocket, address: SocketAddr) -> io::Result<()> {
        let Some(exempt) = self.0.exempt.get() else { return socket.bind(address) };
        let mut exempt = exempt.lock().unwrap_or_else(PoisonError::into_inner);
        exempt.add(socket).map_err(io::Error::other)?;
        let bound = socket.bind(address);
        // For good it would take the place of a connection's.
        exempt.remove(socket).map_err(io::Error::other)?;
        bound
    }

    fn other(&self, netns_cookie: u64) -> Option<Arc<Namespace>> {
        let others = self.0.others.read().unwrap_or_else(PoisonError::into_inner);
        others.get(&netns_cookie).map(Arc::clone)
    }

    fn exempted(&self, socket: TcpSocket) -> io::Result<TcpSocket> {
        if let Some(exempt) = self.0.exempt.get() {
            let added = exempt.lock().unwrap_or_else(PoisonError::into_inner).add(&socket);
            added.map_err(|error: Error| io::Error::other(error))?;
        }
        Ok(socket)
    }
}

fn socket(is_v6: bool) -> io::Result<TcpSocket> {
    if is_v6 { TcpSocket::new_v6() } else { TcpSocket::new_v4() }
}

impl fmt::Debug for OwnSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnSockets").field("is_exempt", &self.0.exempt.get().is_some()).finish()
    }
}
