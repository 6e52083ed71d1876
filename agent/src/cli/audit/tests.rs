use super::*;
use crate::cli::{Cli, Command};
use clap::Parser;
use std::fs;
use test_case::test_case;

const RECORDS: [&str; 5] = [
    r#"{"timestamp":"2026-11-22T10:00:00.000001Z","tidegate.phase":"outcome","tidegate.workload":"ci","tidegate.decision":"allow","tidegate.verdict":"forwarded","tidegate.reason":"scopes_allowed","tidegate.rule":"allow[0]","http.request.method":"GET","url.path":"/v2/droplets","url.query":"page=2","http.response.status_code":200,"tidegate.filtered":["/a"]}"#,
    r#"{"timestamp":"2026-11-22T10:00:01.000001Z","tidegate.phase":"intent","tidegate.workload":"ci","tidegate.decision":"allow","tidegate.reason":"scopes_allowed","http.request.method":"POST","url.path":"/v2/tags"}"#,
    r#"{"timestamp":"2026-11-22T10:00:02.000001Z","tidegate.phase":"outcome","tidegate.workload":"bots","tidegate.decision":"deny","tidegate.verdict":"refused","tidegate.reason":"missing_scope","tidegate.rule":"default","tidegate.scopes.missing":["droplet:delete"],"http.request.method":"DELETE","url.path":"/v2/droplets/\u001b[2J","http.response.status_code":403}"#,
    r#"{"timestamp":"2026-11-22T10:00:03.000001Z","tidegate.phase":"outcome","tidegate.workload":"ci+bots","tidegate.decision":"deny","tidegate.verdict":"would_refuse","tidegate.reason":"missing_scope","tidegate.count":3,"destination.address":"192.0.2.1","destination.port":443}"#,
    r#"{"tidegate.phase":"checkpoint"}"#,
];

fn args(line: &str) -> AuditArgs {
    let words = ["tidegate", "audit"].into_iter().chain(line.split_whitespace());
    let Command::Audit(args) = Cli::try_parse_from(words).unwrap().command else { panic!("{line}") };
    args
}

fn shown(line: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    fs::write(&path, RECORDS.join("\n") + "\n{\"torn").unwrap();
    let mut out = Vec::new();
    run(&args(&format!("{} {line}", path.display())), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_table_says_who_what_and_why() {
    let expected = "\
TIME (UTC)           WORKLOAD        ANSWER   STATUS  REQUEST                                       WHY
2026-11-22 10:00:00  ci              allow    200     GET /v2/droplets?page=2                       scopes_allowed, removed /a, by allow[0]
2026-11-22 10:00:02  bots            deny     403     DELETE /v2/droplets/\\u{1b}[2J                 missing_scope: droplet:delete
2026-11-22 10:00:03  ci+bots         dry-run  -       192.0.2.1:443 (3 times)                       missing_scope
";
    assert_eq!(shown(""), expected);
}

#[test_case("--json", &[0, 2, 3]; "all outcomes")]
#[test_case("--json --denied", &[2, 3]; "denied")]
#[test_case("--json --workload bots", &[2, 3]; "of a workload")]
#[test_case("--json --workload bot", &[]; "of no workload")]
#[test_case("--json --denied --workload ci", &[3]; "both")]
fn records_are_chosen(line: &str, expected: &[usize]) {
    let expected: String = expected.iter().map(|index| format!("{}\n", RECORDS[*index])).collect();
    assert_eq!(shown(line), expected);
}

#[test]
fn a_log_that_is_followed_is_read_on_and_across_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    fs::write(&path, "one\ntw").unwrap();
    let mut lines = Lines::open(&path, true).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), b"one");
    let append = |text: &str| {
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    append("o\nthree\n");
    assert_eq!(lines.next().unwrap().unwrap(), b"two");
    fs::rename(&path, folder.path().join("audit.jsonl.1")).unwrap();
    fs::write(&path, "four\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), b"three");
    assert_eq!(lines.next().unwrap().unwrap(), b"four");
    fs::write(&path, "5\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), b"5");
}

#[test]
fn a_log_that_was_changed_is_told_with_exit_status_1() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    fs::write(&path, format!("{}\n", RECORDS[0])).unwrap();
    let mut out = Vec::new();
    let status = run(&args(&format!("verify {}", path.display())), &mut out).unwrap();
    let told = String::from_utf8(out).unwrap();
    assert_eq!(status, 1);
    assert!(told.contains("audit.jsonl:1: a record that no tidegate has written"), "{told}");
    assert!(told.ends_with("The log was changed.\n"), "{told}");
    assert!(run(&args("verify /nonexistent/log"), &mut Vec::new()).is_err());
}

fn drawn(width: Option<usize>, has_colours: bool) -> String {
    let (mut table, mut out) = (Table::new(has_colours, width), Vec::new());
    for line in [RECORDS[0], RECORDS[2], RECORDS[3]] {
        table.row(&serde_json::from_str(line).unwrap(), &mut out).unwrap();
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn a_narrow_terminal_gets_two_lines_for_a_record() {
    let expected = "\
TIME (UTC)      WORKLOAD      ANSWER   REQUEST, AND WHY
11-22 10:00:00  ci            allow    GET /v2/droplets?page=2
                200 scopes_allowed, removed /a, by allow[0]
11-22 10:00:02  bots          deny     DELETE /v2/droplets/\\u{1b}[…
                403 missing_scope: droplet:delete
11-22 10:00:03  ci+bots       dry-run  192.0.2.1:443 (3 times)
                - missing_scope
";
    assert_eq!(drawn(Some(67), false), expected);
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    use unicode_width::UnicodeWidthStr;
    for width in 50..220 {
        for line in drawn(Some(width), false).lines() {
            assert!(line.width() <= width, "{width}: {line}");
        }
    }
    let coloured = drawn(Some(220), true);
    assert!(coloured.contains("\u{1b}[31mdeny   \u{1b}[0m  403 "), "{coloured}");
    assert!(coloured.contains("missing_scope: droplet:delete\n"), "{coloured}");
}

#[test_case("abc", 5, 9, "abc  "; "padded")]
#[test_case("abcdef", 0, 4, "abc…"; "cut")]
#[test_case("名前名前", 0, 4, "名…"; "wide characters")]
#[test_case("名前", 6, 9, "名前  "; "wide characters padded")]
#[test_case("abc", 0, 0, "…"; "no room")]
fn texts_are_fitted(text: &str, least: usize, most: usize, expected: &str) {
    assert_eq!(table::fitted(text, least, most), expected);
}

#[test_case("auto", true, None, "xterm", true; "terminal")]
#[test_case("auto", false, None, "xterm", false; "pipe")]
#[test_case("auto", true, Some("1"), "xterm", false; "not wanted")]
#[test_case("auto", true, Some(""), "xterm", true; "not unwanted")]
#[test_case("auto", true, None, "dumb", false; "dumb terminal")]
#[test_case("always", false, Some("1"), "dumb", true; "always")]
#[test_case("never", true, None, "xterm", false; "never")]
fn colours_are_shown_where_they_can_be(
    when: &str,
    is_terminal: bool,
    no_color: Option<&str>,
    terminal: &str,
    expected: bool,
) {
    let variable = |name: &str| if name == "TERM" { Some(terminal.into()) } else { no_color.map(Into::into) };
    assert_eq!(args(&format!("--color {when}")).color.are_shown(is_terminal, variable), expected);
}
