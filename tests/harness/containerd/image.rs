//! Images made by hand: busybox and nothing else, as an OCI archive.

use super::Containerd;
use crate::process::Process;
use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(30);

/// What the shell's scripts call.
const APPLETS: [&str; 8] = ["cat", "env", "grep", "ls", "readlink", "sh", "sleep", "touch"];

/// Makes an image of this name, with this entry point and what `fill` puts into its tree, and gives it to containerd.
pub(super) fn import(
    containerd: &Containerd<'_>,
    name: &str,
    entry: &[&str],
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let work = containerd.directory.join("image");
    let archive = make(&work, &busybox(&containerd.tree)?, name, entry, fill)?;
    containerd.ctr(&["images", "import", &archive.display().to_string()])?;
    Ok(fs::remove_dir_all(work)?)
}

/// Makes an archive with an image of this name and entry point, of what `cargo xtask containerd` has unpacked in `tree`.
///
/// # Errors
/// When something is missing there, or cannot be written.
pub fn of_busybox(work: &Path, tree: &Path, name: &str, entry: &[&str]) -> Result<PathBuf> {
    make(work, &busybox(tree)?, name, entry, |_| Ok(()))
}

fn busybox(tree: &Path) -> Result<PathBuf> {
    let places = ["usr/bin/busybox", "bin/busybox"].map(|place| tree.join(place));
    places.into_iter().find(|place| place.exists()).context("the package busybox-static holds no busybox")
}

/// An archive in the layout of OCI's image specification.
fn make(
    work: &Path,
    busybox: &Path,
    name: &str,
    entry: &[&str],
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let (root, blobs) = (work.join("root"), work.join("layout/blobs/sha256"));
    for directory in ["bin", "dev", "etc/ssl/certs", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::create_dir_all(&blobs)?;
    fs::copy(busybox, root.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
    fill(&root)?;
    let layer = work.join("layer.tar");
    archive(&root, &layer)?;
    let layer = fs::read(layer)?;
    let add = |content: &[u8], kind: &str| -> Result<Value> {
        let digest = hexadecimal(digest(&SHA256, content).as_ref());
        fs::write(blobs.join(&digest), content)?;
        Ok(json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": content.len()}))
    };
    let layer = add(&layer, "application/vnd.oci.image.layer.v1.tar")?;
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {"Entrypoint": entry, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.get("digest")]},
    });
    let config = add(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json")?;
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]});
    let mut manifest = add(manifest.to_string().as_bytes(), kind)?;
    let named = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
    manifest.as_object_mut().context("an object")?.insert("annotations".into(), named);
    let layout = work.join("layout");
    fs::write(layout.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
    fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": [manifest]}).to_string())?;
    let image = work.join("image.tar");
    archive(&layout, &image)?;
    Ok(image)
}

fn archive(directory: &Path, file: &Path) -> Result<()> {
    let mut command = Command::new("tar");
    command
        .args(["--owner=0", "--group=0", "--create", "--file"])
        .arg(file)
        .arg("-C")
        .arg(directory)
        .arg(".");
    let parent = file.parent().context("a file's directory")?;
    let finished = Process::run(&mut command, parent, LIMIT)?;
    ensure!(finished.status.success(), "{finished:?}");
    Ok(())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
