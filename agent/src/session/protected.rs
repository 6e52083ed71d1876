//! The addresses that protected hosts resolve to, from the agent's own resolution alone.

mod file;
mod known;
pub mod mirror;

use super::route::Place;
use crate::{capture::address::plain, forward::upstream::Resolve, host::HostName};
use ipnet::IpNet;
use known::Known;
use std::{
    collections::BTreeSet,
    error::Error as StdError,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// How often names are resolved again. Addresses that a name once had are kept: connections outlive answers.
const REFRESH: Duration = Duration::from_secs(60);

/// How long the start waits for the first answers.
const FIRST: Duration = Duration::from_secs(5);

/// How many rounds may pass before the times of unchanged addresses are written again: an hour.
const ROUNDS_UNSAVED: u32 = 60;

/// Known addresses, growing as names move; one is forgotten a week after it was last resolved to or connected to.
pub struct ProtectedAddresses {
    hosts: Vec<HostName>,
    edge: Vec<IpNet>,
    resolve: Resolve,
    file: Option<PathBuf>,
    known: RwLock<Known>,
    whole: watch::Sender<Arc<BTreeSet<IpAddr>>>,
    every: watch::Sender<Arc<BTreeSet<IpAddr>>>,
}

impl ProtectedAddresses {
    /// Of these hosts, behind a CDN with these ranges; none is known yet.
    pub fn new(hosts: Vec<HostName>, edge: Vec<IpNet>, resolve: Resolve) -> Self {
        let (known, whole, every) = (RwLock::default(), watch::Sender::default(), watch::Sender::default());
        Self { hosts, edge, resolve, file: None, known, whole, every }
    }

    /// Begins with what this file holds, and keeps what is known in it. A file that cannot be used is replaced.
    #[must_use]
    pub fn kept_in(mut self, file: PathBuf) -> Self {
        match file::load(&file) {
            Ok(kept) => self.known = RwLock::new(Known::restore(kept, &self.hosts)),
            Err(error) => {
                let error = &error as &dyn StdError;
                tracing::warn!(file = %file.display(), error, "the protected addresses are learned anew");
            }
        }
        self.file = Some(file);
        self.publish();
        self
    }

    /// What is known of an address that a connection leads to.
    pub fn place(&self, address: IpAddr) -> Place {
        let address = plain(address);
        let protected = self.read().connected(address, now());
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

    /// The addresses of which no port but the captured ones may be reached: for the kernel's list, as it changes.
    /// What is this machine's own (`127.0.0.1`, from a name in `/etc/hosts`) is not among them.
    pub fn whole(&self) -> watch::Receiver<Arc<BTreeSet<IpAddr>>> {
        self.whole.subscribe()
    }

    /// All addresses, as they change: for another process of the agent, which then [follows](Self::follow).
    pub fn every(&self) -> watch::Receiver<Arc<BTreeSet<IpAddr>>> {
        self.every.subscribe()
    }

    /// From now on these are known, which another process of the agent has learned.
    pub fn follow(&self, addresses: &BTreeSet<IpAddr>) {
        *self.write() = Known::of(addresses);
    }

    /// All addresses that are known now.
    pub fn all(&self) -> BTreeSet<IpAddr> {
        self.read().all()
    }

    /// Resolves every name once, before the first connection is judged.
    pub async fn learn_first(&self) {
        if tokio::time::timeout(FIRST, self.learn()).await.is_err() {
            tracing::warn!(
                seconds = FIRST.as_secs(),
                "protected hosts are not resolved yet: addresses that are not known from before count as any other \
                 of the CDN's"
            );
        }
    }

    /// Resolves again, for as long as the agent runs.
    pub async fn keep_learning(&self) {
        let mut rounds_unsaved = 0;
        loop {
            tokio::time::sleep(REFRESH).await;
            rounds_unsaved += 1;
            if self.learn().await {
                rounds_unsaved = 0;
            } else if rounds_unsaved >= ROUNDS_UNSAVED {
                rounds_unsaved = 0;
                self.save().await;
            }
        }
    }

    /// Answers whether the file was brought up to date.
    async fn learn(&self) -> bool {
        let mut all_resolved = true;
        let mut changed = false;
        for host in &self.hosts {
            match (self.resolve)(host.clone()).await {
                Ok(addresses) => {
                    let new = self.write().see(host, &addresses, now());
                    new.iter().for_each(|address| tell_new(host, *address));
                    changed |= !new.is_empty();
                    // At once: the next name may take longer than anybody waits.
                    self.publish();
                }
                Err(error) => {
                    all_resolved = false;
                    tracing::warn!(%host, %error, "cannot resolve a protected host");
                }
            }
        }
        // While a name does not resolve, nobody knows which of its addresses are still its own.
        if all_resolved {
            let gone = self.write().expire(now());
            gone.iter().for_each(|address| tracing::info!(%address, "an address is no longer protected"));
            changed |= !gone.is_empty();
        }
        if changed {
            self.publish();
            self.save().await;
        }
        changed
    }

    fn publish(&self) {
        let (whole, every) = (Arc::new(self.read().whole()), Arc::new(self.all()));
        for (published, now) in [(&self.whole, whole), (&self.every, every)] {
            published.send_if_modified(|before| {
                let changed = *before != now;
                *before = now;
                changed
            });
        }
    }

    async fn save(&self) {
        let Some(file) = self.file.clone() else { return };
        let kept = self.read().keep();
        let saved =
            tokio::task::spawn_blocking(move || file::save(&file, kept).map_err(|error| (file, error)));
        if let Ok(Err((file, error))) = saved.await {
            tracing::error!(file = %file.display(), %error, "cannot keep the protected addresses for the next start");
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell_new(host: &HostName, address: IpAddr) {
    if known::is_a_hosts_own(address) {
        tracing::info!(%host, %address, "an address is protected");
    } else {
        tracing::warn!(
            %host, %address,
            "this protected host resolves to this machine itself, where only captured ports are protected; \
             see /etc/hosts and the resolver"
        );
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl std::fmt::Debug for ProtectedAddresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProtectedAddresses").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
