//! Requests that two readers could understand differently, silence, and the ends of connections.

use super::world::{HOST, Setting, World, empty};
use serde_json::Value;
use std::time::Duration;
use test_case::test_case;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The status and JSON of the answer.
fn parse(answer: &str) -> (&str, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in `{answer}`"));
    (&head[9..12], serde_json::from_str(body).unwrap())
}

#[test_case("POST /v2/domains HTTP/1.1\r\nHost: H\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"; "length with chunked")]
#[test_case("POST /v2/domains HTTP/1.1\r\nHost: H\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde"; "length twice")]
#[test_case("POST /v2/domains HTTP/1.1\r\nHost: H\r\nContent-Length: 5, 5\r\n\r\nabcde"; "list of lengths")]
#[test_case("POST /v2/domains HTTP/1.1\r\nHost: H\r\nContent-Length: +5\r\n\r\nabcde"; "length with a sign")]
#[test_case("POST /v2/domains HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: xchunked\r\n\r\n"; "another transfer encoding")]
#[test_case("POST /v2/domains HTTP/1.1\r\nHost: H\r\nTransfer-Encoding : chunked\r\n\r\n"; "blank before the colon")]
#[test_case("POST /v2/domains HTTP/1.1\r\nHost: H\r\nTransfer-Encoding:\r\n chunked\r\n\r\n"; "folded line")]
#[test_case("GET /v2/droplets HTTP/1.1\nHost: H\n\n"; "bare line feeds")]
#[test_case("GET /v2/droplets HTTP/1.1\r\nHost: H\r\nX: a\rb\r\n\r\n"; "bare carriage return")]
#[test_case("GET /v2/droplets HTTP/1.1\r\nHost: H\r\nHost: H\r\n\r\n"; "two hosts")]
#[test_case("GET /v2/droplets HTTP/1.1\r\n\r\n"; "no host")]
#[test_case("GET /v2/droplets HTTP/1.1\r\nHost: H\r\nX: \0\r\n\r\n"; "nul")]
#[test_case("GET  /v2/droplets HTTP/1.1\r\nHost: H\r\n\r\n"; "two blanks")]
#[test_case("GET /v2/droplets HTTP/1.2\r\nHost: H\r\n\r\n"; "another version")]
#[test_case("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"; "preface of http 2")]
#[test_case("\x16\x03\x01"; "tls within tls")]
#[tokio::test]
async fn an_ambiguous_head_is_refused_recorded_once_and_goes_nowhere(request: &str) {
    let world = World::start(Setting::default()).await;
    let answer = world.exchange(request.replace(": H\r", &format!(": {HOST}\r")).as_bytes()).await;
    let (status, body) = parse(&answer);
    assert_eq!((status, &body["id"]), ("400", &"bad_request".into()));
    assert!(answer.contains("\r\nx-tidegate-decision: deny; reason=malformed_request\r\n"));
    let record = world.records(1).await.remove(0);
    assert_eq!(record["tidegate.reason"], "malformed_request");
    assert_eq!(
        (&record["tidegate.verdict"], &record["tidegate.decision"]),
        (&"refused".into(), &"deny".into())
    );
    assert_eq!(record["tidegate.request.id"], body["request_id"]);
    assert!(record["tidegate.detail"].is_string());
    assert_eq!(world.upstream.connections(), 0);
}

#[tokio::test]
async fn a_violation_names_the_request_where_its_line_was_sound() {
    let world = World::start(Setting::default()).await;
    world.exchange(b"DELETE /v2/droplets/1?a=b HTTP/1.1\r\nHost: a\n").await;
    let record = world.records(1).await.remove(0);
    assert_eq!(record["http.request.method"], "DELETE");
    assert_eq!((&record["url.path"], &record["url.query"]), (&"/v2/droplets/1".into(), &"a=b".into()));
}

#[test_case("4\nblob\r\n0\r\n\r\n"; "bare line feed")]
#[test_case("4;x=y\r\nblob\r\n0\r\n\r\n"; "extension")]
#[test_case("4\r\nblobX0\r\n\r\n"; "longer than its size")]
#[test_case("4\r\nblob\r\n0\r\nX: y\r\n\r\n"; "trailers")]
#[tokio::test]
async fn an_ambiguous_body_is_refused_as_its_request(chunks: &str) {
    let world = World::start(Setting::default()).await;
    let head = format!(
        "POST /v2/domains HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nX-Test: echo\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let answer = world.exchange(format!("{head}{chunks}").as_bytes()).await;
    assert_eq!(parse(&answer).0, "400");
    let records = world.records(2).await;
    assert_eq!(records[1]["tidegate.reason"], "malformed_request");
    assert_eq!(records[1]["tidegate.operation"], "domains_create");
    assert!(world.upstream.seen().iter().all(|seen| seen.body.is_none()), "a whole body arrived");
}

#[tokio::test]
async fn what_follows_a_request_is_judged_by_itself() {
    let world = World::start(Setting::default()).await;
    let good = format!("GET /v2/account HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let refused = format!("DELETE /v2/droplets/1 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 3\r\n\r\nabc");
    let answer = world.exchange(format!("{good}{refused}{good}\nGET").as_bytes()).await;
    let statuses: Vec<&str> =
        answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["200", "403", "200", "400"], "{answer}");
    let records = world.records(4).await;
    let reasons: Vec<_> = records.iter().map(|record| record["tidegate.reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["scopes_allowed", "missing_scope", "scopes_allowed", "malformed_request"]);
    assert_eq!(world.upstream.seen().len(), 2);
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let world = World::start(Setting::default()).await;
    let request = format!("GET /v2/account HTTP/1.0\r\nHost: {HOST}\r\nX-Test: bytes=70000\r\n\r\n");
    let (mut stream, _) = world.raw(false);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.0 200 OK\r\n"));
    assert!(answer.ends_with(&super::upstream::content(70_000)[69_000..]), "not the whole body");
    assert_eq!(world.records(1).await[0]["network.protocol.version"], "1.0");
}

#[tokio::test]
async fn a_client_that_half_closes_gets_its_answer() {
    let world = World::start(Setting::default()).await;
    let (mut stream, served) = world.raw(false);
    let request = format!("GET /v2/account HTTP/1.1\r\nHost: {HOST}\r\nX-Test: sleep=100\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(served.await.unwrap().requests, 1);
}

#[test_case(false)]
#[test_case(true)]
#[tokio::test]
async fn a_silent_connection_ends_without_a_request(is_http2: bool) {
    let head_timeout = Duration::from_millis(300);
    let world = World::start(Setting { head_timeout, ..Setting::default() }).await;
    let (stream, served) = world.raw(is_http2);
    let served = tokio::time::timeout(Duration::from_secs(10), served).await.unwrap().unwrap();
    assert_eq!(served.requests, 0);
    drop(stream);
    world.records(0).await;
}

#[tokio::test]
async fn a_head_that_does_not_end_is_timed_out_and_recorded() {
    let head_timeout = Duration::from_millis(300);
    let world = World::start(Setting { head_timeout, ..Setting::default() }).await;
    let answer = world.exchange(b"GET /v2/account HTTP/1.1\r\nHost: a").await;
    assert_eq!(parse(&answer).0, "408");
    assert_eq!(world.records(1).await[0]["tidegate.reason"], "head_timeout");
}

#[test_case(false)]
#[test_case(true)]
#[tokio::test]
async fn draining_ends_a_connection_after_the_request_under_way(is_http2: bool) {
    let world = World::start(Setting::default()).await;
    let (stream, served) = world.raw(is_http2);
    let mut client = super::world::Client::new(stream, is_http2).await;
    let request = client.request("GET", "/v2/account").header("x-test", "sleep=300").body(empty()).unwrap();
    let drain = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.drain.send(true).unwrap();
    };
    let (answer, ()) = tokio::join!(client.ask(request), drain);
    assert_eq!(answer.status(), 200);
    let served = tokio::time::timeout(Duration::from_secs(5), served).await.unwrap().unwrap();
    assert_eq!(served.requests, 1);
}

/// As one that has connected in the moment in which an agent ends, and lets another follow.
#[test_case(false)]
#[test_case(true)]
#[tokio::test]
async fn draining_waits_for_the_first_request_of_a_connection(is_http2: bool) {
    let world = World::start(Setting::default()).await;
    let (stream, served) = world.raw(is_http2);
    world.drain.send(true).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut client = super::world::Client::new(stream, is_http2).await;
    let request = client.request("GET", "/v2/account").body(empty()).unwrap();
    assert_eq!(client.ask(request).await.status(), 200);
    let served = tokio::time::timeout(Duration::from_secs(5), served).await.unwrap().unwrap();
    assert_eq!(served.requests, 1);
}

#[test_case(false)]
#[test_case(true)]
#[tokio::test]
async fn draining_ends_a_connection_that_never_asks(is_http2: bool) {
    let world = World::start(Setting::default()).await;
    let (_stream, served) = world.raw(is_http2);
    world.drain.send(true).unwrap();
    let served = tokio::time::timeout(Duration::from_secs(5), served).await.unwrap().unwrap();
    assert_eq!(served.requests, 0);
}
