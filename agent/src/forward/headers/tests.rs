use super::*;
use http::{Request, Response};
use test_case::test_case;

fn head(version: Version, uri: &str, fields: &[(&str, &str)]) -> request::Parts {
    let mut builder = Request::builder().version(version).method("POST").uri(uri);
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

/// The fields, sorted by name: their order among different names has no meaning.
fn fields(headers: &HeaderMap) -> Vec<(&str, &str)> {
    let mut fields: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    fields.sort_by_key(|(name, _)| *name);
    fields
}

fn sent(version: Version, has_body: bool, given: &[(&str, &str)]) -> request::Parts {
    let mut head = head(Version::HTTP_11, "/ignored", given);
    let authority = authority(&HostName::parse("api.example.com").unwrap(), 443).unwrap();
    to_upstream(&mut head, version, &authority, PathAndQuery::from_static("/v2/a%2Fb?c=%20"), has_body)
        .unwrap();
    head
}

#[test]
fn connection_level_fields_go_and_the_rest_stays() {
    let head = sent(
        Version::HTTP_11,
        false,
        &[
            ("host", "API.example.com:443"),
            ("x-first", "1"),
            ("connection", "close, X-Hop , keep-alive"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("expect", "100-Continue"),
            ("authorization", "Bearer t"),
            ("accept-encoding", "gzip"),
            ("x-forwarded-for", "the client's own"),
        ],
    );
    assert_eq!(
        fields(&head.headers),
        [
            ("accept-encoding", "gzip"),
            ("authorization", "Bearer t"),
            ("host", "api.example.com"),
            ("x-first", "1"),
            ("x-forwarded-for", "the client's own"),
        ]
    );
    assert_eq!(head.uri.to_string(), "/v2/a%2Fb?c=%20");
}

#[test]
fn another_expectation_is_passed_on() {
    assert!(sent(Version::HTTP_11, false, &[("expect", "x")]).headers.contains_key("expect"));
}

#[test]
fn http2_gets_the_host_as_authority_and_not_as_a_field() {
    let head = sent(Version::HTTP_2, true, &[("host", "api.example.com"), ("transfer-encoding", "chunked")]);
    assert_eq!(head.uri.to_string(), "https://api.example.com/v2/a%2Fb?c=%20");
    assert!(head.headers.is_empty());
}

#[test]
fn a_body_without_length_is_chunked_in_http1_whatever_the_method() {
    assert_eq!(sent(Version::HTTP_11, true, &[]).headers["transfer-encoding"], "chunked");
    let sized = sent(Version::HTTP_11, true, &[("content-length", "4")]);
    assert!(!sized.headers.contains_key("transfer-encoding"));
    assert_eq!(sized.headers["content-length"], "4");
    assert!(!sent(Version::HTTP_11, false, &[]).headers.contains_key("transfer-encoding"));
}

#[test]
fn cookies_are_joined_for_http1_only() {
    let cookies = [("cookie", "a=1"), ("cookie", "b=2")];
    assert_eq!(fields(&sent(Version::HTTP_11, false, &cookies).headers)[0], ("cookie", "a=1; b=2"));
    assert_eq!(sent(Version::HTTP_2, false, &cookies).headers.get_all("cookie").iter().count(), 2);
}

#[test_case(443, "api.example.com")]
#[test_case(8443, "api.example.com:8443")]
fn the_authority_names_other_ports_only(port: u16, expected: &str) {
    assert_eq!(authority(&HostName::parse("api.example.com").unwrap(), port).unwrap().as_str(), expected);
}

#[test_case(&[("connection", "close")], true; "close")]
#[test_case(&[("connection", "Keep-Alive, TE")], true; "known options")]
#[test_case(&[("connection", "Authorization")], false; "names the token")]
#[test_case(&[("connection", "close"), ("connection", "content-type")], false; "names the type in a second field")]
#[test_case(&[("connection", "host")], false; "names the host")]
#[test_case(&[("connection", "a b")], false; "no list of names")]
#[test_case(&[("host", "a"), ("host", "a")], false; "two hosts")]
#[test_case(&[("content-length", "1"), ("content-length", "1")], false; "two lengths")]
#[test_case(&[("content-length", "01")], false; "length with a leading zero")]
#[test_case(&[("authorization", "Bearer a"), ("authorization", "Bearer b")], false; "two tokens")]
#[test_case(&[("content-type", "a/b"), ("content-type", "a/b")], false; "two types")]
fn ambiguous_http1_heads_are_refused(fields: &[(&str, &str)], accepted: bool) {
    assert_eq!(check(&head(Version::HTTP_11, "/", fields)).is_ok(), accepted);
}

#[test_case("https://a/", &[], true; "plain")]
#[test_case("https://a/", &[("te", "trailers")], true; "te trailers")]
#[test_case("https://a/", &[("te", "gzip")], false; "te of another kind")]
#[test_case("https://a/", &[("connection", "close")], false; "connection")]
#[test_case("https://a/", &[("transfer-encoding", "chunked")], false; "transfer encoding")]
#[test_case("https://a/", &[("upgrade", "x")], false; "upgrade")]
#[test_case("https://a/", &[("keep-alive", "x")], false; "keep alive")]
#[test_case("https://a/", &[("proxy-connection", "x")], false; "proxy connection")]
#[test_case("https://a/", &[("host", "a"), ("host", "a")], false; "two hosts")]
#[test_case("https://a/", &[("content-length", "1, 1")], false; "list of lengths")]
#[test_case("http://a/", &[], false; "scheme http")]
#[test_case("/", &[], false; "no scheme")]
fn ambiguous_http2_heads_are_refused(uri: &str, fields: &[(&str, &str)], accepted: bool) {
    assert_eq!(check(&head(Version::HTTP_2, uri, fields)).is_ok(), accepted);
}

#[test]
fn answers_lose_connection_fields_alt_svc_and_foreign_decisions() {
    let mut head = Response::builder()
        .version(Version::HTTP_10)
        .header("connection", "close, x-hop")
        .header("x-hop", "1")
        .header("alt-svc", "h3=\":443\"")
        .header("x-tidegate-decision", "allow")
        .header("content-length", "3")
        .header("server", "cloudflare")
        .header("ratelimit-remaining", "7")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    to_client(&mut head);
    assert_eq!(
        fields(&head.headers),
        [("content-length", "3"), ("ratelimit-remaining", "7"), ("server", "cloudflare")]
    );
    assert_eq!(head.version, Version::HTTP_11);
}

#[test_case(&[("content-length", "3"), ("transfer-encoding", "chunked")], &[]; "chunks overrule a length")]
#[test_case(&[("content-length", "3"), ("content-length", "3")], &[("content-length", "3")]; "twice the same length")]
fn an_answer_has_one_length(given: &[(&str, &str)], expected: &[(&str, &str)]) {
    let builder =
        given.iter().fold(Response::builder(), |builder, (name, value)| builder.header(*name, *value));
    let mut head = builder.body(()).unwrap().into_parts().0;
    to_client(&mut head);
    assert_eq!(fields(&head.headers), expected);
}

#[test]
fn an_unreadable_connection_field_in_an_answer_goes() {
    let mut head = Response::builder().header("connection", "a b").body(()).unwrap().into_parts().0;
    to_client(&mut head);
    assert!(head.headers.is_empty());
}

#[test_case(403, "text/html; charset=UTF-8", "cloudflare", true; "bot page")]
#[test_case(409, "text/html", "cloudflare", true; "host conflict")]
#[test_case(429, "text/html", "cloudflare", true; "too many requests for the edge")]
#[test_case(429, "application/json", "cloudflare", false; "too many requests for the API")]
#[test_case(520, "Text/HTML", "Cloudflare", true; "origin down")]
#[test_case(403, "application/json", "cloudflare", false; "the API's own refusal")]
#[test_case(403, "text/html", "nginx", false; "another server")]
#[test_case(200, "text/html", "cloudflare", false; "success")]
fn pages_of_the_edge_are_told_from_answers(status: u16, content_type: &str, server: &str, expected: bool) {
    let head =
        Response::builder().header("content-type", content_type).header("server", server).body(()).unwrap();
    assert_eq!(is_edge_answer(StatusCode::from_u16(status).unwrap(), head.headers()), expected);
}

#[test]
fn a_request_asks_for_what_can_be_filtered() {
    let given = [
        ("range", "bytes=0-99"),
        ("if-range", "\"x\""),
        ("accept-encoding", "br, zstd"),
        ("accept-encoding", "deflate"),
        ("accept", "application/json"),
    ];
    let mut head = head(Version::HTTP_11, "/", &given);
    ask_for_filterable(&mut head.headers);
    assert_eq!(
        fields(&head.headers),
        [("accept", "application/json"), ("accept-encoding", "gzip, identity")]
    );
}

#[test_case(None, None; "no body")]
#[test_case(Some(7), Some("7"); "a body")]
fn a_filtered_answer_tells_nothing_of_the_whole_one(length: Option<usize>, expected: Option<&str>) {
    let given = [
        ("accept-ranges", "bytes"),
        ("content-encoding", "gzip"),
        ("content-length", "1234"),
        ("content-md5", "x"),
        ("digest", "x"),
        ("content-digest", "x"),
        ("repr-digest", "x"),
        ("etag", "W/\"x\""),
        ("trailer", "x"),
        ("content-type", "application/json"),
        ("vary", "accept-encoding"),
    ];
    let mut headers = head(Version::HTTP_11, "/", &given).headers;
    to_filtered(&mut headers, length);
    let mut left: Vec<_> = expected.map(|length| ("content-length", length)).into_iter().collect();
    left.extend([("content-type", "application/json"), ("vary", "accept-encoding")]);
    assert_eq!(fields(&headers), left);
}
