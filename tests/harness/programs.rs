//! Finding the programs that tests start, and the environment they get.

use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The directory that cargo built this test into, such as `target/debug`.
///
/// # Errors
/// When the running program's path is unknown.
pub fn profile_directory() -> Result<PathBuf> {
    let program = std::env::current_exe().context("finding this test's own path")?;
    let directory = program.parent().context("this test's directory")?;
    // Tests live in `deps`, programs beside it.
    let is_test = directory.file_name().is_some_and(|name| name == "deps");
    Ok(if is_test { directory.parent().unwrap_or(directory) } else { directory }.to_owned())
}

/// A program of this workspace.
///
/// # Errors
/// When it was not built, or its sources are newer: then a test would tell of another program than is meant.
pub fn built(name: &str) -> Result<PathBuf> {
    let path = profile_directory()?.join(name);
    let built = fs::metadata(&path).and_then(|facts| facts.modified());
    let built = built.with_context(|| format!("{} is missing: run `cargo build --bins`", path.display()))?;
    // Cargo lists there what the program was made of.
    let sources = fs::read_to_string(path.with_extension("d")).unwrap_or_default();
    for source in sources.split_once(": ").map_or("", |(_, sources)| sources.trim()).split(' ') {
        if fs::metadata(source).and_then(|facts| facts.modified()).is_ok_and(|changed| changed > built) {
            bail!("{} is older than {source}: run `cargo build --bins`", path.display());
        }
    }
    Ok(path)
}

/// A Python with the `requests` package and its own certificates (certifi), as an SDK's users have.
///
/// # Errors
/// When it was not set up.
pub fn python() -> Result<PathBuf> {
    let directory = profile_directory()?;
    let path = directory.parent().unwrap_or(&directory).join("python/bin/python3");
    ensure!(path.exists(), "{} is missing: run `cargo xtask test` once, which makes it", path.display());
    Ok(path)
}

/// Where the runtimes, SDKs and tools of the trust tests are.
///
/// # Errors
/// When they were not made.
pub fn runtimes() -> Result<PathBuf> {
    let directory = profile_directory()?;
    let path = directory.parent().unwrap_or(&directory).join("runtimes");
    ensure!(path.exists(), "{} is missing: run `cargo xtask runtimes` once, which makes it", path.display());
    Ok(path)
}

/// Where the container runtime is.
///
/// # Errors
/// When it was not made.
pub fn containerd() -> Result<PathBuf> {
    made("containerd", "containerd")
}

/// Where Podman is.
///
/// # Errors
/// When it was not made.
pub fn podman() -> Result<PathBuf> {
    made("podman", "containerd")
}

/// Where Kubernetes and what it runs on are.
///
/// # Errors
/// When they were not made.
pub fn kubernetes() -> Result<PathBuf> {
    made("kubernetes", "cluster")
}

fn made(name: &str, task: &str) -> Result<PathBuf> {
    let directory = profile_directory()?;
    let path = directory.parent().unwrap_or(&directory).join(name);
    // Only when it is whole does this file say of what it was made.
    let is_whole = path.with_extension("made-of").exists();
    ensure!(is_whole, "{} is missing: run `cargo xtask {task}` once, which makes it", path.display());
    Ok(path)
}

/// Takes everything from the environment that could change what a program trusts or which proxy it takes.
pub fn plain_environment(command: &mut Command, home: &Path) {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    command.env_clear().env("PATH", path).env("HOME", home).env("LANG", "C.UTF-8");
}
