//! Answers of which the policy does not show everything.

#[path = "filter/withheld.rs"]
mod withheld;

use super::{
    pieces::Pieces,
    upstream::{Canned, Speaks},
    world::{Answer, Client, Setting, World, empty},
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::{io::Write, time::Duration};
use test_case::{test_case, test_matrix};

const DATABASE: &str = "/v2/databases/9cc10173-e9ea-4176-9dbc-a4cee4c4ff30";
const SECRET: &str = "s3cr3t-of-the-database";
const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
const GZIP: (&str, &str) = ("content-encoding", "gzip");

/// Shows databases, and nothing that it takes another scope to see but the credentials.
const NO_CREDENTIALS: &str =
    r#"allow = ["database:read", "database:create", "vpc:read", "tag:read", "project:read"]"#;
const EVERYTHING: &str =
    r#"allow = ["database:read", "vpc:read", "tag:read", "project:read", "database:view_credentials"]"#;

fn whole() -> Vec<u8> {
    format!(
        r#"{{ "database": {{"id":"9cc10173", "connection":{{"host":"db.example.com","user":"doadmin",
        "password":"{SECRET}","port":25060}},"tags":[ "a" ] }} }}"#
    )
    .into_bytes()
}

fn shown() -> Value {
    json!({"database": {"id": "9cc10173", "connection": {"host": "db.example.com", "port": 25060}, "tags": ["a"]}})
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn canned(status: u16, fields: &[(&'static str, &str)], body: &[u8]) -> Canned {
    Canned {
        status,
        fields: fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        pieces: body.chunks(40_000).map(Bytes::copy_from_slice).collect(),
        stalls: false,
    }
}

async fn start(speaks: Speaks, policy: &'static str) -> World {
    World::start(Setting { speaks, policy, ..Setting::default() }).await
}

fn asking(client: &Client, method: &str) -> Request<Pieces> {
    client.request(method, DATABASE).header("x-test", "canned").body(empty()).unwrap()
}

fn assert_nothing_shows(answer: &Answer, records: &[Value]) {
    let text = format!("{answer:?} {records:?} {}", String::from_utf8_lossy(&answer.body));
    assert!(!text.contains(SECRET) && !text.contains("doadmin"), "{text}");
}

#[test_matrix([false, true], [Speaks::Http1, Speaks::Http2], [false, true])]
#[tokio::test]
async fn parts_that_the_policy_does_not_show_are_taken_out(is_http2: bool, speaks: Speaks, is_gzip: bool) {
    let world = start(speaks, NO_CREDENTIALS).await;
    let mut fields =
        vec![JSON, ("etag", "\"x\""), ("vary", "accept"), ("accept-ranges", "bytes"), ("x-request-id", "7")];
    let mut body = whole();
    if is_gzip {
        fields.push(GZIP);
        body = gzip(&body);
    }
    world.upstream.put(canned(200, &fields, &body));
    let mut client = world.client(is_http2).await;
    for _ in 0..2 {
        let request = client.request("GET", DATABASE).header("x-test", "canned");
        let request =
            request.header("accept-encoding", "br").header("range", "bytes=0-9").header("if-range", "\"x\"");
        let answer = client.ask(request.body(empty()).unwrap()).await;
        assert_eq!((answer.status(), answer.json()), (200, shown()));
        let headers = &answer.head.headers;
        assert_eq!(headers["content-length"], answer.body.len().to_string());
        assert_eq!(
            (&headers["vary"], &headers["x-request-id"]),
            (&"accept".parse().unwrap(), &"7".parse().unwrap())
        );
        for name in ["etag", "content-encoding", "transfer-encoding", "accept-ranges"] {
            assert!(!headers.contains_key(name), "{name}: {headers:?}");
        }
        assert_nothing_shows(&answer, &[]);
    }
    for seen in world.upstream.seen() {
        assert_eq!(seen.headers["accept-encoding"], "gzip, identity");
        assert!(!seen.headers.contains_key("range") && !seen.headers.contains_key("if-range"));
    }
    // Either connection is used again.
    assert_eq!(world.upstream.connections(), 1);
    let records = world.records(2).await;
    let length = shown().to_string().len();
    for record in &records {
        assert_eq!(
            record["tidegate.filtered"],
            json!(["/database/connection/password", "/database/connection/user"])
        );
        assert_eq!(
            (&record["tidegate.reason"], &record["tidegate.verdict"]),
            (&"scopes_allowed".into(), &"forwarded".into())
        );
        assert_eq!(record["http.response.status_code"], 200);
        assert!(record["tidegate.bytes.out"].as_u64().unwrap() as usize >= length);
    }
    assert!(!format!("{records:?}").contains(SECRET));
}

#[tokio::test]
async fn items_that_the_policy_does_not_show_are_taken_out() {
    let world = start(Speaks::Http2, r#"allow = ["project:read", "domain:read"]"#).await;
    let body = br#"{"resources":[{"urn":"do:droplet:1"},{"urn":"do:domain:example.com"},{"id":1}],"meta":{"total":3}}"#;
    world.upstream.put(canned(200, &[JSON], body));
    let mut client = world.client(true).await;
    let request = client.request("GET", "/v2/projects/4e1bfbc3/resources").header("x-test", "canned");
    let answer = client.ask(request.body(empty()).unwrap()).await;
    assert_eq!(answer.json(), json!({"resources": [{"urn": "do:domain:example.com"}], "meta": {"total": 3}}));
    assert_eq!(world.records(1).await[0]["tidegate.filtered"], json!(["/resources/*"]));
}

#[test_case(EVERYTHING; "a policy that shows everything")]
#[test_case("mode = \"dry-run\"\nallow = [\"database:read\"]"; "a policy in dry-run")]
#[tokio::test]
async fn an_answer_of_which_nothing_is_taken_streams_unchanged(policy: &'static str) {
    for is_http2 in [false, true] {
        let world = start(Speaks::Http1, policy).await;
        let body = gzip(&whole());
        let fields = [JSON, GZIP, ("etag", "\"x\""), ("accept-ranges", "bytes")];
        world.upstream.put(canned(200, &fields, &body));
        let mut client = world.client(is_http2).await;
        let request =
            client.request("GET", DATABASE).header("x-test", "canned").header("accept-encoding", "br");
        let answer = client.ask(request.header("range", "bytes=0-").body(empty()).unwrap()).await;
        assert!(answer.body == body);
        for (name, value) in fields {
            assert_eq!(answer.head.headers[name], value);
        }
        let seen = world.upstream.seen().remove(0);
        assert_eq!(
            (&seen.headers["accept-encoding"], &seen.headers["range"]),
            (&"br".parse().unwrap(), &"bytes=0-".parse().unwrap())
        );
        assert_eq!(world.records(1).await[0].get("tidegate.filtered"), None);
    }
}

#[tokio::test]
async fn the_dry_run_of_a_rule_shows_nothing_more() {
    let policy = "allow = [\"database:read\"]\n[[rule]]\neffect = \"deny\"\nmode = \"dry-run\"\n\
        operations = [\"databases_get_cluster\"]\n";
    let world = start(Speaks::Http1, policy).await;
    world.upstream.put(canned(200, &[JSON], &whole()));
    let mut client = world.client(false).await;
    let answer = client.ask(asking(&client, "GET")).await;
    assert_eq!(answer.status(), 200);
    let records = world.records(1).await;
    assert_nothing_shows(&answer, &records);
    assert_eq!(records[0]["tidegate.verdict"], "would_refuse");
    assert!(records[0]["tidegate.filtered"].as_array().unwrap().len() >= 2);
}

#[test_case(404; "an error")]
#[test_case(500; "a fault")]
#[test_case(300; "a choice")]
#[tokio::test]
async fn json_of_any_status_is_filtered(status: u16) {
    let world = start(Speaks::Http1, NO_CREDENTIALS).await;
    world.upstream.put(canned(status, &[JSON, ("server", "cloudflare")], &whole()));
    let mut client = world.client(false).await;
    let answer = client.ask(asking(&client, "GET")).await;
    assert_eq!((answer.status(), answer.json()), (status, shown()));
}

#[tokio::test]
async fn an_answer_without_the_parts_is_the_same_to_the_byte() {
    let world = start(Speaks::Http2, NO_CREDENTIALS).await;
    let body = b" {\"id\" : \"not_found\",\r\n\"x\":1.0e0}\n";
    world.upstream.put(canned(404, &[JSON], body));
    let mut client = world.client(true).await;
    let answer = client.ask(asking(&client, "GET")).await;
    assert_eq!((answer.status(), &answer.body[..]), (404, &body[..]));
    assert_eq!(world.records(1).await[0].get("tidegate.filtered"), None);
}

#[test_matrix([false, true], [Speaks::Http1, Speaks::Http2])]
#[tokio::test]
async fn a_head_tells_nothing_of_the_whole_body(is_http2: bool, speaks: Speaks) {
    let world = start(speaks, NO_CREDENTIALS).await;
    let fields = [JSON, ("content-length", "4711"), ("etag", "\"x\""), ("x-request-id", "7")];
    world.upstream.put(canned(200, &fields, b""));
    let mut client = world.client(is_http2).await;
    for _ in 0..2 {
        let answer = client.ask(asking(&client, "HEAD")).await;
        assert_eq!((answer.status(), answer.body.len()), (200, 0));
        assert_eq!(answer.head.headers["x-request-id"], "7");
        let headers = &answer.head.headers;
        assert!(!headers.contains_key("content-length") && !headers.contains_key("etag"), "{headers:?}");
    }
    for record in world.records(2).await {
        assert_eq!(record["tidegate.reason"], "scopes_allowed");
    }
}

#[test_case(304, &[("etag", "\"x\"")]; "not modified")]
#[test_case(204, &[]; "no content")]
#[test_case(200, &[("content-length", "0"), ("content-type", "text/yaml")]; "an empty body")]
#[test_case(202, &[JSON]; "an empty body of no length")]
#[tokio::test]
async fn what_has_no_body_passes(status: u16, fields: &[(&'static str, &str)]) {
    for is_http2 in [false, true] {
        let world = start(Speaks::Http1, NO_CREDENTIALS).await;
        world.upstream.put(canned(status, fields, b""));
        let mut client = world.client(is_http2).await;
        let answer = client.ask(asking(&client, "GET")).await;
        assert_eq!((answer.status(), answer.body.len()), (status, 0));
        assert!(!answer.head.headers.contains_key("etag"));
        assert_eq!(world.records(1).await[0]["tidegate.reason"], "scopes_allowed");
    }
}

#[tokio::test]
async fn chunks_without_a_byte_pass() {
    let raw =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let world = start(Speaks::Raw(raw.to_vec()), NO_CREDENTIALS).await;
    for is_http2 in [false, true] {
        let mut client = world.client(is_http2).await;
        let answer = client.ask(asking(&client, "GET")).await;
        assert_eq!((answer.status(), answer.body.len()), (200, 0));
    }
    for record in world.records(2).await {
        assert_eq!(
            (&record["tidegate.reason"], &record["tidegate.bytes.out"]),
            (&"scopes_allowed".into(), &0.into())
        );
    }
}

#[tokio::test]
async fn a_page_of_the_edge_passes() {
    let world = start(Speaks::Http1, NO_CREDENTIALS).await;
    let fields = [("content-type", "text/html; charset=UTF-8"), ("server", "cloudflare"), ("etag", "\"x\"")];
    world.upstream.put(canned(403, &fields, b"<html>bot?</html>"));
    let mut client = world.client(false).await;
    let answer = client.ask(asking(&client, "GET")).await;
    assert_eq!((answer.status(), &answer.body[..]), (403, &b"<html>bot?</html>"[..]));
    assert_eq!(answer.head.headers["etag"], "\"x\"");
    assert_eq!(world.records(1).await[0]["tidegate.reason"], "edge_refused");
}

#[test_matrix([false, true], [Speaks::Http1, Speaks::Http2])]
#[tokio::test]
async fn a_large_answer_comes_whole(is_http2: bool, speaks: Speaks) {
    let world = start(speaks, NO_CREDENTIALS).await;
    let long = "a".repeat(3 << 20);
    let body = json!({"database": {"connection": {"password": SECRET}, "description": long}}).to_string();
    world.upstream.put(canned(200, &[JSON], body.as_bytes()));
    let mut client = world.client(is_http2).await;
    let answer = client.ask(asking(&client, "GET")).await;
    assert!(answer.json() == json!({"database": {"connection": {}, "description": long}}));
    assert_eq!(world.records(1).await[0]["tidegate.bytes.out"], answer.body.len());
}

#[tokio::test]
async fn an_answer_that_stalls_is_given_up_before_anything_shows() {
    let body_idle_timeout = Duration::from_millis(300);
    let setting = Setting { policy: NO_CREDENTIALS, body_idle_timeout, ..Setting::default() };
    let world = World::start(setting).await;
    world.upstream.put(Canned { stalls: true, ..canned(200, &[JSON], b"{\"database\":") });
    for is_http2 in [false, true] {
        let mut client = world.client(is_http2).await;
        let answer = client.ask(asking(&client, "GET")).await;
        assert_eq!((answer.status(), &answer.json()["id"]), (504, &"gateway_timeout".into()));
    }
    for record in world.records(2).await {
        assert_eq!(
            (&record["tidegate.reason"], &record["tidegate.verdict"]),
            (&"upstream_timeout".into(), &"forwarded".into())
        );
    }
}

#[tokio::test]
async fn a_client_that_goes_away_meanwhile_is_recorded_once() {
    let world = start(Speaks::Http1, NO_CREDENTIALS).await;
    world.upstream.put(Canned { stalls: true, ..canned(200, &[JSON], b"{\"database\":") });
    let mut client = world.client(true).await;
    let request = asking(&client, "GET");
    let sent = tokio::time::timeout(Duration::from_millis(300), client.send(request)).await;
    assert!(sent.is_err(), "it was answered");
    let record = world.records(1).await.remove(0);
    assert_eq!(
        (&record["tidegate.reason"], &record["tidegate.verdict"]),
        (&"client_gone".into(), &"forwarded".into())
    );
    assert_eq!(record["http.response.status_code"], 200);
}

#[tokio::test]
async fn a_client_that_does_not_take_what_is_left_loses_it() {
    let body_idle_timeout = Duration::from_millis(300);
    let setting = Setting { policy: NO_CREDENTIALS, body_idle_timeout, ..Setting::default() };
    let world = World::start(setting).await;
    let body = json!({"database": {"description": "a".repeat(3 << 20)}}).to_string();
    world.upstream.put(canned(200, &[JSON], body.as_bytes()));
    let (stream, served) = world.raw(true);
    let mut client = Client::with_window(stream, 1000).await;
    let request = asking(&client, "GET");
    let answer = client.send(request).await.unwrap();
    let served = tokio::time::timeout(Duration::from_secs(10), served).await.unwrap().unwrap();
    assert_eq!(served.requests, 1);
    let record = world.records(1).await.remove(0);
    assert_eq!(record["tidegate.reason"], "client_gone");
    assert!(record["tidegate.bytes.out"].as_u64().unwrap() < 1 << 20);
    assert!(answer.into_body().collect().await.is_err());
}
