//! What an answer's head says of how its body can be read.

use super::{NotFilterable, coding::Coding, memory::Share};
use crate::forward::headers;
use http::{HeaderMap, Method, StatusCode, header, response};

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// It goes on as it is: the edge's page, which is not the API's answer.
    Pass,
    /// It goes on without what its fields tell of a body, since it has none.
    Bare,
    /// Its body is read, and the parts are taken out.
    Filter(Coding),
}

/// What becomes of an answer with this head. `is_empty`: it has no body.
///
/// # Errors
/// When its body cannot be read as one JSON document.
pub fn plan(method: &Method, head: &response::Parts, is_empty: bool) -> Result<Plan, NotFilterable> {
    let bodiless = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if *method == Method::HEAD || bodiless || is_empty {
        return Ok(Plan::Bare);
    }
    if headers::is_edge_answer(head.status, &head.headers) {
        return Ok(Plan::Pass);
    }
    // Nobody asked for a part, and parts of a document are none.
    if head.status == StatusCode::PARTIAL_CONTENT || head.headers.contains_key(header::CONTENT_RANGE) {
        return Err(NotFilterable::Partial);
    }
    check_media_type(&head.headers)?;
    Coding::of(&head.headers).map(Plan::Filter)
}

/// Whether an answer that will be so long fits.
///
/// # Errors
/// When it does not.
pub fn check_length(length: u64) -> Result<(), NotFilterable> {
    if length > super::MAX_BYTES as u64 { Err(NotFilterable::TooLarge) } else { Ok(()) }
}

/// Takes one more piece of a body into what is held of it.
///
/// # Errors
/// When it becomes too long.
pub fn hold(body: &mut Vec<u8>, piece: &[u8], share: &mut Share) -> Result<(), NotFilterable> {
    check_length((body.len() + piece.len()) as u64)?;
    share.grow(piece.len())?;
    body.extend_from_slice(piece);
    Ok(())
}

fn check_media_type(headers: &HeaderMap) -> Result<(), NotFilterable> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(NotFilterable::NoMediaType);
    };
    let value = String::from_utf8_lossy(value.as_bytes());
    let mut parts = value.split(';').map(|part| part.trim().to_ascii_lowercase());
    let essence = parts.next().unwrap_or_default();
    let is_json = essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json") && !essence.contains(','));
    let charsets = parts.filter_map(|part| part.strip_prefix("charset=").map(str::to_owned));
    let is_utf8 = charsets.map(|name| name.trim_matches('"').to_owned()).all(|name| name == "utf-8");
    if is_json && is_utf8 { Ok(()) } else { Err(NotFilterable::MediaType(value.into_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;
    use test_case::test_case;

    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    fn planned(method: &str, status: u16, fields: &[(&str, &str)]) -> Result<Plan, String> {
        let mut builder = Response::builder().status(status);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        let head = builder.body(()).unwrap().into_parts().0;
        plan(&method.parse().unwrap(), &head, false).map_err(|error| error.to_string())
    }

    #[test_case("HEAD", 200, &[("content-type", "text/yaml")]; "a head")]
    #[test_case("POST", 204, &[]; "no content")]
    #[test_case("GET", 304, &[]; "not modified")]
    fn what_never_has_a_body_is_left_bare(method: &str, status: u16, fields: &[(&str, &str)]) {
        assert_eq!(planned(method, status, fields), Ok(Plan::Bare));
    }

    #[test]
    fn an_empty_body_is_left_bare_whatever_its_type() {
        let head = Response::new(()).into_parts().0;
        assert_eq!(plan(&Method::GET, &head, true).unwrap(), Plan::Bare);
    }

    #[test]
    fn a_page_of_the_edge_passes() {
        let fields = [("content-type", "text/html; charset=UTF-8"), ("server", "cloudflare")];
        assert_eq!(planned("GET", 403, &fields), Ok(Plan::Pass));
    }

    #[test_case(200, &[JSON], Coding::Identity; "plain")]
    #[test_case(404, &[JSON], Coding::Identity; "an error")]
    #[test_case(200, &[("content-type", "APPLICATION/JSON;Charset=\"UTF-8\"")], Coding::Identity; "in capitals")]
    #[test_case(200, &[("content-type", "application/vnd.api+json")], Coding::Identity; "a JSON of its own")]
    #[test_case(201, &[JSON, ("content-encoding", "gzip")], Coding::Gzip; "compressed")]
    #[test_case(200, &[JSON, ("content-encoding", "X-GZIP")], Coding::Gzip; "compressed by the old name")]
    #[test_case(200, &[JSON, ("content-encoding", "identity")], Coding::Identity; "named and plain")]
    fn json_is_filtered(status: u16, fields: &[(&str, &str)], coding: Coding) {
        assert_eq!(planned("GET", status, fields), Ok(Plan::Filter(coding)));
    }

    #[test_case(200, &[], "it does not say its type, or says it twice"; "no type")]
    #[test_case(200, &[JSON, JSON], "it does not say its type, or says it twice"; "two types")]
    #[test_case(200, &[("content-type", "text/yaml")], "it is no JSON but `text/yaml`"; "yaml")]
    #[test_case(200, &[("content-type", "text/html"), ("server", "cloudflare")], "it is no JSON but `text/html`"; "a page")]
    #[test_case(200, &[("content-type", "text/event-stream")], "it is no JSON but `text/event-stream`"; "events")]
    #[test_case(429, &[("content-type", "text/plain")], "it is no JSON but `text/plain`"; "an error in words")]
    #[test_case(200, &[("content-type", "application/json, text/html+json")], "it is no JSON but `application/json, text/html+json`"; "a list")]
    #[test_case(200, &[("content-type", "application/json; charset=utf-16")], "it is no JSON but `application/json; charset=utf-16`"; "another charset")]
    #[test_case(206, &[JSON], "it is a part of a document"; "a part")]
    #[test_case(200, &[JSON, ("content-range", "bytes 0-1/2")], "it is a part of a document"; "a range")]
    #[test_case(200, &[JSON, ("content-encoding", "br")], "its encoding `br` is not known"; "an unknown encoding")]
    #[test_case(200, &[JSON, ("content-encoding", "gzip, gzip")], "its encoding `gzip, gzip` is not known"; "two encodings")]
    #[test_case(200, &[JSON, ("content-encoding", "gzip"), ("content-encoding", "identity")],
        "its encoding `gzip, identity` is not known"; "two fields")]
    #[test_case(200, &[JSON, ("content-encoding", "")], "its encoding `` is not known"; "an empty encoding")]
    fn what_cannot_be_read_is_withheld(status: u16, fields: &[(&str, &str)], problem: &str) {
        assert_eq!(planned("GET", status, fields), Err(problem.to_owned()));
    }

    #[test]
    fn a_body_is_held_up_to_the_limit() {
        let memory = super::super::Memory::new(100);
        let (mut body, mut share) = (Vec::new(), memory.share());
        hold(&mut body, &[0; 60], &mut share).unwrap();
        assert!(matches!(hold(&mut body, &[0; 60], &mut share), Err(NotFilterable::NoMemory)));
        assert_eq!(body.len(), 60);
        let mut share = super::super::Memory::new(usize::MAX).share();
        let mut body = vec![0; super::super::MAX_BYTES];
        hold(&mut body, b"", &mut share).unwrap();
        assert!(matches!(hold(&mut body, b"x", &mut share), Err(NotFilterable::TooLarge)));
    }
}
