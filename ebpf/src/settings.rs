//! What holds for all hooks, set by the user side.

use aya_ebpf::{macros::map, maps::Array};
use tidegate_ebpf_common::{SETTING_STICKY, SETTING_TARGETED, Settings};

#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// Captured ports count only at protected addresses.
pub(crate) fn targeted() -> bool {
    flags() & SETTING_TARGETED != 0
}

/// Threads are followed.
pub(crate) fn sticky() -> bool {
    flags() & SETTING_STICKY != 0
}

fn flags() -> u32 {
    SETTINGS.get(0).map_or(0, |settings| settings.flags)
}
