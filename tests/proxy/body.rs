//! Request bodies that stop, break off, or are not needed.

use super::{
    pieces::{Last, Pieces},
    upstream::{Speaks, content},
    world::{Client, HOST, Setting, World, empty},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use std::time::Duration;
use test_case::test_matrix;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test_matrix([false, true], [Speaks::Http1, Speaks::Http2])]
#[tokio::test]
async fn a_body_that_stops_arriving_is_timed_out(is_http2: bool, speaks: Speaks) {
    let body_idle_timeout = Duration::from_millis(300);
    let world = World::start(Setting { speaks, body_idle_timeout, ..Setting::default() }).await;
    let mut client = world.client(is_http2).await;
    let stalled = Pieces::new([Bytes::from_static(b"first")], Last::Never);
    let request = client.request("POST", "/v2/domains").header("x-test", "echo").body(stalled).unwrap();
    let answer = client.ask(request).await;
    assert_eq!((answer.status(), &answer.json()["id"]), (408, &"request_timeout".into()));
    let record = world.records(2).await.remove(1);
    assert_eq!(
        (&record["tidegate.reason"], &record["tidegate.bytes.in"]),
        (&"body_timeout".into(), &5.into())
    );
    assert!(world.upstream.seen().iter().all(|seen| seen.body.is_none()), "a whole body arrived");
}

#[test_matrix([Speaks::Http1, Speaks::Http2])]
#[tokio::test]
async fn a_body_that_breaks_off_never_seems_whole_to_the_upstream(speaks: Speaks) {
    let world = World::start(Setting { speaks, ..Setting::default() }).await;
    for framing in ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let (mut stream, served) = world.raw(false);
        let request = format!(
            "POST /v2/domains HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nX-Test: echo\r\n{framing}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(stream);
        assert_eq!(served.await.unwrap().requests, 1);
    }
    let records = world.records(4).await;
    for record in records.iter().filter(|record| record["tidegate.phase"] == "outcome") {
        assert_eq!(
            (&record["tidegate.reason"], &record["tidegate.bytes.in"]),
            (&"client_gone".into(), &3.into())
        );
    }
    assert!(world.upstream.seen().iter().all(|seen| seen.body.is_none()), "a whole body arrived");
}

#[test_matrix([false, true], [Speaks::Http1, Speaks::Http2])]
#[tokio::test]
async fn an_upload_that_breaks_off_is_recorded_once(is_http2: bool, speaks: Speaks) {
    let world = World::start(Setting { speaks, ..Setting::default() }).await;
    let mut client = world.client(is_http2).await;
    let broken = Pieces::new([Bytes::from(content(100_000))], Last::Error);
    let request = client.request("POST", "/v2/domains").header("x-test", "echo").body(broken).unwrap();
    // HTTP/2 knows how to take a request back; an HTTP/1 client can only hang up.
    let answered = client.send(request).await;
    assert!(answered.is_err() || answered.unwrap().status() == 400);
    let record = world.records(2).await.remove(1);
    assert_eq!(
        (&record["tidegate.reason"], &record["tidegate.verdict"]),
        (&"client_gone".into(), &"forwarded".into())
    );
    assert!(world.upstream.seen().iter().all(|seen| seen.body.is_none()), "a whole body arrived");
}

#[test_matrix([false, true], [Speaks::Http1, Speaks::Http2])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_wait_for_the_body_comes_at_once(is_http2: bool, speaks: Speaks) {
    let world = World::start(Setting { speaks, ..Setting::default() }).await;
    let mut client = world.client(is_http2).await;
    let stalled = Pieces::new([Bytes::from_static(b"first")], Last::Never);
    let request = client.request("POST", "/v2/domains").header("x-test", "early").body(stalled).unwrap();
    let answer = client.ask(request).await;
    assert_eq!((answer.status(), &answer.body[..]), (200, &b"early"[..]));
    let record = world.records(2).await.remove(1);
    assert_eq!(record["tidegate.reason"], "scopes_allowed");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_loses_it() {
    let body_idle_timeout = Duration::from_millis(300);
    let world = World::start(Setting { body_idle_timeout, ..Setting::default() }).await;
    let (mut stream, served) = world.raw(false);
    let request = format!("GET /v2/account HTTP/1.1\r\nHost: {HOST}\r\nX-Test: bytes=2000000\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let served = tokio::time::timeout(Duration::from_secs(10), served).await.unwrap().unwrap();
    assert_eq!(served.requests, 1);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() < 2_000_000);
    assert_eq!(world.records(1).await[0]["tidegate.reason"], "client_gone");
}

#[test_matrix([false, true])]
#[tokio::test]
async fn an_answer_that_http2_holds_back_is_lost_as_well(is_begun: bool) {
    let body_idle_timeout = Duration::from_millis(300);
    let world = World::start(Setting { body_idle_timeout, ..Setting::default() }).await;
    let (stream, served) = world.raw(true);
    let mut client = Client::with_window(stream, if is_begun { 1000 } else { 0 }).await;
    let request = client.request("GET", "/v2/account").header("x-test", "bytes=2000000");
    // Held and not read, so that the client never makes room.
    let answer = client.send(request.body(empty()).unwrap()).await.unwrap();
    let served = tokio::time::timeout(Duration::from_secs(10), served).await.unwrap().unwrap();
    assert_eq!(served.requests, 1);
    assert_eq!(world.records(1).await[0]["tidegate.reason"], "client_gone");
    assert!(answer.into_body().collect().await.is_err());
}
