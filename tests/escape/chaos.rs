//! The agent killed again and again while subjects read and delete.

use crate::prison::Prison;
use std::{collections::HashSet, thread, time::Duration};
use tidegate_tests::{agent::LIMIT, audit::Record, process::wait_until};

const KILLS: u64 = 100;
const WORKERS: usize = 4;

const DELETER: &str = "allow = [\"api:read\", \"droplet:delete\"]\n";

#[test]
fn no_write_goes_unrecorded_however_often_the_agent_is_killed() {
    let mut prison = Prison::with_policy(DELETER).unwrap();
    let mut workers = prison.start_load(WORKERS).unwrap();
    for kill in 0..KILLS {
        // Not always at the same point of a start or a request.
        thread::sleep(Duration::from_millis(20 + kill * 37 % 160));
        prison.kill_agent();
        thread::sleep(Duration::from_millis(kill * 13 % 40));
        prison.start_agent().unwrap();
    }
    let answered: u64 = workers.iter_mut().map(|worker| prison.finish_load(worker)).sum();
    assert!(answered > KILLS, "only {answered} requests were answered: there was no load");
    assert_eq!(prison.leaks(), Vec::<String>::new());

    let records = prison.records();
    let intents = paths(&records, "intent", "DELETE");
    let outcomes = paths(&records, "outcome", "GET");
    let requests = prison.requests();
    let arrived = |method: &'static str| requests.iter().filter(move |request| request.method == method);
    let unrecorded: Vec<_> = arrived("DELETE").filter(|request| !intents.contains(&request.target)).collect();
    assert!(unrecorded.is_empty(), "writes without an intent: {unrecorded:?}");

    let lost = arrived("GET").filter(|request| !outcomes.contains(&request.target)).count() as u64;
    let counted: Vec<u64> = records
        .iter()
        .filter(|record| record.reason() == "records_lost")
        .map(|record| record.number("tidegate.count").unwrap_or(1))
        .collect();
    assert!(lost <= counted.iter().sum(), "{lost} reads without a record, and {counted:?} counted");
    assert!(counted.iter().all(|count| *count <= WORKERS as u64), "{counted:?}");

    // The other end of the last connection may not be closed yet. On a machine with far too much to do one was left for good
    // in two of seven runs; what a kill or a request leaves behind each time would be many.
    wait_until("the sockets to be gone", LIMIT, || Ok(prison.entries("ORIGINALS") <= 2)).unwrap();
    let flows = prison.entries("FLOWS");
    assert!(flows < 50, "{flows} flows are left");
}

fn paths(records: &[Record], phase: &str, method: &str) -> HashSet<String> {
    let fits = |record: &&Record| record.phase() == phase && record.text("http.request.method") == method;
    records.iter().filter(fits).map(|record| record.text("url.path").to_owned()).collect()
}
