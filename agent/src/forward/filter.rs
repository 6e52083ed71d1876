//! The parts of answers that the policy does not show are taken out before the client sees any of the answer.
//! Pure: whoever forwards reads the body, and calls [`plan`], [`hold`] and [`show`].

mod coding;
mod head;
mod memory;
mod remove;
mod scan;

pub use coding::Coding;
pub use head::{Plan, check_length, hold, plan};
pub use memory::{Memory, Share};
pub use remove::{Filtered, apply};
pub use scan::Error as JsonError;

use crate::classify::Filter;
use std::{borrow::Cow, io, sync::Arc};

/// The most that an answer with such parts may have, as it comes and decoded: 32 MiB.
pub const MAX_BYTES: usize = 32 << 20;
/// The most that all of them together may hold: 256 MiB.
pub const MAX_TOTAL_BYTES: usize = 256 << 20;

/// Why parts cannot be taken out of an answer, so that nothing of it may be shown.
#[derive(Debug, thiserror::Error)]
pub enum NotFilterable {
    /// A range of a document.
    #[error("it is a part of a document")]
    Partial,
    /// No media type, or several.
    #[error("it does not say its type, or says it twice")]
    NoMediaType,
    /// Another media type or character set.
    #[error("it is no JSON but `{0}`")]
    MediaType(String),
    /// A content coding that cannot be undone.
    #[error("its encoding `{0}` is not known")]
    Encoding(String),
    /// Longer than [`MAX_BYTES`].
    #[error("it is larger than {} MiB", MAX_BYTES >> 20)]
    TooLarge,
    /// Other answers hold all of [`MAX_TOTAL_BYTES`].
    #[error("too many large answers are on their way; try again later")]
    NoMemory,
    /// Fields behind the body, which may speak of what was taken out.
    #[error("trailers follow it")]
    Trailers,
    /// It is not what it was compressed from.
    #[error("its compression is broken")]
    Compression(#[source] io::Error),
    /// It broke off.
    #[error("it is not whole")]
    BrokenOff(#[source] super::Error),
    /// It is not one JSON document.
    #[error("it is no whole JSON document")]
    Json(#[from] JsonError),
    /// Nobody is there any more to do it.
    #[error("the agent is shutting down")]
    ShuttingDown(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

/// A body as the client may see it.
#[derive(Debug)]
pub struct Shown {
    /// Its bytes, without an encoding.
    pub body: Vec<u8>,
    /// The pointers of the parts that were taken out, sorted.
    pub removed: Vec<String>,
}

/// Decodes a whole body and takes the parts out; the share then is as large as what is left.
///
/// # Errors
/// When it is not one JSON document, or becomes too long.
pub fn show(
    filters: &[&Filter],
    coding: Coding,
    body: Vec<u8>,
    share: &mut Share,
) -> Result<Shown, NotFilterable> {
    let body = coding.decode(body, share)?;
    share.grow(body.len())?;
    let Filtered { bytes, removed } = apply(filters, &body)?;
    let with_count = filters.iter().zip(removed).filter(|(_, count)| *count > 0);
    let mut removed: Vec<String> = with_count.map(|(filter, _)| filter.pointer.to_string()).collect();
    removed.sort();
    removed.dedup();
    let mut body = match bytes {
        Cow::Owned(bytes) => bytes,
        Cow::Borrowed(_) => body,
    };
    body.shrink_to_fit();
    share.shrink_to(body.len());
    Ok(Shown { body, removed })
}

#[cfg(test)]
mod tests;
