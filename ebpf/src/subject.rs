//! Is the caller, or the owner of a socket, a subject? By its cgroup or one above it, by its user, or because it
//! once was one: a process takes that along wherever it goes, and so does a socket.

use crate::{settings, socket, task};
use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, bpf_sock},
    helpers::{
        bpf_get_current_uid_gid,
        generated::{
            bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_socket_uid,
            bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id,
        },
    },
    macros::map,
    maps::{HashMap, LpmTrie, lpm_trie::Key},
    programs::SkBuffContext,
};
use tidegate_ebpf_common::{KNOWN, NO_UID, Origin, PARENT, SUBJECT};

/// Plain hashes, never LRU: a forgotten subject would be an open gate. A full table leaves cgroups unresolved, and
/// so subjects.
#[map]
static CGROUPS: HashMap<u64, u32> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

#[map]
static SUBJECT_UIDS: LpmTrie<[u8; 4], u32> = LpmTrie::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// The user side refuses to list a cgroup below this depth, so that no ancestor is missed.
const MAX_DEPTH: i32 = 32;

/// A subject that acts.
pub(crate) struct Subject {
    /// Its cgroup.
    pub(crate) cgroup_id: u64,
    /// By what it is one.
    pub(crate) origin: Origin,
}

/// The calling thread, where it is a subject.
pub(crate) fn current() -> Option<Subject> {
    // SAFETY: takes no pointer.
    let cgroup_id = unsafe { bpf_get_current_cgroup_id() };
    let mut origin = if settings::sticky() { task::origin() } else { Origin::NONE };
    if origin.cgroup_id == 0 {
        // SAFETY: takes no pointer.
        origin.cgroup_id = by_cgroup(cgroup_id, |level| unsafe { bpf_get_current_ancestor_cgroup_id(level) });
    }
    if origin.uid == NO_UID {
        origin.uid = by_uid(bpf_get_current_uid_gid() as u32);
    }
    subject(cgroup_id, origin)
}

/// The calling thread, or else whoever made the socket.
pub(crate) fn of_call(socket: *mut bpf_sock) -> Option<Subject> {
    current().or_else(|| socket::maker(socket))
}

/// The owner of the packet's socket, which must be whole.
pub(crate) fn of_packet(ctx: &SkBuffContext, socket: *mut bpf_sock) -> Option<Subject> {
    // SAFETY: the kernel passes a valid context, which is what the helpers take.
    let (cgroup_id, uid) = unsafe { (bpf_skb_cgroup_id(ctx.skb.skb), bpf_get_socket_uid(ctx.skb.skb)) };
    let origin = Origin {
        // SAFETY: as above.
        cgroup_id: by_cgroup(cgroup_id, |level| unsafe { bpf_skb_ancestor_cgroup_id(ctx.skb.skb, level) }),
        uid: by_uid(uid),
        ..Origin::NONE
    };
    subject(cgroup_id, origin).or_else(|| socket::maker(socket))
}

fn subject(cgroup_id: u64, origin: Origin) -> Option<Subject> {
    (origin.cgroup_id != 0 || origin.uid != NO_UID).then_some(Subject { cgroup_id, origin })
}

/// The listed cgroup by which `own` is a subject, or `own` where nobody has resolved it yet; else 0.
#[inline(always)]
fn by_cgroup(own: u64, ancestor: impl Fn(i32) -> u64) -> u64 {
    let standing = standing(own);
    if standing & SUBJECT != 0 {
        return own;
    }
    let mut is_below_parent = false;
    for level in 0..MAX_DEPTH {
        let id = ancestor(level);
        if id == 0 {
            break;
        }
        let above = self::standing(id);
        if above & SUBJECT != 0 {
            return id;
        }
        is_below_parent |= above & PARENT != 0;
    }
    if is_below_parent && standing & KNOWN == 0 { own } else { 0 }
}

/// Whether the cgroup itself is a subject by name.
pub(crate) fn is_listed(cgroup_id: u64) -> bool {
    standing(cgroup_id) & SUBJECT != 0
}

fn by_uid(uid: u32) -> u32 {
    let key = Key::new(u32::BITS, uid.to_be_bytes());
    if SUBJECT_UIDS.get(key).is_some() { uid } else { NO_UID }
}

fn standing(cgroup_id: u64) -> u32 {
    // SAFETY: the value is one word, copied at once; the user side replaces it whole.
    unsafe { CGROUPS.get(cgroup_id).copied() }.unwrap_or(0)
}
