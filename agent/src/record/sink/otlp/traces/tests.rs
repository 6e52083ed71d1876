use super::*;
use crate::record::{
    AuditRecord, Durations, RequestFacts, Verdict, tests::record, trace_parent::TraceParent,
};
use test_case::test_case;

fn spans_of(record: &AuditRecord) -> Vec<Span> {
    let line = serde_json::to_vec(record).unwrap();
    let (request, count) = request(&[Entry { line: line.into(), observed_nanos: 0 }]);
    let spans = request.resource_spans[0].scope_spans[0].spans.clone();
    assert_eq!(count, usize::from(!spans.is_empty()));
    spans
}

fn traced(trace: Option<TraceParent>) -> AuditRecord {
    let record = record();
    let request = record.request.clone().map(|request| RequestFacts { trace, ..request });
    AuditRecord { request, timestamp: "1970-01-01T00:00:01.000000Z".to_owned(), ..record }
}

fn parent(flags: &str) -> Option<TraceParent> {
    Some(TraceParent {
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
        span_id: "00f067aa0ba902b7".to_owned(),
        trace_flags: flags.to_owned(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_request_is_a_span_of_the_clients_trace_with_a_span_for_each_time() {
    let durations = Durations { total: 50, decide: Some(10), upstream: Some(30) };
    let spans = spans_of(&AuditRecord { durations, ..traced(parent("01")) });
    let [server, decide, upstream] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!(server.name, "DELETE droplets_destroy");
    assert_eq!(server.kind(), SpanKind::Server);
    assert_eq!(hex(&server.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!((hex(&server.parent_span_id), server.flags), ("00f067aa0ba902b7".to_owned(), 0x301));
    assert!(server.attributes.iter().any(|attribute| attribute.key == "url.path"));
    let time = |span: &Span| (span.start_time_unix_nano, span.end_time_unix_nano);
    const SECOND: u64 = 1_000_000_000;
    assert_eq!(time(server), (SECOND, SECOND + 50_000));
    assert_eq!(time(decide), (SECOND, SECOND + 10_000));
    assert_eq!(time(upstream), (SECOND + 10_000, SECOND + 40_000));
    assert_eq!((decide.kind(), upstream.kind()), (SpanKind::Internal, SpanKind::Client));
    for within in [decide, upstream] {
        assert_eq!((&within.parent_span_id, &within.trace_id), (&server.span_id, &server.trace_id));
        assert_ne!(within.span_id, server.span_id);
    }
    assert_ne!(decide.span_id, upstream.span_id);
}

#[test]
fn without_a_parent_the_requests_id_is_the_traces() {
    let spans = spans_of(&traced(None));
    assert_eq!(hex(&spans[0].trace_id), "00112233445566778899aabbccddeeff");
    assert_eq!((hex(&spans[0].span_id), spans[0].flags), ("8899aabbccddeeff".to_owned(), 1));
    assert!(spans[0].parent_span_id.is_empty());
}

#[test]
fn what_the_client_does_not_record_is_not_recorded() {
    assert_eq!(spans_of(&traced(parent("00"))), []);
    assert_eq!(spans_of(&traced(parent("03"))).len(), 3);
}

#[test]
fn a_time_that_the_record_lacks_has_no_span_and_none_outlasts_the_request() {
    let durations = Durations { total: 3, decide: None, upstream: Some(9) };
    let spans = spans_of(&AuditRecord { durations, ..traced(None) });
    let [server, upstream] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!(upstream.name, "upstream");
    assert_eq!(upstream.end_time_unix_nano, server.end_time_unix_nano);
}

#[test]
fn an_id_of_zeros_is_none() {
    let request_id = format!("{}{}", "ab".repeat(8), "0".repeat(16));
    let spans = spans_of(&AuditRecord { request_id, ..traced(None) });
    assert!(spans.iter().all(|span| span.span_id.iter().any(|byte| *byte != 0)));
}

#[test_case(Some(403), Verdict::Refused, None; "refused")]
#[test_case(Some(200), Verdict::Forwarded, None; "forwarded")]
#[test_case(Some(502), Verdict::Refused, Some("missing_scope"); "no answer")]
#[test_case(None, Verdict::Closed, Some("missing_scope"); "closed")]
fn errors_are_the_servers(status: Option<u16>, verdict: Verdict, expected: Option<&str>) {
    let spans = spans_of(&AuditRecord { status, verdict: Some(verdict), ..traced(None) });
    assert_eq!(spans[0].status.as_ref().map(|status| status.message.as_str()), expected);
}

#[test_case("", None; "empty")]
#[test_case("ab", None; "too short")]
#[test_case("abcd", Some([0xab, 0xcd]); "whole")]
#[test_case("abcdef", None; "too long")]
#[test_case("+a+b", None; "signs")]
#[test_case("äö", None; "no digits")]
fn digits_are_bytes(text: &str, expected: Option<[u8; 2]>) {
    assert_eq!(bytes::<2>(text), expected);
}
