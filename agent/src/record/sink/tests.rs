mod soon;

use super::*;
use crate::{
    config::{Audit, Config},
    record::{fingerprint::Fingerprinter, tests::record},
};
use serde_json::Value;
use std::{
    collections::HashSet,
    env,
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, ErrorKind},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use tempfile::TempDir;
use test_case::test_case;

/// Names the log for a test that runs in a process of its own.
const CHILD_LOG: &str = "TIDEGATE_TEST_LOG";

struct Log {
    folder: TempDir,
    path: PathBuf,
}

impl Log {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        Self { path: folder.path().join("audit.jsonl"), folder }
    }

    fn open(&self) -> Result<Sink, Error> {
        open_at(&self.path)
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }

    /// The ids of the records, and how many lines are no JSON.
    fn ids(&self) -> (Vec<String>, usize) {
        let mut ids = Vec::new();
        let mut broken = 0;
        for line in self.text().lines().filter(|line| !line.is_empty()) {
            match serde_json::from_str::<Value>(line) {
                Ok(record) => ids.extend(record["tidegate.request.id"].as_str().map(str::to_owned)),
                Err(_) => broken += 1,
            }
        }
        (ids, broken)
    }

    /// A process that runs one of the tests below on this log.
    fn child(&self, test: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"trap "" XFSZ; [ -z "$LIMIT" ] || ulimit -f "$LIMIT"; exec "$0" "$@""#]);
        command.arg(env::current_exe().unwrap()).args(["--exact", "--ignored", "--nocapture"]);
        command.arg(format!("record::sink::tests::{test}")).env(CHILD_LOG, &self.path);
        command
    }
}

fn open_at(path: &Path) -> Result<Sink, Error> {
    let audit = Audit { path: path.to_owned(), ..Config::default().audit };
    Sink::open(&audit, Redactor::new(Fingerprinter::from_key(&[7; 32])), None)
}

/// A record with this id and a detail of so many bytes.
fn numbered(id: &str, detail_len: usize) -> AuditRecord {
    AuditRecord { request_id: id.to_owned(), detail: Some(".".repeat(detail_len)), ..record() }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_new_log_is_its_owners_alone_and_its_directories_are_made() {
    let log = Log::new();
    let path = log.folder.path().join("a/b/audit.jsonl");
    let sink = open_at(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&log.folder.path().join("a")) & !0o750, 0);
    sink.write(&record()).unwrap();
    sink.sync().unwrap();
    let line = record().to_line(&sink.redactor).unwrap();
    let text = fs::read(&path).unwrap();
    let last = text.split_inclusive(|byte| *byte == b'\n').next_back().unwrap();
    assert!(last.starts_with(line.strip_suffix(b"}\n").unwrap()), "{}", String::from_utf8_lossy(last));
    assert_eq!(sink.counts(), Counts { written: 1, failed: 0 });
}

#[test]
fn an_existing_log_keeps_its_mode_and_records() {
    let log = Log::new();
    fs::write(&log.path, "{}\n").unwrap();
    fs::set_permissions(&log.path, PermissionsExt::from_mode(0o640)).unwrap();
    log.open().unwrap().write(&record()).unwrap();
    assert_eq!(mode(&log.path), 0o640);
    assert_eq!(log.text().lines().count(), 3, "what was there, where the chain begins, and the record");
    assert!(log.text().starts_with("{}\n{"));
}

#[test]
fn a_log_that_everybody_can_write_is_refused() {
    let log = Log::new();
    fs::write(&log.path, "").unwrap();
    fs::set_permissions(&log.path, PermissionsExt::from_mode(0o602)).unwrap();
    assert!(matches!(log.open(), Err(Error::WorldWritable { .. })));
}

#[test]
fn a_log_or_a_link_to_it_that_is_somebody_elses_is_refused() {
    let log = Log::new();
    let target = log.folder.path().join("target");
    fs::write(&target, "").unwrap();
    std::os::unix::fs::symlink(&target, &log.path).unwrap();
    log.open().unwrap().write(&record()).unwrap();
    // Only root can give a file away; whoever runs the tests as another user tests the rest.
    if std::os::unix::fs::lchown(&log.path, Some(65_534), None).is_err() {
        return;
    }
    assert!(matches!(log.open(), Err(Error::Foreign { owner: 65_534, .. })), "link");
    fs::remove_file(&log.path).unwrap();
    fs::write(&log.path, "").unwrap();
    std::os::unix::fs::chown(&log.path, Some(65_534), None).unwrap();
    let error = log.open().unwrap_err();
    assert!(error.to_string().contains("belongs to user 65534"), "{error}");
    assert_eq!(log.text(), "");
}

#[test]
fn what_cannot_be_opened_is_an_error_that_names_it() {
    let log = Log::new();
    fs::write(&log.path, "").unwrap();
    let error = open_at(&log.path.join("x")).unwrap_err();
    assert!(error.to_string().contains("audit.jsonl/x"), "{error}");
    assert!(matches!(open_at(log.folder.path()), Err(Error::Open { .. })));
}

#[test_case("", 2; "empty")]
#[test_case("{}\n", 3; "whole")]
#[test_case("{}\n{\"torn", 4; "torn")]
fn a_torn_last_line_is_ended(before: &str, lines: usize) {
    let log = Log::new();
    fs::write(&log.path, before).unwrap();
    log.open().unwrap().write(&numbered("id", 0)).unwrap();
    let text = log.text();
    assert_eq!(text.lines().count(), lines, "{text}");
    assert!(serde_json::from_str::<Value>(text.lines().last().unwrap()).is_ok());
}

#[test]
fn a_record_behind_another_writers_torn_line_is_written_again() {
    let log = Log::new();
    let sink = log.open().unwrap();
    sink.write(&numbered("one", 0)).unwrap();
    OpenOptions::new().append(true).open(&log.path).unwrap().write_all(b"{\"torn").unwrap();
    sink.write(&numbered("two", 0)).unwrap();
    sink.write(&numbered("three", 0)).unwrap();
    assert_eq!(log.ids(), (vec!["one".to_owned(), "two".to_owned(), "three".to_owned()], 1));
}

#[test]
fn a_log_that_was_cut_by_a_rotation_goes_on_at_its_start() {
    let log = Log::new();
    let sink = log.open().unwrap();
    sink.write(&numbered("one", 0)).unwrap();
    File::create(&log.path).unwrap();
    sink.write(&numbered("two", 0)).unwrap();
    assert_eq!(log.ids(), (vec!["two".to_owned()], 0));
}

#[test]
fn lines_of_several_writers_and_threads_never_mix() {
    let log = Log::new();
    let sinks = [log.open().unwrap(), log.open().unwrap()];
    thread::scope(|scope| {
        for thread in 0..4 {
            let sink = &sinks[thread % 2];
            scope.spawn(move || {
                for number in 0..200 {
                    sink.write(&numbered(&format!("{thread}/{number}"), number * 50)).unwrap();
                }
            });
        }
    });
    let (ids, broken) = log.ids();
    assert_eq!((ids.len(), broken), (800, 0));
    assert_eq!(sinks.iter().map(|sink| sink.counts().written).sum::<u64>(), 800);
}

#[test]
fn a_full_device_is_an_error_and_counted() {
    let sink = open_at(Path::new("/dev/full")).unwrap();
    let error = sink.write(&record()).unwrap_err();
    assert!(
        matches!(&error, Error::Write { source, .. } if source.kind() == ErrorKind::StorageFull),
        "{error:?}"
    );
    assert_eq!(sink.counts(), Counts { written: 0, failed: 1 });
}

#[test]
#[ignore = "run by a test below as a process of its own"]
fn child_writes_until_it_is_killed() {
    let sink = open_at(Path::new(&env::var_os(CHILD_LOG).unwrap())).unwrap();
    let id = std::process::id();
    for number in 0.. {
        sink.write(&numbered(&format!("{id}/{number}"), number % 40 * 1000)).unwrap();
        println!("wrote {id}/{number}");
    }
}

/// Lets a child write for a while, kills it, and answers with the records that it had reported as written.
fn killed_after(mut child: Child, time: Duration) -> Vec<String> {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let is_record = |line: &io::Result<String>| line.as_ref().unwrap().starts_with("wrote ");
    let first = lines.find(is_record).expect("the child writes");
    thread::sleep(time);
    child.kill().unwrap();
    let written = [first].into_iter().chain(lines).map_while(Result::ok).collect();
    child.wait().unwrap();
    written
}

#[test]
fn a_killed_writer_leaves_every_acknowledged_record_whole() {
    const ROUNDS: usize = 6;
    let log = Log::new();
    let start = || log.child("child_writes_until_it_is_killed").stdout(Stdio::piped()).spawn().unwrap();
    let mut written = Vec::new();
    for round in 0..ROUNDS {
        let time = Duration::from_millis(20 + 7 * round as u64);
        let both = [start(), start()].map(|child| thread::spawn(move || killed_after(child, time)));
        written.extend(both.into_iter().flat_map(|reader| reader.join().unwrap()));
    }
    log.open().unwrap().write(&numbered("last", 0)).unwrap();

    let (ids, broken) = log.ids();
    let ids: HashSet<_> = ids.into_iter().collect();
    assert!(written.len() > ROUNDS * 2, "{}", written.len());
    for line in &written {
        assert!(ids.contains(line.trim_start_matches("wrote ")), "{line}, and it is not there");
    }
    assert!(ids.contains("last"));
    // A kill can tear the line that is being written, and another writer's first attempt may be glued to it.
    assert!(broken <= 2 * ROUNDS, "{broken} lines are broken");
}

#[test]
#[ignore = "run by a test below as a process of its own"]
fn child_writes_until_the_file_is_full_and_goes_on_when_there_is_room() {
    let path = PathBuf::from(env::var_os(CHILD_LOG).unwrap());
    let sink = open_at(&path).unwrap();
    let mut whole = 0;
    let error = loop {
        match sink.write(&numbered(&format!("before/{whole}"), 500)) {
            Ok(()) => whole += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&error, Error::Write { source, .. } if source.kind() == ErrorKind::FileTooLarge),
        "{error:?}"
    );
    assert!(sink.write(&numbered("none", 0)).is_err());
    assert_eq!(sink.counts(), Counts { written: whole, failed: 2 });

    // What is in the middle moves away, the torn end stays, as where a disk gets room again.
    let text = fs::read(&path).unwrap();
    assert_ne!(text.last(), Some(&b'\n'), "the last line is torn");
    fs::write(&path, &text[text.len() - 100..]).unwrap();
    sink.write(&numbered("after", 0)).unwrap();
    sink.write(&numbered("end", 0)).unwrap();
}

#[test]
fn a_full_disk_refuses_and_the_next_record_stands_alone() {
    let log = Log::new();
    let test = "child_writes_until_the_file_is_full_and_goes_on_when_there_is_room";
    let output = log.child(test).env("LIMIT", "16").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "the child ran its test");
    assert_eq!(log.ids(), (vec!["after".to_owned(), "end".to_owned()], 1));
}
