//! The container runtime of the tests, unpacked in `target/containerd` and never installed: containerd with NRI from
//! Debian unstable, whose libc needs are old, and runc of the machine's own release, whose are not.

use crate::{apt::Apt, cargo, command, runtimes};
use anyhow::{Context as _, Result, ensure};
use std::{fs, path::Path, process::Command};

const UNSTABLE: [&str; 2] = ["containerd", "containernetworking-plugins"];
const OWN: [&str; 2] = ["runc", "busybox-static"];
/// What must be there then.
const PROGRAMS: [&str; 4] =
    ["usr/bin/containerd", "usr/bin/containerd-shim-runc-v2", "usr/lib/cni/ptp", "usr/sbin/runc"];

/// Makes what is missing.
pub(crate) fn ensure(workspace: &Path) -> Result<()> {
    let target = cargo::target_directory(workspace)?;
    let release = release(&fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?)?;
    let of = format!("{UNSTABLE:?} of sid, {OWN:?} of {release}");
    runtimes::part(&target, "containerd", &of, |place| unpack(place, &release))
}

fn unpack(place: &Path, release: &str) -> Result<()> {
    let work = place.join("apt");
    let apt = Apt::new(&work, &["sid", release])?;
    apt.run("apt-get", &["update", "-qq"])?;
    let unstable = UNSTABLE.map(|package| format!("{package}/sid"));
    let own = OWN.map(|package| format!("{package}/{release}"));
    let packages: Vec<&str> = unstable.iter().chain(&own).map(String::as_str).collect();
    apt.run("apt-get", &[&["download", "-qq"], packages.as_slice()].concat())?;
    for entry in fs::read_dir(&work)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            command::run(Command::new("dpkg-deb").arg("-x").args([&path, &place.to_owned()]))?;
        }
    }
    for program in PROGRAMS {
        ensure!(place.join(program).exists(), "the packages {packages:?} hold no {program}");
    }
    Ok(fs::remove_dir_all(work)?)
}

/// The name of the machine's release of Debian.
fn release(os_release: &str) -> Result<String> {
    let name = os_release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name
        .context("/etc/os-release names no release: the tests of containers need Debian's packages")?
        .trim_matches('"')
        .into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_release_is_read_with_and_without_quotes() {
        assert_eq!(super::release("ID=debian\nVERSION_CODENAME=bookworm\n").unwrap(), "bookworm");
        assert_eq!(super::release("VERSION_CODENAME=\"trixie\"\n").unwrap(), "trixie");
        assert!(super::release("ID=other\n").is_err());
    }
}
