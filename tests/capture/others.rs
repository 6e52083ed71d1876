//! Everything that is not the API's business goes on as if nobody were there.

use crate::{api, expect, expect_refusal, printed};
use anyhow::Result;
use tidegate_tests::{
    client,
    netns::addresses::{API, OTHER, RAW},
    scene::Scene,
};

#[test]
fn another_host_is_passed_on_with_its_own_certificate() -> Result<()> {
    let scene = Scene::new()?;
    // The upstream's own authority and no other: had the connection been terminated, this would fail.
    let own = scene.standin.ca_file().display().to_string();
    let url = "https://other.example/v2/droplets/3164444";
    let line = client::curl(&["--cacert", &own, "--request", "DELETE"], url, "");
    let ran = scene.tidegate("others")?.run(&line)?;
    assert_eq!(ran.answer()?.status, 204);
    let record = ran.outcome_because("other_host")?;
    expect(record, "allow", "passed", "other_host", None)?;
    assert_eq!(record.text("server.address"), "other.example");
    assert!(record.number("tidegate.bytes.in") > Some(500), "{record:?}");
    Ok(())
}

#[test]
fn another_hosts_bytes_are_exact_in_both_directions() -> Result<()> {
    const SCRIPT: &str = r#"
import os, select, socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
connection = context.wrap_socket(
    socket.create_connection(("other.example", 8443), timeout=30), server_hostname="other.example")
connection.setblocking(False)
sent = os.urandom(3_000_000)
unsent, received = memoryview(sent), bytearray()
while len(received) < len(sent):
    select.select([connection], [connection] if unsent else [], [], 30)
    try:
        unsent = unsent[connection.send(unsent[:65536]):] if unsent else unsent
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        pass
    try:
        piece = connection.recv(65536)
        assert piece, len(received)
        received += piece
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        pass
print(bytes(received) == sent, connection.getpeercert()["subjectAltName"])
"#;
    let scene = Scene::new()?;
    let own = scene.standin.ca_file().display().to_string();
    let ran = scene.tidegate("others")?.run(&["python3", "-c", SCRIPT, &own])?;
    assert_eq!(printed(&ran)?, "True (('DNS', 'other.example'),)\n");
    let record = ran.outcome_because("other_host")?;
    assert!(record.number("tidegate.bytes.in") > Some(3_000_000), "{record:?}");
    assert!(record.number("tidegate.bytes.out") > Some(3_000_000), "{record:?}");
    Ok(())
}

/// Sends all byte values, ends its side, and prints whether exactly they came back after this greeting.
const RAW_ECHO: &str = r#"
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
greeting = sys.argv[3].encode()
received = b""
while len(received) < len(greeting):
    received += connection.recv(1)
sent = bytes(range(256)) * 2000
try:
    connection.sendall(sent)
    connection.shutdown(socket.SHUT_WR)
    while piece := connection.recv(65536):
        received += piece
except OSError:
    pass
print("same" if received == greeting + sent else f"{len(received)} bytes")
"#;

#[test]
fn bytes_that_are_not_tls_are_passed_on_but_for_protected_addresses() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("others")?;
    let ran = tidegate.run(&["python3", "-c", RAW_ECHO, &RAW.to_string(), "443", ""])?;
    assert_eq!(printed(&ran)?, "same\n");
    expect(ran.outcome_because("not_tls")?, "allow", "passed", "not_tls", None)?;

    let tidegate = scene.tidegate("protected")?;
    let ran = tidegate.run(&["python3", "-c", RAW_ECHO, &API.to_string(), "2053", ""])?;
    assert_eq!(printed(&ran)?, "0 bytes\n");
    expect(ran.outcome_because("not_tls")?, "deny", "closed", "not_tls", None)?;
    Ok(())
}

#[test]
fn a_server_that_speaks_first_is_heard_after_the_peek() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("others")?.set("capture.peek_timeout", "\"700ms\"")?;
    let greeting = "220 stand-in ready\r\n";
    let ran = tidegate.run(&["python3", "-c", RAW_ECHO, &RAW.to_string(), "8443", greeting])?;
    assert_eq!(printed(&ran)?, "same\n");
    expect(ran.outcome_because("silence")?, "allow", "passed", "silence", None)?;
    Ok(())
}

#[test]
fn another_name_of_the_domain_is_checked_and_passed_on_unchanged() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("others")?;
    let url = "https://registry.digitalocean.com/v2/droplets/3164444";
    let ran = tidegate.run(&client::curl(&["--request", "DELETE"], url, ""))?;
    assert_eq!(ran.answer()?.status, 204);
    expect(ran.outcome_because("neighbour_host")?, "allow", "passed", "neighbour_host", Some(204))?;

    let fronted = client::curl(&["--header", "Host: api.digitalocean.com"], url, "");
    let ran = scene.tidegate("fronted")?.run(&fronted)?;
    assert_eq!(ran.answer()?.status, 421);
    assert_eq!(scene.requests()?.len(), 1);
    Ok(())
}

#[test]
fn plain_http_is_refused_for_the_protected_name_and_passed_on_for_others() -> Result<()> {
    let scene = Scene::new()?;
    let plain = api("/v2/account").replace("https", "http");
    for (number, address) in [API, OTHER].into_iter().enumerate() {
        let line = client::curl(&["--connect-to", &format!("::{address}:80")], &plain, "");
        let ran = scene.tidegate(&format!("plain-{number}"))?.run(&line)?;
        expect_refusal(&ran.answer()?, 403, "forbidden", &[])?;
        expect(ran.outcome_because("plain_http")?, "deny", "refused", "plain_http", Some(403))?;
    }
    assert!(scene.requests()?.is_empty());
    let ran = scene.tidegate("others")?.run(&client::curl(&[], "http://other.example/v2/account", ""))?;
    assert_eq!(ran.answer()?.status, 200);
    Ok(())
}

#[test]
fn another_port_of_the_apis_address_is_refused_at_once() -> Result<()> {
    const SCRIPT: &str = r#"
import socket, sys
try: socket.create_connection((sys.argv[1], 8444), timeout=20); print("connected")
except OSError as error: print("refused", error.errno)
"#;
    let scene = Scene::new()?;
    let ran = scene.tidegate("others")?.run(&["python3", "-c", SCRIPT, &API.to_string()])?;
    assert_eq!(printed(&ran)?, "refused 1\n");
    expect(ran.outcome_because("address_refused")?, "deny", "refused", "address_refused", None)?;
    Ok(())
}
