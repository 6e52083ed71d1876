//! The standard library's source: from rustup where it can be had, else from Debian's package of the same
//! version, unpacked beside the toolchain and not installed.

use super::Toolchain;
use crate::{apt::Apt, command::run};
use anyhow::{Context, Result, bail};
use std::{env, fs, path::Path, process::Command};

/// Suites that may hold the package of a new toolchain.
const SUITES: [&str; 3] = ["trixie-backports", "forky", "sid"];

pub(super) fn ensure(toolchain: &Toolchain) -> Result<()> {
    let library = toolchain.sysroot.join("lib/rustlib/src/rust/library");
    if library.join("core").is_dir() {
        return Ok(());
    }
    let from_rustup = run(Command::new("rustup").args(["component", "add", "rust-src"]));
    if from_rustup.is_ok() && library.join("core").is_dir() {
        return Ok(());
    }
    from_debian(toolchain, &library).with_context(|| {
        format!("no rust-src for Rust {}: neither rustup nor Debian has it", toolchain.version)
    })
}

fn from_debian(toolchain: &Toolchain, library: &Path) -> Result<()> {
    let work = env::temp_dir().join(format!("tidegate-rust-src-{}", std::process::id()));
    let result = unpack(toolchain, library, &work);
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    result
}

fn unpack(toolchain: &Toolchain, library: &Path, work: &Path) -> Result<()> {
    let apt = Apt::new(work, &SUITES)?;
    apt.run("apt-get", &["update", "-qq"])?;
    let prefix = format!("{}+", toolchain.version);
    let listing = apt.output("apt-cache", &["madison", "rust-src"])?;
    let version = listing
        .lines()
        .filter_map(|line| line.split('|').nth(1).map(str::trim))
        .find(|version| version.starts_with(&prefix))
        .with_context(|| {
            format!("Debian's suites {} have no rust-src {}", SUITES.join(", "), toolchain.version)
        })?;
    apt.run("apt-get", &["download", "-qq", &format!("rust-src={version}")])?;

    let package = fs::read_dir(work)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get download left no package")?;
    let tree = work.join("tree");
    run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&tree))?;
    let source = tree.join(format!("usr/src/rustc-{}/library", toolchain.version));
    if !source.join("core").is_dir() {
        bail!("the package has no {}", source.display());
    }
    // Copied beside its place and renamed, so that an interrupted copy is never taken for a whole one.
    let parent = library.parent().context("the library has a parent directory")?;
    let partial = parent.join(format!(".library-{}", std::process::id()));
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    run(Command::new("cp").arg("-r").arg(source).arg(&partial))?;
    fs::rename(&partial, library).with_context(|| format!("cannot put the source at {}", library.display()))
}
