//! Which kind of filesystem a path lies on.

use std::{io, path::Path};

/// Version 1 of cgroupfs.
pub(super) const CGROUP: u32 = 0x0027_e0eb;
/// cgroup2.
pub(super) const CGROUP2: u32 = 0x6367_7270;
/// bpffs.
pub(super) const BPF: u32 = 0xcafe_4a11;
/// Namespaces' descriptors.
pub(super) const NSFS: u32 = 0x6e73_6673;

/// The magic number of linux/magic.h.
pub(super) fn magic(path: &Path) -> io::Result<u32> {
    let status = rustix::fs::statfs(path)?;
    // The numbers have 32 bits; the field is signed and as wide as a pointer.
    Ok((status.f_type & 0xffff_ffff).try_into().unwrap_or_default())
}
