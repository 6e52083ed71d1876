//! IPv4, IPv6, and IPv4 in IPv6's clothes.

use crate::{api, expect, printed};
use anyhow::Result;
use std::time::Instant;
use test_case::test_case;
use tidegate_tests::{client, netns::World, process::Process, scene::Scene};

#[test_case("-4", "192.0.2.10"; "ipv4")]
#[test_case("-6", "2001:db8::10"; "ipv6")]
fn either_family_is_captured(option: &str, address: &str) -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("families")?;
    let read = tidegate.run(&client::curl(&[option], &api("/v2/account"), ""))?;
    assert_eq!(read.answer()?.status, 200);
    assert_eq!(read.outcome("GET /v2/account")?.text("destination.address"), address);
    let write = tidegate.run(&client::curl(&[option, "--request", "DELETE"], &api("/v2/droplets/1"), ""))?;
    assert_eq!(write.answer()?.status, 403);
    assert_eq!(scene.requests()?.len(), 1);
    Ok(())
}

/// Prints the status that the API gave, and the address that the socket says it is connected to.
const PEER: &str = r#"
import socket, ssl, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
connection = socket.socket(family, socket.SOCK_STREAM)
connection.settimeout(20)
connection.connect((sys.argv[1], 443))
peer = connection.getpeername()
tls = ssl.create_default_context().wrap_socket(connection, server_hostname="api.digitalocean.com")
tls.sendall(b"GET /v2/account HTTP/1.1\r\nHost: api.digitalocean.com\r\nAuthorization: Bearer t\r\n"
            b"Connection: close\r\n\r\n")
print(tls.recv(4096).split(b" ")[1].decode(), peer[0], peer[1])
"#;

#[test_case("192.0.2.10", "192.0.2.10"; "ipv4")]
#[test_case("2001:db8::10", "2001:db8::10"; "ipv6")]
#[test_case("::ffff:192.0.2.10", "192.0.2.10"; "mapped")]
fn a_program_sees_the_address_that_it_asked_for(address: &str, recorded: &str) -> Result<()> {
    let scene = Scene::new()?;
    let ran = scene.tidegate("families")?.run(&["python3", "-c", PEER, address])?;
    assert_eq!(printed(&ran)?, format!("200 {address} 443\n"));
    let record = ran.outcome("GET /v2/account")?;
    expect(record, "allow", "forwarded", "scopes_allowed", Some(200))?;
    assert_eq!(record.text("destination.address"), recorded);
    Ok(())
}

#[test]
fn without_a_listener_of_a_family_its_connects_are_refused_at_once() -> Result<()> {
    // Even loopback, which has a route: captured is captured, and there is nobody to hand it to.
    const SCRIPT: &str = r#"
import socket
for port in (443, 5353):
    try:
        socket.create_connection(("::1", port), timeout=20)
    except OSError as problem:
        print(port, type(problem).__name__)
"#;
    let scene = Scene::of(World::ipv4_only()?)?;
    let started = Instant::now();
    let refused = scene.tidegate("refused")?.run(&["python3", "-c", SCRIPT])?;
    assert_eq!(printed(&refused)?, "443 PermissionError\n5353 ConnectionRefusedError\n");
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());

    let tidegate = scene.tidegate("families")?;
    let line = client::curl(&["--connect-to", "::[2001:db8::10]:443"], &api("/v2/account"), "");
    assert!(tidegate.run(&line)?.answer().is_err());
    let read = tidegate.run(&client::curl(&[], &api("/v2/account"), ""))?;
    assert_eq!(read.answer()?.status, 200);
    assert_eq!(read.outcome("GET /v2/account")?.text("destination.address"), "192.0.2.10");
    Ok(())
}

#[test]
fn datagrams_to_captured_ports_are_refused_and_others_are_not() -> Result<()> {
    const SCRIPT: &str = r#"
import socket
for family, address in ((socket.AF_INET, "198.51.100.20"), (socket.AF_INET6, "2001:db8:0:2::20")):
    for port in (443, 5353):
        sender = socket.socket(family, socket.SOCK_DGRAM)
        for send in (lambda: sender.sendto(b"x", (address, port)),
                     lambda: (sender.connect((address, port)), sender.send(b"x"))):
            try:
                send()
                print(port, "sent")
            except PermissionError:
                print(port, "refused")
            except ConnectionRefusedError:
                print(port, "sent")
"#;
    let scene = Scene::new()?;
    let expected = "443 refused\n443 refused\n5353 sent\n5353 sent\n".repeat(2);
    let mut neighbour = scene.world.command(&["python3", "-c", SCRIPT]);
    let untouched = Process::run(&mut neighbour, scene.directory(), tidegate_tests::agent::LIMIT)?.text();
    assert_eq!(untouched, expected.replace("refused", "sent"));
    let ran = scene.tidegate("families")?.run(&["python3", "-c", SCRIPT])?;
    assert_eq!(printed(&ran)?, expected);
    Ok(())
}
