//! Every protocol of the client with every protocol of the upstream.

use super::{
    pieces::{Last, Pieces},
    upstream::{Speaks, content},
    world::{Client, HOST, Setting, World, body, empty, raw_for},
};
use bytes::Bytes;
use http::Version;
use std::collections::HashSet;
use test_case::test_matrix;
use tidegate::forward::Offer;

const MEBIBYTE: usize = 1024 * 1024;

async fn world(speaks: Speaks) -> World {
    World::start(Setting { speaks, ..Setting::default() }).await
}

#[test_matrix([false, true], [Speaks::Http1, Speaks::Http2])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowed_read_comes_back_unchanged_and_is_recorded(is_http2: bool, speaks: Speaks) {
    let version = if speaks == Speaks::Http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    let world = world(speaks).await;
    let mut client = world.client(is_http2).await;
    let request = client
        .request("GET", "/v2/droplets?page=2&per_page=%32")
        .header("user-agent", "test/1")
        .header("x-test", "bytes=100000")
        .header("x-own", "kept");
    let answer = client.ask(request.body(empty()).unwrap()).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.body == content(100_000), "the body changed");
    assert!(!answer.head.headers.contains_key("x-tidegate-decision"));

    let seen = world.upstream.seen().remove(0);
    assert_eq!(seen.version, version);
    assert_eq!(seen.uri.path_and_query().unwrap().as_str(), "/v2/droplets?page=2&per_page=%32");
    let authority = format!("{HOST}:{}", world.connection.destination.port());
    match version {
        Version::HTTP_2 => assert_eq!(seen.uri.authority().unwrap().as_str(), authority),
        _ => assert_eq!(seen.headers["host"], authority.as_str()),
    }
    let own: HashSet<&str> = ["host", "authorization", "user-agent", "x-test", "x-own"].into();
    for name in seen.headers.keys() {
        assert!(own.contains(name.as_str()), "`{name}` was added");
    }

    let record = world.records(1).await.remove(0);
    let expected = [
        ("tidegate.phase", "outcome"),
        ("tidegate.workload", "run"),
        ("tidegate.policy", "test"),
        ("tidegate.operation", "droplets_list"),
        ("tidegate.decision", "allow"),
        ("tidegate.verdict", "forwarded"),
        ("tidegate.reason", "scopes_allowed"),
        ("tidegate.token.type", "dop"),
        ("http.request.method", "GET"),
        ("url.path", "/v2/droplets"),
        ("url.query", "page=2&per_page=%32"),
        ("user_agent.original", "test/1"),
        ("server.address", HOST),
        ("destination.address", "127.0.0.1"),
        ("network.protocol.version", if is_http2 { "2" } else { "1.1" }),
    ];
    for (key, value) in expected {
        assert_eq!(record[key], value, "{key}");
    }
    assert_eq!(record["http.response.status_code"], 200);
    assert_eq!(record["destination.port"], world.connection.destination.port());
    assert_eq!((&record["tidegate.bytes.in"], &record["tidegate.bytes.out"]), (&0.into(), &100_000.into()));
    let micros = |key: &str| record[key].as_u64().unwrap();
    assert!(micros("tidegate.duration_us.total") >= micros("tidegate.duration_us.upstream"));
    assert_eq!(record["tidegate.request.id"].as_str().unwrap().len(), 32);
}

#[test_matrix([false, true], [Speaks::Http1, Speaks::Http2], [true, false])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_stream_both_ways_unchanged(is_http2: bool, speaks: Speaks, sized: bool) {
    let world = world(speaks).await;
    let mut client = world.client(is_http2).await;
    let sent = content(8 * MEBIBYTE + 1);
    let pieces = sent.chunks(70_001).map(Bytes::copy_from_slice);
    let mut request = client.request("POST", "/v2/domains").header("x-test", "echo");
    if sized {
        request = request.header("content-length", sent.len());
    }
    let answer = client.ask(request.body(Pieces::new(pieces, Last::End)).unwrap()).await;
    assert_eq!(answer.status(), 201);
    assert!(answer.body == sent, "the echo differs");
    assert!(world.upstream.seen()[0].body.as_deref() == Some(&sent[..]), "the upload differs");
    assert_eq!(world.upstream.seen()[0].headers.contains_key("content-length"), sized);
    let records = world.records(2).await;
    assert_eq!(records[1]["tidegate.bytes.in"], sent.len());
    assert_eq!(records[1]["tidegate.bytes.out"], sent.len());
}

#[test_matrix([false, true], [Speaks::Http1, Speaks::Http2])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_kept_on_both_sides(is_http2: bool, speaks: Speaks) {
    let world = world(speaks).await;
    let mut client = world.client(is_http2).await;
    for _ in 0..5 {
        let request = client.request("GET", "/v2/droplets").body(empty()).unwrap();
        assert_eq!(client.ask(request).await.body, "{\"droplets\":[]}");
    }
    assert_eq!(world.upstream.connections(), 1);
    world.records(5).await;
}

#[test_matrix([false, true], [Speaks::Http1, Speaks::Http2])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_with_a_body_of_unknown_length_keeps_it(is_http2: bool, speaks: Speaks) {
    let world = world(speaks).await;
    let mut client = world.client(is_http2).await;
    let mut request = client.request("GET", "/v2/actions");
    if !is_http2 {
        request = request.header("transfer-encoding", "chunked");
    }
    assert_eq!(client.ask(request.body(body(b"null")).unwrap()).await.status(), 200);
    assert_eq!(world.upstream.seen()[0].body.as_deref(), Some(&b"null"[..]));
}

#[test_matrix([false, true], [Speaks::Http1, Speaks::Http2], [("HEAD", 200), ("GET", 204), ("GET", 304)])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_without_a_body_end_at_their_head(is_http2: bool, speaks: Speaks, what: (&str, u16)) {
    let world = world(speaks).await;
    let mut client = world.client(is_http2).await;
    for _ in 0..2 {
        let request = client.request(what.0, "/v2/account").header("x-test", format!("status={}", what.1));
        let answer = client.ask(request.body(empty()).unwrap()).await;
        assert_eq!((answer.status(), answer.body.len()), (what.1, 0));
    }
    assert_eq!(world.upstream.connections(), 1);
    assert_eq!(world.records(2).await[1]["tidegate.reason"], "scopes_allowed");
}

#[test_matrix([false, true], [Speaks::Http1, Speaks::Http2])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_parallel_requests_have_one_record_each(is_http2: bool, speaks: Speaks) {
    let is_shared = speaks == Speaks::Http2;
    let world = world(speaks).await;
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..200 {
        // A connection each, or 20 streams on each of ten connections.
        let stream = raw_for(world.connection.clone(), is_http2).0;
        let mut client = Client::new(stream, is_http2).await;
        asking.spawn(async move {
            let request = client.request("GET", &format!("/v2/droplets/{number}"));
            let length = 1000 + number;
            let request = request.header("x-test", format!("bytes={length}"));
            let answer = client.ask(request.body(empty()).unwrap()).await;
            assert!(answer.body == content(length), "another request's answer");
        });
    }
    asking.join_all().await;
    let records = world.records(200).await;
    let paths: HashSet<String> = records.iter().map(|record| record["url.path"].to_string()).collect();
    assert_eq!(paths.len(), 200);
    for record in &records {
        let number: u64 = record["url.path"].as_str().unwrap().rsplit('/').next().unwrap().parse().unwrap();
        assert_eq!(record["tidegate.bytes.out"], 1000 + number);
    }
    if is_shared {
        assert!(world.upstream.connections() <= 4, "{} connections", world.upstream.connections());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_requests_of_one_http2_client_are_told_apart() {
    let world = world(Speaks::Http1).await;
    let Client::Http2(sender, _connection) = world.client(true).await else { unreachable!() };
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..200usize {
        let sender = sender.clone();
        asking.spawn(async move {
            let connection = tokio::spawn(async { Ok(()) });
            let mut client = Client::Http2(sender, connection);
            let request = client.request("GET", &format!("/v2/droplets/{number}"));
            let request = request.header("x-test", format!("bytes={number}")).body(empty()).unwrap();
            assert!(client.ask(request).await.body == content(number), "another request's answer");
        });
    }
    asking.join_all().await;
    world.records(200).await;
}

#[tokio::test]
async fn the_upstream_is_offered_what_the_connection_says() {
    let setting = Setting { speaks: Speaks::Http2, offer: Offer::Http1, ..Setting::default() };
    let world = World::start(setting).await;
    let mut client = world.client(false).await;
    let request = client.request("GET", "/v2/droplets").body(empty()).unwrap();
    // An upstream that has nothing but HTTP/2 ends the handshake.
    assert_eq!(client.ask(request).await.status(), 502);
    assert_eq!(world.records(1).await[0]["tidegate.reason"], "upstream_failed");
}
