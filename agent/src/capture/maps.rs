//! Typed handles over the eBPF maps; nothing else knows their names.

mod sticky;

pub use sticky::Sticky;

use super::{Error, FLOW_LIFETIME, uid_ranges::prefixes};
use aya::{
    Ebpf, Pod,
    maps::{
        Array, HashMap, Map, MapData, MapError,
        lpm_trie::{Key, LpmTrie},
    },
};
use rustix::time::{ClockId, clock_gettime};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    os::fd::AsFd,
    path::Path,
};
use tidegate_ebpf_common::{
    Endpoint, Flow, FlowKey, KNOWN, ListenerKey, PARENT, SUBJECT, Settings, mapped, maps,
};

type Hash<K, V> = HashMap<MapData, K, V>;

/// Who is a subject: by cgroup, and by user.
pub struct Subjects {
    cgroups: Hash<u64, u32>,
    users: LpmTrie<MapData, [u8; 4], u32>,
}

/// A cgroup deeper than this could have more ancestors than the kernel side looks at.
const MAX_DEPTH: usize = 32;

impl Subjects {
    pub(super) fn take(programs: &mut Ebpf) -> Result<Self, Error> {
        let cgroups = hash(programs, maps::CGROUPS)?;
        let users = LpmTrie::try_from(take(programs, maps::SUBJECT_UIDS)?);
        Ok(Self { cgroups, users: users.map_err(used(maps::SUBJECT_UIDS))? })
    }

    /// Makes every process in and below the cgroup a subject, from its next call on; answers the cgroup's id.
    ///
    /// # Errors
    /// When the cgroup cannot be read, lies too deep, or the table is full.
    pub fn add(&mut self, cgroup: &Path) -> Result<u64, Error> {
        self.stand(cgroup, SUBJECT)
    }

    /// From now on, a cgroup below this one that is not [resolved](Self::resolve) is a subject.
    ///
    /// # Errors
    /// As [`Subjects::add`].
    pub fn watch(&mut self, cgroup: &Path) -> Result<u64, Error> {
        self.stand(cgroup, PARENT | KNOWN)
    }

    /// Notes that the cgroup of this id is nobody's.
    ///
    /// # Errors
    /// When the table is full; the cgroup's processes stay subjects then.
    pub fn resolve(&mut self, cgroup_id: u64) -> Result<(), Error> {
        self.cgroups.insert(cgroup_id, KNOWN, 0).map_err(used(maps::CGROUPS))
    }

    /// Forgets a cgroup that is gone, or is to be nobody's any more.
    ///
    /// # Errors
    /// When the kernel refuses; one that was not listed is none.
    pub fn forget(&mut self, cgroup_id: u64) -> Result<(), Error> {
        absent_is_fine(self.cgroups.remove(&cgroup_id)).map_err(used(maps::CGROUPS))
    }

    /// The ids of the listed cgroups, with what stands by each: [`SUBJECT`], [`PARENT`] and [`KNOWN`].
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn cgroups(&self) -> Result<Vec<(u64, u32)>, Error> {
        self.cgroups.iter().collect::<Result<_, _>>().map_err(used(maps::CGROUPS))
    }

    /// Makes the users' processes subjects, wherever they are.
    ///
    /// # Errors
    /// When the table is full.
    pub fn add_users(&mut self, users: &RangeInclusive<u32>) -> Result<(), Error> {
        for (first, bits) in prefixes(users) {
            let key = Key::new(bits, first.to_be_bytes());
            self.users.insert(&key, 1, 0).map_err(used(maps::SUBJECT_UIDS))?;
        }
        Ok(())
    }

    /// From now on the users' processes are subjects only by their cgroups. The range must be one that was added, or
    /// that [`Subjects::users`] has told.
    ///
    /// # Errors
    /// When the kernel refuses; one that was not listed is none.
    pub fn forget_users(&mut self, users: &RangeInclusive<u32>) -> Result<(), Error> {
        for (first, bits) in prefixes(users) {
            let key = Key::new(bits, first.to_be_bytes());
            absent_is_fine(self.users.remove(&key)).map_err(used(maps::SUBJECT_UIDS))?;
        }
        Ok(())
    }

    /// The users whose processes are subjects.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn users(&self) -> Result<Vec<RangeInclusive<u32>>, Error> {
        let range = |key: Key<[u8; 4]>| {
            let first = u32::from_be_bytes(key.data());
            first..=first | u32::MAX.checked_shr(key.prefix_len()).unwrap_or(0)
        };
        self.users
            .keys()
            .map(|key| key.map(range))
            .collect::<Result<_, _>>()
            .map_err(used(maps::SUBJECT_UIDS))
    }

    fn stand(&mut self, cgroup: &Path, standing: u32) -> Result<u64, Error> {
        use std::os::unix::fs::MetadataExt;
        let io = |source| Error::Io { action: format!("make {} a subject", cgroup.display()), source };
        if cgroup.components().count() > MAX_DEPTH {
            return Err(io(io::Error::other(format!("it lies more than {MAX_DEPTH} levels deep"))));
        }
        let id = std::fs::metadata(cgroup).map_err(io)?.ino();
        self.cgroups.insert(id, standing, 0).map_err(used(maps::CGROUPS))?;
        Ok(id)
    }
}

/// The addresses of protected hosts: every port and protocol of them that is not captured is refused to subjects.
pub struct Protected(Hash<[u8; 16], u32>);

impl Protected {
    pub(super) fn take(programs: &mut Ebpf) -> Result<Self, Error> {
        hash(programs, maps::PROTECTED).map(Self)
    }

    /// Protects an address.
    ///
    /// # Errors
    /// When the table is full.
    pub fn add(&mut self, address: IpAddr) -> Result<(), Error> {
        self.0.insert(shared_form(address), 1, 0).map_err(used(maps::PROTECTED))
    }

    /// Protects an address no more.
    ///
    /// # Errors
    /// When the kernel refuses; one that was not listed is none.
    pub fn forget(&mut self, address: IpAddr) -> Result<(), Error> {
        absent_is_fine(self.0.remove(&shared_form(address))).map_err(used(maps::PROTECTED))
    }

    /// The listed addresses.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn addresses(&self) -> Result<Vec<IpAddr>, Error> {
        let keys = self.0.keys().collect::<Result<Vec<_>, _>>().map_err(used(maps::PROTECTED))?;
        Ok(keys.into_iter().map(|key| IpAddr::from(key).to_canonical()).collect())
    }
}

/// Sockets of the agent's own, by their cookies, for where the agent itself runs as a subject's user.
pub struct Exempt(Hash<u64, u32>);

impl Exempt {
    pub(super) fn take(programs: &mut Ebpf) -> Result<Self, Error> {
        hash(programs, maps::EXEMPT).map(Self)
    }

    /// Exempts a socket before its connect; the kernel side forgets it when it is closed.
    ///
    /// # Errors
    /// When the kernel does not tell its cookie, or the table is full.
    pub fn add(&mut self, socket: &impl AsFd) -> Result<(), Error> {
        self.0.insert(cookie(socket)?, 1, 0).map_err(used(maps::EXEMPT))
    }

    /// Exempts it no more.
    ///
    /// # Errors
    /// When the kernel does not tell its cookie, or the table does not change.
    pub fn remove(&mut self, socket: &impl AsFd) -> Result<(), Error> {
        self.0.remove(&cookie(socket)?).map_err(used(maps::EXEMPT))
    }
}

fn cookie(socket: &impl AsFd) -> Result<u64, Error> {
    rustix::net::sockopt::socket_cookie(socket)
        .map_err(|errno| Error::Io { action: "read a socket's cookie".to_owned(), source: errno.into() })
}

/// What holds for all hooks.
pub struct SettingsMap(Array<MapData, Settings>);

impl SettingsMap {
    pub(super) fn take(programs: &mut Ebpf) -> Result<Self, Error> {
        Array::try_from(take(programs, maps::SETTINGS)?).map(Self).map_err(used(maps::SETTINGS))
    }

    /// Sets them, for the hooks' next calls.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set(&mut self, settings: Settings) -> Result<(), Error> {
        self.0.set(0, settings, 0).map_err(used(maps::SETTINGS))
    }
}

/// The captured ports.
pub(super) struct Ports(Hash<u32, u32>);

impl Ports {
    pub(super) fn take(programs: &mut Ebpf) -> Result<Self, Error> {
        hash(programs, maps::CAPTURED_PORTS).map(Self)
    }

    /// Captures these ports and no others; a port that stays is captured throughout.
    pub(super) fn set(&mut self, ports: &[u16]) -> Result<(), Error> {
        for port in ports {
            self.0.insert(u32::from(*port), 1, 0).map_err(used(maps::CAPTURED_PORTS))?;
        }
        let captured: Result<Vec<u32>, MapError> = self.0.keys().collect();
        let captured = captured.map_err(used(maps::CAPTURED_PORTS))?;
        for port in captured.iter().filter(|port| !ports.iter().any(|kept| u32::from(*kept) == **port)) {
            self.0.remove(port).map_err(used(maps::CAPTURED_PORTS))?;
        }
        Ok(())
    }
}

/// The forward proxies whose connections are captured.
pub struct ForwardProxies(Hash<Endpoint, u32>);

impl ForwardProxies {
    pub(super) fn take(programs: &mut Ebpf) -> Result<Self, Error> {
        hash(programs, maps::FORWARD_PROXIES).map(Self)
    }

    /// Captures the connections to this address, from their next connect on.
    ///
    /// # Errors
    /// When the table is full.
    pub fn add(&mut self, proxy: SocketAddr) -> Result<(), Error> {
        let key = Endpoint { address: shared_form(proxy.ip()), port: u32::from(proxy.port()) };
        self.0.insert(key, 1, 0).map_err(used(maps::FORWARD_PROXIES))
    }
}

/// Where the kernel side sends redirected connects.
pub struct Listeners(Hash<ListenerKey, u32>);

impl Listeners {
    pub(super) fn take(programs: &mut Ebpf) -> Result<Self, Error> {
        hash(programs, maps::LISTENERS).map(Self)
    }

    /// The port that is published for a namespace and family, by an agent before this one.
    pub fn port(&self, netns_cookie: u64, v6: bool) -> Option<u16> {
        let key = ListenerKey { netns_cookie, family: if v6 { 6 } else { 4 }, reserved: 0 };
        self.0.get(&key, 0).ok().and_then(|port| u16::try_from(port).ok())
    }

    /// Publishes a listener of a namespace.
    ///
    /// # Errors
    /// When the table is full.
    pub fn publish(&mut self, netns_cookie: u64, address: SocketAddr) -> Result<(), Error> {
        let family = if address.is_ipv4() { 4 } else { 6 };
        let key = ListenerKey { netns_cookie, family, reserved: 0 };
        self.0.insert(key, u32::from(address.port()), 0).map_err(used(maps::LISTENERS))
    }

    /// Withdraws what is published for all namespaces but these: there, connects to captured ports are refused.
    ///
    /// # Errors
    /// When the table cannot be changed.
    pub fn retain(&mut self, is_kept: impl Fn(u64) -> bool) -> Result<(), Error> {
        let keys: Vec<ListenerKey> = self.0.keys().filter_map(Result::ok).collect();
        let mut withdrawn = keys.iter().filter(|key| !is_kept(key.netns_cookie));
        withdrawn.try_for_each(|key| self.0.remove(key).map_err(used(maps::LISTENERS)))
    }
}

/// The flows of connections on their way to a listener.
pub struct FlowTable(Hash<FlowKey, Flow>);

impl FlowTable {
    pub(super) fn take(programs: &mut Ebpf) -> Result<Self, Error> {
        hash(programs, maps::FLOWS).map(Self)
    }

    /// Takes out the flow of an accepted connection: an entry serves once.
    ///
    /// # Errors
    /// When the kernel refuses the look-up; a missing entry is `None`.
    pub fn take_flow(&mut self, netns_cookie: u64, peer: SocketAddr) -> Result<Option<Flow>, Error> {
        let address = shared_form(peer.ip());
        let key = FlowKey { netns_cookie, address, port: u32::from(peer.port()), reserved: 0 };
        match self.0.get(&key, 0) {
            Ok(flow) => {
                self.0.remove(&key).map_err(used(maps::FLOWS))?;
                Ok(Some(flow))
            }
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(Error::Map { name: maps::FLOWS, source }),
        }
    }

    /// Removes all flows, none of which has an accept to come; answers how many.
    pub fn clear(&mut self) -> usize {
        let keys: Vec<FlowKey> = self.0.keys().filter_map(Result::ok).collect();
        keys.iter().filter(|key| self.0.remove(key).is_ok()).count()
    }

    /// Removes the flows that waited for their accept longer than [`FLOW_LIFETIME`]; answers how many.
    pub fn sweep(&mut self) -> usize {
        let now = clock_gettime(ClockId::Boottime);
        let now_ns = now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs();
        let lifetime_ns = u64::try_from(FLOW_LIFETIME.as_nanos()).unwrap_or(u64::MAX);
        let stale: Vec<FlowKey> = self
            .0
            .iter()
            .filter_map(Result::ok)
            .filter(|(_, flow)| now_ns.saturating_sub(flow.time_ns) > lifetime_ns)
            .map(|(key, _)| key)
            .collect();
        stale.iter().filter(|key| self.0.remove(key).is_ok()).count()
    }
}

/// An address as both sides write it.
fn shared_form(ip: IpAddr) -> [u8; 16] {
    match ip.to_canonical() {
        IpAddr::V4(ip) => mapped(ip.octets()),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn absent_is_fine(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn hash<K: Pod, V: Pod>(programs: &mut Ebpf, name: &'static str) -> Result<Hash<K, V>, Error> {
    Hash::try_from(take(programs, name)?).map_err(used(name))
}

pub(super) fn take(programs: &mut Ebpf, name: &'static str) -> Result<Map, Error> {
    programs.take_map(name).ok_or(Error::Missing { kind: "map", name })
}

pub(super) fn used(name: &'static str) -> impl Fn(MapError) -> Error {
    move |source| Error::Map { name, source }
}
