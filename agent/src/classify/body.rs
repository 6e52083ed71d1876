//! Bodies that decide: strict JSON, which no two servers can read differently. Pure.
//!
//! What is judged here is what is sent, byte for byte; so a body in which another server might see other fields,
//! or the same fields with other values, is refused rather than cleaned.

mod outline;
mod strict;

use super::{Operation, fold, needs};
use crate::reason::Reason;
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use outline::Outline;
use serde_json::Value;

/// The most that is read of a body that decides, unless configured otherwise: 1 MiB.
pub const MAX_BYTES: usize = 1 << 20;

/// How deeply arrays and objects may stand inside each other.
pub const MAX_DEPTH: usize = 64;

/// Why a body cannot be judged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
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

const JSON: &str = "application/json";
const SEND_JSON: &str = "send it with `content-type: application/json` and without `content-encoding`";
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Checks that a body may be read as JSON by what the head says of it. A body without a type is refused as well,
/// since a server may guess that it is a form.
///
/// # Errors
/// When it says another type, another character set, or an encoding.
pub fn check_head(headers: &HeaderMap) -> Result<(), Error> {
    let unreadable = |problem: &str| Err(Error::Unreadable(format!("{problem}; {SEND_JSON}")));
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    match (types.next(), types.next()) {
        (None, _) => return unreadable("its head names no content-type"),
        (Some(_), Some(_)) => return unreadable("its head names several content-types"),
        (Some(value), None) if !is_json(value) => {
            let shown = fold::shown(&String::from_utf8_lossy(value.as_bytes()));
            return unreadable(&format!("is of type `{shown}`"));
        }
        (Some(_), None) => {}
    }
    let is_plain = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if headers.get_all(CONTENT_ENCODING).iter().any(|value| !is_plain(value)) {
        return unreadable("is encoded");
    }
    Ok(())
}

/// `application/json`, with no parameter but `charset=utf-8`.
fn is_json(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    let mut parts = text.split(';').map(str::trim);
    let is_utf8 = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        name.eq_ignore_ascii_case("charset") && value.eq_ignore_ascii_case("utf-8")
    };
    parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(JSON))
        && parts.by_ref().take(1).all(is_utf8)
        && parts.next().is_none()
}

/// Reads a whole body; an empty one is none, and so is the `null` of a read, which Ansible sends with every one. `names`
/// are the fields that a policy's conditions speak of, at whatever depth.
///
/// # Errors
/// When two servers could read it differently, or it holds something else where the operation's resources and
/// actions are named.
pub fn parse(bytes: &[u8], operation: Option<&Operation>, names: &[&str]) -> Result<Option<Value>, Error> {
    let is_read = operation.is_some_and(|operation| operation.method == http::Method::GET);
    if bytes.is_empty() || (is_read && bytes == b"null") {
        return Ok(None);
    }
    let malformed = |problem: String| Error::Malformed(problem);
    if bytes.starts_with(MARK) {
        return Err(malformed("begins with a byte order mark, which some servers refuse".to_owned()));
    }
    let outline = operation.map(Outline::of).unwrap_or_default();
    let in_query = operation.map(query_names).unwrap_or_default();
    let rules = strict::Rules { names, in_query: &in_query };
    let document = strict::read(bytes, &outline, &rules)
        .map_err(|error| malformed(format!("is not JSON that every server reads alike: {error}")))?;
    if !document.is_object() {
        return Err(malformed("is no object".to_owned()));
    }
    if let Some(operation) = operation {
        check_shape(operation, &document)?;
    }
    Ok(Some(document))
}

/// Checks that where a body names resources and actions there are strings, integers and lists, as the API has
/// them; a server could make something else of other types than the catalogue does.
///
/// # Errors
/// When there is something else.
pub fn check_shape(operation: &Operation, document: &Value) -> Result<(), Error> {
    Outline::of(operation).check(document, "").map_err(Error::Malformed)?;
    needs::check_names(operation, document).map_err(Error::Malformed)
}

/// The names by which the operation's query decides. Some servers take them from the body as well.
fn query_names(operation: &Operation) -> Vec<&str> {
    operation.query_names().collect()
}

#[cfg(test)]
mod tests;
