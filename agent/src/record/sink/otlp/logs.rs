//! Each record as a log record.

use super::{
    queue::Entry,
    traces::Place,
    value::{Record, attributes, resource, scope, text, unix_nanos},
};
use crate::record::sink::sentence::sentence;
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, any_value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
};

/// What every such log record is.
const EVENT: &str = "tidegate.audit";

/// These records for the collector, and how many there are. `traced`: each request is sent as a trace, too.
pub(super) fn request(entries: &[Entry], traced: bool) -> (ExportLogsServiceRequest, usize) {
    let log_records: Vec<LogRecord> = entries.iter().filter_map(|entry| log_record(entry, traced)).collect();
    let count = log_records.len();
    let of_scope = ScopeLogs { scope: Some(scope()), log_records, ..ScopeLogs::default() };
    let of_resource =
        ResourceLogs { resource: Some(resource()), scope_logs: vec![of_scope], ..ResourceLogs::default() };
    (ExportLogsServiceRequest { resource_logs: vec![of_resource] }, count)
}

fn log_record(entry: &Entry, traced: bool) -> Option<LogRecord> {
    let record: Record = serde_json::from_slice(&entry.line).ok()?;
    let (severity, severity_text) = severity(text(&record, "tidegate.verdict"));
    let mut log_record = LogRecord {
        time_unix_nano: unix_nanos(&record),
        observed_time_unix_nano: entry.observed_nanos,
        severity_number: severity.into(),
        severity_text: severity_text.to_owned(),
        body: Some(AnyValue { value: Some(any_value::Value::StringValue(sentence(&record))) }),
        attributes: attributes(&record),
        event_name: EVENT.to_owned(),
        ..LogRecord::default()
    };
    if let Some(place) = Place::of(&record) {
        if traced && place.is_recorded() {
            log_record.trace_id = place.trace_id().to_vec();
            log_record.span_id = place.span_id().to_vec();
        } else if let Some(parent) = place.parent {
            log_record.trace_id = place.trace_id().to_vec();
            log_record.span_id = parent.span_id.to_vec();
        }
        log_record.flags = place.flags().into();
    }
    Some(log_record)
}

/// What did not go through as it was asked is worth a look. An intent has no verdict yet.
fn severity(verdict: &str) -> (SeverityNumber, &'static str) {
    match verdict {
        "refused" | "closed" | "would_refuse" => (SeverityNumber::Warn, "WARN"),
        _ => (SeverityNumber::Info, "INFO"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Verdict, tests::record};
    use test_case::test_case;

    #[test_case(Some(Verdict::Forwarded), SeverityNumber::Info; "forwarded")]
    #[test_case(Some(Verdict::Passed), SeverityNumber::Info; "passed")]
    #[test_case(None, SeverityNumber::Info; "an intent")]
    #[test_case(Some(Verdict::Refused), SeverityNumber::Warn; "refused")]
    #[test_case(Some(Verdict::WouldRefuse), SeverityNumber::Warn; "dry run")]
    #[test_case(Some(Verdict::Closed), SeverityNumber::Warn; "closed")]
    fn the_verdict_is_the_severity(verdict: Option<Verdict>, expected: SeverityNumber) {
        assert_eq!(severity(verdict.map_or("", Verdict::word)).0, expected);
    }

    #[test]
    fn what_is_no_record_is_left_out() {
        let entry = |line: &[u8]| Entry { line: line.into(), observed_nanos: 0 };
        let line = serde_json::to_vec(&record()).unwrap();
        let (request, count) = request(&[entry(b"{\"torn"), entry(&line)], false);
        assert_eq!(count, 1);
        assert_eq!(request.resource_logs[0].scope_logs[0].log_records.len(), 1);
    }

    #[test_case(false, "00f067aa0ba902b7"; "the client's span")]
    #[test_case(true, "8899aabbccddeeff"; "the request's own")]
    fn a_record_belongs_to_the_clients_trace(traced: bool, span_id: &str) {
        let entry = Entry { line: serde_json::to_vec(&record()).unwrap().into(), observed_nanos: 5 };
        let log_record = log_record(&entry, traced).unwrap();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&log_record.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(hex(&log_record.span_id), span_id);
        assert_eq!((log_record.flags, log_record.observed_time_unix_nano), (1, 5));
        assert!(!log_record.attributes.iter().any(|attribute| attribute.key == "trace_id"));
    }
}
