//! HTTP/2 that no HTTP library would write: what two readers could understand differently goes nowhere.

use super::{
    upstream::Speaks,
    world::{HOST, Setting, World, empty},
};
use std::time::Duration;
use test_case::test_matrix;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const SETTINGS: u8 = 4;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as HPACK's literals without an index.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// A POST on stream 1 with these fields more, and these pieces of a body.
fn request(fields: &[(&str, &str)], pieces: &[&[u8]]) -> Vec<u8> {
    let plain = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", HOST),
        (":path", "/v2/domains"),
        ("content-type", "application/json"),
        ("x-test", "echo"),
    ];
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let ends = |last: bool| if last { END_STREAM } else { 0 };
    let flags = END_HEADERS | ends(pieces.is_empty());
    bytes.extend(frame(HEADERS, flags, 1, &block(&[&plain, fields].concat())));
    for (index, piece) in pieces.iter().enumerate() {
        bytes.extend(frame(DATA, ends(index + 1 == pieces.len()), 1, piece));
    }
    bytes
}

/// What comes back within a moment.
async fn answer(mut stream: DuplexStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_millis(300), stream.read_to_end(&mut answer)).await;
    answer
}

type Fields = &'static [(&'static str, &'static str)];
const SMUGGLED: &[u8] = b"DELETE /v2/droplets/1 HTTP/1.1\r\nhost: api.digitalocean.com\r\n\r\n";

#[test_matrix(
    [
        (&[("content-length", "5")], &[]),
        (&[("content-length", "5")], &[b"ab"]),
        (&[("content-length", "2")], &[b"ab", SMUGGLED]),
        (&[("content-length", "0")], &[SMUGGLED]),
        (&[("content-length", "2"), ("content-length", "66")], &[b"ab"]),
        (&[("transfer-encoding", "chunked")], &[b"0\r\n\r\n", SMUGGLED]),
        (&[("content_length", "2")], &[b"ab"]),
        (&[(":path", "/v2/account")], &[]),
        (&[(":authority", "evil.example")], &[]),
        (&[(":method", "DELETE")], &[]),
        (&[("host", "evil.example")], &[]),
        (&[("x", "a\r\nx-http-method-override: DELETE")], &[]),
        (&[("x: a\r\ny", "b")], &[]),
        (&[("X-Upper", "a")], &[]),
        (&[("connection", "close")], &[]),
        (&[("authorization", "a"), ("authorization", "b")], &[]),
        (&[(":protocol", "websocket")], &[])
    ],
    [Speaks::Http1, Speaks::Http2]
)]
#[tokio::test]
async fn an_ambiguous_request_never_reaches_the_upstream_whole(
    (fields, pieces): (Fields, &'static [&'static [u8]]),
    speaks: Speaks,
) {
    let world = World::start(Setting { speaks, ..Setting::default() }).await;
    let (mut stream, _) = world.raw(true);
    stream.write_all(&request(fields, pieces)).await.unwrap();
    answer(stream).await;
    // What comes next on the upstream's connections is read as it was sent.
    let mut client = world.client(true).await;
    let next = client.request("GET", "/v2/account").body(empty()).unwrap();
    assert_eq!(client.ask(next).await.status(), 200);
    let seen = world.upstream.seen();
    let whole: Vec<&str> =
        seen.iter().filter(|seen| seen.body.is_some()).map(|seen| seen.uri.path()).collect();
    assert_eq!(whole, ["/v2/account"], "{seen:?}");
}

#[tokio::test]
async fn the_plain_request_of_these_tests_passes() {
    let world = World::start(Setting::default()).await;
    let (mut stream, _) = world.raw(true);
    stream.write_all(&request(&[("content-length", "4")], &[b"bl", b"ob"])).await.unwrap();
    assert!(answer(stream).await.windows(4).any(|window| window == b"blob"));
}
