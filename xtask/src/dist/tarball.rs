//! The tarball for every other system: a program that needs no library of it, and what comes with it.

use super::{FEATURES, Places, VERSION};
use crate::{cargo, command};
use anyhow::{Context as _, Result};
use std::{fs, path::Path, process::Command};

/// What of the tree comes along, and where to.
const FILES: [(&str, &str); 10] = [
    ("deploy/systemd", "systemd"),
    ("deploy/etc/tidegate.toml", "etc/tidegate.toml"),
    ("deploy/etc/example.toml", "etc/policies/example.toml"),
    ("deploy/grafana", "grafana"),
    ("policies", "policies"),
    ("docs", "docs"),
    ("README.md", "README.md"),
    ("LICENSE-APACHE", "LICENSE-APACHE"),
    ("LICENSE-MIT", "LICENSE-MIT"),
    ("deploy/INSTALL.md", "INSTALL.md"),
];

/// Makes it, and answers its name.
pub(super) fn make(places: &Places<'_>, is_built: bool) -> Result<String> {
    let architecture = std::env::consts::ARCH;
    let target = format!("{architecture}-unknown-linux-gnu");
    if !is_built {
        build(places.workspace, places.profile, &target)?;
    }
    let whole = format!("tidegate-{VERSION}-{architecture}-linux");
    let directory = places.companions().join(&whole);
    fs::create_dir_all(directory.join("etc/policies"))
        .with_context(|| format!("making {}", directory.display()))?;
    let profile = places.built.file_name().context("the profile's directory has no name")?;
    let program = directory.join("tidegate");
    copy(&places.target.join(&target).join(profile).join("tidegate"), &program)?;
    if places.profile != "release" {
        command::run(Command::new("strip").arg(&program))?;
    }
    for name in ["man", "completions"] {
        copy(&places.companions().join(name), &directory.join(name))?;
    }
    for (from, to) in FILES {
        copy(&places.workspace.join(from), &directory.join(to))?;
    }
    let name = format!("{whole}.tar.gz");
    let mut pack = Command::new("tar");
    pack.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=u=rwX,go=rX"]);
    pack.arg("--directory").arg(places.companions());
    command::run(pack.arg("-czf").arg(places.output.join(&name)).arg(&whole))?;
    fs::remove_dir_all(&directory).with_context(|| format!("removing {}", directory.display()))?;
    Ok(name)
}

/// With a target named, the flag is the program's alone: build scripts and macros cannot be static.
pub(super) fn build(workspace: &Path, profile: &str, target: &str) -> Result<()> {
    let arguments =
        ["build", "--quiet", "--package", "tidegate", "--bin", "tidegate", "--features", FEATURES];
    let mut build = cargo::command(workspace, &arguments);
    build.args(["--profile", profile, "--target", target]);
    command::run(build.env("RUSTFLAGS", "-C target-feature=+crt-static"))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    command::run(Command::new("cp").args(["--recursive", "--"]).arg(from).arg(to))
}
