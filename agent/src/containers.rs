//! Pods and containers: which there are, which cgroup is whose, and what a container is given before it starts.
//!
//! ```text
//! runtime ─NRI──→ nri ────┐
//!         ─CRI──→ cri ────┴→ registry ─Claim→ who governs a cgroup, facts for records
//!                                     ─Notice→ whoever tags cgroups and opens listeners, before the runtime goes on
//! nri ─CreateContainer→ injection: the mounts and variables by which its programs trust the local CA
//! registry ─Notice→ cover: what could not be given before the container was made, in its own mount namespace
//! ```

pub mod cgroup_path;
pub mod cover;
pub mod cri;
pub mod docker;
pub mod injection;
pub mod member;
pub mod nri;
pub mod registry;
pub mod rules;
mod standing;

pub use member::{Container, Member, Network, Pod};
pub use registry::Registry;
pub use standing::Registries;

/// The messages of the protocols, made from `agent/proto`.
mod messages {
    /// NRI's.
    pub(super) mod nri {
        #![expect(unreachable_pub, reason = "the generator makes everything public")]
        include!(concat!(env!("OUT_DIR"), "/tidegate.nri.rs"));
    }

    /// The CRI's.
    pub(super) mod cri {
        #![expect(
            unreachable_pub,
            clippy::enum_variant_names,
            reason = "the generator makes everything public, and the names are the protocol's"
        )]
        include!(concat!(env!("OUT_DIR"), "/tidegate.cri.rs"));
    }

    /// ttrpc's.
    pub(super) mod ttrpc {
        #![expect(unreachable_pub, reason = "the generator makes everything public")]
        include!(concat!(env!("OUT_DIR"), "/tidegate.ttrpc.rs"));
    }
}
