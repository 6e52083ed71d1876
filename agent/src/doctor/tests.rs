use super::*;
use std::{collections::BTreeSet, io};
use test_case::test_case;

#[test_case("A:\t1\nB:\t 2 \n", "B", Some("2"); "trimmed")]
#[test_case("Seccomp_filters:\t1\n", "Seccomp", None; "a longer name")]
#[test_case("B\n", "B", None; "no value")]
#[test_case("", "B", None; "empty")]
fn a_field_of_a_status_file_is_found(text: &str, name: &str, expected: Option<&str>) {
    assert_eq!(field(text, name), expected);
}

#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Outer {
    text: &'static str,
    source: io::Error,
}

#[test_case("cannot open", "cannot open: gone"; "a cause of its own")]
#[test_case("cannot open: gone", "cannot open: gone"; "a cause that is repeated")]
#[test_case("a\nb", "a b: gone"; "lines")]
fn an_error_is_told_in_one_line(text: &'static str, expected: &str) {
    assert_eq!(told(&Outer { text, source: io::Error::other("gone") }), expected);
}

#[test]
fn every_check_has_a_name_of_its_own_and_advice_unless_it_is_ok() {
    // What the machine answers depends on it; the form of the answer does not.
    let checks = examine(None);
    let names: BTreeSet<&str> = checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names.len(), checks.len());
    for check in &checks {
        assert_eq!(check.advice.is_none(), check.status == Status::Ok, "{check:?}");
        assert!(!check.seen.is_empty() && !check.seen.contains('\n'), "{check:?}");
    }
}
