//! What the service manager is told, and keeps from one agent to the next (sd_notify(3), `FileDescriptorStoreMax=`):
//! the listeners, with the connections that wait in them.

use crate::capture::listener::Listener;
use listenfd::ListenFd;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
        SocketType, sendmsg_addr, socket_with,
    },
};
use std::{
    env,
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
};

/// What the names of the agent's own descriptors begin with; the family follows.
const NAME: &str = "tidegate-listener-";

/// The first descriptor that is passed.
const FIRST: i32 = 3;

/// The service manager, if there is one that listens.
#[derive(Debug)]
pub(super) struct Manager(Option<(OwnedFd, SocketAddrUnix)>);

impl Manager {
    /// The one that `NOTIFY_SOCKET` names.
    pub(super) fn of_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self(None);
        };
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name),
            path => SocketAddrUnix::new(path),
        };
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
        match (socket, address) {
            (Ok(socket), Ok(address)) => Self(Some((socket, address))),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(?name, %error, "the service manager cannot be told anything");
                Self(None)
            }
        }
    }

    /// Whether it wants to be told now and then that the agent is alive.
    pub(super) fn is_watching(&self) -> bool {
        self.0.is_some() && env::var_os("WATCHDOG_USEC").is_some()
    }

    /// Says something, such as `READY=1`.
    pub(super) fn tell(&self, state: &str) {
        self.send(state, &[]);
    }

    /// Lets the listener be kept for the next agent, by this name.
    pub(super) fn keep(&self, listener: &Listener, name: &str) {
        self.send(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), &[listener.descriptor()]);
    }

    /// Lets the listener of that name go.
    pub(super) fn forget(&self, name: &str) {
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[]);
    }

    fn send(&self, state: &str, descriptors: &[BorrowedFd<'_>]) {
        let Some((socket, address)) = &self.0 else { return };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let text = [IoSlice::new(state.as_bytes())];
        let sent = loop {
            match sendmsg_addr(socket, address, &text, &mut control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                sent => break sent,
            }
        };
        if let Err(error) = sent {
            tracing::error!(state, %error, "the service manager cannot be told");
        }
    }
}

/// What a listener of the agent's own network namespace is kept by.
pub(super) fn name(address: SocketAddr) -> String {
    format!("{NAME}{}", if address.is_ipv4() { 4 } else { 6 })
}

/// What a listener of another one is kept by.
pub(super) fn name_elsewhere(netns_cookie: u64, address: SocketAddr) -> String {
    format!("{}-in-{netns_cookie}", name(address))
}

/// The listeners that the service manager has kept, one of each family and network namespace. What is no listener of
/// the agent's is closed.
pub(super) fn kept() -> Vec<Listener> {
    let count = match passed(env::var("LISTEN_PID").ok(), env::var("LISTEN_FDS").ok(), std::process::id()) {
        0 => return Vec::new(),
        count => count,
    };
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut passed = ListenFd::from_env();
    let mut listeners: Vec<Listener> = Vec::new();
    for (index, name) in names.split(':').enumerate().take(count) {
        let adopted = take(&mut passed, index).and_then(|listener| {
            if name.starts_with(NAME) {
                Listener::adopt(listener.into())
            } else {
                Err(io::Error::other("not the agent's"))
            }
        });
        let place = |listener: &Listener| (listener.netns_cookie, listener.address.is_ipv4());
        match adopted {
            Ok(listener) if listeners.iter().all(|other| place(other) != place(&listener)) => {
                tracing::info!(address = %listener.address, "took over a listener with what waits in it");
                listeners.push(listener);
            }
            Ok(listener) => {
                tracing::warn!(address = %listener.address, "one listener too many was passed; closed")
            }
            Err(error) => tracing::warn!(name, %error, "a descriptor that was passed is of no use; closed"),
        }
    }
    listeners
}

/// How many descriptors are passed to this process.
fn passed(listen_pid: Option<String>, listen_fds: Option<String>, own: u32) -> usize {
    let is_meant = listen_pid.and_then(|text| text.parse().ok()) == Some(own);
    listen_fds.filter(|_| is_meant).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Takes one of the descriptors that were passed. What is no socket of TCP is closed.
fn take(passed: &mut ListenFd, index: usize) -> io::Result<TcpListener> {
    match passed.take_tcp_listener(index) {
        Ok(listener) => listener.ok_or_else(|| io::Error::other("it was not passed")),
        Err(error) => {
            let number = i32::try_from(index).map_err(io::Error::other)?;
            nix::unistd::close(FIRST + number)?;
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case(Some("7"), Some("2"), 2; "meant")]
    #[test_case(Some("8"), Some("2"), 0; "another process")]
    #[test_case(None, Some("2"), 0; "no process")]
    #[test_case(Some("7"), None, 0; "no count")]
    #[test_case(Some("7"), Some("x"), 0; "no number")]
    fn descriptors_are_taken_only_where_they_are_meant(
        pid: Option<&str>,
        fds: Option<&str>,
        expected: usize,
    ) {
        assert_eq!(passed(pid.map(str::to_owned), fds.map(str::to_owned), 7), expected);
    }
}
