//! Ways of reaching a captured port other than a plain connect: each is redirected, or refused and reported.

use super::{V4, V6, bench::Bench};
use test_case::test_case;
use tidegate::reason::Reason;

/// The first data goes with the SYN, with no call of connect.
const FAST_OPEN: &str = r#"
import socket
s = socket.socket()
s.sendto(b"hello", 0x20000000, ("192.0.2.7", 443))
print("peer", *s.getpeername())
"#;

/// connect returns at once, and the SYN leaves with the first data.
const FAST_OPEN_CONNECT: &str = r#"
import socket
for _ in range(2):
    s = socket.socket()
    s.setsockopt(socket.IPPROTO_TCP, 30, 1)
    s.connect(("192.0.2.7", 443))
    s.send(b"hello")
print("sent")
"#;

const BOUND: &str = r#"
import socket
s = socket.socket()
s.bind(("198.51.100.9", 0))
s.connect(("192.0.2.7", 443))
print("peer", *s.getpeername())
"#;

const BOUND_V6: &str = r#"
import socket
s = socket.socket(socket.AF_INET6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
s.connect(("2001:db8::7", 443, 0, 1))
print("peer", *s.getpeername()[:2])
"#;

/// A connect that a kernel thread may carry out: IORING_OP_CONNECT, with a polling thread where $1 is `poll`.
const IO_URING: &str = r#"
import ctypes, mmap, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
parameters = bytearray(120)
if sys.argv[1] == "poll": struct.pack_into("I", parameters, 8, 2)
raw = (ctypes.c_char * 120).from_buffer(parameters)
ring = libc.syscall(425, 4, raw)
assert ring >= 0, ctypes.get_errno()
sq_off = struct.unpack_from("10I", parameters, 40)
cq_off = struct.unpack_from("10I", parameters, 80)
sq = mmap.mmap(ring, sq_off[6] + 4 * 4, offset=0)
cq = mmap.mmap(ring, 4096, offset=0x8000000)
entries = mmap.mmap(ring, 4 * 64, offset=0x10000000)
s = socket.socket()
address = ctypes.create_string_buffer(struct.pack("=H", 2) + struct.pack(">H", 443) + socket.inet_aton("192.0.2.7") + bytes(8))
# Before Linux 5.11 a polling thread takes registered files only.
polls = sys.argv[1] == "poll"
if polls: assert libc.syscall(427, ring, 2, ctypes.byref(ctypes.c_int(s.fileno())), 1) == 0, ctypes.get_errno()
struct.pack_into("=BBHiQQ", entries, 0, 16, 1 if polls else 0, 0, 0 if polls else s.fileno(), 16, ctypes.addressof(address))
sq[sq_off[6]:sq_off[6] + 4] = struct.pack("I", 0)
tail = struct.unpack_from("I", sq, sq_off[1])[0]
struct.pack_into("I", sq, sq_off[1], tail + 1)
assert libc.syscall(426, ring, 1, 1, 3 if polls else 1, None, 0) >= 0, ctypes.get_errno()
result = struct.unpack_from("i", cq, cq_off[5] + 8)[0]
print("peer", *s.getpeername()) if result == 0 else print("error", -result)
"#;

#[test_case(&["python3", "-c", FAST_OPEN]; "fast open by sendto")]
#[test_case(&["python3", "-c", BOUND]; "source address chosen first")]
#[test_case(&["python3", "-c", IO_URING, "call"]; "io_uring")]
#[test_case(&["python3", "-c", IO_URING, "poll"]; "io_uring with a polling thread")]
fn other_ways_to_connect_are_redirected_too(program: &[&str]) {
    let bench = Bench::new();
    let program = bench.subject(program);
    let captured = bench.accept();
    assert_eq!(program.output(), "peer 192.0.2.7 443");
    assert_eq!(captured.destination.0, V4.parse().unwrap());
    assert_eq!(captured.flow.cgroup_id, bench.cgroup_id());
}

#[test]
fn deferred_fast_open_is_redirected_with_and_without_a_cookie() {
    let bench = Bench::new();
    let program = bench.subject(&["python3", "-c", FAST_OPEN_CONNECT]);
    for _ in 0..2 {
        assert_eq!(bench.accept().destination.0, V4.parse().unwrap());
    }
    assert_eq!(program.output(), "sent");
}

#[test]
fn a_zone_in_the_address_changes_nothing() {
    let bench = Bench::new();
    let program = bench.subject(&["python3", "-c", BOUND_V6]);
    assert_eq!(bench.accept().destination.0, V6.parse().unwrap());
    assert_eq!(program.output(), "peer 2001:db8::7 443");
}

#[test_case("socket.AF_INET, socket.SOCK_STREAM, 262"; "mptcp")]
#[test_case("socket.AF_INET6, socket.SOCK_STREAM, 262"; "mptcp over ipv6")]
#[test_case("socket.AF_INET, socket.SOCK_RAW, 6"; "raw")]
#[test_case("socket.AF_INET6, socket.SOCK_RAW, 255"; "raw ipv6")]
fn a_subject_gets_no_socket_that_would_pass_the_hooks(kind: &str) {
    let bench = Bench::new();
    let script = format!(
        "import socket\ntry: socket.socket({kind}); print('open')\nexcept OSError as e: print('error', e.errno)"
    );
    assert_eq!(bench.outsider(&["python3", "-c", &script]).output(), "open");
    assert_eq!(bench.subject(&["python3", "-c", &script]).output(), "error 1");
    assert_eq!(bench.refused().reason, Reason::ProtocolRefused);
}

/// What is collected while the socket is connected to one port leaves when it is connected to another.
const CORKED: &str = r#"
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], 443))
try:
    s.send(b"quic", socket.MSG_MORE)
    s.connect((sys.argv[1], 53))
    s.send(b"")
    print("sent")
except OSError as e:
    print("error", e.errno)
"#;

#[test_case("2001:db8::7"; "ipv6")]
#[test_case("::ffff:192.0.2.7"; "mapped ipv6")]
fn a_datagram_is_judged_by_where_it_goes(address: &str) {
    let bench = Bench::new();
    assert_eq!(bench.subject(&["python3", "-c", CORKED, address]).output(), "error 1");
    let refused = bench.refused();
    assert_eq!(refused.reason, Reason::QuicRefused);
    let expected = address.trim_start_matches("::ffff:");
    assert_eq!(
        (refused.destination.0.ip().to_string().as_str(), refused.destination.0.port()),
        (expected, 443)
    );
}

#[test]
fn a_datagram_with_ip_options_is_refused_too() {
    let bench = Bench::new();
    let script = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x01\x01\x01\x01" * 3)
s.connect(("192.0.2.7", 443))
try: s.send(b"quic"); print("sent")
except OSError as e: print("error", e.errno)
"#;
    assert_eq!(bench.subject(&["python3", "-c", script]).output(), "error 1");
    assert_eq!(bench.refused().reason, Reason::QuicRefused);
}

/// However the SYN came about: here, because the hook that would have redirected the connect is gone.
#[test_case(V4, "connect4"; "ipv4")]
#[test_case(V6, "connect6"; "ipv6")]
#[test_case("[::ffff:192.0.2.7]:443", "connect6"; "mapped ipv6")]
fn a_connection_that_was_not_redirected_is_never_opened(to: &str, hook: &str) {
    let bench = Bench::new();
    bench.detach(hook);
    let output =
        bench.subject(&["timeout", "-s", "INT", "3", "python3", "-c", super::CONNECT, to]).output_of(124);
    assert!(!output.contains("peer"), "{output}");
    let refused = bench.refused();
    assert_eq!((refused.reason, refused.destination.0.port()), (Reason::NotThroughProxy, 443));
    bench.assert_nothing_arrived();
}

#[test]
fn a_server_of_the_subject_answers_clients_whose_own_port_is_captured() {
    let bench = Bench::new();
    let server = "import socket\ns = socket.create_server(('0.0.0.0', 5000))\nc = s.accept()[0]\nprint(c.recv(9).decode())\nc.send(b'yes')\nc.recv(1)";
    let client = "import socket, time\nfor _ in range(100):\n  s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(('192.0.2.9', 443)); s.settimeout(5)\n  try: s.connect(('127.0.0.1', 5000)); break\n  except ConnectionRefusedError: s.close(); time.sleep(.05)\ns.send(b'hello'); print(s.recv(9).decode())";
    let server = bench.subject(&["python3", "-c", server]);
    assert_eq!(bench.outsider(&["python3", "-c", client]).output(), "yes");
    assert_eq!(server.output(), "hello");
}

#[test]
fn a_namespace_of_the_subjects_own_has_no_way_out() {
    let bench = Bench::new();
    let script = r#"
import socket
s = socket.socket()
try: s.connect(("192.0.2.7", 443)); print("connected")
except OSError as e: print("error", e.errno)
"#;
    let program = bench.subject(&["unshare", "-Urn", "python3", "-c", script]);
    assert_eq!(program.output(), "error 1");
    assert_eq!(bench.refused().reason, Reason::NoListener);
}

#[test]
fn a_process_deeper_than_the_search_for_ancestors_is_a_subject() {
    let bench = Bench::new();
    let below = bench.cgroup().join("d/".repeat(40));
    std::fs::create_dir_all(&below).unwrap();
    let program = bench.in_cgroup(&below, &["python3", "-c", super::CONNECT, V4]);
    bench.accept();
    assert_eq!(program.output(), "peer 192.0.2.7 443");
}
