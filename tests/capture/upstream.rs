//! Upstreams that are not who they claim to be, late, broken or gone.

use crate::{api, expect, expect_refusal};
use anyhow::Result;
use std::{net::IpAddr, time::Instant};
use test_case::test_case;
use tidegate_tests::{
    client,
    netns::addresses::{API_HTTP1, API_HTTP2, API_NAME, IMPOSTOR, MUTE, NOBODY},
    scene::Scene,
    standin::pattern,
};

/// A curl of the API's name at another address.
fn curl_at(address: IpAddr, port: u16, options: &[&str]) -> Vec<String> {
    let to = format!("::{address}:{port}");
    client::curl(&[&["--connect-to", &to], options].concat(), &api("/v2/account"), "")
}

#[test_case(IMPOSTOR, 443, "upstream_not_host"; "a certificate of an unknown authority")]
#[test_case(IMPOSTOR, 8443, "upstream_not_host"; "a certificate for another name")]
fn an_upstream_that_is_not_the_api_is_a_bad_gateway(address: IpAddr, port: u16, reason: &str) -> Result<()> {
    let scene = Scene::new()?;
    let ran = scene.tidegate("upstream")?.run(&curl_at(address, port, &[]))?;
    let answer = ran.answer()?;
    let id = answer.json()?;
    expect_refusal(&answer, 502, id.get("id").and_then(|id| id.as_str()).unwrap_or_default(), &[])?;
    expect(ran.outcome("GET /v2/account")?, "allow", "refused", reason, Some(502))?;
    assert!(scene.requests()?.is_empty());
    Ok(())
}

#[test]
fn an_address_where_nobody_listens_gives_way_to_the_agents_own_answers() -> Result<()> {
    let scene = Scene::new()?;
    let line = curl_at(NOBODY, 443, &[]);
    let ran = scene.tidegate("moved")?.run(&line)?;
    assert_eq!(ran.answer()?.status, 200);

    scene.world.set_names(&[(NOBODY, API_NAME)])?;
    let ran = scene.tidegate("gone")?.run(&line)?;
    expect_refusal(&ran.answer()?, 502, "bad_gateway", &[])?;
    expect(ran.outcome("GET /v2/account")?, "allow", "refused", "upstream_unreachable", Some(502))
}

#[test]
fn a_late_answer_is_a_gateway_timeout() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("upstream")?.set("upstream.response_timeout", "\"1s\"")?;
    let started = Instant::now();
    let ran = tidegate.run(&client::curl(&[], &api("/v2/account?standin_delay_ms=20000"), ""))?;
    assert_eq!(ran.answer()?.status, 504);
    assert!(started.elapsed().as_secs() < 15, "{:?}", started.elapsed());
    expect(ran.outcome("GET /v2/account")?, "allow", "forwarded", "upstream_timeout", Some(504))
}

#[test]
fn an_upstream_that_never_says_a_word_is_given_up() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("upstream")?.set("upstream.connect_timeout", "\"1s\"")?;
    let started = Instant::now();
    let ran = tidegate.run(&curl_at(MUTE, 443, &[]))?;
    let status = ran.answer()?.status;
    assert!(status == 502 || status == 504, "{status}");
    assert!(started.elapsed().as_secs() < 15, "{:?}", started.elapsed());
    assert_eq!(ran.outcome("GET /v2/account")?.verdict(), "refused");
    Ok(())
}

#[test]
fn a_broken_answer_is_not_passed_off_as_whole() -> Result<()> {
    let scene = Scene::new()?;
    for (number, version) in ["--http1.1", "--http2"].into_iter().enumerate() {
        let line = client::curl(&[version], &api("/v2/account?standin_break=5000"), "");
        let ran = scene.tidegate(&format!("upstream-{number}"))?.run(&line)?;
        assert!(!ran.finished.status.success(), "{ran:?}");
        assert!(pattern(5000).starts_with(&ran.finished.stdout), "{} bytes", ran.finished.stdout.len());
        assert_eq!(ran.outcome("GET /v2/account")?.reason(), "upstream_failed");
    }
    Ok(())
}

#[test]
fn a_page_of_the_edge_is_passed_on_and_told_apart() -> Result<()> {
    let scene = Scene::new()?;
    let ran =
        scene.tidegate("upstream")?.run(&client::curl(&[], &api("/v2/account?standin_page=403"), ""))?;
    let answer = ran.answer()?;
    assert!(answer.status == 403 && answer.text().contains("Cloudflare"), "{answer:?}");
    expect(ran.outcome("GET /v2/account")?, "allow", "forwarded", "edge_refused", Some(403))
}

#[test_case(API_HTTP1, "--http1.1"; "http1 over http1")]
#[test_case(API_HTTP1, "--http2"; "http2 over http1")]
#[test_case(API_HTTP2, "--http1.1"; "http1 over http2")]
#[test_case(API_HTTP2, "--http2"; "http2 over http2")]
fn client_and_upstream_need_not_speak_the_same_version(address: IpAddr, version: &str) -> Result<()> {
    let scene = Scene::new()?;
    let ran = scene.tidegate("upstream")?.run(&curl_at(address, 443, &[version]))?;
    let answer = ran.answer()?;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.text().contains("sammy@example.com"), "{answer:?}");
    expect(ran.outcome("GET /v2/account")?, "allow", "forwarded", "scopes_allowed", Some(200))
}
