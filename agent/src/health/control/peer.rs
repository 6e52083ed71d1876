//! Who is at the other end of a Unix socket.

use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, retry_on_intr},
};
use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
};
use tokio::net::UnixStream;

/// The process that connected, as it was then; its cgroup as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its process id.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its cgroup's path below the cgroup2 mount.
    pub cgroup: String,
}

impl Peer {
    /// The peer of a connection.
    ///
    /// # Errors
    /// When it is gone, or lives where its process id means nothing: then nobody can say who it is.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        // A process id alone can have become another process's meanwhile. The descriptor (Linux 6.5) cannot.
        let process = match getsockopt(stream, PeerPidfd) {
            Ok(process) => Some(process),
            Err(nix::errno::Errno::ENOPROTOOPT) => None,
            Err(errno) => return Err(errno.into()),
        };
        let credentials = stream.peer_cred()?;
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
        let pid = pid.ok_or_else(|| io::Error::other("its process id is of another namespace"))?;
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let cgroup = own_cgroup(&cgroups).ok_or_else(|| io::Error::other("it is in no cgroup2"))?.to_owned();
        if let Some(process) = process
            && has_ended(&process)?
        {
            return Err(Errno::SRCH.into());
        }
        Ok(Self { pid, uid: credentials.uid(), gid: credentials.gid(), cgroup })
    }
}

/// While the process has not ended, what was read of its id was its own.
fn has_ended(process: &OwnedFd) -> io::Result<bool> {
    let mut watched = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(retry_on_intr(|| poll(&mut watched, Some(&now)))? > 0)
}

/// The cgroup2 line of `/proc/PID/cgroup`.
fn own_cgroup(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("12:cpu:/a\n0::/b/c\n", Some("/b/c"); "hybrid")]
    #[test_case("0::/\n", Some("/"); "unified")]
    #[test_case("10::/a\n", None; "version 1")]
    #[test_case("", None; "none")]
    fn the_cgroup2_is_found(text: &str, expected: Option<&str>) {
        assert_eq!(own_cgroup(text), expected);
    }

    #[tokio::test]
    async fn this_process_is_known_to_itself() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!((peer.pid, peer.uid), (std::process::id(), rustix::process::geteuid().as_raw()));
        let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap();
        assert_eq!(Some(peer.cgroup.as_str()), own_cgroup(&cgroups));
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let script = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])";
        let client = std::process::Command::new("python3").args(["-c", script]).arg(&path).status().unwrap();
        assert!(client.success());
        let (stream, _) = listener.accept().await.unwrap();
        assert!(Peer::of(&stream).is_err());
    }
}
