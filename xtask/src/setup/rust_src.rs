//! The standard library's source: from rustup where it can be had, else from Debian's package of the same
//! version, unpacked beside the toolchain and not installed.

use super::Toolchain;
use crate::command::{output, run};
use anyhow::{Context, Result, bail};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Suites that may hold the package of a new toolchain.
const SUITES: [&str; 3] = ["trixie-backports", "forky", "sid"];

/// Debian's archive keys, as its own installations have them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

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
    let apt = Apt::new(work)?;
    apt.run("apt-get", &["update", "-qq"])?;
    let prefix = format!("{}+", toolchain.version);
    let listing = apt.output("apt-cache", &["madison", "rust-src"])?;
    let version = listing
        .lines()
        .filter_map(|line| line.split('|').nth(1).map(str::trim))
        .find(|version| version.starts_with(&prefix))
        .with_context(|| format!("Debian's suites {} have no rust-src {}", SUITES.join(", "), toolchain.version))?;
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

/// apt with lists and caches of its own, so that the machine's are left alone.
struct Apt<'a> {
    work: &'a Path,
}

impl<'a> Apt<'a> {
    fn new(work: &'a Path) -> Result<Self> {
        for directory in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(work.join(directory))?;
        }
        let mirror = mirror(Path::new("/etc/apt"))?;
        let sources: String = SUITES
            .iter()
            .map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))
            .collect();
        fs::write(work.join("sources.list"), sources)?;
        Ok(Self { work })
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        run(self.command(program).args(arguments))
    }

    fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        output(self.command(program).args(arguments))
    }

    fn command(&self, program: &str) -> Command {
        let at = |key: &str, place: &str| format!("{key}={}", self.work.join(place).display());
        let mut command = Command::new(program);
        command.current_dir(self.work);
        for option in [
            at("Dir::State", "state"),
            at("Dir::Cache", "cache"),
            at("Dir::Etc::SourceList", "sources.list"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            // A mirror's unstable suites may lag behind their own expiry date; the signature still holds.
            "Acquire::Check-Valid-Until=false".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }
}

/// The Debian mirror that the machine's own apt configuration names.
fn mirror(apt: &Path) -> Result<String> {
    let mut files: Vec<PathBuf> = vec![apt.join("sources.list")];
    if let Ok(parts) = fs::read_dir(apt.join("sources.list.d")) {
        files.extend(parts.filter_map(Result::ok).map(|entry| entry.path()));
    }
    files.sort();
    files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .find_map(|text| debian_uri(&text))
        .with_context(|| format!("{} names no Debian mirror", apt.display()))
}

/// The first URI of a sources file, in either of apt's formats, that ends in `/debian`.
fn debian_uri(sources: &str) -> Option<String> {
    sources
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_end_matches('/'))
        .find(|word| word.contains("://") && word.ends_with("/debian"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::debian_uri;

    #[test]
    fn the_mirror_is_read_from_both_formats() {
        let rows = [
            ("deb http://mirror.example/debian bookworm main\n", Some("http://mirror.example/debian")),
            ("# deb http://old.example/debian x main\nURIs: http://a.example/debian/\n", Some("http://a.example/debian")),
            ("URIs: http://a.example/debian-security\n", None),
        ];
        for (text, expected) in rows {
            assert_eq!(debian_uri(text).as_deref(), expected, "{text}");
        }
    }
}
