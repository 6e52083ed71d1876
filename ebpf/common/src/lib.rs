//! Types that the kernel and user sides share: `#[repr(C)]`, integers and bytes only, no padding.
//!
//! Addresses are 16 bytes in network order with IPv4 written as IPv4-mapped IPv6, so that one address has
//! one form whichever family of socket used it. Ports are in host order.
#![no_std]

#[cfg(feature = "user")]
mod user;

/// What the maps are called, hold and mean: raised by every change after which programs and agents of before and after
/// would misunderstand each other through one map.
pub const LAYOUT: u32 = 1;

/// Names of the maps, for the user side.
pub mod maps {
    /// `u64` cgroup id → 1: the subjects.
    pub const SUBJECT_CGROUPS: &str = "SUBJECT_CGROUPS";
    /// `u32` port → 1: the captured ports.
    pub const CAPTURED_PORTS: &str = "CAPTURED_PORTS";
    /// [`super::Endpoint`] → 1: the forward proxies, captured whatever their port.
    pub const FORWARD_PROXIES: &str = "FORWARD_PROXIES";
    /// [`super::ListenerKey`] → `u32` port: where the agent listens.
    pub const LISTENERS: &str = "LISTENERS";
    /// `u64` socket cookie → [`super::Flow`]: what each redirected socket asked for, until it is closed.
    pub const ORIGINALS: &str = "ORIGINALS";
    /// [`super::FlowKey`] → [`super::Flow`]: connections on their way to the listener.
    pub const FLOWS: &str = "FLOWS";
    /// Ring buffer of [`super::Event`].
    pub const EVENTS: &str = "EVENTS";
    /// One `u64` for each processor: how many events the ring had no room for.
    pub const LOST: &str = "LOST";
}

/// The socket called connect on the listener itself, so nothing was redirected.
pub const FLOW_DIRECT: u32 = 1;

/// A connect of a subject, as it was before it was redirected.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where the program meant to go.
    pub address: [u8; 16],
    /// The network namespace that the socket belongs to.
    pub netns_cookie: u64,
    /// The caller's cgroup.
    pub cgroup_id: u64,
    /// When, in nanoseconds since boot.
    pub time_ns: u64,
    /// The calling thread.
    pub pid: u32,
    /// The calling process.
    pub tgid: u32,
    /// The caller's user id.
    pub uid: u32,
    /// The caller's group id.
    pub gid: u32,
    /// The port that the program meant to reach.
    pub port: u16,
    /// The family of the listener that the socket was sent to: 4 or 6.
    pub listener_family: u16,
    /// [`FLOW_DIRECT`] or 0.
    pub flags: u32,
    /// The caller's name, which a program can choose.
    pub comm: [u8; 16],
}

/// How an accepted connection finds its flow: the client's end of it.
///
/// The address belongs in the key, since two sockets can hold one port on two loopback addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The network namespace.
    pub netns_cookie: u64,
    /// The socket's own address.
    pub address: [u8; 16],
    /// The socket's own port.
    pub port: u32,
    /// Always 0; makes the padding explicit.
    pub reserved: u32,
}

/// Which listener: a container has its own loopback, so there is one for each namespace and family.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerKey {
    /// The network namespace.
    pub netns_cookie: u64,
    /// 4 or 6.
    pub family: u32,
    /// Always 0; makes the padding explicit.
    pub reserved: u32,
}

/// An address and port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The address.
    pub address: [u8; 16],
    /// The port.
    pub port: u32,
}

/// What the kernel side refused, for the record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The attempt.
    pub flow: Flow,
    /// A [`Refusal`] as integer.
    pub refusal: u32,
    /// The IP protocol.
    pub protocol: u32,
}

/// Why the kernel side refused.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The namespace has no listener of that family.
    NoListener = 1,
    /// The flow table is full.
    FlowTableFull = 2,
    /// A datagram to a captured port.
    Datagram = 3,
    /// A socket or packet that would pass the redirection: MPTCP, raw, SCTP.
    Protocol = 4,
}

impl Refusal {
    /// The name for logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoListener => "no listener",
            Self::FlowTableFull => "flow table full",
            Self::Datagram => "datagram to a captured port",
            Self::Protocol => "a way past the redirection",
        }
    }
}

impl TryFrom<u32> for Refusal {
    type Error = u32;

    fn try_from(value: u32) -> Result<Self, u32> {
        [Self::NoListener, Self::FlowTableFull, Self::Datagram, Self::Protocol]
            .into_iter()
            .find(|refusal| *refusal as u32 == value)
            .ok_or(value)
    }
}

/// An IPv4 address (bytes in network order) in the shared 16-byte form.
pub const fn mapped(v4: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = v4;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// Whether the 16 bytes are an IPv4 address.
pub const fn is_mapped(address: &[u8; 16]) -> bool {
    matches!(address, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ..])
}

// Both sides compile these, so that a change of layout cannot reach a map unnoticed.
const _: () = {
    assert!(size_of::<Flow>() == 80 && align_of::<Flow>() == 8);
    assert!(size_of::<FlowKey>() == 32 && align_of::<FlowKey>() == 8);
    assert!(size_of::<ListenerKey>() == 16 && align_of::<ListenerKey>() == 8);
    assert!(size_of::<Endpoint>() == 20 && align_of::<Endpoint>() == 4);
    assert!(size_of::<Event>() == 88 && align_of::<Event>() == 8);
    assert!(core::mem::offset_of!(Flow, comm) == 64);
};
