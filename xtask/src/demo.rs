//! `cargo xtask demo`: the main job, shown on a stand-in for the API. The show itself is `tests/demo`.

use crate::{cargo, packages, setup};
use anyhow::{Result, ensure};
use std::{path::Path, process::Command};

/// Builds tidegate and the stand-in, and shows them at work.
pub(crate) fn run(workspace: &Path) -> Result<()> {
    cargo::require_root("the demo attaches eBPF programs and makes namespaces")?;
    setup::ensure()?;
    packages::ensure(&packages::WORLD)?;
    let packages = ["--package", "tidegate", "--package", "tidegate-tests"];
    let programs = ["--bin", "tidegate", "--bin", "tidegate-standin", "--bin", "tidegate-demo"];
    cargo::run(workspace, &[&["build", "--quiet"][..], &packages, &programs].concat())?;
    let program = cargo::target_directory(workspace)?.join("debug/tidegate-demo");
    let status = Command::new(program).arg("policies/read-only.toml").current_dir(workspace).status()?;
    ensure!(status.success(), "the demo did not show what it promises: see above");
    Ok(())
}
