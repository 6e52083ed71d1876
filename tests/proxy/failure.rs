//! Upstreams that cannot be reached, are not who they must be, or fail; each with its answer and record.

use super::{
    upstream::{Speaks, content},
    world::{Setting, World, body, empty},
};
use http_body_util::BodyExt;
use std::time::Duration;
use test_case::{test_case, test_matrix};

#[tokio::test]
async fn a_certificate_for_another_name_is_not_the_host() {
    let setting = Setting { certified: "evil.example", ..Setting::default() };
    let world = World::start(setting).await;
    let mut client = world.client(false).await;
    let request = client.request("POST", "/v2/domains").body(body(b"secret")).unwrap();
    let answer = client.ask(request).await;
    assert_eq!((answer.status(), &answer.json()["id"]), (502, &"bad_gateway".into()));
    assert_eq!(answer.head.headers["x-tidegate-decision"], "allow; reason=upstream_not_host");
    let records = world.records(2).await;
    assert_eq!(records[0]["tidegate.phase"], "intent");
    assert_eq!(records[1]["tidegate.reason"], "upstream_not_host");
    assert_eq!(
        (&records[1]["tidegate.verdict"], &records[1]["tidegate.bytes.in"]),
        (&"refused".into(), &0.into())
    );
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test]
async fn a_destination_out_of_reach_is_replaced_by_the_agents_own_answer() {
    // The original destination is 127.0.0.1, where nothing listens on this port.
    let world = World::start(Setting { upstream_ip: "127.0.0.2", ..Setting::default() }).await;
    let mut client = world.client(false).await;
    let request = client.request("GET", "/v2/account").body(empty()).unwrap();
    assert_eq!(client.ask(request).await.status(), 200);
    assert_eq!(world.records(1).await[0]["destination.address"], "127.0.0.1");
}

#[tokio::test]
async fn no_address_in_reach_is_a_bad_gateway() {
    let world = World::start(Setting::default()).await;
    // Nothing listens on port 1 of loopback.
    let connection = world.connection(|connection| connection.destination.set_port(1));
    let (stream, _) = super::world::raw_for(connection, false);
    let mut client = super::world::Client::new(stream, false).await;
    let answer = client.ask(client.request("GET", "/v2/account").body(empty()).unwrap()).await;
    assert_eq!(answer.status(), 502);
    let record = world.records(1).await.remove(0);
    assert_eq!(
        (&record["tidegate.reason"], &record["tidegate.verdict"]),
        (&"upstream_unreachable".into(), &"refused".into())
    );
}

#[test_matrix([false, true], [Speaks::Http1, Speaks::Http2])]
#[tokio::test]
async fn an_upstream_that_does_not_answer_times_out(is_http2: bool, speaks: Speaks) {
    let response_timeout = Duration::from_millis(300);
    let world = World::start(Setting { speaks, response_timeout, ..Setting::default() }).await;
    let mut client = world.client(is_http2).await;
    let request = client.request("POST", "/v2/domains").header("x-test", "slow");
    let answer = client.ask(request.body(body(b"blob")).unwrap()).await;
    assert_eq!((answer.status(), &answer.json()["id"]), (504, &"gateway_timeout".into()));
    let record = world.records(2).await.remove(1);
    assert_eq!(record["tidegate.reason"], "upstream_timeout");
    // The upstream has it, and may have done it.
    assert_eq!(record["tidegate.verdict"], "forwarded");
    assert_eq!(record["tidegate.bytes.in"], 4);
}

#[test_case(b"garbage\r\n\r\n", 502; "no http")]
#[test_case(b"", 502; "nothing")]
#[test_case(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 502; "switches protocols")]
#[test_case(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 502; "two lengths")]
#[tokio::test]
async fn an_upstream_that_breaks_the_grammar_is_a_bad_gateway(bytes: &[u8], status: u16) {
    let setting = Setting { speaks: Speaks::Raw(bytes.to_vec()), ..Setting::default() };
    let world = World::start(setting).await;
    let mut client = world.client(false).await;
    let answer = client.ask(client.request("GET", "/v2/account").body(empty()).unwrap()).await;
    assert_eq!(answer.status(), status);
    let record = world.records(1).await.remove(0);
    assert_eq!(
        (&record["tidegate.reason"], &record["tidegate.verdict"]),
        (&"upstream_failed".into(), &"forwarded".into())
    );
}

#[test_case(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nto the end"; "http 1.0 to the end of the stream")]
#[test_case(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end"; "http 1.1 to the end of the stream")]
#[test_case(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\nto the end"; "interim answer first")]
#[test_case(b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\na\r\nto the end\r\n0\r\nx: y\r\n\r\n"; "chunks and trailers")]
#[test_case(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\na\r\nto the end\r\n0\r\n\r\n"; "chunks beside a length")]
#[test_case(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\nContent-Length: 10\r\n\r\nto the end"; "length twice")]
#[tokio::test]
async fn answers_of_every_framing_come_whole(bytes: &[u8]) {
    let setting = Setting { speaks: Speaks::Raw(bytes.to_vec()), ..Setting::default() };
    let world = World::start(setting).await;
    for is_http2 in [false, true] {
        let mut client = world.client(is_http2).await;
        for _ in 0..2 {
            let answer = client.ask(client.request("GET", "/v2/account").body(empty()).unwrap()).await;
            assert_eq!((answer.status(), &answer.body[..]), (200, &b"to the end"[..]));
            let lengths: Vec<_> = answer.head.headers.get_all("content-length").iter().collect();
            assert!(lengths.is_empty() || lengths == ["10"], "{lengths:?}");
        }
    }
    for record in world.records(4).await {
        assert_eq!(
            (&record["tidegate.reason"], &record["tidegate.bytes.out"]),
            (&"scopes_allowed".into(), &10.into())
        );
    }
}

#[tokio::test]
async fn trailers_come_without_a_decision_that_is_not_tidegates() {
    let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\nX-Tidegate-Decision: deny\r\nAlt-Svc: h3\r\n\r\n";
    let world = World::start(Setting { speaks: Speaks::Raw(bytes.to_vec()), ..Setting::default() }).await;
    let mut client = world.client(true).await;
    let request = client.request("GET", "/v2/account").body(empty()).unwrap();
    let answer = client.send(request).await.unwrap().into_body().collect().await.unwrap();
    let names: Vec<&str> = answer.trailers().unwrap().keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["x"]);
}

#[test_matrix([false, true], [Speaks::Http1, Speaks::Http2])]
#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_client_too(is_http2: bool, speaks: Speaks) {
    let world = World::start(Setting { speaks, ..Setting::default() }).await;
    let mut client = world.client(is_http2).await;
    let request = client.request("GET", "/v2/account").header("x-test", "break").body(empty()).unwrap();
    let answer = client.send(request).await.unwrap();
    assert!(answer.into_body().collect().await.is_err(), "it seemed complete");
    let record = world.records(1).await.remove(0);
    assert_eq!(
        (&record["tidegate.reason"], &record["tidegate.bytes.out"]),
        (&"upstream_failed".into(), &5.into())
    );
    assert_eq!(
        (&record["tidegate.verdict"], &record["http.response.status_code"]),
        (&"forwarded".into(), &200.into())
    );
}

#[tokio::test]
async fn a_length_that_the_answer_does_not_reach_breaks_off() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".to_vec();
    let world = World::start(Setting { speaks: Speaks::Raw(bytes), ..Setting::default() }).await;
    let mut client = world.client(false).await;
    let request = client.request("GET", "/v2/account").body(empty()).unwrap();
    let answer = client.send(request).await.unwrap();
    assert_eq!(answer.headers()["content-length"], "100");
    assert!(answer.into_body().collect().await.is_err());
    assert_eq!(world.records(1).await[0]["tidegate.reason"], "upstream_failed");
}

#[test_matrix([false, true], [Speaks::Http1, Speaks::Http2])]
#[tokio::test]
async fn an_answer_that_stalls_is_given_up(is_http2: bool, speaks: Speaks) {
    let body_idle_timeout = Duration::from_millis(300);
    let world = World::start(Setting { speaks, body_idle_timeout, ..Setting::default() }).await;
    let mut client = world.client(is_http2).await;
    let request = client.request("GET", "/v2/account").header("x-test", "stall").body(empty()).unwrap();
    let answer = client.send(request).await.unwrap();
    assert!(answer.into_body().collect().await.is_err());
    let record = world.records(1).await.remove(0);
    assert_eq!(
        (&record["tidegate.reason"], &record["tidegate.bytes.out"]),
        (&"upstream_timeout".into(), &5.into())
    );
}

#[test_matrix([false, true], [Speaks::Http1, Speaks::Http2])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_within_the_answer_is_recorded_once(is_http2: bool, speaks: Speaks) {
    let world = World::start(Setting { speaks, ..Setting::default() }).await;
    let mut client = world.client(is_http2).await;
    let request =
        client.request("GET", "/v2/account").header("x-test", "bytes=20000000").body(empty()).unwrap();
    let mut answer = client.send(request).await.unwrap().into_body();
    let first = answer.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(content(first.len()) == first);
    client.abort();
    drop(answer);
    let record = world.records(1).await.remove(0);
    assert_eq!(
        (&record["tidegate.reason"], &record["tidegate.verdict"]),
        (&"client_gone".into(), &"forwarded".into())
    );
    assert!(record["tidegate.bytes.out"].as_u64().unwrap() < 20_000_000);
}

#[tokio::test]
async fn a_client_that_resets_its_stream_before_the_answer_is_recorded_once() {
    let world = World::start(Setting::default()).await;
    let mut client = world.client(true).await;
    let request = client.request("POST", "/v2/domains").header("x-test", "slow").body(body(b"blob")).unwrap();
    let sent = tokio::time::timeout(Duration::from_millis(300), client.send(request)).await;
    assert!(sent.is_err(), "it was answered");
    let records = world.records(2).await;
    assert_eq!(records[1]["tidegate.reason"], "client_gone");
    assert_eq!(records[1]["tidegate.verdict"], "forwarded");
    // The connection goes on.
    let answer = client.ask(client.request("GET", "/v2/account").body(empty()).unwrap()).await;
    assert_eq!(answer.status(), 200);
}
