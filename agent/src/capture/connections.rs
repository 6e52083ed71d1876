//! Connections from before: what a cgroup or user had open when it became a subject is ended.
//!
//! The connect hooks see only what connects after them. Until this is done, and where the kernel cannot do it,
//! the egress hook drops the packets of these connections.

mod holders;

use super::{
    address::plain,
    sock_diag::{Diag, Socket, TCP, UDP, UDP_LITE},
};
use holders::Holders;
use rustix::{
    io::Errno,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    path::Path,
    thread,
};

/// A dump can miss a socket while others come and go, so dumps are repeated until one finds nothing to end.
const ROUNDS: usize = 4;

/// Whose connections to end: what cgroups and users made, and what their processes hold.
#[derive(Debug, Default)]
pub struct Owners {
    cgroups: HashSet<u64>,
    users: HashSet<u32>,
    /// By user, the cgroups in which alone the user's sockets count.
    users_below: HashMap<u32, HashSet<u64>>,
    holders: Holders,
    /// Another process whose connections go on.
    spared: Option<u32>,
}

impl Owners {
    /// Nobody's.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also those of a cgroup and all below it.
    ///
    /// # Errors
    /// When the cgroup cannot be read; one that is gone has no connections.
    pub fn add_cgroup(&mut self, cgroup: &Path) -> io::Result<()> {
        // Most processes live in the agent's namespace, also those that have left the cgroup or ended.
        self.holders.add_namespaces(std::process::id());
        holders::walk(cgroup, &mut |id, processes| {
            self.cgroups.insert(id);
            processes.iter().for_each(|process| self.holders.add(*process));
        })
    }

    /// Also those of a user, in every network namespace of the machine: all, or where `below` is given what the user's
    /// processes in and below that cgroup made and hold.
    ///
    /// # Errors
    /// When the processes cannot be listed.
    pub fn add_user(&mut self, uid: u32, below: Option<&Path>) -> io::Result<()> {
        let Some(below) = below else {
            self.users.insert(uid);
            return self.holders.add_user(uid, &|_| true);
        };
        let (cgroups, mut processes) = (self.users_below.entry(uid).or_default(), HashSet::new());
        holders::walk(below, &mut |id, found| {
            cgroups.insert(id);
            processes.extend(found.iter().copied());
        })?;
        self.holders.add_user(uid, &|process| processes.contains(&process))
    }

    /// Whatever this process holds goes on, as what the calling process holds does.
    pub fn spare(&mut self, process: Option<u32>) {
        self.spared = process;
    }

    fn own(&self, socket: &Socket) -> bool {
        let is_in = |cgroups: &HashSet<u64>| socket.cgroup_id.is_some_and(|id| cgroups.contains(&id));
        is_in(&self.cgroups)
            || self.users.contains(&socket.uid)
            || self.users_below.get(&socket.uid).is_some_and(is_in)
            || self.holders.hold(socket.inode)
    }
}

/// Which connections to end, by where they lead.
#[derive(Clone, Debug, Default)]
pub struct Destinations {
    /// The captured ports.
    pub ports: HashSet<u16>,
    /// Whether these count only at protected addresses.
    pub targeted: bool,
    /// The protected addresses: of them, every port.
    pub protected: HashSet<IpAddr>,
    /// The captured forward proxies, for TCP.
    pub forward_proxies: HashSet<SocketAddr>,
}

impl Destinations {
    fn include(&self, protocol: u8, remote: SocketAddr) -> bool {
        let ip = plain(remote.ip());
        let is_proxy =
            || protocol == TCP && self.forward_proxies.contains(&SocketAddr::new(ip, remote.port()));
        let by_port = !self.targeted && self.ports.contains(&remote.port());
        by_port || self.protected.contains(&ip) || is_proxy()
    }
}

/// What was done.
#[derive(Debug, Default)]
pub struct Report {
    /// How many connections were ended.
    pub ended: usize,
    /// How many were found and go on; the egress hook drops their packets.
    pub failed: usize,
    /// What went wrong.
    pub problems: Vec<Problem>,
}

/// Why connections may go on.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The kernel cannot end sockets.
    #[error(
        "this kernel cannot end connections (it lacks CONFIG_INET_DIAG_DESTROY), so those from before hang until \
         they time out"
    )]
    Unsupported,
    /// A network namespace could not be searched.
    #[error("cannot search a network namespace for connections from before")]
    Namespace(#[source] io::Error),
    /// A connection could not be ended.
    #[error("cannot end a connection to {remote}")]
    Destroy {
        /// Where it leads.
        remote: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
}

/// Ends the open connections of these owners to these destinations, in every network namespace that the owners
/// have processes in and in this process's own. `spared` are the cookies of sockets that go on; those of this process always do.
///
/// It blocks, for a millisecond or so for each namespace. The owners must be subjects already, or what they
/// connect meanwhile goes on.
pub fn end(owners: &Owners, destinations: &Destinations, spared: &HashSet<u64>) -> Report {
    let mut report = Report::default();
    for namespace in owners.holders.namespaces() {
        // A thread of its own, since the namespace is the thread's and the caller's must stay as it is.
        let searched = thread::scope(|scope| {
            let search = || end_within(namespace, owners, destinations, spared);
            scope.spawn(search).join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))
        });
        match searched {
            Ok(one) => report.add(one),
            Err(error) => report.problems.push(Problem::Namespace(error)),
        }
    }
    report
}

fn end_within(
    namespace: &File,
    owners: &Owners,
    destinations: &Destinations,
    spared: &HashSet<u64>,
) -> io::Result<Report> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    let mut diag = Diag::open()?;
    let mut report = Report::default();
    let mut tried = HashSet::new();
    for _ in 0..ROUNDS {
        let mut found = Vec::new();
        for protocol in [TCP, UDP, UDP_LITE] {
            match diag.connected(protocol) {
                Ok(sockets) => found.extend(sockets.into_iter().filter(|socket| {
                    destinations.include(protocol, socket.remote)
                        && owners.own(socket)
                        && !spared.contains(&socket.cookie)
                })),
                // A kernel without the protocol, or without its list of sockets.
                Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
                Err(error) => return Err(error),
            }
        }
        // Read after the dump: what was in the dump and is this process's is among them.
        let own = holders::own_sockets(owners.spared)?;
        found.retain(|socket| !own.contains(&socket.inode) && tried.insert(socket.cookie));
        if found.is_empty() {
            break;
        }
        found.iter().for_each(|socket| report.note(socket.remote, diag.destroy(socket)));
    }
    Ok(report)
}

impl Report {
    fn note(&mut self, remote: SocketAddr, result: io::Result<()>) {
        let Err(source) = result else {
            self.ended += 1;
            return;
        };
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            // It has ended by itself.
            Some(Errno::NOENT | Errno::NOTCONN) => return,
            Some(Errno::OPNOTSUPP) if self.is_unsupported() => {}
            Some(Errno::OPNOTSUPP) => self.problems.push(Problem::Unsupported),
            _ => self.problems.push(Problem::Destroy { remote, source }),
        }
        self.failed += 1;
    }

    fn is_unsupported(&self) -> bool {
        self.problems.iter().any(|problem| matches!(problem, Problem::Unsupported))
    }

    fn add(&mut self, other: Self) {
        self.ended += other.ended;
        self.failed += other.failed;
        let known = self.is_unsupported();
        let is_new = |problem: &Problem| !(known && matches!(problem, Problem::Unsupported));
        self.problems.extend(other.problems.into_iter().filter(is_new));
    }
}

/// Whether this kernel can end connections: tried with a socket that there is not.
///
/// # Errors
/// What the kernel says instead.
pub fn can_end() -> io::Result<()> {
    Diag::open()?.try_destroy()
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn destinations(targeted: bool) -> Destinations {
        Destinations {
            ports: HashSet::from([443]),
            targeted,
            protected: HashSet::from(["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]),
            forward_proxies: HashSet::from(["192.0.2.9:3128".parse().unwrap()]),
        }
    }

    #[test_case(TCP, "198.51.100.1:443", true, false; "captured port")]
    #[test_case(UDP, "198.51.100.1:443", true, false; "quic")]
    #[test_case(TCP, "198.51.100.1:444", false, false; "another port")]
    #[test_case(TCP, "192.0.2.1:22", true, true; "protected address")]
    #[test_case(UDP, "192.0.2.1:53", true, true; "protected address, datagrams")]
    #[test_case(TCP, "[2001:db8::1]:22", true, true; "protected ipv6")]
    #[test_case(TCP, "[::ffff:192.0.2.1]:22", true, true; "protected, mapped")]
    #[test_case(TCP, "[64:ff9b::c000:201]:22", true, true; "protected, through NAT64")]
    #[test_case(TCP, "192.0.2.9:3128", true, true; "forward proxy")]
    #[test_case(UDP, "192.0.2.9:3128", false, false; "datagrams to a forward proxy")]
    #[test_case(TCP, "192.0.2.9:3129", false, false; "beside a forward proxy")]
    fn what_leads_where_it_must_not_is_ended(protocol: u8, remote: &str, strict: bool, targeted: bool) {
        let remote = remote.parse().unwrap();
        assert_eq!(destinations(false).include(protocol, remote), strict);
        assert_eq!(destinations(true).include(protocol, remote), targeted);
    }

    #[test]
    fn failures_are_counted_and_each_kind_of_kernel_is_told_once() {
        let remote = "192.0.2.1:443".parse().unwrap();
        let mut all = Report::default();
        for _ in 0..2 {
            let mut report = Report::default();
            report.note(remote, Ok(()));
            for errno in [Errno::OPNOTSUPP, Errno::OPNOTSUPP, Errno::NOENT] {
                report.note(remote, Err(errno.into()));
            }
            all.add(report);
        }
        assert_eq!((all.ended, all.failed, all.problems.len()), (2, 4, 1), "{all:?}");
        all.note(remote, Err(Errno::PERM.into()));
        assert_eq!((all.failed, all.problems.len()), (5, 2), "{all:?}");
    }
}
