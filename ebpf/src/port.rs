//! The captured ports.

use aya_ebpf::{macros::map, maps::HashMap};

#[map]
static CAPTURED_PORTS: HashMap<u32, u32> = HashMap::with_max_entries(1024, 0);

pub(crate) fn captured(port: u16) -> bool {
    CAPTURED_PORTS.get_ptr(u32::from(port)).is_some()
}
