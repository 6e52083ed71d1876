//! How the agent makes connections of its own: past its own capture, where the agent itself runs as a subject.

use super::{Error, maps::Exempt};
use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};
use tokio::net::{TcpSocket, TcpStream};

/// Makes connections; clones share what they are exempt by.
#[derive(Clone, Default)]
pub struct OwnSockets(Arc<OnceLock<Mutex<Exempt>>>);

impl OwnSockets {
    /// From now on every connection is exempt from capture; only the first call counts.
    pub fn exempt(&self, exempt: Exempt) {
        let _is_set = self.0.set(Mutex::new(exempt));
    }

    /// Connects.
    ///
    /// # Errors
    /// As connect(2), or when the socket cannot be exempted, so that it would come back to the agent.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(exempt) = self.0.get() {
            let added = exempt.lock().unwrap_or_else(PoisonError::into_inner).add(&socket);
            added.map_err(|error: Error| io::Error::other(error))?;
        }
        socket.connect(address).await
    }
}

impl fmt::Debug for OwnSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnSockets").field("is_exempt", &self.0.get().is_some()).finish()
    }
}
