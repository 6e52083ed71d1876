//! Kubernetes for the tests, in `target/kubernetes`: a control plane and a kubelet, compiled from Debian's source package,
//! which is the last one of Debian's that holds the whole tree with all that it needs; etcd; and the containerd that this
//! kubelet speaks with. Nothing is installed on the machine.
//!
//! ```text
//! target/kubernetes
//! ├── bin                kube-apiserver, kube-controller-manager, kube-scheduler, kubelet
//! └── usr/bin            etcd, containerd and what belongs to it
//! ```

mod build;

use crate::{apt::Apt, cargo, command, runtimes};
use anyhow::{Context as _, Result, ensure};
use std::{fs, path::Path, process::Command};

/// Where the source is, and what compiles it.
const RELEASE: &str = "bookworm";
const SOURCE: &str = "kubernetes";
/// The version of Kubernetes' own that it holds; Debian's own changes are none to what is compiled here.
const VERSION: &str = "1.20.5+really1.20.2";
const COMPILER: [&str; 3] = ["golang-1.19-go", "golang-1.19-src", "golang-github-modern-go-reflect2-dev"];
/// Taken as it is.
const DATABASE: &str = "etcd-server";
/// containerd 1.7: the kubelet speaks CRI v1alpha2, which containerd 2 has no more.
const RUNTIME: (&str, &str) = ("containerd", "trixie");
/// What must be there then.
const PROGRAMS: [&str; 4] =
    ["usr/bin/etcd", "usr/bin/containerd", "usr/bin/containerd-shim-runc-v2", "usr/bin/ctr"];

/// Makes what is missing: some five minutes once.
pub(crate) fn ensure(workspace: &Path) -> Result<()> {
    let target = cargo::target_directory(workspace)?;
    let of = format!("{SOURCE} {VERSION} by {COMPILER:?}, {DATABASE} of {RELEASE}, {RUNTIME:?}");
    runtimes::part(&target, "kubernetes", &of, |place| {
        let work = place.join("work");
        fs::create_dir_all(&work)?;
        let apt = Apt::new(&work, &[RELEASE, RUNTIME.1])?.with_sources(RELEASE)?;
        apt.run("apt-get", &["update", "-qq"])?;
        let of_release = [&COMPILER[..], &[DATABASE]].concat();
        download(&apt, &of_release, RELEASE)?;
        unpack(&work, |name| if name.starts_with(DATABASE) { place.to_owned() } else { work.join("root") })?;
        download(&apt, &[RUNTIME.0], RUNTIME.1)?;
        unpack(&work, |_| place.to_owned())?;
        for program in PROGRAMS {
            ensure!(place.join(program).exists(), "the packages hold no {program}");
        }
        // apt compares the sums of the files with those of the signed index.
        apt.run("apt-get", &["source", "-qq", "--download-only", SOURCE])?;
        let archive = work.join(format!("{SOURCE}_{VERSION}.orig.tar.gz"));
        ensure!(archive.exists(), "the source of {SOURCE} in {RELEASE} is not that of {VERSION}");
        build::programs(&work, &archive, &place.join("bin"))?;
        // Above all the compiler's cache, of a gigabyte.
        fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))
    })
}

fn download(apt: &Apt<'_>, packages: &[&str], suite: &str) -> Result<()> {
    let named: Vec<String> = packages.iter().map(|package| format!("{package}/{suite}")).collect();
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    apt.run("apt-get", &[&["download", "-qq"], named.as_slice()].concat())
}

/// Unpacks all packages that were downloaded, each into the directory that is told for it, and removes them.
fn unpack(work: &Path, place: impl Fn(&str) -> std::path::PathBuf) -> Result<()> {
    for entry in fs::read_dir(work)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            let place = place(&path.file_name().unwrap_or_default().to_string_lossy());
            fs::create_dir_all(&place)?;
            command::run(Command::new("dpkg-deb").arg("-x").args([&path, &place]))?;
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
