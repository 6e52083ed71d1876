//! Programs that the demo and the tests start: looked for, and installed where the machine has apt-get.

use anyhow::{Context as _, Result, bail};
use std::{env, process::Command};

/// A program and the Debian package that has it.
pub(crate) type Program = (&'static str, &'static str);

/// What a private world is made with.
pub(crate) const WORLD: [Program; 4] =
    [("ip", "iproute2"), ("unshare", "util-linux"), ("nsenter", "util-linux"), ("curl", "curl")];

/// What the kernel tests run besides.
pub(crate) const CLIENTS: [Program; 7] = [
    ("openssl", "openssl"),
    ("certtool", "gnutls-bin"),
    ("python3", "python3"),
    ("node", "nodejs"),
    ("systemd-analyze", "systemd"),
    ("tmux", "tmux"),
    ("skopeo", "skopeo"),
];

/// Installs the packages of the programs that are missing.
pub(crate) fn ensure(programs: &[Program]) -> Result<()> {
    let missing: Vec<Program> = programs.iter().copied().filter(|(program, _)| !is_there(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    install(&packages)?;
    for (program, package) in missing {
        if !is_there(program) {
            bail!("`{program}` is still missing though the package {package} was installed");
        }
    }
    Ok(())
}

/// Installs these packages.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if !is_there("apt-get") {
        bail!("missing, and there is no apt-get to install it: {names}: install what holds it here");
    }
    let apt = |arguments: &[&str]| -> Result<bool> {
        let mut command = Command::new("apt-get");
        let status = command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments).status();
        Ok(status.context("starting apt-get")?.success())
    };
    let install = [&["install", "--quiet", "--yes", "--no-install-recommends"], packages].concat();
    // The index of a fresh machine is empty or old.
    let installed = apt(&install)? || (apt(&["update", "--quiet"])? && apt(&install)?);
    if !installed {
        bail!("apt-get could not install {names}: install it by hand, and run this again");
    }
    Ok(())
}

pub(crate) fn is_there(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
