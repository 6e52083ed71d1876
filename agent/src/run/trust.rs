//! Makes unmodified programs trust the local CA: its certificate joins every store that they look in.
//!
//! All of it exists in the command's own mount namespace only, and ends with it.

pub(super) mod hashed_directory;
pub(super) mod pem;
pub(super) mod subject_hash;

use crate::run::{
    environment::{self, ANCHOR, BUNDLE, Value, Variable},
    namespace,
};
use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Where distributions keep their bundle: Debian and Alpine, Fedora before and after 2013, openSUSE old, the
/// OpenSSL and BSD way, openSUSE.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
];
/// Where they keep one file a certificate, named by the hash of its subject.
const HASHED_DIRECTORIES: [&str; 4] = [
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted/pem/directory-hash",
    "/var/lib/ca-certificates/openssl",
];

/// Why the stores could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the local CA's certificate cannot be read")]
    Anchor(#[from] subject_hash::Error),
    #[error("cannot {action} `{}`", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot put the local CA in place")]
    Mount(#[from] namespace::Error),
}

/// What the command gets besides the mounts.
#[derive(Debug, Default)]
pub(super) struct Installed {
    /// Variables to set.
    pub(super) variables: Vec<(&'static str, OsString)>,
    /// What could not be done for the user's own settings.
    pub(super) warnings: Vec<String>,
}

/// Puts the CA certificate `anchor` (PEM) into the system's stores and those that the variables of `lookup` name.
/// `directory` is writable for now and stays visible to the command.
pub(super) fn install(
    directory: &Path,
    anchor: &str,
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Result<Installed, Error> {
    let hash = subject_hash::of_pem(anchor)?;
    fs::create_dir_all(directory).map_err(failed("make", directory))?;
    write(&directory.join(ANCHOR), anchor.as_bytes())?;
    let bundles = cover_bundles(directory, anchor)?;
    let mut installed = Installed::default();
    if bundles.is_empty() {
        write(&directory.join(BUNDLE), anchor.as_bytes())?;
        installed
            .warnings
            .push("the system has no bundle of CA certificates, so only the local CA is trusted".into());
    }
    let mut directories: Vec<PathBuf> = Vec::new();
    for path in HASHED_DIRECTORIES.iter().filter_map(|path| fs::canonicalize(path).ok()) {
        if path.is_dir() && !directories.contains(&path) {
            directories.push(path);
        }
    }
    for Variable { name, value } in environment::plan(lookup, directory) {
        match value {
            Value::Ours(path) => installed.variables.push((name, path.into())),
            // It names a file that has the anchor by now.
            Value::Merged { theirs, .. } if fs::canonicalize(&theirs).is_ok_and(|it| bundles.contains(&it)) => {}
            Value::Merged { theirs, copy } => match merge(&theirs, &copy, anchor) {
                Ok(Merged::File) => installed.variables.push((name, copy.into())),
                Ok(Merged::Directory(path)) if directories.contains(&path) => {}
                Ok(Merged::Directory(path)) => directories.push(path),
                Err(problem) => installed.warnings.push(format!(
                    "{name}=`{}` {problem}; it stays, and programs that use it will refuse tidegate's certificates",
                    theirs.display()
                )),
            },
        }
    }
    for (number, path) in directories.iter().enumerate() {
        let copy = directory.join(format!("directory-{number}"));
        hashed_directory::copy_with(path, &copy, hash, anchor.as_bytes())?;
        namespace::bind(&copy, path)?;
    }
    Ok(installed)
}

/// Lays a merged copy over each bundle there is, and makes the first one the merged bundle of the variables.
fn cover_bundles(directory: &Path, anchor: &str) -> Result<Vec<PathBuf>, Error> {
    let mut covered: Vec<PathBuf> = Vec::new();
    let mut seen = Vec::new();
    for path in BUNDLES.iter().filter_map(|path| fs::canonicalize(path).ok()) {
        let status = fs::metadata(&path).map_err(failed("inspect", &path))?;
        let identity = (status.dev(), status.ino());
        // What was covered is another file by now, so both its path and its old inode count.
        if !status.is_file() || covered.contains(&path) || seen.contains(&identity) {
            continue;
        }
        let content = fs::read(&path).map_err(failed("read", &path))?;
        let name =
            if covered.is_empty() { BUNDLE.to_owned() } else { format!("ca-bundle-{}.crt", covered.len()) };
        let merged = directory.join(name);
        write(&merged, &pem::append(&content, anchor))?;
        namespace::bind(&merged, &path)?;
        covered.push(path);
        seen.push(identity);
    }
    Ok(covered)
}

enum Merged {
    File,
    Directory(PathBuf),
}

/// Copies certificates only: the command may be another user than the one who could read `theirs`.
fn merge(theirs: &Path, copy: &Path, anchor: &str) -> Result<Merged, String> {
    let resolved = fs::canonicalize(theirs).map_err(|error| format!("cannot be read ({error})"))?;
    if resolved.is_dir() {
        return Ok(Merged::Directory(resolved));
    }
    let content = fs::read(&resolved).map_err(|error| format!("cannot be read ({error})"))?;
    let certificates = pem::certificates(&content);
    if certificates.is_empty() {
        return Err("holds no PEM certificate".into());
    }
    write(copy, &pem::append(&certificates, anchor))
        .map_err(|error| format!("cannot be merged ({error})"))?;
    Ok(Merged::File)
}

/// Everybody may read it, whatever the caller's umask.
fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, content)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o644)))
        .map_err(failed("write", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}
