//! Programs that reach the API through an HTTP proxy are held to their policy as any other.

use crate::{api, expect, expect_refusal, printed};
use anyhow::Result;
use test_case::test_case;
use tidegate_tests::{
    agent::{Ran, Tidegate},
    client::{self, Client},
    netns::addresses::{
        API, API_NAME, NAMES, OTHER_NAME, PROXY, PROXY_AUTHORIZATION, PROXY_V6, REGISTRY_NAME,
    },
    scene::Scene,
};

/// The proxy for everybody.
fn proxy() -> String {
    format!("http://{PROXY}:3128")
}

/// tidegate with that proxy in the environment.
fn behind_proxy<'s>(scene: &'s Scene, name: &str) -> Result<Tidegate<'s>> {
    Ok(scene.tidegate(name)?.environment("https_proxy", &proxy()).environment("http_proxy", &proxy()))
}

#[test_case(Client::CurlHttp1; "curl over http1")]
#[test_case(Client::CurlHttp2; "curl over http2")]
#[test_case(Client::PythonRequests; "requests")]
#[test_case(Client::PythonUrllib; "urllib")]
fn the_policy_holds_behind_a_proxy_of_the_environment(client: Client) -> Result<()> {
    let scene = Scene::new()?;
    let read = behind_proxy(&scene, "read")?.run(&client.request("GET", &api("/v2/account"), "")?)?;
    assert_eq!(read.answer()?.status, 200);
    let record = read.outcome("GET /v2/account")?;
    expect(record, "allow", "forwarded", "scopes_allowed", Some(200))?;
    assert_eq!(record.text("server.address"), API_NAME);
    assert_eq!(record.text("destination.address"), PROXY.to_string());
    assert_eq!(record.number("destination.port"), Some(3128));
    // The tunnel that was opened for the client is the one that its request went through.
    assert_eq!(scene.standin.log().tunnels()?, [format!("{API_NAME}:443")]);
    assert_eq!(scene.requests()?.len(), 1);

    let url = api("/v2/droplets/3164444");
    let refused = behind_proxy(&scene, "delete")?.run(&client.request("DELETE", &url, "")?)?;
    expect_refusal(&refused.answer()?, 403, "forbidden", &["droplet:delete"])?;
    let record = refused.outcome("DELETE /v2/droplets/3164444")?;
    expect(record, "deny", "refused", "missing_scope", Some(403))?;
    assert_eq!(scene.requests()?.len(), 1);
    Ok(())
}

#[test_case(format!("http://{PROXY}:3128"); "address")]
#[test_case(format!("[{PROXY_V6}]:3128"); "ipv6 without a scheme")]
#[test_case("http://proxy.example:3128".to_owned(); "name")]
fn the_policy_holds_behind_a_proxy_of_the_configuration(listed: String) -> Result<()> {
    let scene = Scene::new()?;
    scene.world.set_names(&[NAMES, &[(PROXY, "proxy.example")]].concat())?;
    let tidegate = scene.tidegate("listed")?.set("capture.forward_proxies", &format!("[{listed:?}]"))?;
    let line = client::curl(&["--proxy", &listed, "--request", "DELETE"], &api("/v2/droplets/1"), "");
    let refused = tidegate.run(&line)?;
    assert_eq!(refused.answer()?.status, 403);
    expect(refused.outcome("DELETE /v2/droplets/1")?, "deny", "refused", "missing_scope", Some(403))?;
    assert!(scene.requests()?.is_empty());
    Ok(())
}

#[test]
fn a_list_replaces_the_environment() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = behind_proxy(&scene, "replaced")?.set("capture.forward_proxies", "[]")?;
    let own = scene.standin.ca_file().display().to_string();
    let line = client::curl(&["--cacert", &own, "--request", "DELETE"], &api("/v2/droplets/3164444"), "");
    assert_eq!(tidegate.run(&line)?.answer()?.status, 204);
    Ok(())
}

#[test]
fn several_requests_share_their_tunnel() -> Result<()> {
    let scene = Scene::new()?;
    let url = api("/v2/account");
    for (number, version) in ["--http1.1", "--http2"].into_iter().enumerate() {
        let line = client::curl(&[version, "--output", "/dev/null", &url, "--output", "/dev/null"], &url, "");
        let ran = behind_proxy(&scene, &format!("shared-{number}"))?.run(&line)?;
        assert_eq!(ran.finished.stderr.matches("status=200").count(), 2, "{ran:?}");
        assert_eq!(scene.standin.log().tunnels()?.len(), number + 1);
    }
    Ok(())
}

#[test]
fn another_host_is_passed_on_through_its_tunnel() -> Result<()> {
    let scene = Scene::new()?;
    let own = scene.standin.ca_file().display().to_string();
    let url = format!("https://{OTHER_NAME}/v2/droplets/3164444");
    let line = client::curl(&["--cacert", &own, "--request", "DELETE"], &url, "");
    let ran = behind_proxy(&scene, "other")?.run(&line)?;
    assert_eq!(ran.answer()?.status, 204);
    let record = ran.outcome_because("other_host")?;
    expect(record, "allow", "passed", "other_host", None)?;
    assert_eq!(record.text("server.address"), OTHER_NAME);
    Ok(())
}

#[test]
fn another_name_of_the_domain_is_checked_in_its_tunnel() -> Result<()> {
    let scene = Scene::new()?;
    let url = format!("https://{REGISTRY_NAME}/v2/droplets/3164444");
    let ran = behind_proxy(&scene, "neighbour")?.run(&client::curl(&["--request", "DELETE"], &url, ""))?;
    assert_eq!(ran.answer()?.status, 204);
    expect(ran.outcome_because("neighbour_host")?, "allow", "passed", "neighbour_host", Some(204))?;
    let fronted = client::curl(&["--header", "Host: api.digitalocean.com"], &url, "");
    assert_eq!(behind_proxy(&scene, "fronted")?.run(&fronted)?.answer()?.status, 421);
    assert_eq!(scene.requests()?.len(), 1);
    Ok(())
}

/// Opens a tunnel to argv[3] at the proxy argv[1] port argv[2], and in it TLS with the server name argv[4] (or
/// none for `-`), and asks for the account there, without a token.
const TUNNEL: &str = r#"
import socket, ssl, sys
proxy, port, target, name = sys.argv[1:]
connection = socket.create_connection((proxy, int(port)), timeout=20)
connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
answer = b""
while not answer.endswith(b"\r\n\r\n"):
    piece = connection.recv(1)
    if not piece:
        print("refused"); sys.exit()
    answer += piece
if not answer.startswith(b"HTTP/1.1 200 "):
    print("refused"); sys.exit()
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
try:
    if name != "plain":
        connection = context.wrap_socket(connection, server_hostname=None if name == "-" else name)
    connection.sendall(b"GET /v2/account HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    print(connection.recv(12).decode() or "closed")
except OSError:
    print("closed")
"#;

fn tunnel(tidegate: &Tidegate<'_>, target: &str, name: &str) -> Result<Ran> {
    tidegate.run(&["python3", "-c", TUNNEL, &PROXY.to_string(), "3128", target, name])
}

#[test_case("192.0.2.10:443", API_NAME, "foreign_sni"; "the API by its address")]
#[test_case("104.16.0.9:443", API_NAME, "foreign_sni"; "the API's name at another address")]
#[test_case("[::ffff:192.0.2.10]:443", API_NAME, "foreign_sni"; "the API by its mapped address")]
#[test_case("192.0.2.10:443", "-", "no_sni"; "the API's address without a name")]
#[test_case("104.16.0.9:443", "-", "no_sni"; "an address of the CDN without a name")]
#[test_case("192.0.2.10:443", OTHER_NAME, "foreign_sni"; "another name at the API's address")]
#[test_case("alias.example:443", "-", "no_sni"; "another name for the API's address")]
#[test_case("alias.example:443", API_NAME, "foreign_sni"; "the API in a tunnel to another name")]
#[test_case("unknown.example:443", API_NAME, "proxy_refused"; "a name that the proxy does not know")]
#[test_case("api.digitalocean.com:443", OTHER_NAME, "foreign_sni"; "another name in a tunnel to the API")]
#[test_case("api.digitalocean.com:443", "-", "no_sni"; "no name in a tunnel to the API")]
#[test_case("api.digitalocean.com:80", "plain", "not_tls"; "no tls in a tunnel to the API")]
#[test_case("3221225994:443", API_NAME, "malformed_request"; "an address in a spelling of its own")]
fn a_tunnel_is_no_way_around(target: &str, name: &str, reason: &str) -> Result<()> {
    let scene = Scene::new()?;
    scene.world.set_names(&[NAMES, &[(API, "alias.example")]].concat())?;
    let ran = tunnel(&behind_proxy(&scene, "around")?, target, name)?;
    let record = ran.outcome_because(reason)?;
    if reason == "proxy_refused" {
        expect(record, "allow", "passed", reason, Some(502))?;
    } else {
        expect(record, "deny", "closed", reason, None)?;
        let said = printed(&ran)?;
        assert!(said == "closed\n" || said == "refused\n", "{said}");
    }
    assert!(scene.requests()?.is_empty());
    Ok(())
}

#[test]
fn other_tunnels_pass_whatever_they_carry() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = behind_proxy(&scene, "pass")?;
    assert_eq!(printed(&tunnel(&tidegate, "198.51.100.20:443", OTHER_NAME)?)?, "HTTP/1.1 401\n");
    assert_eq!(printed(&tunnel(&tidegate, "other.example:80", "plain")?)?, "HTTP/1.1 401\n");
    // A server that speaks first.
    let tidegate = behind_proxy(&scene, "first")?.set("capture.peek_timeout", "\"300ms\"")?;
    let script = TUNNEL.replace("connection.sendall(b\"GET", "_ = (b\"GET");
    let ran = tidegate.run(&[
        "python3",
        "-c",
        &script,
        &PROXY.to_string(),
        "3128",
        "198.51.100.21:8443",
        "plain",
    ])?;
    assert_eq!(printed(&ran)?, "220 stand-in\n");
    expect(ran.outcome_because("silence")?, "allow", "passed", "silence", None)
}

#[test]
fn what_the_proxy_refuses_reaches_the_client_as_it_is() -> Result<()> {
    const SCRIPT: &str = r#"
import socket, sys
connection = socket.create_connection((sys.argv[1], 3129), timeout=20)
for _ in range(2):
    connection.sendall(b"CONNECT api.digitalocean.com:443 HTTP/1.1\r\nProxy-Authorization: Basic c2VjcmV0\r\n\r\n")
    answer = b""
    while not answer.endswith(b"sign in\n"):
        piece = connection.recv(4096)
        assert piece, answer
        answer += piece
    print(answer.decode().splitlines()[0])
"#;
    let scene = Scene::new()?;
    let listed = format!("[\"{PROXY}:3129\"]");
    let tidegate = scene.tidegate("refused")?.set("capture.forward_proxies", &listed)?;
    let ran = tidegate.run(&["python3", "-c", SCRIPT, &PROXY.to_string()])?;
    assert_eq!(printed(&ran)?, "HTTP/1.1 407 Proxy Authentication Required\n".repeat(2));
    let record = ran.outcome_because("proxy_refused")?;
    expect(record, "allow", "passed", "proxy_refused", Some(407))?;
    assert_eq!(record.text("server.address"), API_NAME);
    assert_eq!(ran.records.len(), 1);
    Ok(())
}

#[test_case("--proxy-basic"; "at once")]
#[test_case("--proxy-anyauth"; "when the proxy asks for it")]
fn the_clients_own_credentials_open_the_tunnel_and_stay_secret(how: &str) -> Result<()> {
    let scene = Scene::new()?;
    let proxy = format!("http://me:secret-word@{PROXY}:3129");
    let tidegate = scene.tidegate("own")?.environment("HTTPS_PROXY", &proxy).environment("RUST_LOG", "trace");
    let ran = tidegate.run(&client::curl(&[how], &api("/v2/account"), ""))?;
    assert_eq!(ran.answer()?.status, 200);
    expect(ran.outcome("GET /v2/account")?, "allow", "forwarded", "scopes_allowed", Some(200))?;
    let records: String = ran.records.iter().map(|record| record.json()).collect();
    let told = format!("{records}{}", ran.finished.stderr);
    let encoded = PROXY_AUTHORIZATION.trim_start_matches("Basic ");
    assert!(!told.contains("secret-word") && !told.contains(encoded), "{told}");
    Ok(())
}

#[test]
fn plain_requests_through_the_proxy_are_refused_for_the_api_alone() -> Result<()> {
    let scene = Scene::new()?;
    let plain = |host: &str| format!("http://{host}/v2/account");
    let ran = behind_proxy(&scene, "plain")?.run(&client::curl(&[], &plain(API_NAME), ""))?;
    expect_refusal(&ran.answer()?, 403, "forbidden", &[])?;
    expect(ran.outcome_because("plain_http")?, "deny", "refused", "plain_http", Some(403))?;
    assert!(scene.requests()?.is_empty());
    let ran = behind_proxy(&scene, "other")?.run(&client::curl(&[], &plain(OTHER_NAME), ""))?;
    assert_eq!(ran.answer()?.status, 200);
    expect(ran.outcome_because("not_tls")?, "allow", "passed", "not_tls", None)
}

#[test]
fn a_tunnel_behind_another_request_is_cut_off() -> Result<()> {
    const SCRIPT: &str = r#"
import socket, sys
connection = socket.create_connection((sys.argv[1], 3128), timeout=20)
connection.sendall(b"GET http://other.example/v2/account HTTP/1.1\r\nHost: other.example\r\n\r\n")
print(connection.recv(12).decode())
try:
    connection.sendall(b"CONNECT 192.0.2.10:443 HTTP/1.1\r\n\r\n")
    while connection.recv(65536): pass
except OSError:
    pass
print("closed")
"#;
    let scene = Scene::new()?;
    let ran = behind_proxy(&scene, "late")?.run(&["python3", "-c", SCRIPT, &PROXY.to_string()])?;
    assert_eq!(printed(&ran)?, "HTTP/1.1 401\nclosed\n");
    expect(ran.outcome_because("method_refused")?, "deny", "closed", "method_refused", None)?;
    assert!(scene.standin.log().tunnels()?.is_empty());
    Ok(())
}

#[test]
fn a_connection_that_waits_for_its_first_request_is_still_judged() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = behind_proxy(&scene, "waits")?.set("capture.peek_timeout", "\"300ms\"")?;
    let waiting = TUNNEL
        .replace("connection.sendall(f", "import time; time.sleep(1); connection.sendall(f")
        .replace("GET /v2/account", "DELETE /v2/droplets/1")
        .replace("Host: x", "Host: api.digitalocean.com");
    let target = format!("{API_NAME}:443");
    let line = ["python3", "-c", &waiting, &PROXY.to_string(), "3128", &target, API_NAME];
    let ran = tidegate.run(&line)?;
    assert_eq!(printed(&ran)?, "HTTP/1.1 403\n");
    expect(ran.outcome("DELETE /v2/droplets/1")?, "deny", "refused", "missing_scope", Some(403))?;
    assert!(scene.requests()?.is_empty());
    Ok(())
}
