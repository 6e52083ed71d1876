//! The two flow tables: what each socket asked for, and what is on its way to the listener.
//!
//! Both are plain hashes: a full table refuses. They are not preallocated, since the kernel may hand a
//! preallocated element to another key while it is still being read.

use crate::{address::Target, subject::Subject};
use aya_ebpf::{
    EbpfContext,
    bindings::BPF_F_NO_PREALLOC,
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        generated::{bpf_get_socket_cookie, bpf_ktime_get_boot_ns},
    },
    macros::map,
    maps::HashMap,
    programs::SockAddrContext,
};
use tidegate_ebpf_common::{FLOW_DIRECT, Flow, FlowKey, ListenerKey};

/// The user side may lower both sizes when it loads the programs.
#[map]
static ORIGINALS: HashMap<u64, Flow> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

#[map]
static FLOWS: HashMap<FlowKey, Flow> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// The table has no room.
pub(crate) struct Full;

/// Describes the attempt of the calling thread.
pub(crate) fn describe(target: &Target, listener: &ListenerKey, subject: &Subject) -> Flow {
    Flow {
        netns_cookie: listener.netns_cookie,
        listener_family: listener.family as u16,
        ..describe_socket(target.address, target.port, subject)
    }
}

/// As [`describe`], where no listener is asked for.
#[inline(always)]
pub(crate) fn describe_socket(address: [u8; 16], port: u16, subject: &Subject) -> Flow {
    let pid_tgid = bpf_get_current_pid_tgid();
    let uid_gid = bpf_get_current_uid_gid();
    Flow {
        pid: pid_tgid as u32,
        tgid: (pid_tgid >> 32) as u32,
        uid: uid_gid as u32,
        gid: (uid_gid >> 32) as u32,
        comm: bpf_get_current_comm().unwrap_or([0; 16]),
        ..anonymous(address, port, subject)
    }
}

/// Describes an attempt whose process nobody knows.
#[inline(always)]
pub(crate) fn anonymous(address: [u8; 16], port: u16, subject: &Subject) -> Flow {
    Flow {
        address,
        netns_cookie: 0,
        cgroup_id: subject.cgroup_id,
        // SAFETY: takes no pointer.
        time_ns: unsafe { bpf_ktime_get_boot_ns() },
        pid: 0,
        tgid: 0,
        uid: 0,
        gid: 0,
        port,
        listener_family: 0,
        flags: 0,
        origin: subject.origin,
        comm: [0; 16],
    }
}

/// Remembers what this socket asked for.
pub(crate) fn remember(ctx: &SockAddrContext, flow: &Flow) -> Result<(), Full> {
    ORIGINALS.insert(cookie(ctx), flow, 0).map_err(|_| Full)
}

/// What this socket asked for, where it was redirected.
pub(crate) fn original(ctx: &impl EbpfContext) -> Option<Flow> {
    by_cookie(cookie(ctx)).filter(|flow| flow.flags & FLOW_DIRECT == 0)
}

/// As [`original`], with connects to the listener itself.
pub(crate) fn by_cookie(cookie: u64) -> Option<Flow> {
    // SAFETY: elements are not preallocated, so a removed one stays readable until the program ends.
    unsafe { ORIGINALS.get(cookie).copied() }
}

/// Forgets what a socket asked for. Flows on their way stay: release can come before accept.
pub(crate) fn release(ctx: &impl EbpfContext) {
    let _absent = ORIGINALS.remove(cookie(ctx));
}

/// Puts the flow where the accepting side will look for it.
pub(crate) fn publish(key: &FlowKey, flow: &Flow) -> Result<(), Full> {
    FLOWS.insert(key, flow, 0).map_err(|_| Full)
}

/// Removes whatever stands under the key of a connection that has no flow.
pub(crate) fn unpublish(key: &FlowKey) {
    let _absent = FLOWS.remove(key);
}

pub(crate) fn cookie(ctx: &impl EbpfContext) -> u64 {
    // SAFETY: the kernel passes a valid context, which is what the helper takes in these hooks.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}
