use super::*;
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsPartialSuccess, trace::v1::ExportTracePartialSuccess,
};
use std::io;
use test_case::test_case;

const LOGS: Signal = Signal::Logs { traced: false };

fn answer(status: u16, retry_after: Option<u64>, body: Vec<u8>) -> Result<Answer, Error> {
    let status = StatusCode::from_u16(status).unwrap();
    Ok(Answer { status, retry_after: retry_after.map(Duration::from_secs), body: body.into() })
}

#[test_case(200, "taken")]
#[test_case(202, "taken")]
#[test_case(400, "refused")]
#[test_case(401, "refused")]
#[test_case(404, "refused")]
#[test_case(429, "later")]
#[test_case(500, "refused")]
#[test_case(502, "later")]
#[test_case(503, "later")]
#[test_case(504, "later")]
#[test_case(301, "refused"; "a redirection, which nobody follows with credentials")]
fn statuses_are_read_as_otlp_says(status: u16, expected: &str) {
    let found = match attempt(LOGS, answer(status, None, Vec::new())) {
        Attempt::Taken { rejected: 0, .. } => "taken",
        Attempt::Taken { .. } => "taken in part",
        Attempt::Refused(_) => "refused",
        Attempt::Later { .. } => "later",
    };
    assert_eq!(found, expected);
}

#[test]
fn a_pause_that_the_collector_asks_for_is_kept() {
    let pause = |status| match attempt(LOGS, answer(status, Some(7), Vec::new())) {
        Attempt::Later { pause, .. } => pause,
        Attempt::Taken { .. } | Attempt::Refused(_) => None,
    };
    assert_eq!(pause(429), Some(Duration::from_secs(7)));
    let error = Err(Error::Connect(io::Error::other("nobody there")));
    assert!(matches!(
        attempt(LOGS, error),
        Attempt::Later { pause: None, why } if why == "cannot connect to the collector: nobody there"
    ));
}

#[test]
fn what_the_collector_takes_in_part_is_lost_in_part() {
    let logs = ExportLogsServiceResponse {
        partial_success: Some(ExportLogsPartialSuccess {
            rejected_log_records: 3,
            error_message: "too\nold".to_owned(),
        }),
    };
    let traces = ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess { rejected_spans: 2, error_message: String::new() }),
    };
    assert_eq!(rejected(LOGS, &logs.encode_to_vec()), (3, "the collector says `too\\nold`".to_owned()));
    assert_eq!(rejected(Signal::Traces, &traces.encode_to_vec()).0, 2);
    assert_eq!(rejected(LOGS, b"").0, 0);
    assert_eq!(rejected(LOGS, b"{\"partialSuccess\":{}}").0, 0);
}

#[test]
fn chance_makes_a_pause_shorter_by_at_most_a_half() {
    for _ in 0..100 {
        let pause = with_chance(Duration::from_secs(2));
        assert!((Duration::from_secs(1)..=Duration::from_secs(2)).contains(&pause), "{pause:?}");
    }
}

#[test]
fn records_without_room_are_lost_and_the_rest_at_the_end() {
    let counts = Counts::default();
    let shared = Shared::new(LOGS, &counts);
    let line: Arc<[u8]> = vec![b'.'; 1 << 20].into();
    for _ in 0..20 {
        shared.offer(Entry { line: Arc::clone(&line), observed_nanos: 0 });
    }
    assert_eq!((shared.sent.get(), shared.lost.get()), (0, 4), "there is room for 16 MiB");
    shared.took(1);
    assert_eq!(shared.lost_since.load(Relaxed), 0);
    shared.close();
    shared.give_up();
    assert_eq!(shared.lost.get(), 20);
    shared.give_up();
    assert_eq!(shared.lost.get(), 20, "nothing is lost twice");
}
