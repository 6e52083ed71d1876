//! What is remembered of a socket for as long as it lives: by what its maker was a subject, and whether it was
//! accepted. A socket can be passed on, or outlive the stay of its maker in a cgroup.

use crate::subject::Subject;
use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    btf_maps::SkStorage,
    helpers::generated::{bpf_get_socket_cookie, bpf_sk_storage_get},
    macros::{btf_map, map},
    maps::HashMap,
};
use core::{ffi::c_void, ptr};
use tidegate_ebpf_common::{Origin, SOCKET_ACCEPTED, SOCKET_SUBJECT, SocketTag};

#[btf_map]
static SOCKETS: SkStorage<SocketTag> = SkStorage::new();

/// Cookies are never used again, so that an entry cannot come to exempt another socket.
#[map]
static EXEMPT: HashMap<u64, u32> = HashMap::with_max_entries(16_384, 0);

/// Notes by what the maker of a new socket is a subject. `socket` is the context of its making.
pub(crate) fn made_by(socket: *mut c_void, maker: &Subject) {
    let mut tag = SocketTag { origin: maker.origin, flags: SOCKET_SUBJECT, reserved: 0 };
    // SAFETY: at its making the kernel takes the context for the socket; the tag is copied.
    let _none = unsafe { storage(socket, Some(&mut tag)) };
}

/// Notes that the other end connected.
///
/// # Safety
/// `socket` must be a socket that the kernel passed and the verifier knows not to be null.
pub(crate) unsafe fn accepted(socket: *mut bpf_sock) {
    let mut tag = SocketTag { origin: Origin::NONE, flags: 0, reserved: 0 };
    // SAFETY: the caller's duty; the answer is null or a tag that lives as long as the socket.
    if let Some(tag) = unsafe { storage(socket.cast(), Some(&mut tag)).as_mut() } {
        tag.flags |= SOCKET_ACCEPTED;
    }
}

/// Whoever made the socket, where that was a subject.
pub(crate) fn maker(socket: *mut bpf_sock) -> Option<Subject> {
    let tag = tag(socket)?;
    (tag.flags & SOCKET_SUBJECT != 0)
        .then_some(Subject { cgroup_id: tag.origin.cgroup_id, origin: tag.origin })
}

/// Whether the other end of the socket connected.
pub(crate) fn is_accepted(socket: *mut bpf_sock) -> bool {
    tag(socket).is_some_and(|tag| tag.flags & SOCKET_ACCEPTED != 0)
}

/// Whether the socket is the agent's own. `ctx` is that of any hook that knows a socket.
pub(crate) fn is_exempt(ctx: *mut c_void) -> bool {
    // SAFETY: the kernel passes a valid context, which is what the helper takes in these hooks.
    let cookie = unsafe { bpf_get_socket_cookie(ctx) };
    EXEMPT.get_ptr(cookie).is_some()
}

/// Forgets that a socket was the agent's own.
pub(crate) fn forget(cookie: u64) {
    let _absent = EXEMPT.remove(cookie);
}

fn tag(socket: *mut bpf_sock) -> Option<SocketTag> {
    if socket.is_null() {
        return None;
    }
    // SAFETY: not null, and from the kernel; the answer is null or a tag that lives as long as the socket.
    unsafe { storage(socket.cast(), None).as_ref().copied() }
}

/// The socket's tag; made as `initial` where it has none and one is given.
///
/// # Safety
/// `socket` must be what the hook's helper takes for a socket, and not null.
#[inline(always)]
unsafe fn storage(socket: *mut c_void, initial: Option<&mut SocketTag>) -> *mut SocketTag {
    let flags = if initial.is_some() { u64::from(BPF_SK_STORAGE_GET_F_CREATE) } else { 0 };
    let initial = initial.map_or(ptr::null_mut(), ptr::from_mut);
    // SAFETY: the caller's duty for the socket; the map is a static of this object.
    unsafe {
        bpf_sk_storage_get((&raw const SOCKETS).cast_mut().cast(), socket, initial.cast(), flags).cast()
    }
}
