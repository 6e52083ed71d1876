//! What the Kubernetes API server knows: policies and bindings as objects, and the pods of this node.
//!
//! ```text
//! API server ─watch→ view ─verdict→ condition ─→ status of the object, where it differs
//!                     └─→ state, one file ─→ accepted: the last good content of each object, and the pods (the daemon)
//! ```
//!
//! Whoever asks the API server (`tidegate cluster`) has no privilege, and the daemon has no token. What the file says can
//! therefore only say whom which policy governs; the daemon reads it as strictly as if an enemy had written it.

pub mod accepted;
pub mod condition;
pub mod state;
pub mod taint;
pub mod turn;
pub mod verdict;
pub mod view;

pub use accepted::{Accepted, Names};
pub use state::State;

/// The two kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A ScopePolicy.
    Policy,
    /// A ScopeBinding.
    Binding,
}

impl Kind {
    /// As manifests have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Policy => crate::manifest::POLICY,
            Self::Binding => crate::manifest::BINDING,
        }
    }
}
