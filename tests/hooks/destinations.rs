//! What becomes of a subject's traffic by where it goes: protected addresses, the listener's port, targeted mode.

use super::{CONNECT, V4, V6, bench::Bench};
use test_case::test_case;
use tidegate::reason::Reason;
use tidegate_ebpf_common::{SETTING_TARGETED, Settings};

const PROTECTED: [&str; 2] = ["192.0.2.7", "2001:db8::7"];

fn protecting() -> Bench {
    let bench = Bench::new();
    for address in PROTECTED {
        bench.lists().protected.add(address.parse().unwrap()).unwrap();
    }
    bench
}

#[test_case("192.0.2.7:8444"; "ipv4")]
#[test_case("[2001:db8::7]:22"; "ipv6")]
#[test_case("[::ffff:192.0.2.7]:8444"; "mapped ipv6")]
#[test_case("[64:ff9b::192.0.2.7]:8444"; "nat64")]
fn another_port_of_a_protected_address_is_refused_at_once(to: &str) {
    let bench = protecting();
    assert_eq!(bench.subject(&["python3", "-c", CONNECT, to]).output(), "error 1");
    let refused = bench.refused();
    assert_eq!(refused.reason, Reason::AddressRefused);
    assert_eq!(refused.destination.0.port().to_string(), to.rsplit(':').next().unwrap());
    // Nobody else is held back.
    assert_eq!(bench.outsider(&["python3", "-c", CONNECT, to]).output(), "error 111");
}

#[test_case("[64:ff9b::192.0.2.7]:443", "64:ff9b::c000:207 443"; "nat64")]
#[test_case(V4, "192.0.2.7 443"; "ipv4")]
#[test_case(V6, "2001:db8::7 443"; "ipv6")]
fn a_captured_port_of_a_protected_address_is_redirected(to: &str, seen: &str) {
    let bench = protecting();
    let program = bench.subject(&["python3", "-c", CONNECT, to]);
    bench.accept();
    assert_eq!(program.output(), format!("peer {seen}"));
}

/// Every protocol that a program may send without privileges.
const OTHER_PROTOCOLS: &str = r#"
import socket, sys
address = sys.argv[1]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
def attempt(name, make):
    try: make(); print(name, "sent")
    except OSError as e: print(name, e.errno)
def unconnected():
    socket.socket(family, socket.SOCK_DGRAM).sendto(b"x", (address, 5000))
def connected():
    s = socket.socket(family, socket.SOCK_DGRAM); s.connect((address, 5000)); s.send(b"x")
def lite():
    s = socket.socket(family, socket.SOCK_DGRAM, 136); s.sendto(b"x", (address, 5000))
attempt("unconnected", unconnected)
attempt("connected", connected)
attempt("lite", lite)
"#;

#[test_case("192.0.2.7"; "ipv4")]
#[test_case("2001:db8::7"; "ipv6")]
#[test_case("::ffff:192.0.2.7"; "mapped ipv6")]
fn no_datagram_reaches_a_protected_address(address: &str) {
    let bench = protecting();
    let output = bench.subject(&["python3", "-c", OTHER_PROTOCOLS, address]).output();
    assert_eq!(output, "unconnected 1\nconnected 1\nlite 1");
    assert_eq!(bench.refused().reason, Reason::AddressRefused);
}

#[test]
fn an_echo_request_to_a_protected_address_is_dropped() {
    let bench = protecting();
    let script = r#"
import socket
open("/proc/sys/net/ipv4/ping_group_range", "w").write("0 0")
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
try: s.sendto(b"\x08\0\0\0\0\0\0\0", ("192.0.2.7", 0)); print("sent")
except OSError as e: print("error", e.errno)
"#;
    assert_eq!(bench.subject(&["python3", "-c", script]).output(), "error 1");
    assert_eq!(bench.refused().reason, Reason::AddressRefused);
}

#[test_case("socket.AF_INET", "127.0.0.1"; "loopback")]
#[test_case("socket.AF_INET", "0.0.0.0"; "any address")]
#[test_case("socket.AF_INET6", "::"; "any address of both families")]
#[test_case("socket.AF_INET6", "::1"; "ipv6 loopback")]
fn a_subject_cannot_take_the_listeners_port(family: &str, address: &str) {
    let bench = Bench::new();
    let script = format!(
        "import socket\ns = socket.socket({family})\ns.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)\n\
         try: s.bind(('{address}', {})); print('bound')\nexcept OSError as e: print('error', e.errno)",
        bench.listener_port()
    );
    assert_eq!(bench.subject(&["python3", "-c", &script]).output(), "error 1");
    assert_eq!(bench.refused().reason, Reason::ListenerPort);
}

#[test]
fn targeted_mode_captures_protected_addresses_only() {
    let bench = protecting();
    bench.lists().settings.set(Settings { flags: SETTING_TARGETED, reserved: 0 }).unwrap();
    let (server, _) = bench.server_at("192.0.2.8", 443);
    let program = bench.subject(&["python3", "-c", CONNECT, "192.0.2.8:443"]);
    bench.accept_on(&server);
    assert_eq!(program.output(), "peer 192.0.2.8 443");
    let program = bench.subject(&["python3", "-c", CONNECT, V4]);
    bench.accept();
    assert_eq!(program.output(), "peer 192.0.2.7 443");
    assert_eq!(bench.subject(&["python3", "-c", CONNECT, "192.0.2.7:8444"]).output(), "error 1");
}

#[test]
fn an_address_that_is_protected_no_more_is_free() {
    let bench = protecting();
    bench.lists().protected.forget(PROTECTED[0].parse().unwrap()).unwrap();
    assert_eq!(
        bench.lists().protected.addresses().unwrap(),
        [PROTECTED[1].parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(bench.subject(&["python3", "-c", CONNECT, "192.0.2.7:8444"]).output(), "error 111");
}
