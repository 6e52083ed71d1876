//! The key that the heads of chains are signed with, so that whoever can write the log cannot write it anew.

use super::{chain::Head, hex};
use crate::{
    terminate::files::{self, Allowed},
    whole_file,
};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};
use zeroize::Zeroizing;

/// What a signature is of begins with this, so that it is of nothing else.
const CONTEXT: &str = "tidegate audit checkpoint v1";
/// The name of the credential, as in `LoadCredential=audit-key:…`.
const CREDENTIAL: &str = "audit-key";
/// How the file with the public key ends.
const PUBLIC: &str = "pub";

/// The key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its file cannot be used.
    #[error(transparent)]
    File(#[from] files::Error),
    /// A file beside it cannot be used.
    #[error("cannot {action} `{}`, a file of the audit log's key", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "`{}` holds something else than it should; put the right one in its place, or remove the key and what is beside \
         it to begin with a new one, which does not verify older records", .0.display()
    )]
    Form(PathBuf),
    /// No key can be made.
    #[error("the cryptographic library makes no key")]
    Generate,
}

impl Error {
    /// Whether there is no such file, as where no agent has run.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Signs heads of chains.
pub struct Signer {
    key: Ed25519KeyPair,
    public: PublicKey,
    newest: Option<Newest>,
}

/// Where the newest head is kept.
#[derive(Debug)]
struct Newest {
    path: PathBuf,
    /// The last that was, since several threads may have one to keep.
    sequence: Mutex<u64>,
}

/// What a signature is of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Signed {
    /// The last line before the signature.
    pub head: Head,
    /// Whether the line with the signature is its chain's first in its file.
    pub opens: bool,
}

/// How far a log goes, kept elsewhere than in the log, so that its end cannot be cut off unnoticed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SignedHead {
    /// The log.
    pub path: PathBuf,
    /// What was signed.
    #[serde(flatten)]
    pub signed: Signed,
    /// Its signature.
    pub signature: String,
}

impl SignedHead {
    /// The one that a daemon has kept.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn read(path: &Path) -> Result<Self, Error> {
        serde_json::from_slice(&read(path)?).map_err(|_| Error::Form(path.to_owned()))
    }
}

/// What heads are verified with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl Signer {
    /// The unit's credential `audit-key`, if it has one; else the key in the file at `path`, which is made where there is
    /// none. Either way the public key is kept beside `path`.
    ///
    /// # Errors
    /// When it can neither be read nor made, or others could read it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        Self::open_with(path, credentials.as_deref())
    }

    /// `credentials`: the directory of the unit's credentials.
    fn open_with(path: &Path, credentials: Option<&Path>) -> Result<Self, Error> {
        let signer = match credentials.map(Self::of_credential).transpose()?.flatten() {
            Some(signer) => signer,
            None => {
                let der = match files::read_private(path) {
                    Err(error) if files::is_missing(&error) => make(path)?,
                    read => read?,
                };
                Self::from_pkcs8(&der).ok_or_else(|| Error::Form(path.to_owned()))?
            }
        };
        let (public, line) = (public_path(path), signer.public.to_line());
        if fs::read(&public).ok().as_deref() != Some(line.as_bytes()) {
            make_directory_of(&public)?;
            whole_file::put(&public, line.as_bytes(), 0o644).map_err(failed("write", &public))?;
        }
        Ok(signer)
    }

    /// None where the unit has no such credential. One that is wrong is no reason to sign with another key.
    fn of_credential(credentials: &Path) -> Result<Option<Self>, Error> {
        let path = credentials.join(CREDENTIAL);
        let content = match files::read_secret(&path, Allowed::GroupReads) {
            Err(error) if files::is_missing(&error) => return Ok(None),
            read => read?,
        };
        let pem = PrivatePkcs8KeyDer::from_pem_slice(&content).map(Zeroizing::new);
        let signer = match &pem {
            Ok(key) => Self::from_pkcs8(key.secret_pkcs8_der()),
            Err(_) => Self::from_pkcs8(&content),
        };
        signer.map(Some).ok_or(Error::Form(path))
    }

    /// From now on the newest head is kept in the file at `path`: of one agent's log, since another's would replace it.
    pub fn keeping_head_in(self, path: PathBuf) -> Self {
        Self { newest: Some(Newest { path, sequence: Mutex::new(0) }), ..self }
    }

    fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let key = Ed25519KeyPair::from_pkcs8(der).ok()?;
        let public = PublicKey(key.public_key().as_ref().try_into().ok()?);
        Some(Self { key, public, newest: None })
    }

    /// What verifies the signatures.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The signature in hexadecimal.
    pub(super) fn sign(&self, signed: &Signed) -> String {
        hex(self.key.sign(message(signed).as_bytes()).as_ref())
    }

    /// Keeps how far a log goes, where it is to be kept.
    pub(super) fn keep(&self, newest: &SignedHead) {
        let Some(Newest { path, sequence }) = &self.newest else { return };
        let mut kept = sequence.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.signed.head.sequence < *kept {
            return;
        }
        *kept = newest.signed.head.sequence;
        let written = serde_json::to_vec(newest).map_err(io::Error::from);
        if let Err(error) = written.and_then(|text| whole_file::put(path, &text, 0o644)) {
            let path = path.display();
            tracing::error!(%path, %error, "what is cut off the end of the audit log would not be noticed");
        }
    }
}

/// A new key, unless another agent is faster: then both sign with that one's.
fn make(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let key = Ed25519KeyPair::generate().map_err(|_| Error::Generate)?;
    let der = key.to_pkcs8().map_err(|_| Error::Generate)?;
    make_directory_of(path)?;
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    files::write_new(&draft, der.as_ref())?;
    if let Err(errno) = renameat_with(CWD, &draft, CWD, path, RenameFlags::NOREPLACE) {
        fs::remove_file(&draft).map_err(failed("remove", &draft))?;
        if errno != Errno::EXIST {
            return Err(failed("make", path)(errno.into()));
        }
    }
    Ok(files::read_private(path)?)
}

fn make_directory_of(path: &Path) -> Result<(), Error> {
    let Some(directory) = path.parent() else { return Ok(()) };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(failed("make the directory of", path))
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("public", &self.public).finish_non_exhaustive()
    }
}

impl PublicKey {
    /// Reads the file that [`Signer::open`] has written beside the key.
    ///
    /// # Errors
    /// When it cannot be read, or holds no key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let key = super::chain::hash_of_hex(read(path)?.trim_ascii());
        key.map(Self).ok_or_else(|| Error::Form(path.to_owned()))
    }

    /// Its first 16 hexadecimal digits, by which a checkpoint says who signed it.
    pub fn short(&self) -> String {
        hex(self.0.get(..8).unwrap_or_default())
    }

    /// Whether this key's owner signed this.
    pub(super) fn verifies(&self, signed: &Signed, signature: &str) -> bool {
        let Some(signature) = bytes_of_hex(signature) else { return false };
        UnparsedPublicKey::new(&ED25519, self.0).verify(message(signed).as_bytes(), &signature).is_ok()
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

fn message(Signed { head: Head { id, sequence, hash }, opens }: &Signed) -> String {
    let place = if *opens { "opens" } else { "goes on" };
    format!("{CONTEXT}\n{id}\n{sequence}\n{}\n{place}\n", hex(hash))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(failed("read", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

fn bytes_of_hex(digits: &str) -> Option<Vec<u8>> {
    let is_hex = digits.len().is_multiple_of(2) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let pairs = (0..digits.len() / 2).map(|index| digits.get(2 * index..2 * index + 2));
    is_hex.then(|| pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect())?
}

#[cfg(test)]
mod tests;
