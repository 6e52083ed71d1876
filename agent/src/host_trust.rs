//! The machine's own trust stores: puts the local CA into them, and takes it out again.
//!
//! Each distribution has a directory for an administrator's certificates and a tool that makes everything else from
//! it. Only that directory is written here, under names that nobody else uses; the tool does the rest, and undoes it.

pub mod bundle;
mod java;
mod rooted;

use crate::terminate::{
    certificate::{self, fingerprint},
    store::ID_LENGTH,
};
pub(crate) use rooted::Root;
use rustls_pki_types::CertificateDer;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// How the names of our files and aliases begin.
const PREFIX: &str = "tidegate-";

/// One distribution's way.
#[derive(Debug)]
struct Layout {
    /// Where an administrator's certificates go.
    anchors: &'static str,
    tool: &'static str,
    install: &'static [&'static str],
    uninstall: &'static [&'static str],
}

/// The more particular first: SUSE's tool has the name of Debian's, Arch's that of Fedora's.
const LAYOUTS: [Layout; 4] = [
    // openSUSE, SLES.
    Layout {
        anchors: "/etc/pki/trust/anchors",
        tool: "update-ca-certificates",
        install: &[],
        uninstall: &[],
    },
    // Fedora, RHEL and those made from it, Amazon Linux.
    Layout {
        anchors: "/etc/pki/ca-trust/source/anchors",
        tool: "update-ca-trust",
        install: &["extract"],
        uninstall: &["extract"],
    },
    // Arch.
    Layout {
        anchors: "/etc/ca-certificates/trust-source/anchors",
        tool: "update-ca-trust",
        install: &[],
        uninstall: &[],
    },
    // Debian, Ubuntu, Alpine. Without `--fresh` the links to a certificate that is gone stay.
    Layout {
        anchors: "/usr/local/share/ca-certificates",
        tool: "update-ca-certificates",
        install: &[],
        uninstall: &["--fresh"],
    },
];

const TOOL_DIRECTORIES: [&str; 6] =
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];

/// Why a store could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No store of a known distribution is there.
    #[error(
        "no trust store that tidegate knows below `{}`: install the distribution's package `ca-certificates`, or put \
         what `tidegate ca bundle --anchors` prints where its programs look",
        .0.display()
    )]
    NoStore(PathBuf),
    /// The root is no directory.
    #[error("`{}` is not a directory that can be entered; give the root of a system's tree", path.display())]
    Root {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be changed.
    #[error("cannot {action} `{}`; it takes the tree's owner, usually root", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A tool cannot be started.
    #[error("cannot start `{tool}`; nothing that it makes is up to date: run it by hand")]
    Start {
        /// The program.
        tool: String,
        /// What the system says.
        source: io::Error,
    },
    /// A tool failed.
    #[error("`{tool}` failed ({status}): {told}; correct that, and run this command again")]
    Tool {
        /// The program and its arguments.
        tool: String,
        /// Its exit status.
        status: String,
        /// The end of what it said.
        told: String,
    },
    /// Java's keystores exist, and nothing that can change them.
    #[error(
        "`{}` needs a `keytool`, and there is none; install a JDK, or import what `tidegate ca bundle --anchors` prints by \
         hand",
        .0.display()
    )]
    NoKeytool(PathBuf),
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

/// What was done, a sentence each.
pub type Done = Vec<String>;

/// Puts these certificates, and no older ones of ours, into the stores of the system below `root`.
///
/// # Errors
/// When there is no store, or one cannot be changed. To run it again completes what is half done.
pub fn install(root: &Path, anchors: &[CertificateDer<'_>]) -> Result<Done, Error> {
    let root = Root::open(root)?;
    let (layout, directory, tool) = find(&root).ok_or_else(|| Error::NoStore(root.path().to_owned()))?;
    let wanted: BTreeMap<String, String> =
        anchors.iter().map(|anchor| (format!("{}.crt", name(anchor)), certificate::pem(anchor))).collect();
    let mut done = Vec::new();
    let mut is_stale = false;
    for file in ours(&directory)? {
        let file_name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !wanted.contains_key(file_name) {
            fs::remove_file(&file).map_err(failed("remove", &file))?;
            done.push(format!("removed {}", file.display()));
            is_stale = true;
        }
    }
    for (file_name, content) in &wanted {
        let file = directory.join(file_name);
        rooted::write(&file, content.as_bytes(), 0o644)?;
        done.push(format!("wrote {}", file.display()));
    }
    done.push(root.run(&tool, if is_stale { layout.uninstall } else { layout.install })?);
    java::install(&root, anchors, &mut done)?;
    Ok(done)
}

/// Takes all certificates of ours out of the stores of the system below `root`.
///
/// # Errors
/// When one cannot be changed. To run it again completes what is half done.
pub fn uninstall(root: &Path) -> Result<Done, Error> {
    let root = Root::open(root)?;
    let mut done = Vec::new();
    if let Some((layout, directory, tool)) = find(&root) {
        for file in ours(&directory)? {
            fs::remove_file(&file).map_err(failed("remove", &file))?;
            done.push(format!("removed {}", file.display()));
        }
        // Also where there was none: the tool may have been kept from its work the last time.
        done.push(root.run(&tool, layout.uninstall)?);
    }
    java::uninstall(&root, &mut done)?;
    Ok(done)
}

/// Where below `root` which of our certificates lie, by the heads of their fingerprints.
///
/// # Errors
/// When a directory cannot be read.
pub fn installed(root: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let root = Root::open(root)?;
    let Some((_, directory, _)) = find(&root) else { return Ok(Vec::new()) };
    let id_of = |path: PathBuf| {
        let id = path.file_stem()?.to_str()?.strip_prefix(PREFIX)?.to_owned();
        Some((id, path))
    };
    Ok(ours(&directory)?.into_iter().filter_map(id_of).collect())
}

/// A certificate's name in all stores.
fn name(anchor: &CertificateDer<'_>) -> String {
    let fingerprint = fingerprint(anchor);
    format!("{PREFIX}{}", fingerprint.get(..ID_LENGTH).unwrap_or(&fingerprint))
}

/// Whether a name is one that [`name`] gives.
fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|id| {
        id.len() == ID_LENGTH && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn ours(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed("read", directory))? {
        let path = entry.map_err(failed("read", directory))?.path();
        let stem = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".crt"));
        if stem.is_some_and(is_ours) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The layout of the system, where its directory really is, and its tool as a path within the root.
fn find(root: &Root) -> Option<(&'static Layout, PathBuf, PathBuf)> {
    LAYOUTS.iter().find_map(|layout| {
        let directory = root.resolve(Path::new(layout.anchors)).filter(|path| path.is_dir())?;
        let tools = TOOL_DIRECTORIES.iter().map(|directory| Path::new(directory).join(layout.tool));
        let tool = tools.into_iter().find(|tool| root.resolve(tool).is_some_and(|path| path.is_file()))?;
        Some((layout, directory, tool))
    })
}

/// Runs the command with nothing of the caller's environment; answers the sentence that tells of it.
fn run(mut command: Command, told_as: String) -> Result<String, Error> {
    command.env_clear().env("PATH", TOOL_DIRECTORIES.join(":")).env("LC_ALL", "C").env("HOME", "/");
    command.stdin(std::process::Stdio::null());
    let output = match command.output() {
        Ok(output) => output,
        Err(source) => return Err(Error::Start { tool: told_as, source }),
    };
    if output.status.success() {
        return Ok(format!("ran {told_as}"));
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let last: Vec<&str> = said.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
    let told = last.into_iter().rev().collect::<Vec<_>>().join("; ");
    Err(Error::Tool { tool: told_as, status: output.status.to_string(), told })
}

#[cfg(test)]
mod tests;
