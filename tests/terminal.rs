//! `tidegate audit` and `tidegate top` as a person sees them: in a terminal, over a log with real records.

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};
use tempfile::TempDir;
use test_case::test_case;
use tidegate::{
    config::{Audit, Config},
    control::Answer,
    decide::Effect,
    health::status::{Counters, Status, Workload},
    reason::Reason,
    record::{
        AuditRecord, Durations, RequestFacts, Verdict, fingerprint::Fingerprinter, redact::Redactor,
        sink::Sink,
    },
};
use tidegate_tests::{
    agent::LIMIT,
    audit,
    process::wait_until,
    programs,
    terminal::{PROMPT, Terminal},
};

/// Would clear the screen, name the window, colour all that follows, and turn the line around.
const HOSTILE: &str = "/v2/\u{1b}[2J\u{1b}]0;gone\u{7}\u{1b}[45m\u{202e}\r\nx";
const HOSTILE_SHOWN: &str = r"/v2/\u{1b}[2J\u{1b}]0;gone\u{7}";

/// A log in which 100 requests of `ci` were allowed and 50 refused, 150 of `deploy` allowed, and one was hostile.
struct Log {
    path: PathBuf,
    sink: Sink,
}

impl Log {
    fn write(folder: &Path) -> Result<Self> {
        let path = folder.join("audit.jsonl");
        let audit = Audit { path: path.clone(), ..Config::default().audit };
        let sink = Sink::open(&audit, Redactor::new(Fingerprinter::from_key(&[7; 32])), None)?;
        let log = Self { path, sink };
        for number in 0..150 {
            log.add("deploy", None, "GET", "/v2/registry", 10)?;
            if number % 3 == 0 {
                let path = format!("/v2/droplets/{number}");
                log.add("ci", Some("droplet:delete"), "DELETE", &path, 1)?;
            } else {
                log.add("ci", None, "GET", "/v2/droplets", 1_000 * (number + 1))?;
            }
        }
        log.add("bots", Some("account:read"), "GET", HOSTILE, 5)?;
        Ok(log)
    }

    fn add(&self, workload: &str, missing: Option<&str>, method: &str, path: &str, took: u64) -> Result<()> {
        let (decision, verdict, reason, status) = match missing {
            Some(_) => (Effect::Deny, Verdict::Refused, Reason::MissingScope, 403),
            None => (Effect::Allow, Verdict::Forwarded, Reason::ScopesAllowed, 200),
        };
        let missing: Vec<String> = missing.into_iter().map(str::to_owned).collect();
        Ok(self.sink.write(&AuditRecord {
            request: Some(RequestFacts {
                method: method.into(),
                path: path.into(),
                protocol: "1.1",
                operation: (method == "DELETE").then(|| "droplets_destroy".into()),
                missing,
                token_type: "dop",
                ..RequestFacts::default()
            }),
            decision,
            reason,
            verdict: Some(verdict),
            status: Some(status),
            durations: Durations { total: took, ..Durations::default() },
            ..audit::refused(workload)?
        })?)
    }
}

fn tidegate() -> Result<String> {
    Ok(programs::built("tidegate")?.display().to_string())
}

/// A terminal of this size, and a log.
fn world(columns: u16, rows: u16) -> Result<(Terminal, Log)> {
    let terminal = Terminal::open(columns, rows)?;
    let log = Log::write(terminal.folder())?;
    Ok((terminal, log))
}

fn top(terminal: &Terminal, log: &Log) -> Result<String> {
    terminal.run(&format!("{} top --audit {}", tidegate()?, log.path.display()))?;
    terminal.wait("the picture", |screen| screen.contains("301 decisions since"))
}

#[test]
fn top_shows_a_picture_that_no_path_can_disturb() -> Result<()> {
    let (terminal, log) = world(120, 30)?;
    top(&terminal, &log)?;
    let screen = terminal.wait("the last line", |screen| screen.contains("q quit"))?;
    ensure!(screen.contains("no daemon: a log alone"), "{screen}");
    let row = |name: &str| {
        let row = screen.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        row.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    // Name, policy, rate, allowed, refused, dry-run, passed.
    ensure!(row("ci ")[3..7] == ["100", "50", "0", "0"], "{screen}");
    ensure!(row("deploy ")[3..7] == ["150", "0", "0", "0"], "{screen}");
    let rate: f64 = row("ci ")[2].parse()?;
    ensure!(rate > 0.0, "nothing has happened in the last seconds:\n{screen}");
    ensure!(row("bots ")[8..] == ["missing_scope:", "account:read"], "{screen}");
    ensure!(screen.contains("    50 ci droplets_destroy"), "{screen}");
    ensure!(screen.contains("  150 ms ci GET /v2/droplets"), "{screen}");
    ensure!(screen.contains(HOSTILE_SHOWN), "{screen}");
    ensure!(screen.lines().count() <= 30 && screen.contains("q quit"), "{screen}");
    let coloured = terminal.coloured()?;
    ensure!(coloured.contains("\u{1b}[38;5;1mdeny"), "refusals are red: {coloured:?}");
    ensure!(!coloured.contains("\u{1b}[45m") && !coloured.contains(";45m"), "{coloured:?}");
    Ok(())
}

#[test]
fn top_follows_the_log_and_its_keys() -> Result<()> {
    let (terminal, log) = world(100, 30)?;
    top(&terminal, &log)?;
    log.add("ci", None, "GET", "/v2/just/now", 1)?;
    terminal.wait("a new decision", |screen| {
        screen.contains("302 decisions") && screen.contains("GET /v2/just/now")
    })?;
    terminal.press("d")?;
    let refusals =
        |screen: &str| screen.contains("Refusals, the newest first") && !screen.contains("just/now");
    terminal.wait("refusals alone", refusals)?;
    terminal.press("Down")?;
    terminal.wait("a workload alone", |screen| screen.contains("Refusals of "))?;
    terminal.press("k")?;
    terminal.wait("all again", refusals)?;
    terminal.press("p")?;
    terminal.wait("that it is paused", |screen| screen.contains("PAUSED"))?;
    log.add("ci", None, "GET", "/v2/paused", 1)?;
    terminal.press("?")?;
    let helped = terminal.wait("the help", |screen| screen.contains("count anew"))?;
    ensure!(helped.contains("302 decisions"), "it goes on though it is paused:\n{helped}");
    terminal.press("Escape")?;
    terminal.wait("no help", |screen| !screen.contains("count anew"))?;
    terminal.press("p")?;
    terminal.wait("what came in the meantime", |screen| screen.contains("303 decisions"))?;
    terminal.press("c")?;
    terminal.wait("that it counts anew", |screen| screen.contains("no decisions yet"))?;
    Ok(())
}

#[test]
fn top_fits_whatever_size_the_terminal_gets() -> Result<()> {
    let (terminal, log) = world(100, 30)?;
    ensure!(top(&terminal, &log)?.contains("LAST REFUSAL"));
    terminal.resize(40, 12)?;
    let small = terminal.wait("a small picture", |screen| {
        screen.contains("WORKLOAD") && !screen.contains("POLICY") && screen.contains("q quit")
    })?;
    ensure!(small.lines().count() <= 12 && small.contains("Decisions"), "{small}");
    terminal.resize(10, 3)?;
    terminal.resize(110, 35)?;
    terminal.wait("a large picture", |screen| {
        screen.contains("LAST REFUSAL") && screen.contains("Slowest") && screen.contains("q quit")
    })?;
    Ok(())
}

#[test_case("q"; "q")]
#[test_case("Escape"; "escape")]
#[test_case("C-c"; "control c")]
fn top_leaves_the_terminal_as_it_was(key: &str) -> Result<()> {
    let (terminal, log) = world(80, 24)?;
    top(&terminal, &log)?;
    terminal.press(key)?;
    let screen = terminal.wait_for_prompt()?;
    ensure!(screen.starts_with(PROMPT) && !screen.contains("Workloads"), "{screen}");
    terminal.ensure_clean()
}

#[test_case(Signal::SIGTERM; "terminate")]
#[test_case(Signal::SIGHUP; "hang up")]
#[test_case(Signal::SIGINT; "interrupt")]
fn top_leaves_the_terminal_as_it_was_when_it_is_told_to_end(signal: Signal) -> Result<()> {
    let (terminal, log) = world(80, 24)?;
    top(&terminal, &log)?;
    kill(Pid::from_raw(terminal.process()?), signal)?;
    terminal.wait_for_prompt()?;
    terminal.ensure_clean()
}

#[test]
fn top_ends_with_its_terminal() -> Result<()> {
    let (terminal, log) = world(80, 24)?;
    top(&terminal, &log)?;
    let process = PathBuf::from(format!("/proc/{}/stat", terminal.process()?));
    drop(terminal);
    // Gone, or waiting for whoever inherits it to notice.
    wait_until("the end of top", LIMIT, || {
        Ok(fs::read_to_string(&process).map_or(true, |state| state.contains(") Z ")))
    })
}

#[test]
fn top_shows_the_daemons_health_and_its_end() -> Result<()> {
    let (terminal, log) = world(100, 30)?;
    let socket = terminal.folder().join("control.sock");
    let listener = UnixListener::bind(&socket)?;
    let status = Status {
        version: "9.8.7".into(),
        healthy: true,
        workloads: vec![Workload { name: "idle".into(), policy: "nothing".into(), ..Workload::default() }],
        counters: Counters { redirected: 12, open: 3, refused: 4, lost_events: 5, ..Counters::default() },
        ..Status::default()
    };
    let answer = serde_json::to_string(&Answer::Status(Box::new(status)))? + "\n";
    let daemon = thread::spawn(move || -> Result<()> {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept()?;
            BufReader::new(&stream).read_line(&mut String::new())?;
            stream.write_all(answer.as_bytes())?;
        }
        Ok(())
    });
    let (log, socket) = (log.path.display(), socket.display());
    terminal.run(&format!("{} top --audit {log} --socket {socket}", tidegate()?))?;
    terminal.wait("the daemon", |screen| {
        screen.contains("daemon 9.8.7: healthy")
            && screen.contains("3 open, 12 redirected, 4 refused by the kernel side, 5 lost")
            && screen.lines().any(|line| line.starts_with("idle ") && line.contains("nothing"))
    })?;
    daemon.join().map_err(|_| anyhow::anyhow!("the stand-in for the daemon panicked"))??;
    terminal.wait("that it is gone", |screen| screen.contains("no daemon at "))?;
    Ok(())
}

fn piped(arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(programs::built("tidegate")?);
    programs::plain_environment(&mut command, Path::new("/"));
    command.args(arguments).env("COLUMNS", "100").env("LINES", "30").output().context("starting tidegate")
}

#[test]
fn without_a_terminal_top_prints_a_single_picture_or_says_how() -> Result<()> {
    let folder = TempDir::new()?;
    let log = Log::write(folder.path())?;
    let path = log.path.display().to_string();
    let refused = piped(&["top", "--audit", &path])?;
    ensure!(refused.status.code() == Some(2) && refused.stdout.is_empty(), "{refused:?}");
    ensure!(String::from_utf8_lossy(&refused.stderr).contains("`tidegate top --once`"), "{refused:?}");
    let printed = piped(&["top", "--once", "--audit", &path])?;
    ensure!(printed.status.success(), "{printed:?}");
    let text = String::from_utf8(printed.stdout)?;
    ensure!(text.lines().count() == 30 && text.contains("301 decisions since"), "{text}");
    ensure!(text.contains(HOSTILE_SHOWN) && !text.contains('\u{1b}'), "{text:?}");
    let missing = piped(&["top", "--once", "--audit", "/nonexistent"])?;
    ensure!(missing.status.code() == Some(1), "{missing:?}");
    let said = String::from_utf8_lossy(&missing.stderr);
    ensure!(said.contains("cannot read the audit log `/nonexistent`"), "{said}");
    Ok(())
}

#[test_case(200, 60, 1; "wide")]
#[test_case(100, 110, 2; "narrow")]
fn audit_is_a_table_that_fits_and_that_no_path_can_disturb(
    columns: u16,
    rows: u16,
    lines: usize,
) -> Result<()> {
    let (terminal, log) = world(columns, rows)?;
    terminal.run(&format!("{} audit --denied {}", tidegate()?, log.path.display()))?;
    let screen = terminal.wait_for_prompt()?;
    let (before, table) = screen.split_once("TIME (UTC)").context("no head of a table")?;
    ensure!(before.starts_with(PROMPT), "{screen}");
    let table: Vec<&str> = table.trim_end().lines().skip(1).collect();
    ensure!(table.len() == 51 * lines + 1, "{screen}");
    let (first, last) = table.split_at(lines);
    let last = last.get(49 * lines..).unwrap_or_default();
    for (record, request) in [(first, "DELETE /v2/droplets/0"), (last, HOSTILE_SHOWN)] {
        let record = record.join("\n");
        for shown in ["deny", "403", request, "missing_scope: "] {
            ensure!(record.contains(shown), "`{shown}` is missing:\n{screen}");
        }
    }
    ensure!(first.join("\n").ends_with("missing_scope: droplet:delete"), "{screen}");
    let coloured = terminal.coloured()?;
    ensure!(coloured.matches("\u{1b}[31mdeny").count() == 51, "{coloured:?}");
    ensure!(!coloured.contains("\u{1b}[45m") && !coloured.contains(";45m"), "{coloured:?}");
    Ok(())
}

#[test]
fn audit_has_no_colours_where_nobody_wants_them() -> Result<()> {
    for (environment, option) in [("NO_COLOR=1", ""), ("", "--color never")] {
        // A terminal each: on a shared one the table of the command before could be taken for this one's.
        let (terminal, log) = world(100, 10)?;
        let (tidegate, path) = (tidegate()?, log.path.display());
        terminal.run(&format!("{environment} {tidegate} audit {option} {path}"))?;
        terminal.wait("the table", |screen| screen.contains("account:read"))?;
        let shown = terminal.coloured()?;
        ensure!(shown.contains("deny") && !shown.contains('\u{1b}'), "{shown:?}");
    }
    let folder = TempDir::new()?;
    let log = Log::write(folder.path())?;
    let path = log.path.display().to_string();
    let piped_text =
        |arguments: &[&str]| -> Result<String> { Ok(String::from_utf8(piped(arguments)?.stdout)?) };
    ensure!(!piped_text(&["audit", &path])?.contains('\u{1b}'));
    ensure!(piped_text(&["audit", "--color", "always", &path])?.contains("\u{1b}[31mdeny"));
    Ok(())
}
