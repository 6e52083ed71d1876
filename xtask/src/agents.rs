//! `cargo xtask agents`: what a thousand agents cost an API server.

use crate::{cargo, cluster, runtimes};
use anyhow::Result;
use std::path::Path;

/// Measures it, and prints what it found.
pub(crate) fn run(workspace: &Path) -> Result<()> {
    cargo::require_root("the API server is in namespaces of its own")?;
    runtimes::ensure(workspace)?;
    cluster::ensure(workspace)?;
    cargo::run(workspace, &["build", "--bins"])?;
    let run = ["test", "--package", "tidegate-tests", "--test", "cluster", "--"];
    cargo::run(workspace, &[&run[..], &["--ignored", "--nocapture", "what_a_thousand_agents_cost"]].concat())
}
