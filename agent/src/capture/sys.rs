//! The calls of bpf(2) that aya keeps to itself or does not have, on links and on what is attached to a cgroup.
#![expect(unsafe_code, reason = "bpf(2) has no safe binding")]

use nix::libc;
use std::{
    ffi::{CStr, CString},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;

const BPF_LINK_TYPE_RAW_TRACEPOINT: u32 = 1;
const BPF_LINK_TYPE_TRACING: u32 = 2;
const BPF_LINK_TYPE_CGROUP: u32 = 3;

/// The kernel attaches no more to one cgroup and hook.
const MAX_PROGRAMS: usize = 64;

/// Where a program runs for a cgroup: `enum bpf_attach_type`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub enum AttachType {
    InetEgress = 1,
    InetSockCreate = 2,
    SockOps = 3,
    Inet4Bind = 8,
    Inet6Bind = 9,
    Inet4Connect = 10,
    Inet6Connect = 11,
    Udp4Sendmsg = 14,
    Udp6Sendmsg = 15,
    Inet4Getpeername = 29,
    Inet6Getpeername = 30,
    InetSockRelease = 34,
}

/// What a link connects a program with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A cgroup, and the hook as a number of [`AttachType`].
    Cgroup {
        /// Its id; 0 once the link was detached, or the cgroup removed.
        id: u64,
        /// The hook.
        attach_type: u32,
    },
    /// A tracepoint.
    RawTracePoint,
    /// A function or security hook that the program itself names.
    Tracing,
    /// Nothing that tidegate attaches to: the link's type.
    Other(u32),
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Its id.
    pub id: u32,
    /// The id of the program that runs.
    pub program_id: u32,
    /// Where it runs.
    pub target: Target,
}

/// An open link: while it is open or pinned, its program is attached.
#[derive(Debug)]
pub struct Link(OwnedFd);

// Every structure fills 128 bytes, since newer kernels write answers behind the fields that older headers knew, and take
// any length whose unknown rest is zero.

#[repr(C)]
struct Object {
    path: u64,
    descriptor: u32,
    flags: u32,
    rest: [u64; 14],
}

#[repr(C)]
struct Info {
    descriptor: u32,
    length: u32,
    address: u64,
    rest: [u64; 14],
}

/// `struct bpf_link_info`; of its union, what a cgroup's link says.
#[repr(C)]
#[derive(Default)]
struct RawLinkInfo {
    kind: u32,
    id: u32,
    program_id: u32,
    padding: u32,
    cgroup_id: u64,
    attach_type: u32,
    reserved: u32,
    rest: [u64; 12],
}

#[repr(C)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
    rest: [u64; 12],
}

#[repr(C)]
struct TracePoint {
    name: u64,
    program: u32,
    padding: u32,
    rest: [u64; 14],
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    rest: [u64; 14],
}

/// For both update and detach, which uses the first field alone.
#[repr(C)]
struct LinkChange {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
    rest: [u64; 14],
}

const _: () = {
    assert!(size_of::<Object>() == 128 && size_of::<Info>() == 128 && size_of::<RawLinkInfo>() == 128);
    assert!(size_of::<Query>() == 128 && size_of::<TracePoint>() == 128);
    assert!(size_of::<LinkCreate>() == 128 && size_of::<LinkChange>() == 128);
};

impl Link {
    /// Attaches a loaded program to a cgroup, beside whatever is attached there.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn attach_to_cgroup(
        program: BorrowedFd<'_>,
        cgroup: BorrowedFd<'_>,
        attach_type: AttachType,
    ) -> io::Result<Self> {
        let mut attributes = LinkCreate {
            program: number(program),
            target: number(cgroup),
            attach_type: attach_type as u32,
            flags: 0,
            rest: [0; 14],
        };
        // SAFETY: the attributes hold descriptors and numbers only; the kernel answers a new descriptor.
        unsafe { call_for_descriptor(BPF_LINK_CREATE, &mut attributes) }.map(Self)
    }

    /// Attaches a loaded program to a tracepoint of the whole machine, or, without a name, to what it names itself.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn attach_to_trace_point(program: BorrowedFd<'_>, name: Option<&CStr>) -> io::Result<Self> {
        let name = name.map_or(0, |name| name.as_ptr() as u64);
        let mut attributes = TracePoint { name, program: number(program), padding: 0, rest: [0; 14] };
        // SAFETY: `name` is null or a C string that outlives the call; the kernel answers a new descriptor.
        unsafe { call_for_descriptor(BPF_RAW_TRACEPOINT_OPEN, &mut attributes) }.map(Self)
    }

    /// Opens a pinned link.
    ///
    /// # Errors
    /// The kernel's answer, such as that there is none.
    pub fn open(pin: &Path) -> io::Result<Self> {
        let path = c_string(pin)?;
        let mut attributes = Object { path: path.as_ptr() as u64, descriptor: 0, flags: 0, rest: [0; 14] };
        // SAFETY: `path` is a C string that outlives the call; the kernel answers a new descriptor.
        unsafe { call_for_descriptor(BPF_OBJ_GET, &mut attributes) }.map(Self)
    }

    /// Pins the link at a path that is still free.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        pin(self.0.as_fd(), path)
    }

    /// Replaces the program, at once for every process. Links of tracepoints cannot do that.
    ///
    /// # Errors
    /// The kernel's answer; `ENOLINK` where the link was detached.
    pub fn update(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let link = number(self.0.as_fd());
        let mut attributes =
            LinkChange { link, program: number(program), flags: 0, old_program: 0, rest: [0; 14] };
        // SAFETY: the attributes hold descriptors and numbers only.
        unsafe { call(BPF_LINK_UPDATE, &mut attributes) }.map(drop)
    }

    /// Detaches the program at once, whoever else holds the link. Links of tracepoints cannot do that.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn detach(&self) -> io::Result<()> {
        let link = number(self.0.as_fd());
        let mut attributes = LinkChange { link, program: 0, flags: 0, old_program: 0, rest: [0; 14] };
        // SAFETY: the attributes hold a descriptor only.
        unsafe { call(BPF_LINK_DETACH, &mut attributes) }.map(drop)
    }

    /// What the kernel says of it.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn info(&self) -> io::Result<LinkInfo> {
        let mut info = RawLinkInfo::default();
        let mut attributes = Info {
            descriptor: number(self.0.as_fd()),
            length: size_of::<RawLinkInfo>() as u32,
            address: (&raw mut info) as u64,
            rest: [0; 14],
        };
        // SAFETY: the kernel writes at most `length` bytes at `address`, which is all of `info`; every field of it is an
        // integer. A tracepoint's name is copied only where the structure holds a buffer's address, which is zero.
        unsafe { call(BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }?;
        let target = match info.kind {
            BPF_LINK_TYPE_CGROUP => Target::Cgroup { id: info.cgroup_id, attach_type: info.attach_type },
            BPF_LINK_TYPE_RAW_TRACEPOINT => Target::RawTracePoint,
            BPF_LINK_TYPE_TRACING => Target::Tracing,
            other => Target::Other(other),
        };
        Ok(LinkInfo { id: info.id, program_id: info.program_id, target })
    }
}

/// Pins a map, program or link at a path that is still free.
///
/// # Errors
/// The kernel's answer.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_string(path)?;
    let mut attributes =
        Object { path: path.as_ptr() as u64, descriptor: number(object), flags: 0, rest: [0; 14] };
    // SAFETY: `path` is a C string that outlives the call.
    unsafe { call(BPF_OBJ_PIN, &mut attributes) }.map(drop)
}

/// The ids of the programs that are attached to a cgroup itself, in the order in which they run.
///
/// # Errors
/// The kernel's answer.
pub fn programs_at(cgroup: BorrowedFd<'_>, attach_type: AttachType) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; MAX_PROGRAMS];
    let mut attributes = Query {
        target: number(cgroup),
        attach_type: attach_type as u32,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: MAX_PROGRAMS as u32,
        padding: 0,
        rest: [0; 12],
    };
    // SAFETY: the kernel writes at most `count` ids at `ids`, which is as long, and its other answers into the attributes,
    // which are longer than any kernel's.
    unsafe { call(BPF_PROG_QUERY, &mut attributes) }?;
    let count = usize::try_from(attributes.count).unwrap_or(MAX_PROGRAMS);
    Ok(ids.into_iter().take(count).collect())
}

fn c_string(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    // An open descriptor is never negative.
    descriptor.as_raw_fd().unsigned_abs()
}

/// # Safety
/// `A` must be the attributes of the command, and each address in it must be that of memory which the command may use.
unsafe fn call<A>(command: libc::c_long, attributes: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes `size_of::<A>()` bytes of `attributes`, and what they point at as promised by
    // the caller.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<A>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// # Safety
/// As [`call`], for a command that answers a new descriptor.
unsafe fn call_for_descriptor<A>(command: libc::c_long, attributes: &mut A) -> io::Result<OwnedFd> {
    // SAFETY: as promised by the caller.
    let answer = unsafe { call(command, attributes) }?;
    let descriptor = RawFd::try_from(answer).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made the descriptor, with close-on-exec, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
