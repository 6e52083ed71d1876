//! The attempts of `tests/programs/escape.py`, and what must become of each.

use crate::prison::Who;
use rustix::{
    io::Errno,
    net::{AddressFamily, Protocol, SocketType, socket},
};
use std::{fmt::Write as _, num::NonZeroU32};

const UDP_LITE: u32 = 136;
const MPTCP: u32 = 262;

/// A way past tidegate.
pub(crate) struct Attempt {
    /// Its name in the program.
    pub(crate) name: &'static str,
    /// What it does.
    how: &'static str,
    user: Expected,
    root: Expected,
    /// Whether it can be stopped in its middle.
    pub(crate) has_middle: bool,
    /// The first kernel that lets anybody try it; an older one answers EPERM.
    since: (u32, u32),
    /// The type and protocol of its socket, where some kernels have no such protocol for anybody.
    protocol: Option<(SocketType, u32)>,
}

/// What must become of it.
#[derive(Clone, Copy)]
pub(crate) struct Expected {
    /// How the program's own line may begin.
    pub(crate) outcomes: &'static [&'static str],
    /// What the audit log gives as the reason; None where the machine itself refuses, or nothing is to be said.
    pub(crate) reason: Option<&'static str>,
}

impl Attempt {
    pub(crate) fn expected(&self, who: Who) -> Expected {
        if kernel() < self.since {
            return Expected { outcomes: EPERM, reason: None };
        }
        if self.protocol.is_some_and(|(kind, protocol)| is_missing(kind, protocol)) {
            return Expected { outcomes: EPROTONOSUPPORT, reason: None };
        }
        match who {
            Who::User => self.user,
            Who::Root => self.root,
        }
    }

    /// The machine itself refuses this to users without privileges.
    const fn for_root_only(self, errno: &'static [&'static str]) -> Self {
        Self { user: Expected { outcomes: errno, reason: None }, has_middle: false, ..self }
    }

    /// Which of several it is depends on the machine.
    const fn without_record(self) -> Self {
        let Self { user, root, .. } = self;
        Self {
            user: Expected { reason: None, ..user },
            root: Expected { reason: None, ..root },
            ..self.without_middle()
        }
    }

    const fn since(self, major: u32, minor: u32) -> Self {
        Self { since: (major, minor), ..self }
    }

    const fn where_there_is(self, kind: SocketType, protocol: u32) -> Self {
        Self { protocol: Some((kind, protocol)), ..self }
    }

    const fn without_middle(self) -> Self {
        Self { has_middle: false, ..self }
    }
}

/// Whether this test, which nobody captures, gets no such socket either.
fn is_missing(kind: SocketType, protocol: u32) -> bool {
    let protocol = NonZeroU32::new(protocol).map(Protocol::from_raw);
    matches!(socket(AddressFamily::INET, kind, protocol), Err(Errno::PROTONOSUPPORT))
}

fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

const fn attempt(
    name: &'static str,
    how: &'static str,
    outcomes: &'static [&'static str],
    reason: &'static str,
) -> Attempt {
    let expected = Expected { outcomes, reason: Some(reason) };
    Attempt { name, how, user: expected, root: expected, has_middle: true, since: (0, 0), protocol: None }
}

/// The proxy took it over, and the policy refused the request.
const DECIDED: &[&str] = &["answered 403"];
const EPERM: &[&str] = &["refused 1"];
const EPROTONOSUPPORT: &[&str] = &["refused 93"];
const CLOSED: &[&str] = &["closed", "refused 104", "refused 32"];

const fn decided(name: &'static str, how: &'static str) -> Attempt {
    attempt(name, how, DECIDED, "missing_scope")
}

const fn refused(name: &'static str, how: &'static str, reason: &'static str) -> Attempt {
    attempt(name, how, EPERM, reason)
}

pub(crate) const ATTEMPTS: &[Attempt] = &[
    decided("by-name", "the API's name, as everybody does"),
    decided("by-address", "an address of the API, without a name to resolve"),
    decided("by-ipv6", "the same over IPv6"),
    decided("by-mapped-ipv6", "an IPv4 address in an IPv6 socket (::ffff:a.b.c.d)"),
    decided("by-nat64", "an IPv4 address behind NAT64's prefix (64:ff9b::a.b.c.d)"),
    decided("by-edge-address", "another address of the CDN in front of the API"),
    decided("tls-port-2053", "the CDN's other TLS ports"),
    decided("tls-port-2083", "the same"),
    decided("tls-port-2087", "the same"),
    decided("tls-port-2096", "the same"),
    decided("tls-port-8443", "the same"),
    attempt("plain-port-80", "plain HTTP at the CDN's ports for it", DECIDED, "plain_http"),
    attempt("plain-port-8080", "the same", DECIDED, "plain_http"),
    attempt("plain-port-8880", "the same", DECIDED, "plain_http"),
    attempt("plain-port-2052", "the same", DECIDED, "plain_http"),
    attempt("plain-port-2082", "the same", DECIDED, "plain_http"),
    attempt("plain-port-2086", "the same", DECIDED, "plain_http"),
    attempt("plain-port-2095", "the same", DECIDED, "plain_http"),
    attempt("plain-on-443", "plain HTTP at the TLS port", &["answered 403", "closed"], "plain_http"),
    refused("other-port", "any other port of the API's address", "address_refused"),
    refused("other-port-ipv6", "the same over IPv6", "address_refused"),
    refused("other-port-mapped", "the same in an IPv6 socket", "address_refused"),
    refused("other-port-nat64", "the same behind NAT64's prefix", "address_refused"),
    attempt("no-sni", "TLS without a server name", CLOSED, "no_sni"),
    attempt("foreign-sni", "TLS for another name at the API's address", CLOSED, "foreign_sni"),
    attempt("ech", "encrypted client hello at the API's address", CLOSED, "ech"),
    attempt("ech-at-the-edge", "encrypted client hello at another address of the CDN", CLOSED, "ech"),
    refused("quic", "UDP to port 443, unconnected", "quic_refused"),
    refused("quic-connected", "the same on a connected socket", "quic_refused"),
    refused("quic-ipv6", "the same over IPv6", "quic_refused"),
    refused("quic-mapped", "the same in an IPv6 socket", "quic_refused"),
    refused("quic-corked", "a datagram that leaves after the socket was connected elsewhere", "quic_refused"),
    refused("quic-at-the-edge", "UDP to port 443 of another address of the CDN", "quic_refused"),
    refused("udp-lite", "UDP-Lite", "quic_refused").where_there_is(SocketType::DGRAM, UDP_LITE),
    refused("udp-other-port", "UDP to any other port of the API's address", "address_refused"),
    attempt("fast-open", "data in the SYN, without a call of connect", DECIDED, "plain_http"),
    attempt("fast-open-deferred", "a connect that waits for the first data", DECIDED, "plain_http"),
    refused("mptcp", "multipath TCP", "protocol_refused")
        .without_middle()
        .where_there_is(SocketType::STREAM, MPTCP),
    decided("io-uring", "a connect by io_uring"),
    decided("io-uring-polled", "a connect by a kernel thread of io_uring's"),
    refused("raw", "a raw IPv4 socket", "protocol_refused").for_root_only(EPERM).without_middle(),
    refused("raw-ipv6", "a raw IPv6 socket", "protocol_refused").for_root_only(EPERM).without_middle(),
    decided("child", "a child process"),
    decided("daemonised", "a process that belongs to nobody any more, in a session of its own"),
    decided("exec", "another program"),
    refused("own-namespace", "a network namespace of its own", "no_listener").without_middle(),
    decided("bound-source", "a source address of its own choice"),
    decided("bound-device", "a socket bound to a device"),
    // Before, it takes a privilege that nobody has here.
    decided("marked", "a marked socket, as some tools exempt their own by").for_root_only(EPERM).since(5, 17),
    refused("listener-port", "taking the port on which the agent listens", "listener_port")
        .for_root_only(&["refused 13", "refused 1"])
        .without_middle(),
    attempt("to-the-listener", "a connection to the agent's own listener", CLOSED, "no_flow"),
    decided("borrowed-socket", "a socket that somebody made who is no subject"),
    decided("lent-socket", "a socket of its own, connected by somebody who is no subject"),
    decided("other-user", "another user").for_root_only(EPERM),
    decided("forward-proxy", "the host's forward proxy"),
    // On a slow machine the last of them waits longer than the program does.
    attempt("burst", "ten thousand connects first", &["answered 403", "closed", "silent"], "")
        .without_record(),
];

/// What only sticky tags stop; and packet sockets, which need BPF LSM.
pub(crate) const STICKY: &[Attempt] = &[
    decided("other-cgroup", "moving itself to a cgroup that is no workload's").without_middle(),
    decided("other-cgroup-child", "the same, then a process that belongs to nobody any more")
        .without_middle(),
    refused("packet", "a packet socket", "protocol_refused").without_middle(),
];

/// The table for docs/escapes.md.
pub(crate) fn markdown(attempts: &[Attempt]) -> String {
    let mut table =
        String::from("| Attempt | What it is | What becomes of it | In the audit log |\n|---|---|---|---|\n");
    for Attempt { name, how, root: Expected { outcomes, reason }, .. } in attempts {
        let becomes = match outcomes.first().copied() {
            Some("answered 403") => "taken over; the request is refused by the policy",
            Some("refused 1") => "refused with EPERM",
            _ => "closed",
        };
        let reason = reason.unwrap_or("-");
        let _ = writeln!(table, "| {name} | {how} | {becomes} | `{reason}` |");
    }
    table
}
