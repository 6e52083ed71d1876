//! The captured ports, and the forward proxies, which are captured at any port.

use crate::address::Target;
use aya_ebpf::{macros::map, maps::HashMap};
use tidegate_ebpf_common::Endpoint;

#[map]
static CAPTURED_PORTS: HashMap<u32, u32> = HashMap::with_max_entries(1024, 0);

#[map]
static FORWARD_PROXIES: HashMap<Endpoint, u32> = HashMap::with_max_entries(1024, 0);

pub(crate) fn captured(port: u16) -> bool {
    CAPTURED_PORTS.get_ptr(u32::from(port)).is_some()
}

/// A function of its own in the program, so that its key does not add to the hook's stack.
#[inline(never)]
pub(crate) fn is_forward_proxy(target: &Target) -> bool {
    let key = Endpoint { address: target.address, port: u32::from(target.port) };
    FORWARD_PROXIES.get_ptr(key).is_some()
}
