use super::*;
use std::collections::BTreeSet;
use test_case::test_case;

const WORD: &str = "0123456789abcdef";
const EPERM: i32 = 1;
const ECONNREFUSED: i32 = 111;
const EAFNOSUPPORT: i32 = 97;

fn attempt(kind: Kind, to: &str) -> Attempt {
    Attempt { kind, to: to.parse().unwrap() }
}

fn answered(text: &str) -> Outcome {
    Outcome::Answered { text: text.into() }
}

fn failed(errno: i32) -> Outcome {
    Outcome::Failed { errno }
}

#[test_case(Kind::Stream, "127.4.5.6:443", answered("0123456789abcdef 127.4.5.6:443\n"), true; "the gate's answer")]
#[test_case(Kind::Stream, "[::ffff:127.4.5.6]:443", answered("0123456789abcdef 127.4.5.6:443\n"), true; "mapped")]
#[test_case(Kind::Stream, "[::1]:443", answered("0123456789abcdef [::1]:443\n"), true; "ipv6")]
#[test_case(Kind::Stream, "127.4.5.6:443", answered("0123456789abcdee 127.4.5.6:443\n"), false; "another word")]
#[test_case(Kind::Stream, "127.4.5.6:443", answered("0123456789abcdef 127.4.5.7:443\n"), false; "another destination")]
#[test_case(Kind::Stream, "127.4.5.6:443", answered(""), false; "closed")]
#[test_case(Kind::Stream, "127.4.5.6:443", Outcome::Silence, false; "silent")]
#[test_case(Kind::Stream, "127.4.5.6:443", failed(ECONNREFUSED), false; "not captured")]
#[test_case(Kind::Stream, "127.4.5.6:443", failed(EPERM), false; "refused")]
#[test_case(Kind::Stream, "127.4.5.6:443", failed(EAFNOSUPPORT), false; "no ipv4")]
#[test_case(Kind::Stream, "[::ffff:127.4.5.6]:443", failed(EAFNOSUPPORT), true; "no ipv6")]
#[test_case(Kind::RefusedStream, "192.0.2.1:9", failed(EPERM), true; "another port")]
#[test_case(Kind::RefusedStream, "192.0.2.1:9", failed(ECONNREFUSED), false; "another port, refused from there")]
#[test_case(Kind::RefusedStream, "192.0.2.1:9", failed(0), false; "another port, nobody there")]
#[test_case(Kind::RefusedStream, "192.0.2.1:9", Outcome::Silence, false; "another port, connected")]
#[test_case(Kind::Datagram, "127.4.5.6:443", failed(EPERM), true; "datagram refused")]
#[test_case(Kind::Datagram, "127.4.5.6:443", Outcome::Sent, false; "datagram sent")]
#[test_case(Kind::ConnectedDatagram, "127.4.5.6:443", failed(EPERM), true; "connected datagram refused")]
#[test_case(Kind::ConnectedDatagram, "127.4.5.6:443", failed(ECONNREFUSED), false; "connected datagram sent before")]
fn an_outcome_is_judged(kind: Kind, to: &str, outcome: Outcome, is_good: bool) {
    let judged = judge(attempt(kind, to), outcome, WORD);
    assert_eq!(judged.is_ok(), is_good, "{judged:?}");
    if let Err(failure) = judged {
        assert!(failure.to_string().contains(to), "{failure}");
    }
}

fn plan(v4: bool, v6: bool, targeted: bool, protected: &[IpAddr]) -> Plan<'_> {
    Plan { namespace: None, v4, v6, ports: &[443, 9], targeted, protected }
}

fn destinations(plan: &Plan<'_>) -> BTreeSet<String> {
    let random: Vec<u8> = (0..16).collect();
    attempts(plan, &random).unwrap().iter().map(|attempt| attempt.to.to_string()).collect()
}

#[test_case(true, true, false, &["127.1.2.3:443", "[::1]:443", "[::ffff:127.1.2.3]:443"]; "both families")]
#[test_case(true, false, false, &["127.1.2.3:443", "[::ffff:127.1.2.3]:443"]; "ipv4")]
#[test_case(false, true, false, &["[::1]:443"]; "ipv6")]
#[test_case(false, false, false, &[]; "no listener")]
#[test_case(false, false, true, &[]; "no listener, targeted")]
fn what_has_a_listener_is_tried(v4: bool, v6: bool, targeted: bool, expected: &[&str]) {
    let expected = expected.iter().map(ToString::to_string).collect();
    assert_eq!(destinations(&plan(v4, v6, targeted, &[])), expected);
}

#[test]
fn other_ports_of_a_protected_address_are_tried() {
    let protected = ["::ffff:192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
    let tried = destinations(&plan(true, false, false, &protected));
    // 9 is captured here.
    assert!(tried.contains("192.0.2.1:10") && tried.len() == 3, "{tried:?}");
}

#[test]
fn in_targeted_mode_a_protected_address_is_tried_or_nothing_is_proven() {
    assert!(matches!(attempts(&plan(true, true, true, &[]), &[]), Err(Failure::NoTarget)));
    let protected = ["192.0.2.1".parse().unwrap()];
    let expected = ["192.0.2.1:443", "[::ffff:192.0.2.1]:443", "192.0.2.1:10"];
    assert_eq!(
        destinations(&plan(true, true, true, &protected)),
        expected.iter().map(ToString::to_string).collect()
    );
}

#[test_case(&[0, 0, 0], "127.1.1.1"; "lowest")]
#[test_case(&[253, 253, 253], "127.254.254.254"; "highest")]
#[test_case(&[254, 255, 255], "127.1.2.2"; "beyond")]
fn the_unused_address_is_an_ordinary_one(random: &[u8], expected: &str) {
    assert_eq!(unused_v4(random), expected.parse::<IpAddr>().unwrap());
}
