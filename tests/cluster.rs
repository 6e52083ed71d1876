//! tidegate in a real Kubernetes. Root only; needs what `cargo xtask cluster` makes, and `cargo xtask runtimes`.

mod cluster {
    mod objects;
}

use std::path::PathBuf;

/// Where the manifests are.
fn manifests() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "deploy", "kubernetes"].iter().collect()
}
