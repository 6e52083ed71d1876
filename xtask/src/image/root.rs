//! The root directory of a container: the program, what it verifies the API with, and the places that are mounted.

use super::archive::Entry;
use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Debian has one file for each of Mozilla's authorities here; what an administrator adds lies elsewhere.
const MOZILLAS: &str = "/usr/share/ca-certificates/mozilla";

const PASSWD: &str = "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnobody:x:65534:\n";
/// Of the machine's names only those that files tell.
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// Runtimes mount onto these, and the last is everybody's.
const DIRECTORIES: [(&str, u32); 28] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("etc/ssl", 0o755),
    ("etc/ssl/certs", 0o755),
    ("etc/tidegate", 0o755),
    ("etc/tidegate/config", 0o755),
    ("etc/tidegate/policies", 0o755),
    ("proc", 0o755),
    ("run", 0o755),
    ("run/tidegate", 0o755),
    ("run/tidegate-cluster", 0o755),
    ("sys", 0o755),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("usr/share", 0o755),
    ("usr/share/doc", 0o755),
    ("usr/share/doc/tidegate", 0o755),
    ("var", 0o755),
    ("var/lib", 0o755),
    ("var/lib/tidegate", 0o700),
    ("var/log", 0o755),
    ("var/log/tidegate", 0o750),
    ("var/run", 0o755),
    ("var/run/nri", 0o755),
    ("var/run/secrets", 0o755),
    ("var/run/secrets/kubernetes.io", 0o755),
    ("var/run/secrets/kubernetes.io/serviceaccount", 0o755),
    ("tmp", 0o1777),
];

/// All of it, sorted, each directory before what is in it.
pub(super) fn entries(workspace: &Path, program: Vec<u8>, certificates: &[u8]) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> =
        DIRECTORIES.iter().map(|(path, mode)| Entry::directory(path, *mode)).collect();
    entries.push(Entry::file("usr/bin/tidegate", 0o755, program));
    entries.push(Entry::file("etc/ssl/certs/ca-certificates.crt", 0o644, certificates));
    for (path, text) in [("etc/passwd", PASSWD), ("etc/group", GROUP), ("etc/nsswitch.conf", NSSWITCH)] {
        entries.push(Entry::file(path, 0o644, text));
    }
    for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let path = workspace.join(name);
        let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        entries.push(Entry::file(&format!("usr/share/doc/tidegate/{name}"), 0o644, text));
    }
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(entries)
}

/// What the API is verified with: not what this machine trusts besides, which is nobody else's business.
pub(super) fn certificates(file: Option<&Path>) -> Result<Vec<u8>> {
    if let Some(file) = file {
        return fs::read(file).with_context(|| format!("reading {}", file.display()));
    }
    let read = fs::read_dir(MOZILLAS)
        .with_context(|| format!("reading {MOZILLAS}: install ca-certificates, or name a --ca-file"))?;
    let mut files = Vec::new();
    for entry in read {
        files.push(entry?.path());
    }
    bundle(files)
}

fn bundle(mut files: Vec<PathBuf>) -> Result<Vec<u8>> {
    files.retain(|path| path.extension().is_some_and(|extension| extension == "crt"));
    files.sort();
    ensure!(!files.is_empty(), "{MOZILLAS} holds no certificates: name a --ca-file");
    let mut bundle = Vec::new();
    for path in files {
        bundle.extend(fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
        if !bundle.ends_with(b"\n") {
            bundle.push(b'\n');
        }
    }
    Ok(bundle)
}
