//! Connections that a subject had open before it was one.

use anyhow::{Context as _, Result};
use std::{
    collections::HashSet,
    ffi::OsStr,
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};
use test_case::test_case;
use tidegate::capture::connections::{self, Destinations, Owners, Report};
use tidegate_tests::{cgroup::Cgroup, netns::World, process::Process};

const LIMIT: Duration = Duration::from_secs(30);

/// Opens a connection to each address of its own accord, with a server of its own at the other end; says so with
/// the sockets' cookies; once its standard input ends, says what became of each: `open`, or the error's number.
const HOLD: &str = r#"
import os, select, socket, struct, sys
held = []
for to in sys.argv[1:]:
    kind, host, port = to.split("|")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if kind == "udp":
        s = socket.socket(family, socket.SOCK_DGRAM)
        s.connect((host, int(port)))
        held.append((s,))
    else:
        server = socket.socket(family)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, int(port)))
        server.listen()
        s = socket.socket(family)
        # Not the address that it connects to, or both ends would lead to it.
        s.bind(("203.0.113.9" if family == socket.AF_INET else "::ffff:203.0.113.9" if "." in host else "2001:db8::99", 0))
        s.connect((host, int(port)))
        held.append((s, server.accept()[0]))
print("up", *[struct.unpack("Q", c[0].getsockopt(socket.SOL_SOCKET, 57, 8))[0] for c in held], flush=True)
sys.stdin.read()
for c in held:
    s = c[0]
    s.settimeout(0.2)
    try:
        if len(c) == 2: s.sendall(b"x"); c[1].settimeout(5); assert c[1].recv(1) == b"x"
        s.recv(1); print("closed")
    except TimeoutError: print("open")
    except OSError as e: print(e.errno)
"#;

/// A program that holds connections.
struct Holder(Process);

impl Holder {
    fn start(mut command: Command, directory: &std::path::Path) -> Result<Self> {
        let mut process = Process::start(command.stdin(Stdio::piped()), directory)?;
        process.wait_for_output("\n", LIMIT)?;
        Ok(Self(process))
    }

    fn cookies(&self) -> Result<Vec<u64>> {
        let told = self.0.stdout()?;
        told.split_whitespace().skip(1).map(|cookie| Ok(cookie.parse()?)).collect()
    }

    /// What became of each connection.
    fn fates(mut self) -> Result<Vec<String>> {
        drop(self.0.take_stdin());
        let finished = self.0.finish(LIMIT)?;
        assert!(finished.status.success(), "{finished:?}");
        Ok(finished.text().lines().skip(1).map(str::to_owned).collect())
    }
}

struct Stage {
    world: World,
    subject: Cgroup,
}

impl Stage {
    fn new() -> Result<Self> {
        let world = World::new()?;
        let subject = world.cgroup().child("subject")?;
        Ok(Self { world, subject })
    }

    fn hold(&self, cgroup: &Cgroup, prefix: &[&str], to: &[&str]) -> Result<Holder> {
        let line = [prefix, &["python3", "-c", HOLD], to].concat();
        Holder::start(self.world.command_in(cgroup, &line), self.world.directory())
    }

    fn end(&self, spared: &HashSet<u64>) -> Result<Report> {
        let mut owners = Owners::new();
        owners.add_cgroup(self.subject.path())?;
        Ok(connections::end(&owners, &destinations()?, spared))
    }
}

fn destinations() -> Result<Destinations> {
    Ok(Destinations {
        ports: HashSet::from([443, 8443]),
        targeted: false,
        protected: HashSet::from(["192.0.2.1".parse()?]),
        forward_proxies: HashSet::from(["192.0.2.9:3128".parse()?]),
    })
}

/// ECONNABORTED, or EPIPE where the program wrote first.
const ENDED: [&str; 2] = ["103", "32"];

#[track_caller]
fn assert_ended(report: &Report, expected: usize) {
    assert!(report.problems.is_empty(), "{report:?}");
    assert_eq!((report.ended, report.failed), (expected, 0));
}

#[test_case("tcp|192.0.2.7|443", true; "ipv4")]
#[test_case("tcp|2001:db8::7|443", true; "ipv6")]
#[test_case("tcp|::ffff:192.0.2.7|8443", true; "mapped")]
#[test_case("tcp|127.0.0.1|443", true; "loopback")]
#[test_case("tcp|192.0.2.1|22", true; "another port of a protected address")]
#[test_case("tcp|::ffff:192.0.2.1|22", true; "another port of a protected address, mapped")]
#[test_case("tcp|192.0.2.9|3128", true; "forward proxy")]
#[test_case("udp|192.0.2.7|443", true; "quic")]
#[test_case("udp|2001:db8::7|443", true; "quic over ipv6")]
#[test_case("udp|::ffff:192.0.2.7|443", true; "quic, mapped")]
#[test_case("udp|192.0.2.1|53", true; "datagrams to a protected address")]
#[test_case("tcp|192.0.2.7|444", false; "port that is not captured")]
#[test_case("udp|192.0.2.7|53", false; "datagrams elsewhere")]
fn a_subjects_connection_ends_where_it_leads_past_the_gate(to: &str, ends: bool) -> Result<()> {
    let stage = Stage::new()?;
    let below = stage.subject.child("below")?;
    let subjects = [
        stage.hold(&stage.subject, &[], &[to])?,
        stage.hold(
            &below,
            &[
                "unshare",
                "--net",
                "sh",
                "-c",
                "
            ip link set lo up && ip route add local default dev lo && ip -6 route add local default dev lo
            echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind
            exec \"$0\" \"$@\"",
            ],
            &[to],
        )?,
    ];
    assert_ended(&stage.end(&HashSet::new())?, if ends { 2 } else { 0 });
    for subject in subjects {
        let fates = subject.fates()?;
        assert!(
            fates.len() == 1 && fates.iter().all(|fate| ends == ENDED.contains(&fate.as_str())),
            "{fates:?}"
        );
    }
    // Nothing is left to end.
    assert_ended(&stage.end(&HashSet::new())?, 0);
    stage.world.close()
}

#[test]
fn a_bystanders_connection_goes_on() -> Result<()> {
    let stage = Stage::new()?;
    let bystander = stage.hold(&stage.world.cgroup().child("bystander")?, &[], &["tcp|192.0.2.7|443"])?;
    let subject = stage.hold(&stage.subject, &[], &["tcp|192.0.2.8|443", "tcp|192.0.2.8|8443"])?;
    let spared = subject.cookies()?.get(1).copied().context("two cookies")?;
    assert_ended(&stage.end(&HashSet::from([spared]))?, 1);
    assert_eq!(bystander.fates()?, ["open"]);
    assert_eq!(subject.fates()?.last().map(String::as_str), Some("open"), "a spared one");
    stage.world.close()
}

/// The cgroup of a socket is where it was made, and it stays in nobody's when its process moves.
#[test]
fn a_connection_that_was_brought_into_the_cgroup_ends() -> Result<()> {
    let stage = Stage::new()?;
    let outside = stage.world.cgroup().child("outside")?;
    let program = stage.hold(&outside, &[], &["tcp|192.0.2.7|443"])?;
    assert_ended(&stage.end(&HashSet::new())?, 0);
    fs::write(stage.subject.path().join("cgroup.procs"), program.0.id().to_string())?;
    assert_ended(&stage.end(&HashSet::new())?, 1);
    assert_ne!(program.fates()?, ["open"]);
    stage.world.close()
}

#[test]
fn a_connection_whose_process_moved_out_ends() -> Result<()> {
    let stage = Stage::new()?;
    let outside = stage.world.cgroup().child("outside")?;
    let program = stage.hold(&stage.subject, &[], &["tcp|192.0.2.7|443"])?;
    // One more process, or nothing leads to the network namespace any more.
    let _stays = stage.hold(&stage.subject, &[], &[])?;
    fs::write(outside.path().join("cgroup.procs"), program.0.id().to_string())?;
    assert_ended(&stage.end(&HashSet::new())?, 1);
    assert_ne!(program.fates()?, ["open"]);
    stage.world.close()
}

const INSIDE: &str = "TIDEGATE_TEST_INSIDE";

#[test]
fn a_users_connections_outside_of_the_root_go_on() -> Result<()> {
    let stage = Stage::new()?;
    let others = stage.world.cgroup().child("others")?;
    let program = stage.hold(&stage.subject, &[], &["tcp|192.0.2.7|443"])?;
    let bystander = stage.hold(&others, &[], &["tcp|192.0.2.8|443"])?;
    let mut owners = Owners::new();
    owners.add_user(0, Some(stage.subject.path()))?;
    assert_ended(&connections::end(&owners, &destinations()?, &HashSet::new()), 1);
    assert_ne!(program.fates()?, ["open"]);
    assert_eq!(bystander.fates()?, ["open"]);
    stage.world.close()
}

/// A user's connections are looked for on the whole machine, so this test makes a small one: it runs itself again
/// with processes of its own, where `/proc` shows no others.
#[test]
fn a_users_connections_end_and_the_agents_own_go_on() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return users_connections();
    }
    let world = World::new()?;
    let program = std::env::current_exe()?;
    let name = "connections::a_users_connections_end_and_the_agents_own_go_on";
    let line = ["unshare", "--pid", "--fork", "--mount-proc", "--"].map(OsStr::new);
    let mut command = world.command(&line);
    command.arg(program).args(["--exact", name, "--nocapture"]).env(INSIDE, "1");
    let finished = Process::run(&mut command, world.directory(), LIMIT)?;
    assert!(finished.status.success() && finished.text().contains("1 passed"), "{finished:?}");
    world.close()
}

fn users_connections() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let hold = |prefix: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(prefix).args(["python3", "-c", HOLD, "tcp|192.0.2.7|443"]);
        Holder::start(command, directory.path())
    };
    let server = TcpListener::bind("192.0.2.8:443")?;
    let mut own = TcpStream::connect("192.0.2.8:443")?;
    let accepted = server.accept()?;
    let elsewhere: &[&str] = &[
        "unshare",
        "--net",
        "sh",
        "-c",
        "
        ip link set lo up && ip route add local default dev lo
            echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start
            exec setpriv --reuid 4711 --clear-groups \"$0\" \"$@\"",
    ];
    let program = hold(elsewhere)?;
    let root = hold(&["--clear-groups"])?;

    let mut owners = Owners::new();
    owners.add_user(4711, None)?;
    assert_ended(&connections::end(&owners, &destinations()?, &HashSet::new()), 1);
    assert_ne!(program.fates()?, ["open"]);

    owners.add_user(0, None)?;
    assert_ended(&connections::end(&owners, &destinations()?, &HashSet::new()), 1);
    assert_ne!(root.fates()?, ["open"]);
    own.write_all(b"still there")?;
    drop(accepted);
    Ok(())
}
