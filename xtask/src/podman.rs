//! Podman for the tests, in `target/podman`: a tree of Debian's packages with all that it needs, libraries among them, so
//! that its release need not be the machine's. It is never installed; tests enter the tree.

use crate::{apt::Apt, cargo, command, runtimes};
use anyhow::{Result, ensure};
use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

/// The first stable one whose Podman plays DaemonSets.
const RELEASE: &str = "trixie";
const PACKAGES: [&str; 4] = ["podman", "conmon", "netavark", "catatonit"];
/// What must be there then.
const PROGRAMS: [&str; 3] = ["usr/bin/podman", "usr/bin/conmon", "usr/libexec/podman/catatonit"];
/// Where programs look for these, of which a package that is not needed would make links.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Makes what is missing.
pub(crate) fn ensure(workspace: &Path) -> Result<()> {
    let target = cargo::target_directory(workspace)?;
    let of = format!("{PACKAGES:?} of {RELEASE}");
    runtimes::part(&target, "podman", &of, |place| {
        let work = place.join("apt");
        let apt = Apt::new(&work, &[RELEASE])?;
        apt.run("apt-get", &["update", "-qq"])?;
        // As on a machine with nothing on it.
        let status = work.join("status");
        fs::write(&status, "")?;
        let status = format!("Dir::State::status={}", status.display());
        let install =
            ["install", "-qq", "--yes", "--no-install-recommends", "--download-only", "-o", &status];
        apt.run("apt-get", &[&install[..], &PACKAGES[..]].concat())?;
        for entry in fs::read_dir(work.join("cache/archives"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                command::run(Command::new("dpkg-deb").arg("-x").args([path.as_path(), place]))?;
            }
        }
        for name in MERGED.iter().filter(|name| !place.join(name).exists()) {
            symlink(Path::new("usr").join(name), place.join(name))?;
        }
        for program in PROGRAMS {
            ensure!(place.join(program).exists(), "the packages {PACKAGES:?} hold no {program}");
        }
        Ok(fs::remove_dir_all(work)?)
    })
}
