//! The trust stores that programs read, and copies of them in which the local CA is trusted, too.
//!
//! Nothing here changes a store or runs a program. Who calls decides how the copies come to lie over the stores:
//! mounts in a namespace, a unit's settings.

mod der;
mod hashed_directory;
mod java_options;
mod keystore;
mod pem;
mod places;
mod search;
mod settings;
mod subject_hash;
mod tree;
pub mod variables;

use self::{
    hashed_directory::Anchor,
    search::Search,
    tree::{MAX_FILE, Source, Tree},
    variables::Variable,
};
use crate::{health::told, terminate::certificate};
use rustls_pki_types::{CertificateDer, pem::PemObject};
#[cfg(feature = "kubernetes")]
use std::os::fd::OwnedFd;
use std::{
    ffi::OsString,
    fmt, fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// What a keystore's password is where nobody has chosen another.
const USUAL_PASSWORD: &str = "changeit";
/// How the names of our entries in keystores begin.
const ALIAS: &str = "tidegate-";

/// Why stores could not be found or copied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The root of the tree is no directory.
    #[error("`{}` is not a directory that can be entered", path.display())]
    Root {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// An anchor is no certificate.
    #[error("the local CA's certificate cannot be read")]
    Anchor,
    /// A file operation failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file that was taken for a bundle is something else.
    #[error("`{}` holds no PEM certificate", .0.display())]
    NoCertificate(PathBuf),
    /// A keystore does not show its certificates.
    #[error("`{}` cannot be read as a keystore", path.display())]
    Keystore {
        /// The keystore.
        path: PathBuf,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Where a command is to run.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The root of the system's tree: `/`, or that of an image.
    pub root: &'a Path,
    /// The home of the command's user.
    pub home: Option<&'a Path>,
    /// Where the command starts.
    pub working_directory: Option<&'a Path>,
    /// The program and its arguments, empty where they are not known.
    pub command: &'a [OsString],
    /// The command's variables.
    pub lookup: &'a dyn Fn(&str) -> Option<OsString>,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// Each store once, a directory before what lies in it.
    pub stores: Vec<Store>,
    /// The system's bundle, which is among the stores.
    pub system_bundle: Option<Store>,
    /// What to set for runtimes that read no store of the system.
    pub variables: Vec<Variable>,
    /// What was not looked at.
    pub warnings: Vec<String>,
}

/// How a store is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file of PEM certificates.
    Bundle,
    /// A directory with a file for each certificate, named by the hash of its subject.
    HashedDirectory,
    /// Java's kind of file.
    Keystore,
}

impl Kind {
    /// It in a word.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Bundle => "bundle",
            Self::HashedDirectory => "directory",
            Self::Keystore => "keystore",
        }
    }
}

/// A place in which programs look for the certificates that they trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Where it is in the tree, once all links are followed.
    pub path: PathBuf,
    /// How it is made.
    pub kind: Kind,
    /// Where this process finds it.
    source: Source,
    password: Password,
    /// The bundle whose certificates stand in for those of a keystore that does not show them.
    fallback: Option<Source>,
}

/// The password of a keystore.
#[derive(Clone, PartialEq, Eq)]
struct Password(String);

impl Default for Password {
    fn default() -> Self {
        Self(USUAL_PASSWORD.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password")
    }
}

/// Finds every store that the command, or a program that it starts, could read.
///
/// # Errors
/// When the tree cannot be entered.
pub fn find(surroundings: &Surroundings<'_>) -> Result<Found, Error> {
    let unusable = |source| Error::Root { path: surroundings.root.to_owned(), source };
    Ok(Search::new(Tree::open(surroundings.root).map_err(unusable)?, surroundings).run())
}

/// As [`find`], in the tree below a directory that is open, whatever its path is: the root of another process's.
///
/// # Errors
/// When the kernel does not tell of the directory.
#[cfg(feature = "kubernetes")]
pub(crate) fn find_in(directory: OwnedFd, surroundings: &Surroundings<'_>) -> Result<Found, Error> {
    let unusable = |source| Error::Root { path: surroundings.root.to_owned(), source };
    Ok(Search::new(Tree::at(directory).map_err(unusable)?, surroundings).run())
}

/// The certificates of a PEM text.
///
/// # Errors
/// When there is none, or one is broken.
pub fn anchors_of_pem(text: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let anchors: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    anchors.ok().filter(|anchors| !anchors.is_empty()).ok_or(Error::Anchor)
}

/// Makes a file of the anchors alone.
///
/// # Errors
/// When it cannot be written.
pub fn write_anchors(anchors: &[CertificateDer<'_>], target: &Path) -> Result<(), Error> {
    write(target, pems(anchors).concat().as_bytes())
}

impl Store {
    /// Makes `target` a copy of the store in which the anchors are trusted, too: a file, or for a hashed directory a
    /// directory. Of a file only certificates are copied, since `target` is for everybody to read. Answers what the
    /// copy lacks.
    ///
    /// # Errors
    /// When the store does not hold what it is taken for, or something cannot be read or written.
    pub fn merge_into(&self, anchors: &[CertificateDer<'_>], target: &Path) -> Result<Option<String>, Error> {
        match self.kind {
            Kind::Bundle => {
                write(target, &self.merged_bundle(anchors)?)?;
                Ok(None)
            }
            Kind::HashedDirectory => {
                let anchors = hashed(anchors).ok_or(Error::Anchor)?;
                hashed_directory::copy_with(&self.path, &self.source, target, &anchors)?;
                Ok(None)
            }
            Kind::Keystore => self.merge_keystore(anchors, target),
        }
    }

    /// Whether the anchors are trusted by what the store holds already.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn trusts(&self, anchors: &[CertificateDer<'_>]) -> bool {
        let content = || self.read().unwrap_or_default();
        match self.kind {
            Kind::Bundle => pem::has_all(&content(), &pems(anchors)),
            Kind::HashedDirectory => {
                hashed(anchors).is_some_and(|anchors| hashed_directory::has_all(&self.source, &anchors))
            }
            Kind::Keystore => keystore::read(&content(), &self.password.0).is_ok_and(|entries| {
                let has = |anchor: &CertificateDer<'_>| {
                    entries.iter().any(|entry| entry.certificate[..] == anchor[..])
                };
                anchors.iter().all(has)
            }),
        }
    }

    fn merged_bundle(&self, anchors: &[CertificateDer<'_>]) -> Result<Vec<u8>, Error> {
        let content = self.read()?;
        let merged = pem::merge(&content, &pems(anchors));
        // An empty file is a system without certificates; anything else is not a bundle at all.
        merged.ok_or_else(|| Error::NoCertificate(self.path.clone()))
    }

    fn merge_keystore(&self, anchors: &[CertificateDer<'_>], target: &Path) -> Result<Option<String>, Error> {
        let unreadable = |source| Error::Keystore { path: self.path.clone(), source };
        let mut warning = None;
        let mut entries = match (keystore::read(&self.read()?, &self.password.0), &self.fallback) {
            (Ok(entries), _) => entries,
            (Err(error), None) => return Err(unreadable(error.into())),
            (Err(error), Some(bundle)) => {
                warning = Some(format!(
                    "the certificates in `{}` cannot be read ({error}): those of the system stand in for them",
                    self.path.display()
                ));
                let text = bundle.read(MAX_FILE).map_err(failed("read", &self.path))?;
                let certificates = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok);
                let entry = |(number, certificate): (usize, CertificateDer<'_>)| keystore::Entry {
                    alias: format!("system-{number}").into_bytes(),
                    date: 0,
                    certificate: certificate.to_vec(),
                };
                certificates.enumerate().map(entry).collect()
            }
        };
        for anchor in anchors {
            if entries.iter().all(|entry| entry.certificate[..] != anchor[..]) {
                let alias = format!("{ALIAS}{}", certificate::fingerprint(anchor)).into_bytes();
                entries.push(keystore::Entry { alias, date: 0, certificate: anchor.to_vec() });
            }
        }
        let content = keystore::write(&entries, &self.password.0);
        write(target, &content.ok_or_else(|| unreadable("one of its entries is too long".into()))?)?;
        Ok(warning)
    }

    fn read(&self) -> Result<Vec<u8>, Error> {
        self.source.read(MAX_FILE).map_err(failed("read", &self.path))
    }
}

fn pems(anchors: &[CertificateDer<'_>]) -> Vec<String> {
    anchors.iter().map(|anchor| certificate::pem(anchor)).collect()
}

fn hashed(anchors: &[CertificateDer<'_>]) -> Option<Vec<Anchor>> {
    let anchor = |anchor: &CertificateDer<'_>| {
        let hash = subject_hash::of(anchor)?;
        Some(Anchor { hash, pem: certificate::pem(anchor) })
    };
    anchors.iter().map(anchor).collect()
}

/// The content of a file, at most as long as a store can be: `rest` in the directory `root`, whose links lead nowhere else;
/// or `root` itself, where `rest` is empty.
#[cfg(feature = "kubernetes")]
pub(crate) fn read_in(root: &Path, rest: &Path) -> io::Result<Vec<u8>> {
    if rest.as_os_str().is_empty() {
        return tree::read(&fs::canonicalize(root)?, MAX_FILE);
    }
    Tree::open(root)?.read(&Path::new("/").join(rest), MAX_FILE)
}

/// Everybody may read it, whatever the caller's umask.
fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| {
        file.write_all(content)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))
    })
    .map_err(failed("write", path))
}

/// What is said of a store that could not be copied.
pub(crate) fn uncovered(error: &dyn std::error::Error) -> String {
    format!("{}; programs that use it will refuse tidegate's certificates", told(error))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

#[cfg(test)]
mod tests;
