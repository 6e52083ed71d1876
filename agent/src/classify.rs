//! Stage 5: the request head becomes an [`Operation`] of the catalogue, or stays unclassified.
//!
//! A request that two readers could take for different operations is refused here, rather than left
//! unclassified, since a policy may let unclassified requests pass.

pub mod authority;
pub mod body;
pub mod catalogue;
pub mod condition;
pub mod filter;
pub mod fold;
pub mod form;
pub mod needs;
pub mod operation;
pub mod path;
pub mod pointer;
pub mod query;
pub mod router;
pub mod schema;
pub mod scope;

pub use catalogue::Catalogue;
pub use condition::Condition;
pub use filter::Filter;
pub use needs::Needs;
pub use operation::Operation;
pub use path::CanonicalPath;
pub use pointer::Pointer;
pub use router::Route;
pub use scope::Scope;

use crate::reason::Reason;
use http::{
    HeaderMap, HeaderValue, Method, Uri,
    header::{CONTENT_TYPE, UPGRADE},
};

/// What a request head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classified<'a, 'r> {
    /// The path, to be forwarded as it is.
    pub path: CanonicalPath<'r>,
    /// What stands behind `?`, to be forwarded as it is.
    pub query: Option<&'r str>,
    /// The operation and its parameters; none where the catalogue has no such operation.
    pub route: Option<Route<'a, 'r>>,
}

/// Why a request head cannot be classified safely.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A method that the API has no use for.
    #[error("the method `{0}` is not one of the API's")]
    Method(String),
    /// A request to change the protocol.
    #[error("the request asks for an upgrade, which the API does not have")]
    Upgrade,
    /// A header or parameter that makes some servers take the request for another method.
    #[error("`{0}` would override the method")]
    MethodOverride(&'static str),
    /// A header that makes some servers take the request for another path.
    #[error("the header `{0}` would override the path")]
    PathOverride(&'static str),
    /// A body in which some servers look for another method.
    #[error("a server may look for another method in a body of type `{0}`; {SEND_JSON}")]
    Form(String),
    /// A header name that some servers take for one that decides how a request is read.
    #[error("some servers take the header `{0}` for the one with `-` in place of `_`")]
    Underscore(String),
    /// The path is not canonical.
    #[error("the path is not in canonical form")]
    Path(#[from] path::Error),
    /// An escaped slash outside a parameter that can hold one.
    #[error("the path has an escaped slash where no name with a slash can stand")]
    EscapedSlash,
    /// Another spelling of a template's path, by case or file name extension.
    #[error("the path is another spelling of `{template}`")]
    Respelled {
        /// The template.
        template: String,
    },
    /// The query holds a character that must not stand there unescaped, or a broken escape.
    #[error("the query holds `{0}`, which is no printable ASCII or no whole escape")]
    Query(String),
    /// The query has a parameter twice, or where or how only some servers read it.
    #[error("the query {0}")]
    QueryAmbiguous(String),
}

impl Error {
    /// The reason code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Method(_) | Self::Upgrade => Reason::MethodRefused,
            Self::MethodOverride(_) | Self::Form(_) => Reason::MethodOverride,
            Self::Path(_) | Self::EscapedSlash | Self::Respelled { .. } => Reason::PathNotCanonical,
            Self::QueryAmbiguous(_) => Reason::QueryAmbiguous,
            Self::PathOverride(_) | Self::Underscore(_) | Self::Query(_) => Reason::MalformedRequest,
        }
    }
}

const SEND_JSON: &str = "send JSON with `content-type: application/json`";

const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// How all of [`OVERRIDE_HEADERS`] and [`PATH_HEADERS`] begin, so that most headers need no closer look.
const OVERRIDES_BEGIN: &str = "x-";
const OVERRIDE_HEADERS: [&str; 5] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-method",
    "x-forwarded-method",
];
const PATH_HEADERS: [&str; 6] = [
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-forwarded-uri",
    "x-envoy-original-path",
    "x-envoy-original-method",
];
/// Headers that decide where a request ends, whom it is for or whose it is.
const FRAMING_HEADERS: [&str; 5] =
    ["content-length", "transfer-encoding", "content-type", "host", "authorization"];
/// As much of an offending value as a message repeats.
const MAX_SHOWN_CHARS: usize = 64;

/// Classifies the head of a request to the API's host.
///
/// # Errors
/// When the head could be understood in two ways, or asks for what the API does not have.
pub fn classify<'a, 'r>(
    catalogue: &'a Catalogue,
    method: &Method,
    uri: &'r Uri,
    headers: &HeaderMap,
) -> Result<Classified<'a, 'r>, Error> {
    if !METHODS.contains(method) {
        return Err(Error::Method(method.to_string()));
    }
    check_headers(headers)?;
    let path = CanonicalPath::parse(uri.path())?;
    let query = uri.query();
    let route = catalogue.route(None, method, path);
    query::check(query.unwrap_or_default(), route.as_ref().map(|route| route.operation))?;
    check_other_readings(catalogue, method, path, route.as_ref())?;
    Ok(Classified { path, query, route })
}

/// Refuses headers that change what the request line says, also as CGI and its heirs spell them: to those
/// `_` and `-` are the same.
fn check_headers(headers: &HeaderMap) -> Result<(), Error> {
    if headers.contains_key(UPGRADE) {
        return Err(Error::Upgrade);
    }
    for name in headers.keys() {
        let given = name.as_str();
        let is_underscored = given.contains('_');
        if !is_underscored && !given.starts_with(OVERRIDES_BEGIN) {
            continue;
        }
        let is_meant = |known: &str| {
            let mut pairs = known.bytes().zip(given.bytes());
            known.len() == given.len() && pairs.all(|pair| pair.0 == pair.1 || pair == (b'-', b'_'))
        };
        let among = |names: &[&'static str]| names.iter().copied().find(|known| is_meant(known));
        if let Some(header) = among(&OVERRIDE_HEADERS) {
            return Err(Error::MethodOverride(header));
        }
        if let Some(header) = among(&PATH_HEADERS) {
            return Err(Error::PathOverride(header));
        }
        if is_underscored && among(&FRAMING_HEADERS).is_some() {
            return Err(Error::Underscore(name.to_string()));
        }
    }
    Ok(())
}

/// Whether some servers read the body as a form, in which a field `_method` would make a POST another method's
/// request: a body that says so, or that says nothing of its type.
///
/// # Errors
/// When the form is in parts, which are too easy to read in two ways. The API takes JSON alone.
pub fn is_form(method: &Method, headers: &HeaderMap) -> Result<bool, Error> {
    if *method != Method::POST {
        return Ok(false);
    }
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default().trim_ascii();
    if value.is_empty() {
        return Ok(true);
    }
    let text = String::from_utf8_lossy(value).to_ascii_lowercase();
    let types = || text.split([';', ',']).map(str::trim);
    if types().any(|kind| kind.starts_with("multipart/")) {
        return Err(Error::Form(text.chars().take(MAX_SHOWN_CHARS).collect()));
    }
    Ok(types().any(|kind| kind == "application/x-www-form-urlencoded"))
}

/// Refuses a path that a server with looser habits would take for another operation.
fn check_other_readings(
    catalogue: &Catalogue,
    method: &Method,
    path: CanonicalPath<'_>,
    route: Option<&Route<'_, '_>>,
) -> Result<(), Error> {
    if let Some(decoded) = path.with_slashes_decoded() {
        let alternatives = route.ok_or(Error::EscapedSlash)?.operation.alternatives();
        let other = catalogue.route(None, method, CanonicalPath::as_read(&decoded));
        if other.is_some_and(|other| other.operation.alternatives() != alternatives) {
            return Err(Error::EscapedSlash);
        }
    }
    if route.is_none()
        && let Some(operation) = catalogue.route_carelessly(method, path)
    {
        return Err(Error::Respelled { template: operation.path.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
