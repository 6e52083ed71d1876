//! The key that the heads of chains are signed with, so that whoever can write the log cannot write it anew.

use super::{chain::Head, hex};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// What a signature is of begins with this, so that it is of nothing else.
const CONTEXT: &str = "tidegate audit checkpoint v1";
/// How the file with the public key ends.
const PUBLIC: &str = "pub";

/// The key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("cannot {action} `{}`, a key of the audit log", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file holds no key.
    #[error(
        "`{}` holds no key of the audit log; put the right one in its place, or remove it and its `.{PUBLIC}` to \
         begin with a new one, which does not verify older records", .0.display()
    )]
    NoKey(PathBuf),
    /// No key can be made.
    #[error("the cryptographic library makes no key")]
    Generate,
}

/// Signs heads of chains.
pub struct Signer {
    key: Ed25519KeyPair,
    public: PublicKey,
    /// Where the newest head is kept.
    head: Option<PathBuf>,
}

/// How far a log goes, kept elsewhere than in the log, so that its end cannot be cut off unnoticed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SignedHead {
    /// The log.
    pub path: PathBuf,
    /// The last line that was signed.
    pub head: Head,
    /// Its signature.
    pub signature: String,
}

impl SignedHead {
    /// None where there is none that can be read.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }
}

/// What heads are verified with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl Signer {
    /// The key in the file at `path`, which is made where there is none, with the public key beside it.
    ///
    /// # Errors
    /// When it can neither be read nor made.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let signer = match fs::read(path).map(Zeroizing::new) {
            Ok(der) => Self::from_pkcs8(&der).ok_or_else(|| Error::NoKey(path.to_owned()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(path)?,
            Err(source) => return Err(Error::Io { action: "read", path: path.to_owned(), source }),
        };
        let public = public_path(path);
        if fs::read(&public).ok() != Some(signer.public.to_line().into_bytes()) {
            put(&public, signer.public.to_line().as_bytes(), 0o644)?;
        }
        Ok(signer)
    }

    /// From now on the newest head is kept in the file at `path`: of one agent's log, since another's would replace it.
    pub fn keeping_head_in(self, path: PathBuf) -> Self {
        Self { head: Some(path), ..self }
    }

    /// Keeps the head of the log at `path`, where it is to be kept.
    pub(super) fn keep(&self, path: &Path, head: &Head, signature: &str) {
        let Some(file) = &self.head else { return };
        let kept = SignedHead { path: path.to_owned(), head: head.clone(), signature: signature.to_owned() };
        let written = serde_json::to_vec(&kept).map_err(io::Error::from).map_err(|source| Error::Io {
            action: "write",
            path: file.clone(),
            source,
        });
        if let Err(error) = written.and_then(|text| put(file, &text, 0o644)) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "what is cut off the end of the audit log would not be noticed");
        }
    }

    fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let key = Ed25519KeyPair::from_pkcs8(der).ok()?;
        let public = PublicKey(key.public_key().as_ref().try_into().ok()?);
        Some(Self { key, public, head: None })
    }

    fn make(path: &Path) -> Result<Self, Error> {
        let key = Ed25519KeyPair::generate().map_err(|_| Error::Generate)?;
        let der = key.to_pkcs8().map_err(|_| Error::Generate)?;
        if let Some(directory) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(|source| Error::Io {
                action: "make the directory of",
                path: path.to_owned(),
                source,
            })?;
        }
        match put(path, der.as_ref(), 0o600) {
            // Another agent was faster; both sign with its key.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                let der = Zeroizing::new(fs::read(path).map_err(|source| Error::Io {
                    action: "read",
                    path: path.to_owned(),
                    source,
                })?);
                Self::from_pkcs8(&der).ok_or_else(|| Error::NoKey(path.to_owned()))
            }
            Err(error) => Err(error),
            Ok(()) => Self::from_pkcs8(der.as_ref()).ok_or(Error::Generate),
        }
    }

    /// What verifies the signatures.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The signature of a chain's head, in hexadecimal.
    pub(super) fn sign(&self, head: &Head) -> String {
        hex(self.key.sign(message(head).as_bytes()).as_ref())
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("public", &self.public).finish_non_exhaustive()
    }
}

impl PublicKey {
    /// Reads the file that [`Signer::open`] has written beside the key.
    ///
    /// # Errors
    /// When it cannot be read, or holds no key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|source| Error::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        let key = super::chain::hash_of_hex(text.trim().as_bytes());
        key.map(Self).ok_or_else(|| Error::NoKey(path.to_owned()))
    }

    /// Its first 16 hexadecimal digits, by which a checkpoint says who signed it.
    pub fn short(&self) -> String {
        hex(self.0.get(..8).unwrap_or_default())
    }

    /// Whether this key's owner signed this head.
    pub(super) fn verifies(&self, head: &Head, signature: &str) -> bool {
        let Some(signature) = bytes_of_hex(signature) else { return false };
        UnparsedPublicKey::new(&ED25519, self.0).verify(message(head).as_bytes(), &signature).is_ok()
    }

    fn to_line(self) -> String {
        format!("{}\n", hex(&self.0))
    }
}

/// Where the public key of the key at `path` is kept.
pub fn public_path(path: &Path) -> PathBuf {
    path.with_extension(PUBLIC)
}

/// Where the daemon keeps the newest head that it signed with the key at `path`.
pub fn head_path(path: &Path) -> PathBuf {
    path.with_extension("head")
}

fn message(Head { id, sequence, hash }: &Head) -> String {
    format!("{CONTEXT}\n{id}\n{sequence}\n{}\n", hex(hash))
}

fn bytes_of_hex(digits: &str) -> Option<Vec<u8>> {
    let is_hex = digits.len().is_multiple_of(2) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let pairs = (0..digits.len() / 2).map(|index| digits.get(2 * index..2 * index + 2));
    is_hex.then(|| pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect())?
}

/// Puts a file in its place whole; a key never in another's.
fn put(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let failed = |action| move |source| Error::Io { action, path: path.to_owned(), source };
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(mode).open(&draft).map_err(failed("write"))?;
    let written = file.write_all(content).and_then(|()| file.sync_all()).map_err(failed("write"));
    let is_secret = mode & 0o077 == 0;
    // A link fails where there is a file, and a rename does not.
    let placed = written.and_then(|()| {
        let placed = if is_secret { fs::hard_link(&draft, path) } else { fs::rename(&draft, path) };
        placed.map_err(failed("write"))
    });
    if is_secret || placed.is_err() {
        let _ = fs::remove_file(&draft);
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn head() -> Head {
        Head { id: "0123456789abcdef".into(), sequence: 7, hash: [9; 32] }
    }

    #[test]
    fn a_key_is_made_once_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/audit.key");
        let first = Signer::open(&path).unwrap();
        let second = Signer::open(&path).unwrap();
        assert_eq!(first.public(), second.public());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let public = PublicKey::read(&public_path(&path)).unwrap();
        assert!(public.verifies(&head(), &second.sign(&head())));
        let names = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(names, 2, "no draft stays");
    }

    #[test]
    fn a_signature_is_of_one_head_by_one_key() {
        let directory = tempfile::tempdir().unwrap();
        let signer = Signer::open(&directory.path().join("a.key")).unwrap();
        let other = Signer::open(&directory.path().join("b.key")).unwrap();
        let signature = signer.sign(&head());
        assert!(signer.public().verifies(&head(), &signature));
        assert!(!other.public().verifies(&head(), &signature));
        for changed in [
            Head { sequence: 8, ..head() },
            Head { hash: [8; 32], ..head() },
            Head { id: "0123456789abcdee".into(), ..head() },
        ] {
            assert!(!signer.public().verifies(&changed, &signature), "{changed:?}");
        }
        for broken in ["", "zz", "abc", &signature[2..]] {
            assert!(!signer.public().verifies(&head(), broken), "{broken}");
        }
    }

    #[test]
    fn a_file_that_is_no_key_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.key");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(Signer::open(&path), Err(Error::NoKey(_))));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }
}
