//! The audit log of a long life: as many records as a busy host writes, rotated, verified by the program, and tampered
//! with; and writers that are killed.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::{
    env,
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tidegate::{
    config::{Audit, Config},
    record::{
        AuditRecord,
        fingerprint::Fingerprinter,
        redact::Redactor,
        request_id,
        signer::{Signer, head_path},
        sink::{Sink, rotated},
    },
};
use tidegate_tests::{audit, programs};

/// How many records a long life has. The unoptimised program takes a millisecond for each, so by default it is short;
/// the whole of it is
///
/// ```text
/// export TIDEGATE_RECORDS=1000000
/// optimised="--config profile.dev.package.tidegate.opt-level=3"
/// cargo build $optimised --bins && cargo nextest run $optimised -p tidegate-tests --test records
/// ```
const RECORDS: &str = "TIDEGATE_RECORDS";
const USUAL_RECORDS: usize = 15_000;

/// Names the folder of a log for the test that runs in a process of its own.
const CHILD_FOLDER: &str = "TIDEGATE_TEST_FOLDER";
const KILLS: u64 = 20;

/// A log with its key.
struct Log {
    folder: TempDir,
    audit: Audit,
}

/// What `tidegate audit verify` says.
struct Verified {
    status: Option<i32>,
    report: Value,
}

impl Log {
    fn new(max_size_mib: u64) -> Result<Self> {
        let folder = TempDir::new()?;
        Ok(Self { audit: Audit { max_size_mib, ..audit_in(folder.path()) }, folder })
    }

    /// Of these files; without any, of the whole log.
    fn verify(&self, files: &[&Path]) -> Result<Verified> {
        let config = self.folder.path().join("tidegate.toml");
        let Audit { path, key, .. } = &self.audit;
        fs::write(&config, format!("[audit]\npath = {path:?}\nkey = {key:?}\n"))?;
        let mut command = Command::new(programs::built("tidegate")?);
        programs::plain_environment(&mut command, self.folder.path());
        command.args(["audit", "verify", "--json", "--config"]).arg(config).args(files);
        let output = command.output()?;
        let report = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        Ok(Verified { status: output.status.code(), report })
    }
}

impl Verified {
    fn count(&self, key: &str) -> u64 {
        self.report.get(key).and_then(Value::as_u64).unwrap_or(u64::MAX)
    }

    fn list(&self, key: &str) -> &[Value] {
        self.report.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn ensure_whole(&self) -> Result<()> {
        ensure!(self.status == Some(0) && self.list("problems").is_empty(), "{}", self.report);
        Ok(())
    }

    /// The one problem, as fault, the numbers of its first and last record, file and line.
    fn problem(&self) -> Result<(&str, u64, u64, PathBuf, u64)> {
        let [problem] = self.list("problems") else { bail!("not one problem: {}", self.report) };
        ensure!(self.status == Some(1), "exit status {:?}", self.status);
        let of = |key: &str| problem.get(key).and_then(Value::as_u64);
        let number = |key: &str| of(key).or_else(|| of("sequence"));
        let (first, last) = (number("first").context("no number")?, number("last").context("no number")?);
        let text = |key: &str| problem.get(key).and_then(Value::as_str).unwrap_or_default();
        let place = problem.get("place").context("no place")?;
        let file = place.get("file").and_then(Value::as_str).context("no file")?;
        let line = place.get("line").and_then(Value::as_u64).context("no line")?;
        Ok((text("fault"), first, last, file.into(), line))
    }
}

fn audit_in(folder: &Path) -> Audit {
    Audit {
        path: folder.join("audit.jsonl"),
        key: folder.join("audit.key"),
        keep_files: 1_000,
        ..Config::default().audit
    }
}

fn sink(audit: &Audit) -> Result<Sink> {
    let signer = Signer::open(&audit.key)?.keeping_head_in(head_path(&audit.key));
    Ok(Sink::open(audit, Redactor::new(Fingerprinter::from_key(&[7; 32])), Some(signer))?)
}

fn record(detail: Option<String>) -> Result<AuditRecord> {
    Ok(AuditRecord { detail, ..audit::refused("ci")? })
}

#[test]
fn a_long_log_is_rotated_verified_and_every_change_of_it_is_found() -> Result<()> {
    let wanted = env::var(RECORDS).ok().map(|number| number.parse()).transpose()?;
    let records: usize = wanted.unwrap_or(USUAL_RECORDS);
    let log = Log::new(1 + records as u64 / 100_000)?;
    let begun = Instant::now();
    let writer = sink(&log.audit)?;
    for _ in 0..records {
        writer.write(&record(None)?)?;
    }
    writer.checkpoint()?;
    let written = begun.elapsed();
    let files = rotated(&log.audit.path);
    ensure!(files.len() >= 4, "{} files", files.len());
    let whole = log.verify(&[])?;
    println!(
        "{records} records in {} files: written in {written:?}, all done in {:?}",
        files.len() + 1,
        begun.elapsed()
    );
    whole.ensure_whole()?;
    ensure!(whole.count("records") == records as u64 && whole.count("chains") == 1, "{}", whole.report);
    ensure!(whole.count("unsigned") == 0 && whole.list("torn").is_empty(), "{}", whole.report);
    ensure!(whole.count("signatures") >= records as u64 / 1_000, "{}", whole.report);
    tampered(&log, &files[files.len() / 2])?;
    log.verify(&[])?.ensure_whole()?;

    // The oldest file is gone, as where a rotation took it: that is no change. One from the middle is.
    fs::remove_file(&files[0])?;
    let shortened = log.verify(&[])?;
    shortened.ensure_whole()?;
    ensure!(shortened.list("earlier").len() == 1, "{}", shortened.report);
    fs::remove_file(&files[2])?;
    let gap = log.verify(&[])?;
    ensure!(gap.problem()?.0 == "removed", "{}", gap.report);
    Ok(())
}

/// A byte changed, a line removed, two swapped, each in the middle of this file, which is as before in the end.
fn tampered(log: &Log, file: &Path) -> Result<()> {
    let before = fs::read_to_string(file)?;
    let lines: Vec<&str> = before.lines().collect();
    // A record, with a record on both sides.
    let is_record = |line: &&str| line.contains(r#""tidegate.phase":"outcome""#);
    let mut windows = lines.windows(4).enumerate().skip(lines.len() / 2);
    let (start, window) =
        windows.find(|(_, window)| window.iter().all(is_record)).context("no records in a row")?;
    let (at, record) = (start + 1, *window.get(1).context("no second record")?);
    let parsed: Value = serde_json::from_str(record)?;
    let sequence = parsed.get("tidegate.chain.seq").and_then(Value::as_u64).context("no number")?;
    let line = at as u64 + 1;

    let changed = record.replace(":403", ":200");
    let mut altered = lines.clone();
    altered.splice(at..=at, [&*changed]);
    let mut removed = lines.clone();
    removed.remove(at);
    let mut swapped = lines.clone();
    swapped.swap(at, at + 1);
    for (fault, text) in [("altered", altered), ("removed", removed), ("reordered", swapped)] {
        fs::write(file, text.join("\n") + "\n")?;
        let found = log.verify(&[file])?;
        let expected = (fault, sequence, sequence, file.to_owned(), line);
        ensure!(found.problem()? == expected, "{expected:?}: {}", found.report);
    }
    fs::write(file, &before)?;
    Ok(())
}

#[test]
#[ignore = "run by a test below as a process of its own"]
fn child_writes_until_it_is_killed() -> Result<()> {
    let folder = PathBuf::from(env::var_os(CHILD_FOLDER).context("no folder")?);
    let sink = sink(&audit_in(&folder))?;
    for number in 0.. {
        // Of several pages, so that a kill can come between two of them.
        sink.write(&record(Some(".".repeat(number % 8 * 1_000)))?)?;
        println!("wrote {number}");
    }
    Ok(())
}

/// How many records a child says that it has written when it is killed, after some time from its first.
fn killed_after(folder: &Path, time: Duration) -> Result<u64> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--exact", "--ignored", "--nocapture", "child_writes_until_it_is_killed"]);
    let mut child = command.env(CHILD_FOLDER, folder).stdout(Stdio::piped()).spawn()?;
    let stdout = BufReader::new(child.stdout.take().context("no output")?);
    let mut written = stdout.lines().map_while(Result::ok).filter(|line| line.starts_with("wrote "));
    let first = written.next();
    thread::sleep(time);
    child.kill()?;
    child.wait()?;
    first.context("the child wrote nothing")?;
    Ok(1 + written.count() as u64)
}

#[test]
fn a_writer_that_is_killed_leaves_whole_records_and_at_most_one_in_pieces() -> Result<()> {
    let log = Log::new(64)?;
    let (mut written, mut torn) = (0, 0);
    for round in 1..=KILLS {
        let random = u64::from_str_radix(&request_id()?[..8], 16)?;
        written += killed_after(log.folder.path(), Duration::from_micros(random % 150_000))?;
        let text = fs::read(&log.audit.path)?;
        let left = log.verify(&[])?;
        left.ensure_whole()?;
        ensure!(left.count("records") >= written && left.count("chains") == round, "{}", left.report);
        // One that was written need not have been reported as such.
        ensure!(left.count("records") <= written + round, "{written} written: {}", left.report);
        let ends_in_pieces = text.last() != Some(&b'\n');
        ensure!(left.list("torn").len() == torn + usize::from(ends_in_pieces), "{}", left.report);
        torn = left.list("torn").len();
        written = left.count("records");
    }
    println!("{written} records of {KILLS} killed writers, {torn} in pieces");
    Ok(())
}

#[test]
fn a_record_in_pieces_is_named_and_the_next_writer_goes_on_behind_it() -> Result<()> {
    let log = Log::new(64)?;
    let writer = sink(&log.audit)?;
    for _ in 0..5 {
        writer.write(&record(None)?)?;
    }
    drop(writer);
    let whole = fs::metadata(&log.audit.path)?.len();
    OpenOptions::new().write(true).open(&log.audit.path)?.set_len(whole - 40)?;
    let torn = |line: u64| json!([{ "file": log.audit.path, "line": line }]);
    let cut = log.verify(&[])?;
    cut.ensure_whole()?;
    ensure!(cut.report["torn"] == torn(6) && cut.count("records") == 4, "{}", cut.report);
    sink(&log.audit)?.write(&record(None)?)?;
    let gone_on = log.verify(&[])?;
    gone_on.ensure_whole()?;
    ensure!(gone_on.report["torn"] == torn(6) && gone_on.count("records") == 5, "{}", gone_on.report);
    ensure!(gone_on.count("chains") == 2, "{}", gone_on.report);
    Ok(())
}
