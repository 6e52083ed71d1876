//! The addresses that protected hosts resolve to, from the agent's own resolution alone.

use super::route::Place;
use crate::{forward::upstream::Resolve, host::HostName};
use ipnet::IpNet;
use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{PoisonError, RwLock},
    time::Duration,
};

/// How often names are resolved again. Addresses that a name once had are kept: connections outlive answers.
const REFRESH: Duration = Duration::from_secs(60);

/// How long the start waits for the first answers.
const FIRST: Duration = Duration::from_secs(5);

/// Known addresses, growing as names move.
pub struct ProtectedAddresses {
    hosts: Vec<HostName>,
    edge: Vec<IpNet>,
    resolve: Resolve,
    known: RwLock<HashSet<IpAddr>>,
}

impl ProtectedAddresses {
    /// Of these hosts, behind a CDN with these ranges; none is known yet.
    pub fn new(hosts: Vec<HostName>, edge: Vec<IpNet>, resolve: Resolve) -> Self {
        Self { hosts, edge, resolve, known: RwLock::default() }
    }

    /// What is known of an address.
    pub fn place(&self, address: IpAddr) -> Place {
        let address = address.to_canonical();
        let protected = self.known.read().unwrap_or_else(PoisonError::into_inner).contains(&address);
        Place { protected, edge: self.edge.iter().any(|range| range.contains(&address)) }
    }

    /// What is known of where a name leads. One that does not resolve here may lead anywhere within the CDN.
    pub async fn place_of(&self, name: &HostName) -> Place {
        match tokio::time::timeout(FIRST, (self.resolve)(name.clone())).await {
            Ok(Ok(addresses)) if !addresses.is_empty() => {
                let places: Vec<Place> = addresses.into_iter().map(|address| self.place(address)).collect();
                Place {
                    protected: places.iter().any(|place| place.protected),
                    edge: places.iter().any(|place| place.edge),
                }
            }
            _ => Place { protected: false, edge: true },
        }
    }

    /// Resolves every name once, before the first connection is judged.
    pub async fn learn_first(&self) {
        if tokio::time::timeout(FIRST, self.learn()).await.is_err() {
            tracing::warn!(
                seconds = FIRST.as_secs(),
                "protected hosts are not resolved yet: their addresses count as any other of the CDN's"
            );
        }
    }

    /// Resolves again, for as long as the agent runs.
    pub async fn keep_learning(&self) {
        loop {
            tokio::time::sleep(REFRESH).await;
            self.learn().await;
        }
    }

    async fn learn(&self) {
        for host in &self.hosts {
            match (self.resolve)(host.clone()).await {
                Ok(addresses) => {
                    let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                    known.extend(addresses.iter().map(IpAddr::to_canonical));
                }
                Err(error) => tracing::warn!(%host, %error, "cannot resolve a protected host"),
            }
        }
    }
}

impl std::fmt::Debug for ProtectedAddresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProtectedAddresses").field("hosts", &self.hosts).finish_non_exhaustive()
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
    async fn addresses_are_kept_when_a_name_moves_or_fails() {
        let answers = Arc::new(AtomicU8::new(0));
        let resolve: Resolve = Arc::new(move |_| {
            let turn = answers.fetch_add(1, Relaxed);
            Box::pin(async move {
                match turn {
                    0 | 1 => Ok(vec![IpAddr::from([192, 0, 2, 1 + turn])]),
                    _ => Err(std::io::Error::other("no answer")),
                }
            })
        });
        let host = HostName::parse("api.digitalocean.com").unwrap();
        let addresses =
            ProtectedAddresses::new(vec![host.clone()], vec!["198.51.100.0/24".parse().unwrap()], resolve);
        for _ in 0..3 {
            addresses.learn().await;
        }
        // A name that leads nowhere from here.
        assert_eq!(addresses.place_of(&host).await, Place { protected: false, edge: true });
        for (address, protected, edge) in [
            ("192.0.2.1", true, false),
            ("::ffff:192.0.2.2", true, false),
            ("192.0.2.3", false, false),
            ("198.51.100.9", false, true),
            ("::ffff:198.51.100.9", false, true),
        ] {
            assert_eq!(addresses.place(address.parse().unwrap()), Place { protected, edge }, "{address}");
        }
    }
}
