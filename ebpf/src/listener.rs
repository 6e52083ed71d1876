//! Where the agent listens, by network namespace and family.

use crate::address::Target;
use aya_ebpf::{
    helpers::generated::bpf_get_netns_cookie, macros::map, maps::HashMap, programs::SockAddrContext,
};
use tidegate_ebpf_common::{ListenerKey, is_mapped, mapped};

#[map]
static LISTENERS: HashMap<ListenerKey, u32> = HashMap::with_max_entries(8192, 0);

const LOOPBACK_V4: [u8; 16] = mapped([127, 0, 0, 1]);
const LOOPBACK_V6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// A listener of the caller's network namespace.
#[derive(Clone, Copy)]
pub(crate) struct Listener {
    pub(crate) address: [u8; 16],
    pub(crate) port: u16,
}

/// Whether the port is a listener's in the namespace of `key`, of either family.
pub(crate) fn is_port(key: &ListenerKey, port: u16) -> bool {
    let of = |family| lookup(&ListenerKey { family, ..*key }).is_some_and(|listener| listener.port == port);
    of(4) || of(6)
}

/// The namespace and family that a connect to `target` belongs to.
pub(crate) fn key(ctx: &SockAddrContext, target: &Target) -> ListenerKey {
    // SAFETY: the kernel passes a valid context, which is what the helper takes in these hooks.
    let netns_cookie = unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) };
    let family = if is_mapped(&target.address) { 4 } else { 6 };
    ListenerKey { netns_cookie, family, reserved: 0 }
}

pub(crate) fn lookup(key: &ListenerKey) -> Option<Listener> {
    // SAFETY: the value is one word, copied at once; the user side replaces it whole.
    let port = unsafe { LISTENERS.get(key).copied() }? as u16;
    Some(Listener { address: if key.family == 4 { LOOPBACK_V4 } else { LOOPBACK_V6 }, port })
}
