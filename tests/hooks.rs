//! The kernel hooks alone: what they redirect, refuse, join and leave untouched. Needs root.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, too"
)]

#[path = "hooks/bench.rs"]
mod bench;
#[path = "hooks/canary.rs"]
mod canary;
#[path = "hooks/destinations.rs"]
mod destinations;
#[path = "hooks/evasion.rs"]
mod evasion;
#[path = "hooks/killed.rs"]
mod killed;
#[path = "hooks/learn.rs"]
mod learn;
#[path = "hooks/packets.rs"]
mod packets;
#[path = "hooks/pins.rs"]
mod pins;
#[path = "hooks/protection.rs"]
mod protection;
#[path = "hooks/release.rs"]
mod release;
#[path = "hooks/subjects.rs"]
mod subjects;
#[path = "hooks/world.rs"]
mod world;

use bench::{Bench, PROXIES};
use std::net::SocketAddr;
use test_case::test_case;
use tidegate::reason::Reason;

const V4: &str = "192.0.2.7:443";
const V6: &str = "[2001:db8::7]:443";

/// Connects, prints the peer's name as the program sees it and the port of its own end.
const CONNECT: &str = r#"
import socket, sys
host, port = sys.argv[1].rsplit(":", 1)
family = socket.AF_INET6 if ":" in host else socket.AF_INET
s = socket.socket(family)
s.settimeout(5)
try:
    s.connect((host.strip("[]"), int(port)))
except OSError as e:
    print("error", e.errno)
    sys.exit()
print("peer", s.getpeername()[0], s.getpeername()[1])
"#;

#[test_case(V4, "192.0.2.7 443", V4; "ipv4")]
#[test_case(V6, "2001:db8::7 443", V6; "ipv6")]
#[test_case("[::ffff:192.0.2.7]:443", "::ffff:192.0.2.7 443", V4; "mapped ipv6")]
#[test_case("127.0.0.9:443", "127.0.0.9 443", "127.0.0.9:443"; "loopback")]
fn a_subjects_connect_lands_on_the_listener_and_keeps_its_name(to: &str, seen: &str, original: &str) {
    let bench = Bench::new();
    let program = bench.subject(&["python3", "-c", CONNECT, to]);
    let captured = bench.accept();
    assert_eq!(program.output(), format!("peer {seen}"));
    assert_eq!(captured.destination.0, original.parse::<SocketAddr>().unwrap());
    assert_eq!(captured.flow.cgroup_id, bench.cgroup_id());
    assert!(captured.flow.comm.starts_with(b"python3"));
}

#[test_case(PROXIES[0], "192.0.2.8 3128", PROXIES[0]; "ipv4")]
#[test_case(PROXIES[1], "2001:db8::8 3128", PROXIES[1]; "ipv6")]
#[test_case("[::ffff:192.0.2.8]:3128", "::ffff:192.0.2.8 3128", PROXIES[0]; "mapped ipv6")]
fn a_connect_to_a_forward_proxy_is_captured_at_its_port(to: &str, seen: &str, original: &str) {
    let bench = Bench::new();
    let program = bench.subject(&["python3", "-c", CONNECT, to]);
    let captured = bench.accept();
    assert_eq!(program.output(), format!("peer {seen}"));
    assert_eq!(captured.destination.0, original.parse::<SocketAddr>().unwrap());
}

#[test_case("192.0.2.8", 3129; "another port of its address")]
#[test_case("192.0.2.7", 3128; "its port at another address")]
fn a_neighbour_of_a_forward_proxy_is_not_captured(address: &str, port: u16) {
    let bench = Bench::new();
    let (server, port) = bench.server_at(address, port);
    let program = bench.subject(&["python3", "-c", CONNECT, &format!("{address}:{port}")]);
    bench.accept_on(&server);
    assert_eq!(program.output(), format!("peer {address} {port}"));
    bench.assert_nothing_arrived();
}

#[test]
fn datagrams_to_a_forward_proxy_pass() {
    let bench = Bench::new();
    let datagrams = r#"
import socket
proxy = ("192.0.2.8", 3128)
socket.socket(type=socket.SOCK_DGRAM).sendto(b"unconnected", proxy)
s = socket.socket(type=socket.SOCK_DGRAM)
s.connect(proxy)
s.send(b"connected")
print("sent")
"#;
    assert_eq!(bench.subject(&["python3", "-c", datagrams]).output(), "sent");
}

#[test]
fn more_forward_proxies_than_the_kernel_side_holds_are_an_error() {
    let mut bench = Bench::new();
    let address = |number: u16| SocketAddr::new("192.0.2.9".parse().unwrap(), number);
    let room = 1024 - u16::try_from(PROXIES.len()).unwrap();
    for number in 1..=room {
        bench.forward_proxies().add(address(number)).unwrap();
    }
    let error = bench.forward_proxies().add(address(room + 1)).unwrap_err();
    assert!(error.to_string().contains("FORWARD_PROXIES"), "{error}");
}

#[test]
fn the_flow_names_the_process_that_connected() {
    let bench = Bench::new();
    let program = bench.subject(&["python3", "-c", CONNECT, V4]);
    let captured = bench.accept();
    assert_eq!(captured.flow.tgid, program.id());
    assert_eq!((captured.flow.uid, captured.flow.gid), (0, 0));
    program.output();
}

#[test]
fn a_process_in_a_cgroup_below_is_a_subject_too() {
    let bench = Bench::new();
    let below = bench.cgroup().join("below/further");
    std::fs::create_dir_all(&below).unwrap();
    let program = bench.in_cgroup(&below, &["python3", "-c", CONNECT, V4]);
    let captured = bench.accept();
    assert_ne!(captured.flow.cgroup_id, bench.cgroup_id());
    assert_eq!(program.output(), "peer 192.0.2.7 443");
}

#[test]
fn a_process_outside_is_not_touched() {
    let bench = Bench::new();
    let (server, port) = bench.server();
    let program = bench.outsider(&["python3", "-c", CONNECT, &format!("192.0.2.7:{port}")]);
    bench.accept_on(&server);
    assert_eq!(program.output(), format!("peer 192.0.2.7 {port}"));
    assert_eq!(bench.outsider(&["python3", "-c", CONNECT, V4]).output(), "error 111");
    bench.assert_nothing_arrived();
}

#[test]
fn a_port_that_is_not_captured_is_not_touched() {
    let bench = Bench::new();
    let (server, port) = bench.server();
    let program = bench.subject(&["python3", "-c", CONNECT, &format!("192.0.2.7:{port}")]);
    bench.accept_on(&server);
    assert_eq!(program.output(), format!("peer 192.0.2.7 {port}"));
}

#[test_case(V4; "ipv4")]
#[test_case(V6; "ipv6")]
#[test_case("[::ffff:192.0.2.7]:443"; "mapped ipv6")]
fn without_a_listener_the_connect_is_refused_and_reported(to: &str) {
    let bench = Bench::without_listeners();
    let output = bench.subject(&["python3", "-c", CONNECT, to]).output();
    assert_eq!(output, "error 1");
    let refused = bench.refused();
    assert_eq!(refused.reason, Reason::NoListener);
    assert_eq!(refused.destination.0.port(), 443);
}

#[test]
fn a_full_flow_table_refuses_and_reports() {
    let bench = Bench::with_flows(2);
    let hold = r#"
import socket
held = []
for i in range(3):
    s = socket.socket()
    try:
        s.connect(("192.0.2.7", 443)); held.append(s); print("in", end=" ")
    except OSError as e:
        print("error", e.errno)
"#;
    let output = bench.subject(&["python3", "-c", hold]).output();
    assert_eq!(output, "in in error 1");
    assert_eq!(bench.refused().reason, Reason::FlowTableFull);
}

#[test]
fn a_closed_socket_gives_its_place_back() {
    let bench = Bench::with_flows(2);
    for _ in 0..5 {
        let program = bench.subject(&["python3", "-c", CONNECT, V4]);
        bench.accept();
        assert_eq!(program.output(), "peer 192.0.2.7 443");
    }
}

#[test]
fn a_connection_to_the_listener_itself_has_no_flow() {
    let bench = Bench::new();
    let to = format!("127.0.0.1:{}", bench.listener_port());
    let program = bench.subject(&["python3", "-c", CONNECT, &to]);
    bench.accept_without_flow();
    program.output();
}

#[test]
fn datagrams_to_captured_ports_are_refused_and_udp_connects_pass() {
    let bench = Bench::new();
    let datagrams = r#"
import socket
for family, host in ((socket.AF_INET, "192.0.2.7"), (socket.AF_INET6, "2001:db8::7"), (socket.AF_INET6, "::ffff:192.0.2.7")):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.connect((host, 443))
    try:
        s.send(b"quic"); print("sent", end=" ")
    except OSError as e:
        print("error", e.errno, end=" ")
    s = socket.socket(family, socket.SOCK_DGRAM)
    try:
        s.sendto(b"quic", (host, 443)); print("sent", end=" ")
    except OSError as e:
        print("error", e.errno, end=" ")
    s.sendto(b"dns", (host, 53))
"#;
    assert_eq!(bench.subject(&["python3", "-c", datagrams]).output(), "error 1 ".repeat(6).trim());
    assert_eq!(bench.refused().reason, Reason::QuicRefused);
}

#[test]
fn a_socket_that_connects_again_elsewhere_loses_its_first_destination() {
    let bench = Bench::new();
    let (server, port) = bench.server();
    let again = format!(
        r#"
import ctypes, socket
s = socket.socket()
s.connect(("192.0.2.7", 443))
ctypes.CDLL(None).connect(s.fileno(), bytes(16), 16)
s.connect(("127.0.0.1", {port}))
print(*s.getpeername())
"#
    );
    let program = bench.subject(&["python3", "-c", &again]);
    bench.accept();
    bench.accept_on(&server);
    assert_eq!(program.output(), format!("127.0.0.1 {port}"));
}
