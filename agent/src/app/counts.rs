//! What has happened since the start, for `tidegate status`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Counts that many tasks add to.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Connections that came to the gate.
    pub(super) redirected: AtomicU64,
    /// Connections that are open now.
    pub(super) open: AtomicU64,
    /// What the kernel side refused.
    pub(super) refused: AtomicU64,
    /// Refusals that there was no room to report.
    pub(super) lost: AtomicU64,
    /// Connections from before that were ended.
    pub(super) ended: AtomicU64,
}

/// A connection that is open as long as this lives.
#[derive(Debug)]
pub(super) struct Open(Arc<Counts>);

impl Counts {
    /// A connection has come.
    pub(super) fn opened(self: &Arc<Self>) -> Open {
        self.redirected.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        Open(Arc::clone(self))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}
