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
    /// `u64` cgroup id → [`super::SUBJECT`], [`super::PARENT`] and [`super::KNOWN`]: what counts in and below it.
    pub const CGROUPS: &str = "CGROUPS";
    /// Prefix of a user id, in network order → 1: the users whose processes are subjects. Ranges of thousands of
    /// subordinate ids are few prefixes.
    pub const SUBJECT_UIDS: &str = "SUBJECT_UIDS";
    /// `u64` cookie of a socket → 1: the agent's own, which are never judged.
    pub const EXEMPT: &str = "EXEMPT";
    /// 16 bytes → 1: the addresses of protected hosts.
    pub const PROTECTED: &str = "PROTECTED";
    /// [`super::Settings`], one.
    pub const SETTINGS: &str = "SETTINGS";
    /// For each socket, [`super::SocketTag`]: who made it, and whether it was accepted.
    pub const SOCKETS: &str = "SOCKETS";
    /// `u32` thread id → [`super::Task`]: the subjects that stay subjects wherever they go.
    pub const TASKS: &str = "TASKS";
    /// [`super::Executable`] → `u32` bit: the configured programs.
    pub const EXECUTABLES: &str = "EXECUTABLES";
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

/// Every process in the cgroup and below is a subject.
pub const SUBJECT: u32 = 1;
/// A cgroup below that is neither a subject nor [`KNOWN`] is a subject until the agent has resolved it.
pub const PARENT: u32 = 2;
/// The cgroup itself is known, and no subject by its parents.
pub const KNOWN: u32 = 4;

/// No user id: by no user is it a subject.
pub const NO_UID: u32 = u32::MAX;

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
    /// By what it is a subject, and which programs it has run.
    pub origin: Origin,
    /// The caller's name, which a program can choose.
    pub comm: [u8; 16],
}

/// By what a process or socket became a subject. It keeps that wherever it goes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The listed cgroup that it was in or below; where none was, the unresolved one that it was in; or 0.
    pub cgroup_id: u64,
    /// The user that it ran as, or [`NO_UID`].
    pub uid: u32,
    /// A bit for each configured program that it, or a process above it, has run.
    pub executables: u32,
}

impl Origin {
    /// Of what never was a subject.
    pub const NONE: Self = Self { cgroup_id: 0, uid: NO_UID, executables: 0 };
}

/// A thread that is a subject, whatever its cgroup and user are now.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// By what.
    pub origin: Origin,
    /// Where the kernel keeps the thread, which tells it from a later one of the same id; 0 where the agent
    /// entered it.
    pub address: u64,
}

/// What is known of a socket from its making.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketTag {
    /// By what its maker was a subject.
    pub origin: Origin,
    /// [`SOCKET_SUBJECT`] and [`SOCKET_ACCEPTED`].
    pub flags: u32,
    /// Always 0; makes the padding explicit.
    pub reserved: u32,
}

/// A subject made the socket.
pub const SOCKET_SUBJECT: u32 = 1;
/// The other end connected.
pub const SOCKET_ACCEPTED: u32 = 2;

/// A program's file.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Executable {
    /// Its inode number.
    pub inode: u64,
    /// The device, as the kernel writes it (`MAJOR << 20 | MINOR`).
    pub device: u32,
    /// Always 0; makes the padding explicit.
    pub reserved: u32,
}

/// What holds for all hooks.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// [`SETTING_TARGETED`] and [`SETTING_STICKY`].
    pub flags: u32,
    /// Always 0.
    pub reserved: u32,
}

/// Captured ports count only at protected addresses.
pub const SETTING_TARGETED: u32 = 1;
/// Threads are followed through fork, exec and their end, so that a subject stays one.
pub const SETTING_STICKY: u32 = 2;

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
    /// Another port or protocol of a protected address.
    Protected = 5,
    /// A packet of a connection that the proxy is not part of.
    Backstop = 6,
    /// The listener's own port, asked for by a subject.
    ListenerPort = 7,
}

impl Refusal {
    /// The name for logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoListener => "no listener",
            Self::FlowTableFull => "flow table full",
            Self::Datagram => "datagram to a captured port",
            Self::Protocol => "a way past the redirection",
            Self::Protected => "another port or protocol of a protected address",
            Self::Backstop => "a packet past the proxy",
            Self::ListenerPort => "the listener's port",
        }
    }
}

impl TryFrom<u32> for Refusal {
    type Error = u32;

    fn try_from(value: u32) -> Result<Self, u32> {
        [
            Self::NoListener,
            Self::FlowTableFull,
            Self::Datagram,
            Self::Protocol,
            Self::Protected,
            Self::Backstop,
            Self::ListenerPort,
        ]
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

/// The IPv4 address behind the well-known prefix of NAT64 (RFC 6052), else the address itself.
pub const fn without_nat64(address: [u8; 16]) -> [u8; 16] {
    match address {
        [0x00, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] => mapped([a, b, c, d]),
        other => other,
    }
}

/// Whether the 16 bytes are an IPv4 address.
pub const fn is_mapped(address: &[u8; 16]) -> bool {
    matches!(address, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ..])
}

// Both sides compile these, so that a change of layout cannot reach a map unnoticed.
const _: () = {
    assert!(size_of::<Origin>() == 16 && align_of::<Origin>() == 8);
    assert!(size_of::<Task>() == 24 && align_of::<Task>() == 8);
    assert!(size_of::<SocketTag>() == 24 && align_of::<SocketTag>() == 8);
    assert!(size_of::<Executable>() == 16 && align_of::<Executable>() == 8);
    assert!(size_of::<Settings>() == 8 && align_of::<Settings>() == 4);
    assert!(size_of::<Flow>() == 96 && align_of::<Flow>() == 8);
    assert!(size_of::<FlowKey>() == 32 && align_of::<FlowKey>() == 8);
    assert!(size_of::<ListenerKey>() == 16 && align_of::<ListenerKey>() == 8);
    assert!(size_of::<Endpoint>() == 20 && align_of::<Endpoint>() == 4);
    assert!(size_of::<Event>() == 104 && align_of::<Event>() == 8);
    assert!(core::mem::offset_of!(Flow, comm) == 80);
};
