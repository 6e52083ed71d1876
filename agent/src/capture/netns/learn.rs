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
    fs::File,
    io,
    net::{Ipv4Addr, UdpSocket},
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
