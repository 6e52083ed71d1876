//! Who is at the other end of a Unix socket.

use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, retry_on_intr},
};
use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};
use tokio::net::UnixStream;

/// The process that connected, as it was then; its cgroup and groups as they are now.
#[derive(Debug)]
pub struct Peer {
    /// Its process id.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The groups that it is in besides.
    pub groups: Vec<u32>,
    /// Its cgroup's path below the cgroup2 mount.
    pub cgroup: String,
    identity: Identity,
}

/// What tells a process from another one that has got its id.
#[derive(Debug)]
enum Identity {
    /// From Linux 6.5 on.
    Handle(OwnedFd),
    /// When it was started, in clock ticks since the boot.
    Started(u64),
}

impl Peer {
    /// The peer of a connection.
    ///
    /// # Errors
    /// When it is gone, or lives where its process id means nothing: then nobody can say who it is.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        // A process id alone can have become another process's meanwhile. The descriptor (Linux 6.5) cannot.
        let handle = match getsockopt(stream, PeerPidfd) {
            Ok(handle) => Some(handle),
            Err(nix::errno::Errno::ENOPROTOOPT) => None,
            Err(errno) => return Err(errno.into()),
        };
        let credentials = stream.peer_cred()?;
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
        let pid = pid.ok_or_else(|| io::Error::other("its process id is of another namespace"))?;
        let identity = match handle {
            Some(handle) => Identity::Handle(handle),
            None => Identity::Started(started(pid)?),
        };
        let groups = groups(&fs::read_to_string(format!("/proc/{pid}/status"))?);
        let (uid, gid) = (credentials.uid(), credentials.gid());
        let peer = Self { pid, uid, gid, groups, cgroup: cgroup_of(pid)?, identity };
        peer.still_there()?;
        Ok(peer)
    }

    /// Whether it is in this group.
    pub fn is_in(&self, group: u32) -> bool {
        self.gid == group || self.groups.contains(&group)
    }

    /// Moves it into the cgroup of this directory, whose path below the cgroup2 mount is `name`.
    ///
    /// # Errors
    /// When it has ended, or the kernel refuses.
    pub fn enter(&self, directory: &Path, name: &Path) -> io::Result<()> {
        self.still_there()?;
        // What it was when it asked decided; as a subject it would not have been heard.
        let now = cgroup_of(self.pid)?;
        if now != self.cgroup {
            return Err(io::Error::other(format!("it has moved to `{now}` since it asked")));
        }
        fs::write(directory.join("cgroup.procs"), self.pid.to_string())?;
        // Only what has not ended by now is what was moved.
        self.still_there()?;
        let now = cgroup_of(self.pid)?;
        if Path::new(&now) != name {
            return Err(io::Error::other(format!("it is in `{now}` all the same")));
        }
        Ok(())
    }

    fn still_there(&self) -> io::Result<()> {
        let has_ended = match &self.identity {
            Identity::Handle(process) => has_ended(process)?,
            Identity::Started(then) => started(self.pid)? != *then,
        };
        if has_ended { Err(Errno::SRCH.into()) } else { Ok(()) }
    }
}

fn cgroup_of(pid: u32) -> io::Result<String> {
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let own = own_cgroup(&cgroups).ok_or_else(|| io::Error::other("it is in no cgroup2"))?;
    Ok(own.to_owned())
}

/// The start time in `/proc/PID/stat`, the 22nd field; the second is in parentheses and may hold anything.
fn started(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = text.rsplit_once(')').map(|(_, fields)| fields);
    let ticks = fields.and_then(|fields| fields.split_whitespace().nth(19)?.parse().ok());
    ticks.ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat tells no start time")))
}

/// The `Groups` line of `/proc/PID/status`.
fn groups(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    line.split_whitespace().filter_map(|group| group.parse().ok()).collect()
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

    #[test]
    fn groups_are_read() {
        assert_eq!(groups("Name:\tGroups: 1\nGroups:\t4 27 1000 \nNStgid:\t1\n"), [4, 27, 1000]);
        assert_eq!(groups("Groups:\t\n"), [0; 0]);
    }

    #[tokio::test]
    async fn this_process_is_known_to_itself() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert!(peer.is_in(rustix::process::getegid().as_raw()) && !peer.is_in(u32::MAX));
        assert_eq!(started(peer.pid).unwrap(), started(std::process::id()).unwrap());
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
