use super::*;
use crate::{
    config::{Audit, Config},
    record::{
        AuditRecord,
        fingerprint::Fingerprinter,
        redact::Redactor,
        signer::{Signer, head_path, public_path},
        sink::{Sink, rotated},
        tests::record,
    },
};
use std::{fs, io::BufReader};
use tempfile::TempDir;
use test_case::test_case;

struct Log {
    folder: TempDir,
    path: PathBuf,
}

impl Log {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        Self { path: folder.path().join("audit.jsonl"), folder }
    }

    fn sink(&self) -> Sink {
        self.sink_with(&Audit { path: self.path.clone(), ..Config::default().audit }, true)
    }

    fn sink_with(&self, audit: &Audit, is_signed: bool) -> Sink {
        let redactor = Redactor::new(Fingerprinter::from_key(&[7; 32]));
        let signer = is_signed.then(|| Signer::open(&self.key()).unwrap());
        Sink::open(audit, redactor, signer).unwrap()
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("audit.key")
    }

    /// A signed log of so many records.
    fn of(records: usize) -> Self {
        let log = Self::new();
        let sink = log.sink();
        write(&sink, records);
        sink.checkpoint().unwrap();
        log
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.path).unwrap().lines().map(str::to_owned).collect()
    }

    fn put(&self, lines: &[String]) {
        fs::write(&self.path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }

    fn verify(&self) -> Report {
        self.verify_files(&[rotated(&self.path), vec![self.path.clone()]].concat())
    }

    fn verify_files(&self, files: &[PathBuf]) -> Report {
        let key = PublicKey::read(&public_path(&self.key())).ok();
        let mut verifier = Verifier::new(key);
        for file in files {
            verifier.read(file, BufReader::new(fs::File::open(file).unwrap())).unwrap();
        }
        verifier.finish()
    }
}

fn write(sink: &Sink, records: usize) {
    for number in 0..records {
        sink.write(&AuditRecord { request_id: number.to_string(), ..record() }).unwrap();
    }
}

fn faults(report: &Report) -> Vec<Fault> {
    report.problems.iter().map(|problem| problem.fault.clone()).collect()
}

#[test]
fn a_log_as_it_was_written_has_no_problem() {
    let report = Log::of(20).verify();
    assert_eq!((report.records, report.chains, report.signatures, report.unsigned), (20, 1, 2, 0));
    assert_eq!((report.problems, report.torn), (vec![], vec![]));
}

#[test]
fn records_behind_the_last_signature_are_counted() {
    let log = Log::of(5);
    write(&log.sink(), 3);
    let report = log.verify();
    assert_eq!((report.records, report.chains, report.unsigned), (8, 2, 3));
    assert_eq!(report.problems, []);
}

// Line 0 is where the chain begins, line 21 the signature of the last.
#[test_case(|lines| { lines[7] = lines[7].replace("\"tidegate.schema\":1", "\"tidegate.schema\":2"); }, &[Fault::Altered { sequence: 8 }]; "altered")]
#[test_case(|lines| { lines.remove(7); }, &[Fault::Removed { first: 8, last: 8 }]; "removed")]
#[test_case(|lines| { lines.drain(7..10); }, &[Fault::Removed { first: 8, last: 10 }]; "several removed")]
#[test_case(|lines| lines.swap(7, 8), &[Fault::Reordered { first: 8, last: 8 }]; "swapped")]
#[test_case(|lines| { let line = lines[3].clone(); lines.insert(9, line); }, &[Fault::Repeated { sequence: 4 }]; "repeated")]
#[test_case(|lines| lines.insert(4, "{\"tidegate.phase\":\"outcome\"}".into()), &[Fault::Unsealed]; "put in")]
#[test_case(|lines| { lines.remove(0); }, &[Fault::Headless { sequence: 2 }]; "the beginning removed")]
#[test_case(|lines| { lines.drain(..21); }, &[Fault::Headless { sequence: 22 }]; "all up to the last signature removed")]
#[test_case(|lines| { lines[7].truncate(40); }, &[Fault::Removed { first: 8, last: 8 }]; "cut short")]
fn what_was_done_to_a_log_is_told(change: fn(&mut Vec<String>), expected: &[Fault]) {
    let log = Log::of(20);
    let mut lines = log.lines();
    change(&mut lines);
    log.put(&lines);
    let report = log.verify();
    assert_eq!(faults(&report), expected, "{:#?}", report.problems);
    assert!(report.problems.iter().all(|problem| !problem.to_string().is_empty()));
}

#[test]
fn a_change_of_any_byte_is_a_problem() {
    let log = Log::of(2);
    let text = fs::read(&log.path).unwrap();
    for at in (0..text.len()).step_by(7) {
        let mut changed = text.clone();
        changed[at] ^= 4;
        fs::write(&log.path, &changed).unwrap();
        let report = log.verify();
        // What has nothing behind it may as well be what a killed writer left.
        let is_last = !text[(at + 1).min(text.len() - 1)..text.len() - 1].contains(&b'\n');
        assert!(!report.problems.is_empty() || (is_last && !report.torn.is_empty()), "byte {at}");
    }
}

#[test]
fn whoever_writes_the_whole_log_anew_lacks_the_key() {
    let log = Log::of(3);
    fs::remove_file(&log.path).unwrap();
    let audit = Audit { path: log.path.clone(), ..Config::default().audit };
    write(&log.sink_with(&audit, false), 3);
    assert_eq!(faults(&log.verify()), [Fault::NotSigned { by: None }]);

    let other = Log::of(3);
    let report = log.verify_files(std::slice::from_ref(&other.path));
    assert!(matches!(&*faults(&report), [Fault::NotSigned { by: Some(_) }, ..]), "{report:?}");
}

#[test]
fn what_is_cut_off_the_end_is_missed_where_the_head_is_kept() {
    let log = Log::new();
    let head = head_path(&log.key());
    let signer = Signer::open(&log.key()).unwrap().keeping_head_in(head.clone());
    let audit = Audit { path: log.path.clone(), ..Config::default().audit };
    let redactor = Redactor::new(Fingerprinter::from_key(&[7; 32]));
    let sink = Sink::open(&audit, redactor, Some(signer)).unwrap();
    write(&sink, 5);
    sink.checkpoint().unwrap();
    let verify = || {
        let mut verifier = Verifier::new(PublicKey::read(&public_path(&log.key())).ok());
        verifier.expect(SignedHead::read(&head).unwrap());
        verifier.read(&log.path, &*fs::read(&log.path).unwrap()).unwrap();
        verifier.finish()
    };
    assert_eq!(verify().problems, []);
    let lines = log.lines();
    log.put(&lines[..4]);
    assert_eq!(faults(&verify()), [Fault::CutOff { first: 5, last: 6 }]);
    let forged = fs::read_to_string(&head).unwrap().replace("\"sequence\":6", "\"sequence\":4");
    fs::write(&head, forged).unwrap();
    assert_eq!(faults(&verify()), [Fault::WrongSignature { sequence: 4 }]);
}

#[test]
fn a_chain_without_its_end_is_missed_by_the_next() {
    let log = Log::of(5);
    write(&log.sink(), 2);
    let mut lines = log.lines();
    // The two last lines of the first chain: a record, and the signature behind it.
    lines.drain(5..7);
    log.put(&lines);
    assert_eq!(faults(&log.verify()), [Fault::Removed { first: 6, last: 7 }]);
}

#[test]
fn what_a_killed_writer_left_is_torn_and_no_problem() {
    let log = Log::of(5);
    let mut text = fs::read(&log.path).unwrap();
    text.extend_from_slice(b"{\"timestamp\":\"20");
    fs::write(&log.path, &text).unwrap();
    assert_eq!(log.verify().torn, [Place { file: log.path.clone(), line: 8 }]);
    // The next writer ends the line, and goes on behind it.
    write(&log.sink(), 2);
    let report = log.verify();
    assert_eq!((report.torn.len(), report.records), (1, 7));
    assert_eq!(report.problems, []);
}

#[test]
fn writers_that_share_a_log_have_a_chain_each() {
    let log = Log::new();
    let sinks = [log.sink(), log.sink()];
    for _ in 0..10 {
        sinks.iter().for_each(|sink| write(sink, 3));
    }
    let report = log.verify();
    assert_eq!((report.chains, report.records), (2, 60));
    assert_eq!(report.problems, []);
}

#[test]
fn a_log_that_is_rotated_loses_nothing_and_is_verified_as_one() {
    let log = Log::new();
    let audit = Audit { path: log.path.clone(), max_size_mib: 1, ..Config::default().audit };
    let sinks = [log.sink_with(&audit, true), log.sink_with(&audit, true)];
    for _ in 0..30 {
        sinks.iter().for_each(|sink| write(sink, 50));
    }
    let files = rotated(&log.path);
    assert!(files.len() > 1, "{files:?}");
    let report = log.verify();
    assert_eq!((report.records, report.chains), (3_000, 2));
    assert_eq!(report.problems, []);
    assert_eq!(report.earlier, []);
    // Without the oldest file the rest is still whole, and it is told that there was more.
    fs::remove_file(&files[0]).unwrap();
    let report = log.verify();
    assert_eq!((report.problems, report.earlier.len()), (vec![], 2));
    // Without one in the middle it is not.
    fs::remove_file(&files[1]).unwrap();
    let rest = [rotated(&log.path), vec![log.path.clone()]].concat();
    if rest.len() > 1 {
        let all = [vec![rest[0].clone()], rest[2..].to_vec()].concat();
        assert!(!log.verify_files(&all).problems.is_empty());
    }
}

#[test]
fn a_log_that_logrotate_moves_goes_on_in_a_new_file() {
    let log = Log::new();
    let sink = log.sink();
    write(&sink, 3);
    let moved = log.folder.path().join("audit.jsonl.1");
    fs::rename(&log.path, &moved).unwrap();
    write(&sink, 4);
    assert_eq!(log.lines().len(), 5);
    let report = log.verify_files(&[moved, log.path.clone()]);
    assert_eq!((report.records, report.problems), (7, vec![]));
}
