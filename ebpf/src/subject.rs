//! Is the caller a subject? Yes, when its own cgroup or any cgroup above it is listed.

use aya_ebpf::{
    helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id},
    macros::map,
    maps::HashMap,
};

/// Plain hash, never LRU: a forgotten subject would be an open gate.
#[map]
static SUBJECT_CGROUPS: HashMap<u64, u32> = HashMap::with_max_entries(16_384, 0);

/// The user side refuses to list a cgroup below this depth, so that no ancestor is missed.
const MAX_DEPTH: i32 = 32;

/// The caller's cgroup, where it or an ancestor is a subject.
pub(crate) fn current() -> Option<u64> {
    // SAFETY: takes no pointer.
    let own = unsafe { bpf_get_current_cgroup_id() };
    if listed(own) {
        return Some(own);
    }
    for level in 0..MAX_DEPTH {
        // SAFETY: takes no pointer.
        let ancestor = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if ancestor == 0 {
            break;
        }
        if listed(ancestor) {
            return Some(own);
        }
    }
    None
}

fn listed(cgroup_id: u64) -> bool {
    SUBJECT_CGROUPS.get_ptr(cgroup_id).is_some()
}
