//! Records of reads, which are written together.

use super::*;
use crate::record::{
    unfinished::{Begun, Unfinished},
    verify::Verifier,
};

fn begun() -> Begun {
    Arc::new(Unfinished::default()).begin().unwrap()
}

/// Reads that end in one turn of an event loop.
async fn end_reads(sink: &Arc<Sink>, ids: &[&str]) {
    for id in ids {
        sink.write_soon(&numbered(id, 0), begun());
    }
}

fn is_proven(log: &Log) -> bool {
    let mut verifier = Verifier::new(None);
    verifier.read(&log.path, BufReader::new(File::open(&log.path).unwrap())).unwrap();
    verifier.finish().problems.is_empty()
}

#[tokio::test]
async fn reads_that_end_in_one_turn_are_written_behind_it() {
    let log = Log::new();
    let sink = Arc::new(log.open().unwrap());
    end_reads(&sink, &["one", "two", "three"]).await;
    assert_eq!((log.text().as_str(), sink.counts().written), ("", 0));
    while sink.counts().written == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(log.ids(), (vec!["one".into(), "two".into(), "three".into()], 0));
    assert_eq!(sink.counts(), Counts { written: 3, failed: 0 });
    assert!(is_proven(&log));
}

#[tokio::test]
async fn nothing_overtakes_a_read_that_waits_and_none_is_left_behind() {
    let log = Log::new();
    let sink = Arc::new(log.open().unwrap());
    end_reads(&sink, &["one", "two"]).await;
    sink.write(&numbered("three", 0)).unwrap();
    assert_eq!(log.ids(), (vec!["one".into(), "two".into(), "three".into()], 0));
    end_reads(&sink, &["four"]).await;
    sink.checkpoint().unwrap();
    assert_eq!(log.ids().0.len(), 4, "before what is signed");
    end_reads(&sink, &["five", "six"]).await;
    drop(Arc::into_inner(sink));
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    assert_eq!(log.ids().0.len(), 6, "at the end");
    assert!(is_proven(&log));
}

#[tokio::test]
async fn what_waits_is_bounded_and_counted_as_unfinished() {
    let log = Log::new();
    let sink = Arc::new(log.open().unwrap());
    let folder = TempDir::new().unwrap();
    let (unfinished, path) = (Arc::new(Unfinished::default()), folder.path().join("unfinished"));
    unfinished.keep_in(&path).unwrap();
    let count = || u64::from_le_bytes(fs::read(&path).unwrap().try_into().unwrap());
    sink.write_soon(&numbered("one", 0), unfinished.begin().unwrap());
    assert_eq!(count(), 1, "what a kill would lose is known");
    for number in 0..200 {
        sink.write_soon(&numbered(&number.to_string(), 1000), unfinished.begin().unwrap());
    }
    let counts = sink.counts();
    assert!(counts.written > 100, "{counts:?}");
    assert!(count() >= 201 - counts.written, "{}", count());
}

#[tokio::test]
async fn reads_behind_another_writers_torn_line_stand_whole() {
    let log = Log::new();
    let sink = Arc::new(log.open().unwrap());
    sink.write(&numbered("one", 0)).unwrap();
    let mut other = OpenOptions::new().append(true).open(&log.path).unwrap();
    other.write_all(b"{\"torn").unwrap();
    end_reads(&sink, &["two", "three"]).await;
    sink.checkpoint().unwrap();
    assert_eq!(log.ids(), (vec!["one".into(), "two".into(), "three".into()], 1));
}

#[test]
#[ignore = "run by a test below as a process of its own"]
fn child_ends_reads_until_the_file_is_full() {
    let path = PathBuf::from(env::var_os(CHILD_LOG).unwrap());
    let sink = Arc::new(open_at(&path).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let entered = runtime.enter();
    (0..25).for_each(|number| sink.write_soon(&numbered(&format!("before/{number}"), 500), begun()));
    drop(entered);
    assert!(!sink.is_broken());
    sink.checkpoint().unwrap_err();
    assert!(sink.is_broken());
    let counts = sink.counts();
    assert!(counts.written > 1 && counts.written + counts.failed == 25, "{counts:?}");

    // There is room again where the oldest records move away.
    let text = fs::read_to_string(&path).unwrap();
    let whole = text.matches("before/").count() as u64;
    assert!(whole == counts.written || whole == counts.written + 1, "{counts:?} {whole}");
    let first_kept = text.match_indices('\n').nth(4).unwrap().0 + 1;
    fs::write(&path, &text[first_kept..]).unwrap();
    sink.write(&numbered("after", 0)).unwrap();
    assert!(!sink.is_broken());
    sink.write(&numbered("end", 0)).unwrap();
}

#[test]
fn of_reads_that_the_disk_has_no_room_for_those_are_lost_that_do_not_fit() {
    let log = Log::new();
    let output =
        log.child("soon::child_ends_reads_until_the_file_is_full").env("LIMIT", "32").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "the child ran its test");
    let (ids, broken) = log.ids();
    assert!(ids.ends_with(&["after".into(), "end".into()]), "{ids:?}");
    assert_eq!(broken, 1, "the one that did not fit");
    // What is there is one chain, each line behind the one before.
    let text = log.text();
    let heads: Vec<_> =
        text.lines().filter_map(|line| Seal::of(line.as_bytes())).map(|seal| seal.head.sequence).collect();
    assert!(heads.windows(2).all(|pair| pair[1] == pair[0] + 1), "{heads:?}");
}
