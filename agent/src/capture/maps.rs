//! Typed handles over the eBPF maps; nothing else knows their names.

use super::{Error, FLOW_LIFETIME};
use aya::{
    Ebpf, Pod,
    maps::{HashMap, Map, MapData, MapError},
};
use rustix::time::{ClockId, clock_gettime};
use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};
use tidegate_ebpf_common::{Endpoint, Flow, FlowKey, ListenerKey, mapped, maps};

type Hash<K, V> = HashMap<MapData, K, V>;

/// The cgroups whose processes are subjects.
pub struct Subjects(Hash<u64, u32>);

/// A cgroup deeper than this could have more ancestors than the kernel side looks at.
const MAX_DEPTH: usize = 32;

impl Subjects {
    pub(super) fn take(programs: &mut Ebpf) -> Result<Self, Error> {
        hash(programs, maps::SUBJECT_CGROUPS).map(Self)
    }

    /// Makes every process in and below the cgroup a subject, from its next connect on.
    ///
    /// # Errors
    /// When the cgroup cannot be read, lies too deep, or the table is full.
    pub fn add(&mut self, cgroup: &Path) -> Result<u64, Error> {
        use std::os::unix::fs::MetadataExt;
        let io = |source| Error::Io { action: format!("make {} a subject", cgroup.display()), source };
        if cgroup.components().count() > MAX_DEPTH {
            return Err(io(std::io::Error::other(format!("it lies more than {MAX_DEPTH} levels deep"))));
        }
        let id = std::fs::metadata(cgroup).map_err(io)?.ino();
        self.0.insert(id, 1, 0).map_err(used(maps::SUBJECT_CGROUPS))?;
        Ok(id)
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

    /// Publishes a listener of a namespace.
    ///
    /// # Errors
    /// When the table is full.
    pub fn publish(&mut self, netns_cookie: u64, address: SocketAddr) -> Result<(), Error> {
        let family = if address.is_ipv4() { 4 } else { 6 };
        let key = ListenerKey { netns_cookie, family, reserved: 0 };
        self.0.insert(key, u32::from(address.port()), 0).map_err(used(maps::LISTENERS))
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

fn hash<K: Pod, V: Pod>(programs: &mut Ebpf, name: &'static str) -> Result<Hash<K, V>, Error> {
    Hash::try_from(take(programs, name)?).map_err(used(name))
}

pub(super) fn take(programs: &mut Ebpf, name: &'static str) -> Result<Map, Error> {
    programs.take_map(name).ok_or(Error::Missing { kind: "map", name })
}

pub(super) fn used(name: &'static str) -> impl Fn(MapError) -> Error {
    move |source| Error::Map { name, source }
}
