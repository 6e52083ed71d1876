//! The namespace's cookie on kernels before 5.14, which tell it to eBPF programs only: a socket of ours connects,
//! and a program that is attached at our own cgroup for that long writes down what it sees.

use crate::run::cgroup;
use aya::{
    EbpfLoader,
    maps::HashMap,
    programs::{CgroupAttachMode, CgroupSockAddr},
};
use nix::{getsockopt_impl, libc, sockopt_impl, sys::socket::getsockopt};
use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::MetadataExt,
    },
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/learn-ebpf"));

sockopt_impl!(
    /// The kernel's cookie of the socket itself.
    SocketCookie,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_COOKIE,
    u64
);

/// The cookie of a socket's namespace, which must be the calling thread's.
///
/// # Errors
/// When it is another, and as [`cookie`].
pub(super) fn cookie_of(socket: &impl AsFd) -> io::Result<u64> {
    let identity = |facts: fs::Metadata| (facts.dev(), facts.ino());
    let own = identity(fs::metadata("/proc/thread-self/ns/net")?);
    if identity(namespace_of(socket)?.metadata()?) != own {
        return Err(io::Error::other("the socket is of another network namespace"));
    }
    cookie()
}

#[expect(unsafe_code, reason = "the ioctl has no safe binding")]
pub(super) fn namespace_of(socket: &impl AsFd) -> io::Result<File> {
    use std::os::fd::FromRawFd;
    const SIOCGSKNS: libc::Ioctl = 0x894c;
    // SAFETY: the request takes no argument, and answers a new descriptor or an error.
    let answer = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCGSKNS) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made the descriptor, and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(answer) })
}

/// The cookie of the calling thread's namespace. Program and map end with this call, however it ends.
///
/// # Errors
/// When this process has no cgroup of cgroup2, or the kernel refuses the program.
pub fn cookie() -> io::Result<u64> {
    let cgroup = File::open(cgroup::parent(None).map_err(io::Error::other)?)?;
    let mut object = EbpfLoader::new().load(OBJECT).map_err(io::Error::other)?;
    let missing = || io::Error::other("the eBPF object that learns is incomplete");
    let map = object.take_map("LEARN").ok_or_else(missing)?;
    let mut answers: HashMap<_, u64, u64> = HashMap::try_from(map).map_err(io::Error::other)?;
    let program = object.program_mut("learn").ok_or_else(missing)?;
    let program: &mut CgroupSockAddr = program.try_into().map_err(io::Error::other)?;
    program.load().map_err(io::Error::other)?;
    // The link is the program's, and detaches when both are dropped.
    program.attach(&cgroup, CgroupAttachMode::Single).map_err(io::Error::other)?;

    // UDP: its connect sends nothing.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let asking = getsockopt(&socket, SocketCookie)?;
    answers.insert(asking, 0, 0).map_err(io::Error::other)?;
    // It fails where the namespace has no route, and the program has been asked by then.
    let _route = socket.connect((Ipv4Addr::LOCALHOST, 9));
    match answers.get(&asking, 0).map_err(io::Error::other)? {
        0 => Err(io::Error::other("the kernel did not run the program that learns the namespace's cookie")),
        cookie => Ok(cookie),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::{CloneFlags, unshare};

    #[test]
    fn a_socket_of_another_namespace_is_told_apart() {
        assert!(nix::unistd::geteuid().is_root(), "this test needs root: run it with sudo");
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let before = namespace_of(&socket).unwrap().metadata().unwrap();
        let elsewhere = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            cookie_of(&socket).unwrap_err().to_string()
        });
        assert_eq!(elsewhere.join().unwrap(), "the socket is of another network namespace");
        assert_eq!(before.ino(), fs::metadata("/proc/thread-self/ns/net").unwrap().ino());
    }
}
