//! Who is a subject, by which of its marks, and what takes a mark along.

use super::{
    CONNECT, V4,
    bench::{Bench, Program},
};
use std::{os::unix::fs::MetadataExt, path::PathBuf};
use tidegate::{capture::maps::Sticky, reason::Reason};
use tidegate_ebpf_common::{Executable, NO_UID, Origin};

const REDIRECTED: &str = "peer 192.0.2.7 443";
/// Nobody listens at the captured port, so that what is not redirected is refused by the machine itself.
const NOT_TOUCHED: &str = "error 111";

fn below(bench: &Bench, name: &str) -> PathBuf {
    let path = bench.cgroup().join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Becomes the user and connects.
fn connect_as(bench: &Bench, user: u32) -> Program {
    // The interpreter may lie where only root reads, so that it finds its modules first.
    let script = format!("import os, socket, sys\nos.setgid({user}); os.setuid({user})\n{CONNECT}");
    bench.subject(&["python3", "-c", &script, V4])
}

fn connect_in(bench: &Bench, cgroup: &std::path::Path) -> String {
    bench.in_cgroup(cgroup, &["python3", "-c", CONNECT, V4]).output()
}

#[test]
fn a_users_processes_are_subjects_wherever_they_are() {
    let bench = Bench::without_subjects();
    bench.lists().subjects.add_users(&(4242..=4242)).unwrap();
    let program = connect_as(&bench, 4242);
    let captured = bench.accept();
    assert_eq!((captured.flow.origin.uid, captured.flow.origin.cgroup_id), (4242, 0));
    assert_eq!(program.output(), REDIRECTED);
    assert_eq!(connect_as(&bench, 4243).output(), NOT_TOUCHED);
    bench.lists().subjects.forget_users(&(4242..=4242)).unwrap();
    assert_eq!(connect_as(&bench, 4242).output(), NOT_TOUCHED);
}

#[test]
fn a_flow_names_the_listed_cgroup_and_the_callers_own() {
    let bench = Bench::new();
    let inner = below(&bench, "a/b");
    let program = bench.in_cgroup(&inner, &["python3", "-c", CONNECT, V4]);
    let captured = bench.accept();
    program.output();
    assert_eq!(captured.flow.cgroup_id, std::fs::metadata(inner).unwrap().ino());
    assert_eq!((captured.flow.origin.cgroup_id, captured.flow.origin.uid), (bench.cgroup_id(), NO_UID));
}

#[test]
fn a_cgroup_below_a_watched_one_is_a_subject_until_it_is_resolved() {
    let bench = Bench::without_subjects();
    bench.lists().subjects.watch(bench.cgroup()).unwrap();
    // The watched one itself is known.
    assert_eq!(connect_in(&bench, bench.cgroup()), NOT_TOUCHED);

    let new = below(&bench, "new");
    let id = std::fs::metadata(&new).unwrap().ino();
    let program = bench.in_cgroup(&new, &["python3", "-c", CONNECT, V4]);
    assert_eq!(bench.accept().flow.origin.cgroup_id, id);
    assert_eq!(program.output(), REDIRECTED);

    bench.lists().subjects.resolve(id).unwrap();
    assert_eq!(connect_in(&bench, &new), NOT_TOUCHED);

    // What comes below a resolved one is new again.
    let program = bench.in_cgroup(&below(&bench, "new/newer"), &["python3", "-c", CONNECT, V4]);
    bench.accept();
    assert_eq!(program.output(), REDIRECTED);

    bench.lists().subjects.add(&new).unwrap();
    let program = bench.in_cgroup(&new, &["python3", "-c", CONNECT, V4]);
    bench.accept();
    assert_eq!(program.output(), REDIRECTED);

    bench.lists().subjects.forget(id).unwrap();
    // What is not listed any more is forgotten.
    bench.lists().subjects.forget(id).unwrap();
    let program = bench.in_cgroup(&new, &["python3", "-c", CONNECT, V4]);
    bench.accept();
    assert_eq!(program.output(), REDIRECTED, "forgotten is unresolved again");
}

/// Makes a socket, hands it to whoever listens at $1, and waits.
const HAND_OVER: &str = r#"
import socket, sys, time
s = socket.socket()
u = socket.socket(socket.AF_UNIX)
for _ in range(200):
    try: u.connect(sys.argv[1]); break
    except OSError: time.sleep(.05)
socket.send_fds(u, [b"x"], [s.fileno()])
u.recv(1)
"#;

/// Takes a socket from a stranger and connects it.
const TAKE: &str = r#"
import socket, sys
u = socket.socket(socket.AF_UNIX)
u.bind(sys.argv[1]); u.listen(1)
c = u.accept()[0]
s = socket.socket(fileno=socket.recv_fds(c, 1, 1)[1][0])
try: s.connect(("192.0.2.7", 443)); print("peer", *s.getpeername())
except OSError as e: print("error", e.errno)
"#;

#[test]
fn a_socket_that_a_subject_made_and_passed_on_stays_its_own() {
    let bench = Bench::without_subjects();
    let (inside, outside) = (below(&bench, "inside"), below(&bench, "outside"));
    let id = bench.lists().subjects.add(&inside).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let meeting = directory.path().join("meeting").display().to_string();
    let taker = bench.in_cgroup(&outside, &["python3", "-c", TAKE, &meeting]);
    let giver = bench.in_cgroup(&inside, &["python3", "-c", HAND_OVER, &meeting]);
    let captured = bench.accept();
    assert_eq!(captured.flow.tgid, taker.id());
    assert_eq!(captured.flow.origin.cgroup_id, id);
    assert_eq!(taker.output(), REDIRECTED);
    giver.output();
}

/// Connects, says so, waits for a line, and sends.
const CONNECT_THEN_SEND: &str = r#"
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.create_connection((sys.argv[1], 443))
print("connected", flush=True)
sys.stdin.readline()
s.send(b"late")
"#;

#[test_case::test_case("192.0.2.7", "0.0.0.0"; "ipv4")]
#[test_case::test_case("2001:db8::7", "::"; "ipv6")]
#[test_case::test_case("::ffff:192.0.2.7", "0.0.0.0"; "mapped ipv6")]
fn nothing_leaves_on_a_connection_from_before(to: &str, at: &str) {
    let bench = Bench::without_subjects();
    let (server, _) = bench.server_at(at, 443);
    let mut program = bench.talking(&["python3", "-c", CONNECT_THEN_SEND, to]);
    let mut connection = bench.accepted(&server);
    assert_eq!(program.line(), "connected");
    bench.lists().subjects.add(bench.cgroup()).unwrap();
    program.say("go");
    let refused = bench.refused();
    assert_eq!((refused.reason, refused.destination.0.port()), (Reason::NotThroughProxy, 443));
    assert_eq!(bench.received(&mut connection), None);
}

#[test]
fn a_socket_of_the_agents_own_is_never_judged() {
    let bench = Bench::new();
    let (server, _) = bench.server_at("0.0.0.0", 443);
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::empty(),
        None,
    )
    .unwrap();
    bench.lists().exempt.add(&socket).unwrap();
    let script = "import socket\ns = socket.socket(fileno=0)\ns.connect(('192.0.2.7', 443))\ns.send(b'own')\nprint('peer', *s.getpeername())";
    let program = bench.with_input(socket, &["python3", "-c", script]);
    let mut connection = bench.accepted(&server);
    assert_eq!(bench.received(&mut connection).as_deref(), Some(&b"own"[..]));
    assert_eq!(program.output(), REDIRECTED);
    bench.assert_nothing_arrived();
}

#[test]
fn a_bit_that_meant_another_program_holds_its_thread_to_all() {
    let bench = Bench::without_subjects();
    let mut lists = bench.lists();
    let file = |inode| Executable { inode, device: 1, reserved: 0 };
    let origin = |executables| Origin { cgroup_id: 7, uid: NO_UID, executables };
    lists.sticky.follow_executables(&[(file(1), 0), (file(2), 1)]).unwrap();
    lists.sticky.add(4_000_001, origin(0)).unwrap();
    lists.sticky.add(4_000_002, origin(1)).unwrap();
    let bits = |sticky: &Sticky| {
        let mut threads = sticky.threads().unwrap();
        threads.sort_by_key(|(tid, _)| *tid);
        threads.into_iter().map(|(_, origin)| origin.executables).collect::<Vec<_>>()
    };
    lists.sticky.follow_executables(&[(file(1), 0), (file(2), 1), (file(3), 2)]).unwrap();
    assert_eq!(bits(&lists.sticky), [0, 1], "one that is added changes nothing");
    lists.sticky.follow_executables(&[(file(2), 0)]).unwrap();
    assert_eq!(bits(&lists.sticky), [0, u32::MAX]);
}
