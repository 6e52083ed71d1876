//! What the ClientHello says, and what it leaves out.

use crate::{api, expect, printed};
use anyhow::Result;
use std::net::IpAddr;
use test_case::test_case;
use tidegate_tests::{
    client,
    netns::addresses::{API, EDGE, OTHER, RAW},
    scene::Scene,
};

/// Sends a ClientHello of few parts and prints `answered` when any byte comes back, `closed` when none does.
/// Arguments: address, port, server name (may be empty), `ech` for an encrypted client hello beside it.
const HELLO: &str = r#"
import socket, struct, sys
address, port, name, extra = sys.argv[1:]
def extension(kind, content): return struct.pack("!HH", kind, len(content)) + content
def vector(content): return struct.pack("!H", len(content)) + content
extensions = extension(10, vector(b"\x00\x1d")) + extension(13, vector(b"\x04\x03\x08\x04"))
extensions += extension(43, b"\x02\x03\x04") + extension(51, vector(b"\x00\x1d" + vector(bytes(range(32)))))
if name: extensions += extension(0, vector(b"\x00" + vector(name.encode())))
if extra == "ech":
    outer = b"\x00" + b"\x00\x01\x00\x01" + b"\x07" + vector(bytes(32)) + vector(bytes(144))
    extensions += extension(0xfe0d, outer)
body = b"\x03\x03" + bytes(32) + b"\x00" + vector(b"\x13\x01\x13\x03") + b"\x01\x00" + vector(extensions)
handshake = b"\x01" + struct.pack("!I", len(body))[1:] + body
connection = socket.create_connection((address, int(port)), timeout=20)
connection.sendall(b"\x16\x03\x01" + vector(handshake))
try:
    print("answered" if connection.recv(1) else "closed")
except ConnectionError:
    print("closed")
"#;

#[test_case(API, "", "", "closed", "closed", "no_sni"; "no name at a protected address")]
#[test_case(EDGE, "", "", "closed", "closed", "no_sni"; "no name at the edge")]
#[test_case(OTHER, "", "", "answered", "passed", "no_sni"; "no name elsewhere")]
#[test_case(API, "other.example", "ech", "closed", "closed", "ech"; "encrypted hello at a protected address")]
#[test_case(EDGE, "other.example", "ech", "closed", "closed", "ech"; "encrypted hello at the edge")]
#[test_case(RAW, "other.example", "ech", "answered", "passed", "ech"; "encrypted hello elsewhere")]
#[test_case(API, "other.example", "", "closed", "closed", "foreign_sni"; "another name at a protected address")]
#[test_case(OTHER, "other.example", "", "answered", "passed", "other_host"; "another name at its own address")]
fn a_hello_is_treated_by_its_name_and_address(
    address: IpAddr,
    name: &str,
    extra: &str,
    expected: &str,
    verdict: &str,
    reason: &str,
) -> Result<()> {
    let scene = Scene::new()?;
    let before = scene.standin.log().connections()?;
    let address = address.to_string();
    let ran = scene.tidegate("names")?.run(&["python3", "-c", HELLO, &address, "443", name, extra])?;
    assert_eq!(printed(&ran)?, format!("{expected}\n"), "{:#?}", ran.records);
    let decision = if verdict == "passed" { "allow" } else { "deny" };
    expect(ran.outcome_because(reason)?, decision, verdict, reason, None)?;
    assert_eq!(ran.records.len(), 1, "{:#?}", ran.records);
    if verdict == "closed" {
        assert_eq!(scene.standin.log().connections()?, before, "something was dialled");
    }
    Ok(())
}

#[test]
fn the_protected_name_is_terminated_at_any_address_and_tls_port() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("names")?;
    let url = "https://api.digitalocean.com:8443/v2/droplets/3164444";
    assert_eq!(tidegate.run(&client::curl(&[], url, ""))?.answer()?.status, 200);
    assert_eq!(tidegate.run(&client::curl(&["--request", "DELETE"], url, ""))?.answer()?.status, 403);
    // The name is claimed where another host lives: its certificate does not prove it.
    let line = client::curl(&["--connect-to", &format!("::{OTHER}:443")], &api("/v2/account"), "");
    let ran = tidegate.run(&line)?;
    assert_eq!(ran.answer()?.status, 502);
    expect(ran.outcome("GET /v2/account")?, "allow", "refused", "upstream_not_host", Some(502))?;
    assert_eq!(scene.requests()?.len(), 1);
    Ok(())
}
