//! What changes in a head on its way: connection-level fields go, everything else stays as it came.

#[cfg(test)]
mod tests;

use crate::host::HostName;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header, request, response,
    uri::{Authority, InvalidUri, PathAndQuery, Scheme},
};

/// The field that marks tidegate's own answers, and no other's.
pub const DECISION: HeaderName = HeaderName::from_static("x-tidegate-decision");

/// Fields that belong to one connection, beside those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Fields that tell of the bytes of an answer's body. A digest of a secret is as good as a guess of it.
const OF_THE_BODY: [HeaderName; 9] = [
    header::ACCEPT_RANGES,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::ETAG,
    header::TRAILER,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

/// A head that hyper passed and that cannot be sent on without changing what it means.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `Connection` names a field that means something to the API: removing it would change the request.
    #[error("Connection names the end-to-end field `{0}`")]
    EndToEnd(HeaderName),
    /// `Connection` is not a list of names.
    #[error("Connection is not a list of field names")]
    Connection,
    /// HTTP/2 with a field that exists only in HTTP/1.
    #[error("the field `{0}` is not part of HTTP/2")]
    NotHttp2(HeaderName),
    /// A field that may occur once.
    #[error("more than one `{0}`")]
    Repeated(HeaderName),
    /// `Content-Length` that is not one plain decimal number.
    #[error("Content-Length is not one plain decimal number")]
    ContentLength,
    /// HTTP/2 without `https`.
    #[error("the scheme is not https")]
    Scheme,
    /// A path that no URI can hold.
    #[error("the path is not part of a URI")]
    Path(#[from] InvalidUri),
    /// Parts that no URI can be made of.
    #[error("the path and the host make no URI")]
    Uri(#[from] http::uri::InvalidUriParts),
}

/// Checks a request head beyond what hyper checks, for what two readers could understand differently.
///
/// # Errors
/// Names the rule that it breaks.
pub fn check(head: &request::Parts) -> Result<(), Error> {
    connection_options(&head.headers, |name| {
        if is_end_to_end(name) { Err(Error::EndToEnd(name.clone())) } else { Ok(()) }
    })?;
    // Of two tokens the record would name the one, and the upstream might take the other.
    for name in [header::HOST, header::CONTENT_LENGTH, header::CONTENT_TYPE, header::AUTHORIZATION] {
        if head.headers.get_all(&name).iter().nth(1).is_some() {
            return Err(Error::Repeated(name));
        }
    }
    if let Some(length) = head.headers.get(header::CONTENT_LENGTH) {
        super::guard::grammar::content_length(length.as_bytes()).ok_or(Error::ContentLength)?;
    }
    if head.version == Version::HTTP_2 { check_http2(head) } else { Ok(()) }
}

fn check_http2(head: &request::Parts) -> Result<(), Error> {
    for name in HOP_BY_HOP {
        let trailers_only =
            name == header::TE && head.headers.get_all(&name).iter().all(|te| te == "trailers");
        if head.headers.contains_key(&name) && !trailers_only {
            return Err(Error::NotHttp2(name));
        }
    }
    // CONNECT has no scheme; it is refused for what it is.
    match head.uri.scheme() {
        Some(scheme) if *scheme != Scheme::HTTPS => Err(Error::Scheme),
        None if head.method != Method::CONNECT => Err(Error::Scheme),
        Some(_) | None => Ok(()),
    }
}

/// Makes the client's head one for the upstream, whose protocol is `version`: the target from `path` and
/// `query` as they were judged, the host from the name that was proven.
///
/// # Errors
/// When the parts make no URI, or `Connection` is unreadable.
pub fn to_upstream(
    head: &mut request::Parts,
    version: Version,
    authority: &Authority,
    path_and_query: PathAndQuery,
    has_body: bool,
) -> Result<(), Error> {
    remove_hop_by_hop(&mut head.headers)?;
    // The proxy itself answers `100 Continue`, when the upstream begins to take the body.
    if head
        .headers
        .get(header::EXPECT)
        .is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        head.headers.remove(header::EXPECT);
    }
    head.version = version;
    if version == Version::HTTP_2 {
        head.headers.remove(header::HOST);
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = Some(authority.clone());
        parts.path_and_query = Some(path_and_query);
        head.uri = Uri::from_parts(parts)?;
        return Ok(());
    }
    join_cookies(&mut head.headers);
    if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        head.headers.insert(header::HOST, host);
    }
    head.uri = Uri::from(path_and_query);
    // For GET and HEAD hyper takes an unknown length for no body at all, and would cut it off.
    if has_body && !head.headers.contains_key(header::CONTENT_LENGTH) {
        head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    Ok(())
}

/// The authority of `host` at `port`; the port stands only where it is not that of https.
pub fn authority(host: &HostName, port: u16) -> Result<Authority, InvalidUri> {
    match port {
        443 => host.as_str().parse(),
        _ => format!("{host}:{port}").parse(),
    }
}

/// Makes the upstream's head one for the client.
pub fn to_client(head: &mut response::Parts) {
    one_length(&mut head.headers);
    // A broken Connection field in an answer costs nothing but itself.
    if remove_hop_by_hop(&mut head.headers).is_err() {
        HOP_BY_HOP.iter().for_each(|name| drop(head.headers.remove(name)));
    }
    remove_claims(&mut head.headers);
    head.version = Version::HTTP_11;
}

/// Takes from an answer's fields or trailers the move to HTTP/3, which the proxy does not carry, and every
/// decision but tidegate's own.
pub(super) fn remove_claims(headers: &mut HeaderMap) {
    headers.remove(header::ALT_SVC);
    headers.remove(DECISION);
}

/// Makes a request ask for a whole answer, in a coding that [`super::filter`] can undo.
pub fn ask_for_filterable(headers: &mut HeaderMap) {
    headers.remove(header::RANGE);
    headers.remove(header::IF_RANGE);
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, identity"));
}

/// Takes from an answer's fields what they tell of the body as the upstream has it, which is not the body that
/// the client gets: `length` bytes, or none at all.
pub fn to_filtered(headers: &mut HeaderMap, length: Option<usize>) {
    for name in OF_THE_BODY {
        headers.remove(name);
    }
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// Chunks overrule a length, and a length that was given twice is one: a server takes the fields at their word,
/// and would cut the answer at the one or repeat the other.
fn one_length(headers: &mut HeaderMap) {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    } else if let Some(length) = headers.get(header::CONTENT_LENGTH).cloned() {
        headers.insert(header::CONTENT_LENGTH, length);
    }
}

/// Whether the answer is a page of the CDN in front of the API, not the API's own.
pub fn is_edge_answer(status: StatusCode, headers: &HeaderMap) -> bool {
    let starts = |name, prefix: &str| {
        let value = headers.get(name).and_then(|value: &HeaderValue| value.as_bytes().get(..prefix.len()));
        value.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    let refusing =
        matches!(status, StatusCode::FORBIDDEN | StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS)
            || status.is_server_error();
    refusing && starts(header::CONTENT_TYPE, "text/html") && starts(header::SERVER, "cloudflare")
}

fn remove_hop_by_hop(headers: &mut HeaderMap) -> Result<(), Error> {
    let mut named = Vec::new();
    connection_options(headers, |name| {
        named.push(name.clone());
        Ok(())
    })?;
    for name in named.iter().chain(&HOP_BY_HOP) {
        if !is_end_to_end(name) {
            headers.remove(name);
        }
    }
    Ok(())
}

fn connection_options(
    headers: &HeaderMap,
    mut each: impl FnMut(&HeaderName) -> Result<(), Error>,
) -> Result<(), Error> {
    for value in headers.get_all(header::CONNECTION) {
        let text = value.to_str().map_err(|_| Error::Connection)?;
        for option in text.split(',').map(str::trim).filter(|option| !option.is_empty()) {
            each(&HeaderName::from_bytes(option.as_bytes()).map_err(|_| Error::Connection)?)?;
        }
    }
    Ok(())
}

/// Fields that no `Connection` may take away, since the decision or the API's answer depends on them.
fn is_end_to_end(name: &HeaderName) -> bool {
    let names = [header::HOST, header::AUTHORIZATION, header::COOKIE, header::SET_COOKIE, header::EXPECT];
    names.contains(name) || name.as_str().starts_with("content-")
}

/// HTTP/2 may split cookies into several fields, HTTP/1 may not.
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(b"; ".as_slice()))
    {
        headers.insert(header::COOKIE, joined);
    }
}
