//! The canary notices whatever a subject could slip through.

use super::bench::Bench;
use std::{
    fs::File,
    net::IpAddr,
    os::fd::AsFd,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use test_case::test_case;
use tidegate::capture::canary::{Canary, Failure, Plan};
use tidegate_tests::programs;

/// An address that is protected in these tests.
const PROTECTED: &str = "192.0.2.1";

struct Cage {
    bench: Bench,
    canary: Canary,
    answers: bool,
}

impl Cage {
    fn new() -> Self {
        let cage = Self::unlisted();
        cage.bench.lists().subjects.add(cage.canary.cgroup()).unwrap();
        cage
    }

    fn unlisted() -> Self {
        let bench = Bench::without_subjects();
        let program = programs::built("tidegate").unwrap();
        let canary = Canary::with_program(bench.cgroup(), program).unwrap();
        bench.lists().protected.add(PROTECTED.parse().unwrap()).unwrap();
        Self { bench, canary, answers: true }
    }

    fn probe(&self) -> Result<usize, Failure> {
        self.probe_for(&[PROTECTED.parse().unwrap()], None)
    }

    /// Answers how many connections the gate took.
    fn probe_for(&self, protected: &[IpAddr], namespace: Option<&File>) -> Result<usize, Failure> {
        let namespace = namespace.map(AsFd::as_fd);
        let plan = Plan { namespace, v4: true, v6: true, ports: &[443], targeted: false, protected };
        let (canary, done) = (&self.canary, AtomicBool::new(false));
        std::thread::scope(|scope| {
            // A thread of this one's namespaces.
            let probing = scope.spawn(|| {
                let probed = canary.probe(&plan);
                done.store(true, Ordering::Release);
                probed
            });
            let mut answered = 0;
            while !done.load(Ordering::Acquire) {
                if !self.answers {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                }
                let Some(captured) = self.bench.accept_within(Duration::from_millis(5)) else { continue };
                assert!(canary.is_own(&captured.flow));
                assert_eq!((captured.flow.uid, captured.flow.gid), (65_534, 65_534), "without privileges");
                self.bench.within(canary.answer(captured));
                answered += 1;
            }
            probing.join().unwrap().map(|()| answered)
        })
    }
}

#[test]
fn a_canary_that_lands_on_the_gate_proves_it() {
    let cage = Cage::new();
    for _ in 0..2 {
        assert_eq!(cage.probe().unwrap(), 3, "ipv4, mapped, ipv6");
    }
    // What another subject connects is not the canary's.
    cage.bench.lists().subjects.add(cage.bench.cgroup()).unwrap();
    let program = cage.bench.subject(&["python3", "-c", super::CONNECT, super::V4]);
    assert!(!cage.canary.is_own(&cage.bench.accept().flow));
    program.output();
    assert_eq!(cage.probe().unwrap(), 3, "below another subject");
    // The next agent takes the cgroup as it is, and who releases removes it.
    assert_eq!(Canary::new(cage.bench.cgroup()).unwrap().cgroup(), cage.canary.cgroup());
    for _ in 0..2 {
        Canary::remove(cage.bench.cgroup()).unwrap();
        assert!(!cage.canary.cgroup().exists());
    }
}

#[test_case(&["connect4"], "a TCP connection to 127."; "ipv4 connects")]
#[test_case(&["connect6"], "a TCP connection to [::"; "ipv6 connects")]
#[test_case(&["connect4", "egress"], "Connection refused"; "ipv4 connects, and nothing behind")]
#[test_case(&["connect6", "egress"], "Connection refused"; "ipv6 connects, and nothing behind")]
#[test_case(&["join"], "did not come to this agent"; "the join of connections with their flows")]
#[test_case(&["egress"], "a datagram of a connected UDP socket to "; "the backstop")]
#[test_case(&["sendmsg4", "egress"], "a UDP datagram to 127."; "ipv4 datagrams")]
fn a_hook_that_is_gone_is_noticed(hooks: &[&str], told: &str) {
    let cage = Cage::new();
    hooks.iter().for_each(|hook| cage.bench.detach(hook));
    let failure = cage.probe().unwrap_err().to_string();
    assert!(failure.contains(told), "{failure}");
}

#[test]
fn a_server_that_answers_in_the_gates_place_is_noticed() {
    let cage = Cage::new();
    ["connect4", "egress"].iter().for_each(|hook| cage.bench.detach(hook));
    let server = std::net::TcpListener::bind("0.0.0.0:443").unwrap();
    std::thread::spawn(move || {
        use std::io::Write;
        for stream in server.incoming() {
            let _ = stream.unwrap().write_all(b"0123456789abcdef0123456789abcdef 127.0.0.1:443\n");
        }
    });
    let failure = cage.probe().unwrap_err();
    assert!(failure.to_string().ends_with("somebody else answered"), "{failure}");
}

#[test]
fn a_canary_that_is_no_subject_is_noticed() {
    let failure = Cage::unlisted().probe().unwrap_err();
    assert!(failure.to_string().contains("Connection refused"), "{failure}");
}

#[test]
fn a_gate_that_does_not_answer_is_noticed() {
    let cage = Cage { answers: false, ..Cage::new() };
    let failure = cage.probe().unwrap_err();
    assert!(failure.to_string().ends_with("it was connected and got no answer"), "{failure}");
}

#[test]
fn a_protected_address_that_the_kernel_side_does_not_know_is_noticed() {
    let cage = Cage::new();
    let failure = cage.probe_for(&["192.0.2.2".parse().unwrap()], None).unwrap_err();
    assert!(matches!(&failure, Failure::NotRefused { attempt, .. } if attempt.to.port() == 9), "{failure}");
}

#[test]
fn each_network_namespace_is_tried_by_itself() {
    let cage = Cage::new();
    let own = File::open("/proc/thread-self/ns/net").unwrap();
    assert_eq!(cage.probe_for(&[], Some(&own)).unwrap(), 3);
    // One that the kernel side knows no listener of.
    let script = "ip link set lo up && echo up && read -r line";
    let mut elsewhere = Command::new("unshare")
        .args(["--net", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(elsewhere.stdout.take().unwrap()), &mut line)
        .unwrap();
    let namespace = File::open(format!("/proc/{}/ns/net", elsewhere.id())).unwrap();
    let failure = cage.probe_for(&[], Some(&namespace)).unwrap_err();
    assert!(failure.to_string().contains("Operation not permitted"), "{failure}");
    drop(elsewhere.stdin.take());
    elsewhere.wait().unwrap();
}

#[test]
fn a_subject_that_is_not_listed_is_noticed() {
    use tidegate::capture::standing::compare;
    let bench = Bench::without_subjects();
    let [one, other] = ["one", "other"].map(|name| {
        let cgroup = bench.cgroup().join(name);
        std::fs::create_dir(&cgroup).unwrap();
        cgroup
    });
    let gone = bench.cgroup().join("gone");
    let wanted = [one.clone(), other.clone(), gone];
    bench.lists().subjects.add(&one).unwrap();
    bench.lists().subjects.add_users(&(4711..=4711)).unwrap();
    let told =
        |users: &[u32]| compare(&wanted, users, &bench.lists().subjects).map_err(|error| error.to_string());
    assert!(told(&[4711]).unwrap_err().contains(&format!(
        "1 of 4 subjects are not listed with the kernel, first the cgroup `{}`",
        other.display()
    )));
    // To be looked through is not to be a subject.
    bench.lists().subjects.watch(&other).unwrap();
    assert!(told(&[4711]).is_err());
    bench.lists().subjects.add(&other).unwrap();
    told(&[4711]).unwrap();
    assert!(told(&[4711, 4712]).unwrap_err().ends_with("first the user 4712"));
}
