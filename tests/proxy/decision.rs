//! What is decided, recorded and refused before anything leaves.

use super::{
    pieces::{Last, Pieces},
    upstream::Speaks,
    world::{HOST, Setting, TOKEN, World, body, empty},
};
use bytes::Bytes;
use http::HeaderValue;
use test_case::{test_case, test_matrix};
use tidegate::{config::OnAuditFailure, session::Treatment};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test_matrix([false, true], [Speaks::Http1, Speaks::Http2])]
#[tokio::test]
async fn a_refused_write_never_reaches_the_upstream(is_http2: bool, speaks: Speaks) {
    let world = World::start(Setting { speaks, ..Setting::default() }).await;
    let mut client = world.client(is_http2).await;
    let request = client.request("DELETE", "/v2/droplets/3164444?x=%41");
    let answer = client.ask(request.body(body(b"{\"a\":1}")).unwrap()).await;
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.head.headers["content-type"], "application/json");
    assert_eq!(answer.head.headers["x-tidegate-decision"], "deny; reason=missing_scope");
    let record = world.records(1).await.remove(0);
    assert_eq!(
        answer.json(),
        serde_json::json!({
            "id": "forbidden",
            "message": "tidegate: workload \"run\" may not call droplets_destroy (DELETE /v2/droplets/3164444): \
                        missing scope droplet:delete; of droplet this policy allows api:read; policy \"test\", rule default",
            "request_id": record["tidegate.request.id"],
        })
    );
    for (key, value) in [
        ("tidegate.phase", "outcome"),
        ("tidegate.decision", "deny"),
        ("tidegate.verdict", "refused"),
        ("tidegate.reason", "missing_scope"),
        ("tidegate.rule", "default"),
    ] {
        assert_eq!(record[key], value, "{key}");
    }
    assert_eq!(record["tidegate.scopes.missing"], serde_json::json!(["droplet:delete"]));
    assert_eq!(record["http.response.status_code"], 403);
    assert_eq!(record["tidegate.bytes.out"], answer.body.len());

    // The connection goes on, since the refused body was small.
    let request = client.request("GET", "/v2/droplets").body(empty()).unwrap();
    assert_eq!(client.ask(request).await.status(), 200);
    assert_eq!(world.upstream.seen().len(), 1);
    assert_eq!(world.upstream.connections(), 1);
}

#[test_case(false)]
#[test_case(true)]
#[tokio::test]
async fn a_refusal_does_not_wait_for_an_endless_body(is_http2: bool) {
    let world = World::start(Setting::default()).await;
    let mut client = world.client(is_http2).await;
    let endless = Pieces::new([Bytes::from(vec![0; 10_000])], Last::Repeat);
    let request = client.request("DELETE", "/v2/droplets/1").body(endless).unwrap();
    let asked = client.ask(request);
    let answer = tokio::time::timeout(std::time::Duration::from_secs(5), asked).await.unwrap();
    assert_eq!(answer.status(), 403);
    world.records(1).await;
    assert_eq!(world.upstream.connections(), 0);
}

#[test_matrix([false, true], [false, true])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_in_the_log_before_the_upstream_sees_it(is_http2: bool, sync: bool) {
    let world = World::start(Setting { sync, ..Setting::default() }).await;
    let mut client = world.client(is_http2).await;
    let request = client.request("POST", "/v2/domains").header("x-test", "echo");
    let answer = client.ask(request.body(body(b"{\"name\":\"a\"}")).unwrap()).await;
    assert_eq!(answer.status(), 201);
    assert_eq!(*world.lines_at_upstream.lock().unwrap(), [1]);
    let records = world.records(2).await;
    let phases: Vec<_> = records.iter().map(|record| record["tidegate.phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["intent", "outcome"]);
    assert_eq!(records[0]["tidegate.request.id"], records[1]["tidegate.request.id"]);
    assert_eq!(records[0].get("tidegate.verdict"), None);
    assert_eq!(records[0]["tidegate.decision"], "allow");
    assert_eq!(records[0]["tidegate.operation"], "domains_create");
    assert_eq!(records[1]["tidegate.bytes.in"], 12);
}

#[test_case("POST", OnAuditFailure::RefuseWrites, &[503, 503]; "writes")]
#[test_case("GET", OnAuditFailure::RefuseWrites, &[200, 200]; "reads go on")]
#[test_case("GET", OnAuditFailure::RefuseAll, &[200, 503]; "reads too, once the failure is known")]
#[tokio::test]
async fn a_log_that_cannot_be_written_refuses(method: &str, on_failure: OnAuditFailure, statuses: &[u16]) {
    let setting = Setting { audit_path: Some("/dev/full"), on_failure, ..Setting::default() };
    let world = World::start(setting).await;
    let mut client = world.client(false).await;
    for status in statuses {
        let target = if method == "POST" { "/v2/domains" } else { "/v2/account" };
        let answer = client.ask(client.request(method, target).body(empty()).unwrap()).await;
        assert_eq!(answer.status(), *status);
        if *status == 503 {
            assert_eq!(answer.json()["id"], "service_unavailable");
            assert_eq!(answer.head.headers["x-tidegate-decision"], "allow; reason=audit_unavailable");
        }
    }
    let forwarded = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(world.upstream.seen().len(), forwarded);
}

#[tokio::test]
async fn dry_run_forwards_and_records_what_it_would_refuse() {
    let policy = "mode = \"dry-run\"\nallow = [\"api:read\"]";
    let world = World::start(Setting { policy, ..Setting::default() }).await;
    let mut client = world.client(false).await;
    let request = client.request("DELETE", "/v2/droplets/1").header("x-test", "status=204");
    assert_eq!(client.ask(request.body(empty()).unwrap()).await.status(), 204);
    assert_eq!(world.upstream.seen().len(), 1);
    let records = world.records(2).await;
    assert_eq!(records[0]["tidegate.phase"], "intent");
    assert_eq!(records[1]["tidegate.decision"], "deny");
    assert_eq!(records[1]["tidegate.verdict"], "would_refuse");
    assert_eq!(records[1]["tidegate.reason"], "missing_scope");
}

#[test_case("GET", "/v2/droplets/..%2Faccount", &[], "path_not_canonical"; "path")]
#[test_case("GET", "/v2/nothing/here", &[], "unclassified"; "not in the catalogue")]
#[test_case("POST", "/v2/domains", &[("x-http-method-override", "DELETE")], "method_override"; "override")]
#[test_case("TRACE", "/v2/droplets", &[], "method_refused"; "method")]
#[test_case("GET", "/v2/droplets", &[("connection", "authorization")], "malformed_request"; "connection names the token")]
#[test_case("GET", "/v2/droplets", &[("connection", "upgrade"), ("upgrade", "websocket")], "method_refused"; "upgrade")]
#[tokio::test]
async fn what_cannot_be_judged_is_refused(method: &str, target: &str, fields: &[(&str, &str)], reason: &str) {
    let world = World::start(Setting::default()).await;
    let mut client = world.client(false).await;
    let mut request = client.request(method, target);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let answer = client.ask(request.body(empty()).unwrap()).await;
    assert!([400, 403].contains(&answer.status()));
    let record = world.records(1).await.remove(0);
    assert_eq!(
        (&record["tidegate.reason"], &record["tidegate.verdict"]),
        (&reason.into(), &"refused".into())
    );
    assert_eq!(record["tidegate.decision"], "deny");
    assert_eq!(world.upstream.connections(), 0);
}

/// `_method` in a form's body would make a POST that is allowed a DELETE that is not.
#[test_matrix([Some("application/x-www-form-urlencoded"), Some("multipart/form-data; boundary=x"), None], [false, true])]
#[tokio::test]
async fn a_form_that_may_hide_another_method_goes_nowhere(kind: Option<&'static str>, is_http2: bool) {
    let world = World::start(Setting::default()).await;
    let mut client = world.client(is_http2).await;
    let mut request = client.request("POST", "/v2/domains").body(body(b"_method=DELETE&name=a")).unwrap();
    match kind {
        Some(kind) => drop(request.headers_mut().insert("content-type", HeaderValue::from_static(kind))),
        None => drop(request.headers_mut().remove("content-type")),
    }
    let answer = client.ask(request).await;
    assert_eq!(answer.status(), 400);
    assert_eq!(world.records(1).await[0]["tidegate.reason"], "method_override");
    assert_eq!(world.upstream.connections(), 0);

    // JSON that a client calls a form, or nothing at all, as curl and others do by themselves.
    let mut client = world.client(is_http2).await;
    for sent in [&br#"{"name":"example.com"}"#[..], b""] {
        let request = client.request("POST", "/v2/domains");
        let mut request = request.body(if sent.is_empty() { empty() } else { body(sent) }).unwrap();
        match kind.filter(|kind| !kind.starts_with("multipart")) {
            Some(kind) => drop(request.headers_mut().insert("content-type", HeaderValue::from_static(kind))),
            None => drop(request.headers_mut().remove("content-type")),
        }
        assert_eq!(client.ask(request).await.status(), 200);
    }
}

#[test_case(Treatment::Protected)]
#[test_case(Treatment::Neighbour)]
#[tokio::test]
async fn another_host_than_the_connections_is_misdirected(treatment: Treatment) {
    let world = World::start(Setting { treatment, ..Setting::default() }).await;
    let mut client = world.client(false).await;
    let mut request = client.request("GET", "/v2/droplets").body(empty()).unwrap();
    request.headers_mut().insert("host", HeaderValue::from_static("registry.digitalocean.com"));
    let answer = client.ask(request).await;
    assert_eq!((answer.status(), &answer.json()["id"]), (421, &"misdirected_request".into()));
    let mut client = world.client(true).await;
    let mut request = client.request("GET", "/v2/droplets").body(empty()).unwrap();
    request.headers_mut().insert("host", HeaderValue::from_static("evil.example"));
    assert_eq!(client.ask(request).await.status(), 421);
    for record in world.records(2).await {
        assert_eq!(record["tidegate.reason"], "authority_mismatch");
    }
    assert_eq!(world.upstream.connections(), 0);
}

#[tokio::test]
async fn a_neighbour_passes_unclassified_and_unchanged() {
    let world = World::start(Setting { treatment: Treatment::Neighbour, ..Setting::default() }).await;
    let mut client = world.client(false).await;
    let request = client.request("PUT", "/v2//a%2Fb/../c;d?e=%zz").header("x-test", "echo");
    assert_eq!(client.ask(request.body(body(b"blob")).unwrap()).await.status(), 201);
    let seen = world.upstream.seen().remove(0);
    assert_eq!(seen.uri.path_and_query().unwrap().as_str(), "/v2//a%2Fb/../c;d?e=%zz");
    let records = world.records(2).await;
    assert_eq!(records[0]["tidegate.phase"], "intent");
    assert_eq!(records[1]["tidegate.verdict"], "passed");
    assert_eq!(records[1]["tidegate.reason"], "neighbour_host");
    assert_eq!(records[1].get("tidegate.operation"), None);
}

#[tokio::test]
async fn an_edge_page_is_told_from_a_decision_and_fields_of_the_path_go() {
    let world = World::start(Setting::default()).await;
    let mut client = world.client(false).await;
    let request = client.request("GET", "/v2/droplets").header("x-test", "edge").body(empty()).unwrap();
    let answer = client.ask(request).await;
    assert_eq!((answer.status(), &answer.body[..]), (403, &b"<html>bot?</html>"[..]));
    let request = client.request("GET", "/v2/droplets").header("x-test", "fields").body(empty()).unwrap();
    let answer = client.ask(request).await;
    assert_eq!(answer.head.headers["ratelimit-remaining"], "7");
    assert!(!answer.head.headers.contains_key("alt-svc"));
    assert!(!answer.head.headers.contains_key("x-tidegate-decision"));
    let record = world.records(2).await.remove(0);
    assert_eq!(record["tidegate.reason"], "edge_refused");
    assert_eq!(
        (&record["tidegate.decision"], &record["tidegate.verdict"]),
        (&"allow".into(), &"forwarded".into())
    );
}

#[tokio::test]
async fn a_refusal_comes_instead_of_100_continue() {
    let world = World::start(Setting::default()).await;
    let head = format!(
        "DELETE /v2/droplets/1 HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    );
    let answer = world.exchange(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    world.records(1).await;
}

#[tokio::test]
async fn an_allowed_body_is_asked_for_after_the_decision() {
    let world = World::start(Setting::default()).await;
    let (mut stream, _) = world.raw(false);
    let head = format!(
        "POST /v2/domains HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nX-Test: echo\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(world.records(1).await[0]["tidegate.phase"], "intent");
    stream.write_all(b"blob").await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 201");
    assert!(!world.upstream.seen()[0].headers.contains_key("expect"));
    assert_eq!(world.upstream.seen()[0].body.as_deref(), Some(&b"blob"[..]));
}

#[tokio::test]
async fn a_token_never_reaches_the_log() {
    let world = World::start(Setting::default()).await;
    let mut client = world.client(false).await;
    let request = client.request("GET", &format!("/v2/account?token={TOKEN}")).header("user-agent", TOKEN);
    client.ask(request.body(empty()).unwrap()).await;
    let text = world.records(1).await[0].to_string();
    assert!(!text.contains(&TOKEN[10..]), "{text}");
}
