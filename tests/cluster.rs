//! tidegate in a real Kubernetes. Root only; needs what `cargo xtask cluster`, `containerd` and `runtimes` make.

#![expect(clippy::indexing_slicing, reason = "the helpers of tests fail as tests do")]

mod cluster {
    mod agents;
    pub(crate) mod asker;
    mod cost;
    mod enforcement;
    pub(crate) mod objects;
    mod statuses;
    mod taints;
}

use cluster::{asker, objects};

use std::path::PathBuf;

/// Where the manifests are.
fn manifests() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "deploy", "kubernetes"].iter().collect()
}
