//! The addresses of the forward proxies, from the agent's own resolution alone.

use crate::{
    config::{ForwardProxy, forward_proxy::ProxyHost},
    forward::upstream::Resolve,
    host::HostName,
};
use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    sync::{PoisonError, RwLock},
    time::Duration,
};

/// How often names are resolved again. Addresses that a name once had are kept.
const REFRESH: Duration = Duration::from_secs(60);

/// How long the start waits for the first answers.
const FIRST: Duration = Duration::from_secs(5);

/// Known addresses, growing as names move.
pub struct ProxyAddresses {
    ports: Vec<u16>,
    names: Vec<(HostName, u16)>,
    resolve: Resolve,
    known: RwLock<HashSet<SocketAddr>>,
}

impl ProxyAddresses {
    /// Of these proxies; no name's are known yet.
    pub fn new(proxies: Vec<ForwardProxy>, resolve: Resolve) -> Self {
        let ports = proxies.iter().map(|proxy| proxy.port).collect();
        let (mut names, mut known) = (Vec::new(), HashSet::new());
        for ForwardProxy { host, port } in proxies {
            match host {
                ProxyHost::Name(name) => names.push((name, port)),
                ProxyHost::Address(address) => {
                    _ = known.insert(SocketAddr::new(address.to_canonical(), port))
                }
            }
        }
        Self { ports, names, resolve, known: RwLock::new(known) }
    }

    /// Those that another process of the agent knows.
    pub fn following(addresses: impl IntoIterator<Item = SocketAddr>, resolve: Resolve) -> Self {
        let known = RwLock::new(addresses.into_iter().collect());
        Self { ports: Vec::new(), names: Vec::new(), resolve, known }
    }

    /// Also this one, which another process of the agent has learned.
    pub fn follow(&self, address: SocketAddr) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(address);
    }

    /// The ports of all of them.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Whether this is the address of one.
    pub fn contains(&self, address: SocketAddr) -> bool {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        self.known.read().unwrap_or_else(PoisonError::into_inner).contains(&address)
    }

    /// Resolves every name once; answers all addresses, for the kernel side.
    pub async fn learn_first(&self) -> Vec<SocketAddr> {
        if tokio::time::timeout(FIRST, self.learn()).await.is_err() {
            tracing::warn!(
                seconds = FIRST.as_secs(),
                "forward proxies are not resolved yet: what goes through them is not captured until then"
            );
        }
        self.known.read().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Resolves again, for as long as the agent runs, and hands every address that is new to `capture`.
    pub async fn keep_learning(&self, mut capture: impl FnMut(SocketAddr)) {
        loop {
            tokio::time::sleep(REFRESH).await;
            self.learn().await.into_iter().for_each(&mut capture);
        }
    }

    /// Answers what is new.
    async fn learn(&self) -> Vec<SocketAddr> {
        let mut new = Vec::new();
        for (name, port) in &self.names {
            match (self.resolve)(name.clone()).await {
                Ok(addresses) => {
                    let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                    let addresses = addresses.iter().map(IpAddr::to_canonical);
                    let addresses = addresses.map(|address| SocketAddr::new(address, *port));
                    new.extend(addresses.filter(|address| known.insert(*address)));
                }
                Err(error) => tracing::warn!(proxy = %name, %error, "cannot resolve a forward proxy"),
            }
        }
        new
    }
}

impl std::fmt::Debug for ProxyAddresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyAddresses").field("names", &self.names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    };

    #[tokio::test]
    async fn addresses_are_told_once_and_kept() {
        let answers = Arc::new(AtomicU8::new(0));
        let resolve: Resolve = Arc::new(move |_| {
            let turn = answers.fetch_add(1, Relaxed);
            Box::pin(async move {
                match turn {
                    0 => Ok(vec![IpAddr::from([192, 0, 2, 1]), "2001:db8::1".parse().unwrap()]),
                    1 => Ok(vec![IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2])]),
                    _ => Err(std::io::Error::other("no answer")),
                }
            })
        });
        let proxies =
            ["http://proxy.example:3128", "192.0.2.9:80"].map(|text| ForwardProxy::parse(text).unwrap());
        let addresses = ProxyAddresses::new(proxies.to_vec(), resolve);
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(addresses.learn().await, ["192.0.2.1:3128", "[2001:db8::1]:3128"].map(parse));
        assert_eq!(addresses.learn().await, ["192.0.2.2:3128"].map(parse));
        assert!(addresses.learn().await.is_empty());
        for (address, known) in [
            ("192.0.2.1:3128", true),
            ("[::ffff:192.0.2.2]:3128", true),
            ("[2001:db8::1]:3128", true),
            ("192.0.2.9:80", true),
            ("192.0.2.1:80", false),
            ("192.0.2.3:3128", false),
        ] {
            assert_eq!(addresses.contains(parse(address)), known, "{address}");
        }
    }
}
