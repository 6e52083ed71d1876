//! The descriptors that a process has inherited: which of them would lead out of the enclosure.

use crate::run::filesystem::{self, BPF, CGROUP, CGROUP2, NSFS};
use rustix::{
    net::{AddressFamily, sockopt::socket_domain},
    process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open},
};
use std::{fs, io, os::unix::fs::FileTypeExt, path::PathBuf};

/// Why the command cannot start with the descriptors it would inherit.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// They cannot be listed.
    #[error("cannot examine the inherited descriptors in /proc/self/fd")]
    Examine(#[source] io::Error),
    /// Closing one would break the command, keeping it would let it past the gate.
    #[error(
        "descriptor {number} (0 is standard input, 1 output, 2 error) is {what}, whose traffic nobody would \
         check: connect it through a pipe, for instance `… | cat`"
    )]
    Standard {
        /// The descriptor.
        number: i32,
        /// What it is, for people.
        what: String,
    },
}

/// What an inherited descriptor is.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// A pipe, file, terminal or local socket.
    Harmless,
    /// With its description for people.
    Leaky(String),
}

/// Closes every inherited descriptor that leads out of the enclosure: network sockets that exist before the
/// gate, directories and files of the host's view of cgroupfs and bpffs, namespaces, io_uring, BPF objects.
///
/// # Errors
/// One of the standard three is such a descriptor.
pub(super) fn close_leaky() -> Result<(), Error> {
    for number in open().map_err(Error::Examine)? {
        match kind(number).map_err(Error::Examine)? {
            Kind::Harmless => {}
            Kind::Leaky(what) if number <= 2 => return Err(Error::Standard { number, what }),
            Kind::Leaky(_) => close(number).map_err(Error::Examine)?,
        }
    }
    Ok(())
}

/// Closes every descriptor but the standard three.
pub(crate) fn close_all() -> io::Result<()> {
    open()?.into_iter().filter(|&number| number > 2).try_for_each(close)
}

fn open() -> io::Result<Vec<i32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    // The listing's own descriptor is closed by now.
    numbers.retain(|&number| fs::symlink_metadata(link(number)).is_ok());
    Ok(numbers)
}

fn kind(number: i32) -> io::Result<Kind> {
    let link = link(number);
    let file_type = fs::metadata(&link)?.file_type();
    if file_type.is_socket() {
        return Ok(match domain(number) {
            Some(AddressFamily::UNIX) => Kind::Harmless,
            Some(family) => Kind::Leaky(format!("a socket of address family {}", family.as_raw())),
            None => Kind::Leaky("a socket of an unknown address family".into()),
        });
    }
    if file_type.is_dir() {
        // `openat(directory, "../..")` goes up in the host's mounts, not in the enclosure's.
        return Ok(Kind::Leaky("a directory".into()));
    }
    let target = fs::read_link(&link)?;
    if let Some(name) = target.to_str().and_then(|target| target.strip_prefix("anon_inode:")) {
        // Counters and timers carry nothing; io_uring, BPF objects and handles of processes do.
        let harmless = ["[eventfd]", "[timerfd]", "[signalfd]"].contains(&name);
        return Ok(if harmless { Kind::Harmless } else { Kind::Leaky(name.to_owned()) });
    }
    if [CGROUP, CGROUP2, BPF, NSFS].contains(&filesystem::magic(&link)?) {
        return Ok(Kind::Leaky(target.display().to_string()));
    }
    let known = file_type.is_file()
        || file_type.is_fifo()
        || file_type.is_char_device()
        || file_type.is_block_device();
    Ok(if known { Kind::Harmless } else { Kind::Leaky(target.display().to_string()) })
}

/// The address family, through a duplicate: a number alone is no descriptor that safe code may use.
fn domain(number: i32) -> Option<AddressFamily> {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).ok()?;
    let duplicate = pidfd_getfd(&own, number, PidfdGetfdFlags::empty()).ok()?;
    socket_domain(&duplicate).ok()
}

fn close(number: i32) -> io::Result<()> {
    match nix::unistd::close(number) {
        Ok(()) | Err(nix::errno::Errno::EBADF) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn link(number: i32) -> PathBuf {
    format!("/proc/self/fd/{number}").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixStream,
    };

    #[test]
    fn what_leads_out_is_told_from_what_does_not() {
        let unix = UnixStream::pair().unwrap().0;
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp6 = std::net::UdpSocket::bind("[::1]:0").unwrap();
        let file = tempfile::tempfile().unwrap();
        let pipe = io::pipe().unwrap().0;
        let null = fs::File::open("/dev/null").unwrap();
        let directory = fs::File::open("/").unwrap();
        let namespace = fs::File::open("/proc/self/ns/net").unwrap();
        let cgroup = fs::File::open("/sys/fs/cgroup/unified/cgroup.procs")
            .or_else(|_| fs::File::open("/sys/fs/cgroup/cgroup.procs"))
            .unwrap();
        let handle = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        for harmless in [unix.as_fd(), file.as_fd(), pipe.as_fd(), null.as_fd()] {
            assert_eq!(kind(harmless.as_raw_fd()).unwrap(), Kind::Harmless);
        }
        for leaky in
            [tcp.as_fd(), udp6.as_fd(), directory.as_fd(), namespace.as_fd(), cgroup.as_fd(), handle.as_fd()]
        {
            assert!(matches!(kind(leaky.as_raw_fd()).unwrap(), Kind::Leaky(_)), "{leaky:?}");
        }
    }
}
