//! What is known of protected hosts' addresses, and for how long. Pure: the time comes in.

use crate::{capture::address::plain, host::HostName};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// How long an address is protected after a host last resolved to it, and after it was last connected to.
pub(super) const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Half as many as the kernel side has room for.
pub(super) const MAX_ADDRESSES: usize = 2048;

/// An address of a protected host.
#[derive(Debug)]
struct Entry {
    hosts: BTreeSet<HostName>,
    /// Seconds since 1970.
    seen: u64,
    used: AtomicU64,
}

impl Entry {
    fn latest(&self) -> u64 {
        self.seen.max(self.used.load(Relaxed))
    }
}

/// The known addresses.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<IpAddr, Entry>);

/// An address as it is kept between two lives of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Kept {
    pub(super) address: IpAddr,
    pub(super) hosts: Vec<String>,
    /// When a host last resolved to it, in seconds since 1970.
    pub(super) seen: u64,
    /// When it was last connected to, likewise; 0 for never.
    pub(super) used: u64,
}

impl Known {
    /// What was kept of these hosts' addresses.
    pub(super) fn restore(kept: Vec<Kept>, hosts: &[HostName]) -> Self {
        let mut known = Self::default();
        for Kept { address, hosts: names, seen, used } in kept {
            let hosts: BTreeSet<HostName> =
                hosts.iter().filter(|host| names.iter().any(|name| name == host.as_str())).cloned().collect();
            if !hosts.is_empty() {
                let entry = Entry { hosts, seen, used: AtomicU64::new(used) };
                _ = known.0.insert(plain(address), entry);
            }
        }
        known
    }

    /// What is to be kept, in a stable order.
    pub(super) fn keep(&self) -> Vec<Kept> {
        let mut kept: Vec<Kept> = self.0.iter().map(|(address, entry)| entry.keep(*address)).collect();
        kept.sort_by_key(|kept| kept.address);
        kept
    }

    /// What another process of the agent knows.
    pub(super) fn of(addresses: &BTreeSet<IpAddr>) -> Self {
        let entry = || Entry { hosts: BTreeSet::new(), seen: 0, used: AtomicU64::new(0) };
        Self(addresses.iter().map(|address| (*address, entry())).collect())
    }

    /// Notes what a host resolves to; answers what is new.
    pub(super) fn see(&mut self, host: &HostName, addresses: &[IpAddr], now: u64) -> Vec<IpAddr> {
        let mut new = Vec::new();
        for address in addresses.iter().copied().map(plain) {
            let entry = self.0.entry(address).or_insert_with(|| {
                new.push(address);
                Entry { hosts: BTreeSet::new(), seen: now, used: AtomicU64::new(0) }
            });
            entry.seen = now;
            _ = entry.hosts.insert(host.clone());
        }
        new
    }

    /// Forgets what was neither resolved to nor connected to for [`KEPT`], and the oldest beyond
    /// [`MAX_ADDRESSES`]; answers which. A clock that was set back forgets nothing.
    pub(super) fn expire(&mut self, now: u64) -> Vec<IpAddr> {
        let kept = KEPT.as_secs();
        let mut gone: Vec<IpAddr> = Vec::new();
        self.0.retain(|address, entry| {
            let stays = now.saturating_sub(entry.latest()) <= kept;
            if !stays {
                gone.push(*address);
            }
            stays
        });
        let mut by_age: Vec<(u64, IpAddr)> =
            self.0.iter().map(|(address, entry)| (entry.latest(), *address)).collect();
        by_age.sort_unstable_by(|one, other| other.cmp(one));
        for (_, address) in by_age.into_iter().skip(MAX_ADDRESSES) {
            _ = self.0.remove(&address);
            gone.push(address);
        }
        gone
    }

    /// Whether the address is a protected host's; if so, it is in use now.
    pub(super) fn connected(&self, address: IpAddr, now: u64) -> bool {
        let entry = self.0.get(&plain(address));
        entry.inspect(|entry| entry.used.store(now, Relaxed)).is_some()
    }

    /// The addresses of which every port is protected.
    pub(super) fn whole(&self) -> BTreeSet<IpAddr> {
        self.0.keys().copied().filter(|address| is_a_hosts_own(*address)).collect()
    }

    /// All addresses.
    pub(super) fn all(&self) -> BTreeSet<IpAddr> {
        self.0.keys().copied().collect()
    }
}

impl Entry {
    fn keep(&self, address: IpAddr) -> Kept {
        let hosts = self.hosts.iter().map(|host| host.as_str().to_owned()).collect();
        Kept { address, hosts, seen: self.seen, used: self.used.load(Relaxed) }
    }
}

/// Whether the address can be that of one host, seen from everywhere. Loopback and its like are this machine or
/// its link (a name that was pointed there by `/etc/hosts`, or by a resolver that blocks it): to refuse every
/// port of theirs would break what has nothing to do with the API. They are protected on captured ports alone.
pub(super) fn is_a_hosts_own(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => {
            let is_this_network = ip.octets().first() == Some(&0);
            !(ip.is_loopback()
                || is_this_network
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast())
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local() || ip.is_multicast())
        }
    }
}
