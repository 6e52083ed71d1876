use super::*;
use crate::{
    cli::top::source::seconds,
    health::{Part, Problem, status},
};
use ratatui::{Terminal, backend::TestBackend};
use std::time::{Duration, UNIX_EPOCH};
use test_case::test_case;

const HOSTILE: &str = r#"{"timestamp":"2026-11-22T10:00:06.000001Z","tidegate.phase":"outcome","tidegate.workload":"bots\u001b]0;x\u0007","tidegate.policy":"none","tidegate.decision":"deny","tidegate.verdict":"refused","tidegate.reason":"unknown_operation","http.request.method":"GET","url.path":"/v2/\u001b[2J\u202e\u0000名前","http.response.status_code":403,"tidegate.duration_us.total":812}"#;

fn record(second: u64, workload: &str, answer: &str, request: &str, milliseconds: u64) -> String {
    let (decision, verdict, reason, status) = match answer {
        "allow" => ("allow", "forwarded", "scopes_allowed", 200),
        "pass" => ("allow", "passed", "not_protected", 200),
        "dry-run" => ("deny", "would_refuse", "missing_scope", 200),
        _ => ("deny", "refused", "missing_scope", 403),
    };
    let (method, path) = request.split_once(' ').unwrap();
    let missing = if decision == "deny" { r#","tidegate.scopes.missing":["droplet:delete"]"# } else { "" };
    let operation = path.trim_start_matches("/v2/").replace('/', "_");
    format!(
        r#"{{"timestamp":"2026-11-22T10:00:{second:02}.000001Z","tidegate.phase":"outcome","tidegate.workload":"{workload}","tidegate.policy":"read-only","tidegate.decision":"{decision}","tidegate.verdict":"{verdict}","tidegate.reason":"{reason}"{missing},"tidegate.operation":"{operation}","http.request.method":"{method}","url.path":"{path}","http.response.status_code":{status},"tidegate.duration_us.total":{milliseconds}000}}"#
    )
}

/// At 10:00:08 of a short history.
fn model() -> (Model, i64) {
    let now = seconds(UNIX_EPOCH + Duration::from_secs(1_795_341_608));
    let mut model = Model::default();
    let records = [
        record(0, "ci", "allow", "GET /v2/droplets", 120),
        record(1, "ci", "allow", "GET /v2/account", 31),
        record(2, "ci", "deny", "DELETE /v2/droplets/7", 2),
        record(3, "ci", "deny", "DELETE /v2/droplets/8", 1),
        record(4, "deploy", "dry-run", "POST /v2/tags", 2_450),
        record(5, "deploy", "pass", "GET /v2/registry", 15),
        HOSTILE.to_owned(),
    ];
    for line in records {
        model.add(Decision::of(line.as_bytes()).unwrap(), now);
    }
    (model, now)
}

fn well() -> Daemon {
    Daemon::Here(Box::new(Status {
        version: "1.2.3".into(),
        up_seconds: 3_700,
        healthy: true,
        counters: Counters { redirected: 120, open: 3, refused: 4, ..Counters::default() },
        ..Status::default()
    }))
}

fn drawn(view: &View, daemon: &Daemon, (width, height): (u16, u16)) -> TestBackend {
    let (model, now) = model();
    let log = Path::new("/var/log/tidegate/audit.jsonl");
    let screen = Screen { model: &model, view, daemon, log, trouble: None, now };
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| frame.render_widget(&screen, frame.area())).unwrap();
    let text = plain(&screen, Rect::new(0, 0, width, height));
    assert_eq!(text.lines().count(), usize::from(height));
    assert!(!text.chars().any(|char| char.is_control() && char != '\n'), "{text:?}");
    terminal.backend().clone()
}

/// The rows of the picture, without the blanks at their ends.
fn rows(backend: &TestBackend) -> String {
    let shown = backend.to_string();
    let rows = shown.lines().map(|row| row.trim_matches('"').trim_end().to_owned() + "\n");
    rows.collect()
}

#[test]
fn a_usual_terminal_shows_everything() {
    let expected = "\
tidegate top  daemon 1.2.3: healthy, up 1 h 1 min
3 open, 120 redirected, 4 refused by the kernel side, 0 lost
7 decisions since 10:00:00 in /var/log/tidegate/audit.jsonl
Workloads───────────────────────────────────────────────────────────────────────
WORKLOAD   POLICY      REQ/S ALLOWED REFUSED DRY-RUN  PASSED LAST REFUSAL
ci         read-only     0.4       2       2       0       0 10:00:03 missing_sc
deploy     read-only     0.2       0       0       1       1 10:00:04 missing_sc
bots\\u{1b} none          0.1       0       1       0       0 10:00:06 unknown_op
Most refused──────────────────────────── Slowest────────────────────────────────
     1 bots\\u{1b}]0;x\\u{7} GET /v2/\\u{1b    2.4 s deploy POST /v2/tags
     1 ci droplets_7                       120 ms ci GET /v2/droplets
     1 ci droplets_8                        31 ms ci GET /v2/account
     1 deploy tags                          15 ms deploy GET /v2/registry
                                             2 ms ci DELETE /v2/droplets/7
Decisions, the newest first─────────────────────────────────────────────────────
10:00:06 bots\\u{1b}]0 deny    GET /v2/\\u{1b}[2J\\u{202e}\\u 403 unknown_operation
10:00:05 deploy       pass    GET /v2/registry            200 not_protected
10:00:04 deploy       dry-run POST /v2/tags               200 missing_scope: dro
10:00:03 ci           deny    DELETE /v2/droplets/8       403 missing_scope: dro
10:00:02 ci           deny    DELETE /v2/droplets/7       403 missing_scope: dro
10:00:01 ci           allow   GET /v2/account             200 scopes_allowed
10:00:00 ci           allow   GET /v2/droplets            200 scopes_allowed

q quit  ↑↓ workload  d refusals  p pause  c clear  ? help
";
    assert_eq!(rows(&drawn(&View::default(), &well(), (80, 24))), expected);
}

#[test]
fn a_small_terminal_shows_what_matters() {
    let view = View { selected: Some("ci".into()), only_refused: true, ..View::default() };
    let expected = "\
tidegate top  no daemon: a log alone

7 decisions since 10:00:00 in /var/log/t
Workloads───────────────────────────────
WORKLOAD           REQ/S ALLOWED REFUSED
ci                   0.4       2       2
deploy               0.2       0       0
Refusals of ci, the newest first────────
10:00:03 deny    DELETE /v2/droplets/8
10:00:02 deny    DELETE /v2/droplets/7

q quit  ↑↓ workload  d refusals  p pause
";
    assert_eq!(rows(&drawn(&view, &Daemon::NotAsked, (40, 12))), expected);
}

#[test]
fn the_help_lies_over_everything() {
    let view = View { has_help: true, is_paused: true, ..View::default() };
    let shown = rows(&drawn(&view, &well(), (80, 24)));
    assert!(shown.contains("│Enter d    only what was refused"), "{shown}");
    assert!(shown.lines().next().unwrap().ends_with("PAUSED"), "{shown}");
}

#[test]
fn colours_tell_answers_apart() {
    let backend = drawn(&View::default(), &well(), (80, 24));
    let buffer = backend.buffer();
    let shown = rows(&backend);
    let row = shown.lines().position(|row| row.contains("POST /v2/tags") && row.contains("dry-run")).unwrap();
    let row = u16::try_from(row).unwrap();
    let colours: Vec<_> =
        (0..80).map(|column| buffer[(column, row)].fg).filter(|fg| *fg != Color::Reset).collect();
    assert_eq!(colours, [Color::Yellow; 7]);
    assert_eq!(buffer[(14, 0)].fg, Color::Green, "a healthy daemon");
}

#[test]
fn an_unhealthy_daemon_and_a_log_that_cannot_be_read_are_said_so() {
    let problem = Problem { part: Part::Canary, why: "nobody\u{1b} came".into(), seconds: 7 };
    let counters = Counters { unwritten_records: 2, ..Counters::default() };
    let status = Status { version: "1".into(), problems: vec![problem], counters, ..Status::default() };
    let (model, view, trouble) = (Model::default(), View::default(), io::Error::other("no\nway"));
    let daemon = Daemon::Here(Box::new(status));
    let screen = Screen {
        model: &model,
        view: &view,
        daemon: &daemon,
        log: Path::new("a"),
        trouble: Some(&trouble),
        now: 0,
    };
    let shown = plain(&screen, Rect::new(0, 0, 90, 10));
    assert!(shown.contains("daemon 1: UNHEALTHY: canary: nobody\\u{1b} came\n"), "{shown}");
    assert!(shown.contains(", 2 records unwritten\n"), "{shown}");
    assert!(shown.contains("cannot read a: no\\u{a}way\n"), "{shown}");
}

#[test]
fn the_selected_workload_is_in_sight_however_many_there_are() {
    let (mut model, now) = model();
    let many: Vec<_> = (0..50)
        .map(|n| status::Workload { name: format!("idle{n:02}"), ..status::Workload::default() })
        .collect();
    model.configure(&many);
    let view = View { selected: Some("idle49".into()), ..View::default() };
    let screen = Screen {
        model: &model,
        view: &view,
        daemon: &Daemon::NotAsked,
        log: Path::new("a"),
        trouble: None,
        now,
    };
    let shown = plain(&screen, Rect::new(0, 0, 80, 24));
    assert!(shown.contains("\nidle49 "), "{shown}");
    assert!(shown.contains("Decisions of idle49"), "{shown}");
}

#[test]
fn no_size_is_too_small_or_odd() {
    let views =
        [false, true].map(|has_help| View { has_help, selected: Some("ci".into()), ..View::default() });
    for side in 0..=24 {
        for view in &views {
            drawn(view, &well(), (side, 24));
            drawn(view, &well(), (80, side));
            drawn(view, &well(), (side, side));
        }
    }
    for width in [40, WIDE - 1, WIDE, 79] {
        drawn(&View::default(), &Daemon::Absent("no daemon".into()), (width, 24));
    }
    drawn(&View::default(), &well(), (300, 100));
}

#[test_case(0, "0")]
#[test_case(99_999, "99999")]
#[test_case(100_000, "100k")]
#[test_case(9_999_999, "9999k")]
#[test_case(12_345_678, "12M")]
#[test_case(u64::MAX, "9999G")]
fn numbers_have_room(number: u64, expected: &str) {
    assert_eq!(compact(number), expected);
}

#[test_case(999, "999 µs")]
#[test_case(1_000, "1 ms")]
#[test_case(999_999, "999 ms")]
#[test_case(2_450_000, "2.4 s")]
#[test_case(u64::MAX, "99999 h")]
fn times_taken_are_told_in_one_unit(microseconds: u64, expected: &str) {
    assert_eq!(time_taken(microseconds), expected);
}
