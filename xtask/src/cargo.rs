//! Running cargo, and what cargo knows.

use anyhow::{Context as _, Result, ensure};
use std::{
    env, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// A cargo command at the workspace's root.
pub(crate) fn command(workspace: &Path, arguments: &[&str]) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(workspace);
    command
}

/// Runs cargo, and fails as it fails.
pub(crate) fn run(workspace: &Path, arguments: &[&str]) -> Result<()> {
    crate::command::run(&mut command(workspace, arguments))
}

/// Where cargo builds.
pub(crate) fn target_directory(workspace: &Path) -> Result<PathBuf> {
    let arguments = ["metadata", "--quiet", "--no-deps", "--offline", "--format-version", "1"];
    let output = command(workspace, &arguments).output().context("starting cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let directory = metadata.get("target_directory").and_then(serde_json::Value::as_str);
    Ok(directory.context("cargo metadata names no target directory")?.into())
}

/// Fails with the reason where the caller is not root.
pub(crate) fn require_root(reason: &str) -> Result<()> {
    let owner = fs::metadata("/proc/self").context("looking at /proc/self")?.uid();
    ensure!(owner == 0, "{reason}: run this as root");
    Ok(())
}
