//! The container image, read by a container tool, and its program started in its own root. Root only.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tidegate_tests::image;

/// The test's own program is no static one: it finds its libraries in the machine's.
const START: &str = r#"
set -e
root=$1; shift
for directory in /lib /lib64 /usr/lib; do
    [ -e "$directory" ] || continue
    mkdir -p "$root$directory"
    mount --rbind "$directory" "$root$directory"
done
exec chroot "$root" "$@"
"#;

fn output<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Result<String> {
    let mut command = Command::new(program);
    let output = command.args(arguments).output().with_context(|| format!("starting {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Makes an image for these targets, and answers its archive and its digest.
fn image(directory: &Path, targets: &[&str]) -> Result<(PathBuf, String)> {
    let targets: Vec<String> = targets.iter().map(|target| format!("--target={target}")).collect();
    image::make(directory, &targets)
}

#[test]
fn a_container_tool_takes_the_image_and_its_program_starts() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (archive, digest) = image(directory.path(), &[])?;
    let reference = format!("oci-archive:{}", archive.display());
    let raw = output("skopeo", ["inspect", "--raw", &reference])?;
    let file = directory.path().join("index.json");
    fs::write(&file, &raw)?;
    let sum = output("sha256sum", [&file])?;
    ensure!(sum.starts_with(digest.trim_start_matches("sha256:")), "{digest} is not that of {raw}");
    let inspected: Value = serde_json::from_str(&output("skopeo", ["inspect", &reference])?)?;
    ensure!(inspected["Architecture"] == "amd64" && inspected["Os"] == "linux", "{inspected}");
    ensure!(inspected["Created"] == "2023-11-14T22:13:20Z", "{inspected}");
    ensure!(inspected["Labels"]["org.opencontainers.image.title"] == "tidegate", "{inspected}");

    // It compares every digest on the way.
    let copy = directory.path().join("copy");
    output("skopeo", ["copy", "--insecure-policy", &reference, &format!("dir:{}", copy.display())])?;
    let manifest: Value = serde_json::from_slice(&fs::read(copy.join("manifest.json"))?)?;
    let layer = manifest["layers"][0]["digest"].as_str().context("no layer")?.trim_start_matches("sha256:");
    let root = directory.path().join("root");
    fs::create_dir(&root)?;
    output("tar", ["-xpzf".as_ref(), copy.join(layer).as_os_str(), "-C".as_ref(), root.as_os_str()])?;
    for (path, mode) in
        [("usr/bin/tidegate", 0o755), ("var/lib/tidegate", 0o700), ("tmp", 0o1777), ("etc/passwd", 0o644)]
    {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let facts = fs::metadata(root.join(path))?;
        ensure!(facts.permissions().mode() & 0o7777 == mode && facts.uid() == 0, "{path}: {facts:?}");
    }
    let bundle = fs::read_to_string(root.join("etc/ssl/certs/ca-certificates.crt"))?;
    ensure!(bundle.matches("BEGIN CERTIFICATE").count() > 50, "only {} bytes of certificates", bundle.len());

    let config: Value = {
        let digest = manifest["config"]["digest"].as_str().context("no configuration")?;
        serde_json::from_slice(&fs::read(copy.join(digest.trim_start_matches("sha256:")))?)?
    };
    let entrypoint = config["config"]["Entrypoint"][0].as_str().context("no entrypoint")?;
    let root = root.to_str().context("a path that is no text")?;
    let start = |arguments: &[&str]| {
        let shell = ["--mount", "--propagation", "private", "sh", "-c", START, "sh", root, entrypoint];
        output("unshare", shell.iter().chain(arguments).copied())
    };
    ensure!(start(&["--version"])?.starts_with("tidegate "));
    // Its places are those of the manifest.
    fs::write(Path::new(root).join("etc/tidegate/policies/p.toml"), "allow = []\n")?;
    ensure!(start(&["check", "/etc/tidegate/policies"])?.ends_with("policy, ok\n"));
    Ok(())
}

#[test]
fn the_same_program_makes_the_same_image() -> Result<()> {
    let directories = [tempfile::tempdir()?, tempfile::tempdir()?];
    let made = directories.iter().map(|directory| image(directory.path(), &["x86_64-unknown-linux-gnu"]));
    let made: Vec<_> = made.collect::<Result<_>>()?;
    let [(one, digest), (other, same)] = &made[..] else { unreachable!("there are two") };
    ensure!(digest == same && fs::read(one)? == fs::read(other)?);
    Ok(())
}
