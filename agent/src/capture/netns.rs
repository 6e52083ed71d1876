//! What the agent must know of a network namespace.

pub mod learn;
pub mod namespace;

pub use namespace::Namespace;

use nix::{errno::Errno, getsockopt_impl, libc, sockopt_impl, sys::socket::getsockopt};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsFd,
};

sockopt_impl!(
    /// The kernel's cookie of the socket's network namespace (Linux 5.14).
    NetnsCookie,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_NETNS_COOKIE,
    u64
);

/// Addresses of the documentation ranges: routed wherever a global route is, and nobody's.
const GLOBAL_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
const GLOBAL_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// The cookie of the namespace that the socket belongs to.
///
/// # Errors
/// Before Linux 5.14, when it is not the calling thread's, or a program cannot learn it either.
pub fn cookie(socket: &impl AsFd) -> io::Result<u64> {
    match getsockopt(socket, NetnsCookie) {
        Err(Errno::ENOPROTOOPT) => learn::cookie_of(socket),
        answer => answer.map_err(io::Error::from),
    }
}

/// The cookie of the calling thread's namespace.
///
/// # Errors
/// As [`cookie`].
pub fn own_cookie() -> io::Result<u64> {
    cookie(&UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?)
}

/// Whether the calling thread's namespace has a global route of the family: a UDP connect sends nothing and
/// fails where there is none.
pub fn has_global_route(v6: bool) -> bool {
    let (any, global): (IpAddr, IpAddr) = if v6 {
        (Ipv6Addr::UNSPECIFIED.into(), GLOBAL_V6)
    } else {
        (Ipv4Addr::UNSPECIFIED.into(), GLOBAL_V4)
    };
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(SocketAddr::new(global, 9))).is_ok()
}
