//! Where the log's file is, for whoever writes it: what takes the right to open, to move and to sign it.

use super::{Error, file, rotation::Rotation};
use crate::{
    config,
    record::signer::{Signed, SignedHead, Signer},
};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

/// Which file: its device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Of a file that is there.
    pub fn of(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// A signature, and whose it is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Signature {
    /// The first digits of the public key.
    pub key: String,
    /// In hexadecimal.
    pub signature: String,
}

/// The place of a log.
pub trait Place: fmt::Debug + Send + Sync {
    /// Opens what is there, for appending, and makes it where nothing is.
    ///
    /// # Errors
    /// As [`super::Sink::open`].
    fn open(&self) -> Result<File, Error>;

    /// Whether the place still has this file. Where that cannot be told, it has.
    fn has(&self, file: Identity) -> bool;

    /// Moves what is there aside; whether that was done.
    fn rotate(&self, now: SystemTime) -> bool;

    /// Signs, where there is a key.
    fn sign(&self, signed: &Signed) -> Option<Signature>;

    /// Keeps how far the log goes, where that is to be kept.
    fn keep(&self, newest: &SignedHead);
}

/// A place that this process may do all of that at.
#[derive(Debug)]
pub struct Own {
    path: PathBuf,
    rotation: Mutex<Rotation>,
    signer: Option<Signer>,
}

impl Own {
    /// That of `[audit]`. Heads of the log's chain are signed where there is a `signer`.
    pub fn new(audit: &config::Audit, signer: Option<Signer>) -> Arc<Self> {
        let rotation = Mutex::new(Rotation::new(audit));
        Arc::new(Self { path: audit.path.clone(), rotation, signer })
    }

    /// The path of the log.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Place for Own {
    fn open(&self) -> Result<File, Error> {
        file::open(&self.path)
    }

    fn has(&self, file: Identity) -> bool {
        match fs::metadata(&self.path) {
            Ok(metadata) => Identity::of(&metadata) == file,
            Err(error) => error.kind() != ErrorKind::NotFound,
        }
    }

    fn rotate(&self, now: SystemTime) -> bool {
        self.rotation.lock().unwrap_or_else(PoisonError::into_inner).rotate(&self.path, now)
    }

    fn sign(&self, signed: &Signed) -> Option<Signature> {
        let signer = self.signer.as_ref()?;
        Some(Signature { key: signer.public().short(), signature: signer.sign(signed) })
    }

    fn keep(&self, newest: &SignedHead) {
        if let Some(signer) = &self.signer {
            signer.keep(newest);
        }
    }
}
