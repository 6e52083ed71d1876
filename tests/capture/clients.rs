//! Programs that nobody changed: what they may, they get unchanged; what they may not never reaches the API.

use crate::{api, expect, expect_refusal};
use anyhow::{Context as _, Result};
use test_case::test_case;
use tidegate_tests::{
    agent::CREATOR,
    client::{Client, TOKEN},
    scene::Scene,
};

#[test_case(Client::CurlHttp1; "curl http1")]
#[test_case(Client::CurlHttp2; "curl http2")]
#[test_case(Client::PythonRequests; "python requests")]
#[test_case(Client::PythonUrllib; "python urllib")]
#[test_case(Client::NodeFetch; "node fetch")]
#[test_case(Client::OpensslClient; "openssl s_client")]
fn an_allowed_read_returns_the_upstreams_bytes(client: Client) -> Result<()> {
    let scene = Scene::new()?;
    let line = client.request("GET", &api("/v2/droplets?page=1&per_page=2"), "")?;
    let direct = scene.ask_directly(&line)?;
    let before = scene.requests()?.len();

    let ran = scene.tidegate("clients")?.run(&line)?;
    let answer = ran.answer()?;
    assert_eq!((answer.status, answer.version.as_str()), (200, client.version()), "{answer:?}");
    assert!(answer.body == direct.body, "{answer:?} instead of {direct:?}");

    let requests = scene.requests()?;
    assert_eq!(requests.len(), before + 1, "{requests:#?}");
    let seen = requests.last().context("the upstream's log is empty")?;
    assert_eq!(seen.target, "/v2/droplets?page=1&per_page=2");
    assert_eq!(seen.authority.as_deref(), Some("api.digitalocean.com"));
    assert_eq!(seen.server_name.as_deref(), Some("api.digitalocean.com"));
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    for added in ["via", "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-tidegate-decision"] {
        assert_eq!(seen.header(added), None, "{added}");
    }

    let record = ran.outcome("GET /v2/droplets")?;
    expect(record, "allow", "forwarded", "scopes_allowed", Some(200))?;
    assert!(record.list("tidegate.scopes.required").contains(&"droplet:read"), "{record:?}");
    assert!(record.list("tidegate.scopes.missing").is_empty(), "{record:?}");
    assert_eq!(record.text("url.query"), "page=1&per_page=2");
    assert_eq!(record.text("network.protocol.version"), client.version());
    assert_eq!(record.text("server.address"), "api.digitalocean.com");
    assert_eq!(record.number("destination.port"), Some(443));
    assert_eq!(record.number("tidegate.bytes.out"), Some(answer.body.len() as u64));
    assert!(
        record.number("process.pid").is_some() && !record.text("tidegate.workload").is_empty(),
        "{record:?}"
    );
    Ok(())
}

#[test_case(Client::CurlHttp1; "curl http1")]
#[test_case(Client::CurlHttp2; "curl http2")]
#[test_case(Client::PythonRequests; "python requests")]
#[test_case(Client::PythonUrllib; "python urllib")]
#[test_case(Client::NodeFetch; "node fetch")]
#[test_case(Client::OpensslClient; "openssl s_client")]
fn a_refused_write_never_reaches_the_upstream(client: Client) -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("clients")?;
    let ran = tidegate.run(&client.request("DELETE", &api("/v2/droplets/3164444"), "")?)?;
    let named = ["droplet:delete", "test-read-only", ran.records.first().map_or("", workload)];
    expect_refusal(&ran.answer()?, 403, "forbidden", &named)?;
    let record = ran.outcome("DELETE /v2/droplets/3164444")?;
    expect(record, "deny", "refused", "missing_scope", Some(403))?;
    assert_eq!(record.list("tidegate.scopes.missing"), ["droplet:delete"]);

    let body = r#"{"name":"mine","size":"gpu-h100x8-640gb","region":"nyc3","image":"debian-12-x64"}"#;
    let ran = tidegate.run(&client.request("POST", &api("/v2/droplets"), body)?)?;
    expect_refusal(&ran.answer()?, 403, "forbidden", &["droplet:create"])?;
    expect(ran.outcome("POST /v2/droplets")?, "deny", "refused", "missing_scope", Some(403))?;

    let requests = scene.requests()?;
    assert!(requests.is_empty(), "{requests:#?}");
    Ok(())
}

fn workload(record: &tidegate_tests::audit::Record) -> &str {
    record.text("tidegate.workload")
}

#[test]
fn no_token_and_no_body_is_written_down() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("clients")?.policy("creator", CREATOR)?;
    let url = api(&format!("/v2/droplets?note={TOKEN}"));
    let body = format!(r#"{{"name":"body-marker","size":"s-1vcpu-1gb","user_data":"{TOKEN}"}}"#);
    let ran = tidegate.run(&Client::CurlHttp2.request("POST", &url, &body)?)?;
    assert_eq!(ran.answer()?.status, 202);
    let secret = TOKEN.strip_prefix("dop_v1_").context("the token's prefix")?;
    assert_eq!(ran.records.len(), 2, "{:#?}", ran.records);
    for record in &ran.records {
        let json = record.json();
        assert!(!json.contains(secret) && !json.contains("body-marker"), "{json}");
        assert_eq!(record.text("tidegate.token.type"), "dop", "{json}");
        assert!(!record.text("tidegate.token.fingerprint").is_empty(), "{json}");
    }
    assert!(!ran.finished.stderr.contains(secret), "{}", ran.finished.stderr);
    Ok(())
}
