//! The file that protected addresses are kept in between two lives of the agent.

use super::known::{Kept, MAX_ADDRESSES};
use crate::whole_file;
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The form of the file.
const VERSION: u32 = 1;

/// Room for [`MAX_ADDRESSES`] with long names.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Deserialize, Serialize)]
struct Document {
    version: u32,
    addresses: Vec<Kept>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot read it")]
    Read(#[from] io::Error),
    #[error("it is larger than {MAX_BYTES} bytes")]
    Large,
    #[error("it is not of the form that this version writes")]
    Form(#[source] serde_json::Error),
    #[error("it is of version {0}, not {VERSION}")]
    Version(u32),
}

/// What the file holds; nothing where there is none yet.
pub(super) fn load(path: &Path) -> Result<Vec<Kept>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_BYTES) {
        return Err(Error::Large);
    }
    let mut document: Document = serde_json::from_slice(&text).map_err(Error::Form)?;
    if document.version != VERSION {
        return Err(Error::Version(document.version));
    }
    document.addresses.truncate(MAX_ADDRESSES);
    Ok(document.addresses)
}

/// Puts a new file in the place of the old one, whole or not at all.
pub(super) fn save(path: &Path, addresses: Vec<Kept>) -> io::Result<()> {
    let text = serde_json::to_vec(&Document { version: VERSION, addresses })?;
    whole_file::put(path, &text, 0o600)
}
