//! Registers descriptors that become readable with the runtime.
#![expect(unsafe_code, reason = "tokio cannot check that the descriptor stays the same and open")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Watches `source` for readability.
pub(crate) fn watch<T: AsFd + AsRawFd>(source: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: every `T` used here (aya's ring buffer and logger, and `OwnedFd`) owns its descriptor, answers the same one
    // for as long as it lives, and closes it only when dropped, which `AsyncFd` does after deregistering.
    unsafe { AsyncFd::register_with_interest(source, Interest::READABLE) }.map_err(io::Error::from)
}
