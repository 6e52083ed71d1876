//! What is done to answers and bodies on their way: nothing, but for what is named here.

use crate::{api, expect, expect_refusal, printed};
use anyhow::{Context as _, Result};
use test_case::test_case;
use tidegate_tests::{agent::CREATOR, client, scene::Scene, standin::pattern};

/// Its one write is of an operation that no body decides, so that bodies stream.
const EDITOR: &str = "allow = [\"domain:update\"]";

#[test]
fn only_refusals_carry_the_decision_and_no_answer_points_to_http3() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("answers")?;
    let head = |method: &str| -> Result<String> {
        let line = client::curl(&["--include", "--request", method], &api("/v2/droplets/3164444"), "");
        Ok(tidegate.run(&line)?.answer()?.text().to_lowercase())
    };
    let allowed = head("GET")?;
    assert!(allowed.contains("ratelimit-limit: 5000") && allowed.contains("x-request-id: "), "{allowed}");
    assert!(!allowed.contains("alt-svc") && !allowed.contains("x-tidegate-decision"), "{allowed}");
    let refused = head("DELETE")?;
    assert!(refused.contains("x-tidegate-decision: "), "{refused}");
    Ok(())
}

#[test]
fn a_write_is_recorded_before_and_after() -> Result<()> {
    let scene = Scene::new()?;
    let body = r#"{"name":"made","size":"s-1vcpu-1gb","region":"nyc3","image":"debian-12-x64"}"#;
    let tidegate = scene.tidegate("answers")?.policy("creator", CREATOR)?;
    let ran = tidegate.run(&client::curl(&[], &api("/v2/droplets"), body))?;
    assert_eq!(ran.answer()?.status, 202);
    let [intent, outcome] = ran.records.as_slice() else { panic!("{:#?}", ran.records) };
    assert_eq!((intent.phase(), outcome.phase()), ("intent", "outcome"));
    assert_eq!(intent.text("tidegate.request.id"), outcome.text("tidegate.request.id"));
    assert_eq!((intent.decision(), intent.verdict()), ("allow", ""));
    expect(outcome, "allow", "forwarded", "scopes_allowed", Some(202))?;
    assert_eq!(outcome.number("tidegate.bytes.in"), Some(body.len() as u64));
    Ok(())
}

#[test]
fn a_dry_run_forwards_what_it_would_refuse() -> Result<()> {
    let scene = Scene::new()?;
    let policy = "mode = \"dry-run\"\nallow = [\"api:read\"]\n";
    let tidegate = scene.tidegate("answers")?.policy("trial", policy)?;
    let line = client::curl(&["--request", "DELETE"], &api("/v2/droplets/3164444"), "");
    let ran = tidegate.run(&line)?;
    assert_eq!(ran.answer()?.status, 204);
    let record = ran.outcome("DELETE /v2/droplets/3164444")?;
    expect(record, "deny", "would_refuse", "missing_scope", Some(204))?;
    assert_eq!(scene.requests()?.len(), 1);
    Ok(())
}

#[test_case("--http1.1"; "http1")]
#[test_case("--http2"; "http2")]
fn a_long_answer_arrives_whole(version: &str) -> Result<()> {
    const LENGTH: usize = 20_000_003;
    let scene = Scene::new()?;
    let url = api(&format!("/v2/droplets?standin_bytes={LENGTH}"));
    let ran = scene.tidegate("answers")?.run(&client::curl(&[version], &url, ""))?;
    let answer = ran.answer()?;
    assert!(answer.body == pattern(LENGTH), "{} bytes", answer.body.len());
    assert_eq!(ran.outcome("GET /v2/droplets")?.number("tidegate.bytes.out"), Some(LENGTH as u64));
    Ok(())
}

#[test_case("--http1.1"; "http1")]
#[test_case("--http2"; "http2")]
fn a_long_body_arrives_whole(version: &str) -> Result<()> {
    const LENGTH: usize = 5_000_003;
    let scene = Scene::new()?;
    let body = scene.world.write("body", pattern(LENGTH))?;
    let url = api("/v2/domains/example.com/records?standin_echo=1");
    let tidegate = scene.tidegate("answers")?.policy("editor", EDITOR)?;
    let ran = tidegate.run(&client::curl(&[version], &url, &format!("@{}", body.display())))?;
    let answer = ran.answer()?;
    assert!(answer.body == pattern(LENGTH), "{} bytes", answer.body.len());
    let requests = scene.requests()?;
    let request = requests.first().context("no request arrived")?;
    assert_eq!((request.body_bytes, request.complete), (Some(LENGTH as u64), true));
    assert_eq!(
        ran.outcome("POST /v2/domains/example.com/records")?.number("tidegate.bytes.in"),
        Some(LENGTH as u64)
    );
    Ok(())
}

#[test_case("--http1.1"; "http1")]
#[test_case("--http2"; "http2")]
fn a_body_that_decides_and_is_too_large_is_refused(version: &str) -> Result<()> {
    let scene = Scene::new()?;
    let body = scene.world.write("body", pattern(5_000_003))?;
    let tidegate = scene.tidegate("answers")?.policy("creator", CREATOR)?;
    let ran =
        tidegate.run(&client::curl(&[version], &api("/v2/droplets"), &format!("@{}", body.display())))?;
    expect_refusal(&ran.answer()?, 413, "payload_too_large", &["1048576"])?;
    expect(ran.outcome("POST /v2/droplets")?, "deny", "refused", "body_too_large", Some(413))?;
    assert!(scene.requests()?.is_empty());
    Ok(())
}

/// The body goes up in pieces, and each must have come back before the next is sent.
#[test]
fn bodies_stream_both_ways_at_once() -> Result<()> {
    const SCRIPT: &str = r#"
import socket, ssl, sys
connection = ssl.create_default_context().wrap_socket(
    socket.create_connection(("api.digitalocean.com", 443), timeout=20), server_hostname="api.digitalocean.com")
connection.sendall(b"POST /v2/domains/example.com/records?standin_echo=1 HTTP/1.1\r\nHost: api.digitalocean.com\r\n"
                   b"Authorization: Bearer some-token\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n")
received = b""
for index in range(3):
    connection.sendall(b"piece %04d" % index)
    while not received.endswith(b"piece %04d" % index):
        piece = connection.recv(4096)
        assert piece, received
        received += piece
print("streamed")
"#;
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("answers")?.policy("editor", EDITOR)?;
    assert_eq!(printed(&tidegate.run(&["python3", "-c", SCRIPT])?)?, "streamed\n");
    Ok(())
}

#[test]
fn events_arrive_one_by_one() -> Result<()> {
    const SCRIPT: &str = r#"
import sys, time, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"Authorization": "Bearer some-token"})
answer = urllib.request.urlopen(request, timeout=20)
times = [time.monotonic() for line in answer if line.startswith(b"data:")]
print(len(times), times[-1] - times[0] > 0.5)
"#;
    let scene = Scene::new()?;
    let url = api("/v2/droplets?standin_events=20");
    let ran = scene.tidegate("answers")?.run(&["python3", "-c", SCRIPT, &url])?;
    assert_eq!(printed(&ran)?, "20 True\n");
    Ok(())
}

#[test]
fn a_connection_is_kept_for_many_requests_and_each_is_decided() -> Result<()> {
    const SCRIPT: &str = r#"
import http.client
connection = http.client.HTTPSConnection("api.digitalocean.com", timeout=20)
for number, method in enumerate(("GET", "DELETE", "GET", "DELETE", "GET")):
    connection.request(method, f"/v2/droplets/{3164444 + number}", headers={"Authorization": "Bearer some-token"})
    answer = connection.getresponse()
    answer.read()
    print(method, answer.status)
"#;
    let scene = Scene::new()?;
    let ran = scene.tidegate("answers")?.run(&["python3", "-c", SCRIPT])?;
    assert_eq!(printed(&ran)?, "GET 200\nDELETE 403\nGET 404\nDELETE 403\nGET 404\n");
    for (number, decision) in ["allow", "deny", "allow", "deny", "allow"].into_iter().enumerate() {
        let method = if decision == "allow" { "GET" } else { "DELETE" };
        let record = ran.outcome(&format!("{method} /v2/droplets/{}", 3_164_444 + number))?;
        assert_eq!(record.decision(), decision);
    }
    assert_eq!(scene.requests()?.len(), 3);
    Ok(())
}

#[test]
fn a_request_that_can_be_read_in_two_ways_is_refused() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("answers")?;
    let call = |options: &[&str], path: &str| -> Result<(u16, String)> {
        let ran = tidegate.run(&client::curl(options, &api(path), ""))?;
        let reason = ran.records.last().map(|record| record.reason().to_owned());
        Ok((ran.answer()?.status, reason.unwrap_or_default()))
    };
    assert_eq!(call(&["--path-as-is"], "/v2/account/../droplets")?, (400, "path_not_canonical".to_owned()));
    assert_eq!(call(&[], "/v2//droplets")?, (400, "path_not_canonical".to_owned()));
    let smuggled = ["--http1.1", "--header", "X-HTTP-Method-Override: DELETE"];
    let (status, reason) = call(&smuggled, "/v2/droplets/3164444")?;
    assert!((400..500).contains(&status) && reason == "method_override", "{status} {reason}");
    let unknown = call(&[], "/v2/no_such_thing")?;
    assert_eq!(unknown, (403, "unclassified".to_owned()));
    assert!(scene.requests()?.is_empty());
    Ok(())
}

#[test]
fn another_host_in_the_head_is_misdirected() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("answers")?;
    for version in ["--http1.1", "--http2"] {
        let line = client::curl(&[version, "--header", "Host: other.example"], &api("/v2/account"), "");
        let ran = tidegate.run(&line)?;
        let answer = ran.answer()?;
        expect_refusal(&answer, 421, answer.json()?["id"].as_str().unwrap_or_default(), &[])?;
        expect(ran.records.last().context("no record")?, "deny", "refused", "authority_mismatch", Some(421))?;
    }
    assert!(scene.requests()?.is_empty());
    Ok(())
}
