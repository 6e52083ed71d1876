//! Every known way past tidegate, tried for real under `tidegate daemon`: unprivileged, and as root without the
//! capabilities of an administrator. Needs root.
//!
//! Each asserts that nothing reached the API but through the proxy, and that the audit log says what was refused.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, too"
)]

#[path = "escape/attempts.rs"]
mod attempts;
#[path = "escape/chaos.rs"]
mod chaos;
mod pinned;
#[path = "escape/prison.rs"]
mod prison;

use attempts::{ATTEMPTS, STICKY, markdown};
use prison::{Prison, Who};
use std::{thread, time::Duration};
use test_case::test_case;

const DOCUMENT: &str = include_str!("../docs/escapes.md");

#[test]
fn the_document_lists_every_attempt_and_what_becomes_of_it() {
    for attempts in [ATTEMPTS, STICKY] {
        let table = markdown(attempts);
        assert!(DOCUMENT.contains(&table), "docs/escapes.md must hold:\n{table}");
    }
}

#[test_case(Who::User; "unprivileged")]
#[test_case(Who::Root; "as root")]
fn no_attempt_reaches_the_api(who: Who) {
    let prison = Prison::new().unwrap();
    let mut failures = Vec::new();
    for attempt in ATTEMPTS {
        let expected = attempt.expected(who);
        let before = prison.records().len();
        let outcome = prison.attempt(who, attempt.name, &[]);
        println!("| {:24} | {who:?} | {outcome}", attempt.name);
        if !expected.outcomes.iter().any(|known| outcome.starts_with(known)) {
            failures.push(format!("{}: {outcome}, not one of {:?}", attempt.name, expected.outcomes));
        }
        if let Some(reason) = expected.reason
            && !prison.comes_to_record(before, reason)
        {
            let records = prison.records().split_off(before);
            failures.push(format!("{}: no record says {reason}: {records:#?}", attempt.name));
        }
    }
    failures.extend(prison.leaks());
    assert!(failures.is_empty(), "{}\n{}", failures.join("\n"), prison.log());
}

#[test_case(Who::User; "unprivileged")]
#[test_case(Who::Root; "as root")]
fn no_attempt_reaches_the_api_while_the_agent_is_gone(who: Who) {
    let mut prison = Prison::new().unwrap();
    prison.kill_agent();
    let mut failures = Vec::new();
    for attempt in ATTEMPTS {
        let outcome = prison.attempt(who, attempt.name, &["patience=1", "burst=1000"]);
        if outcome.starts_with("leaked") || outcome.starts_with("answered") {
            failures.push(format!("{}: {outcome}", attempt.name));
        }
    }
    failures.extend(prison.leaks());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test_case(Who::User; "unprivileged")]
#[test_case(Who::Root; "as root")]
fn no_attempt_reaches_the_api_when_the_agent_dies_in_its_middle(who: Who) {
    let mut prison = Prison::new().unwrap();
    let mut failures = Vec::new();
    for attempt in ATTEMPTS.iter().filter(|attempt| attempt.has_middle) {
        let outcome = prison.attempt_across_a_kill(who, attempt.name);
        if outcome.starts_with("leaked") || outcome.starts_with("answered 2") {
            failures.push(format!("{}: {outcome}", attempt.name));
        }
        prison.start_agent().unwrap();
    }
    failures.extend(prison.leaks());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn connects_fail_at_once_while_the_agent_is_gone() {
    let mut prison = Prison::new().unwrap();
    prison.kill_agent();
    for port in [443, 8443, 80] {
        let milliseconds = prison.milliseconds_to_fail(port);
        assert!(milliseconds < 100.0, "port {port}: {milliseconds} ms");
    }
}

#[test]
fn a_connection_from_before_the_workload_was_one_is_ended() {
    let mut prison = Prison::with_early_connection().unwrap();
    let outcome = prison.finish_early_connection();
    assert!(outcome.starts_with("refused") || outcome == "closed", "{outcome}");
    assert_eq!(prison.leaks(), Vec::<String>::new());
}

/// These need tracepoints, which are attached to the whole machine: only where the machine is the test's own.
#[test_case(Who::Root; "as root")]
#[ignore = "attaches to the whole machine: `cargo xtask vm` runs it"]
fn a_subject_stays_one_wherever_it_goes(who: Who) {
    let prison = Prison::with_sticky_tags().unwrap();
    let mut failures = Vec::new();
    for attempt in STICKY {
        let expected = attempt.expected(who);
        let outcome = prison.attempt(who, attempt.name, &[]);
        println!("| {:24} | {who:?} | {outcome}", attempt.name);
        if !expected.outcomes.iter().any(|known| outcome.starts_with(known)) {
            failures.push(format!("{}: {outcome}, not one of {:?}", attempt.name, expected.outcomes));
        }
    }
    failures.extend(prison.leaks());
    assert!(failures.is_empty(), "{}\n{}", failures.join("\n"), prison.log());
}

#[test]
fn an_attempt_that_nobody_holds_back_does_reach_the_api() {
    // The proof that the other tests could fail.
    let prison = Prison::without_workload().unwrap();
    for name in ["by-address", "by-ipv6", "other-port", "quic", "udp-other-port", "plain-port-80"] {
        let outcome = prison.attempt(Who::User, name, &[]);
        assert!(outcome.starts_with("leaked"), "{name}: {outcome}");
    }
    thread::sleep(Duration::from_millis(100));
    assert!(prison.leaks().len() >= 5, "{:?}", prison.leaks());
}
