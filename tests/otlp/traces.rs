//! Requests as traces, made of their records.

use crate::{
    Log,
    receiver::{Behaviour, Receiver},
    request,
};
use anyhow::Result;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tidegate::record::{AuditRecord, Phase, trace_parent::TraceParent};
use tidegate_tests::audit;

#[test]
fn a_request_is_a_trace_and_its_records_belong_to_it() -> Result<()> {
    let receiver = Receiver::start(Behaviour::Take)?;
    let log = Log::new(receiver.address, |otlp, _| otlp.traces = true)?;
    let parent = |flags: &str| TraceParent {
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
        span_id: "00f067aa0ba902b7".into(),
        trace_flags: flags.into(),
    };
    let sampled = request(Some(parent("01")))?;
    log.sink.write(&AuditRecord { phase: Phase::Intent, verdict: None, ..sampled.clone() })?;
    log.sink.write(&sampled)?;
    log.sink.write(&request(Some(parent("00")))?)?;
    log.sink.write(&request(None)?)?;
    // A connection that carried no request.
    log.sink.write(&audit::refused("ci")?)?;
    log.sink.finish();
    let (logs, spans) = (receiver.logs()?, receiver.spans()?);
    assert_eq!((logs.len(), spans.len()), (5, 6));
    let servers: Vec<_> = spans.iter().filter(|span| span.kind() == SpanKind::Server).collect();
    let [of_client, of_its_own] = servers.as_slice() else { anyhow::bail!("{spans:#?}") };
    assert_eq!(of_client.name, "GET droplets_list");
    assert_eq!(hex(&of_client.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(hex(&of_client.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(of_client.end_time_unix_nano - of_client.start_time_unix_nano, 500_000);
    assert!(of_its_own.parent_span_id.is_empty());
    for server in [of_client, of_its_own] {
        let within: Vec<_> = spans
            .iter()
            .filter(|span| span.parent_span_id == server.span_id)
            .map(|span| &*span.name)
            .collect();
        assert_eq!(within, ["decide", "upstream"]);
    }
    let of_span = |span: &[u8]| logs.iter().filter(|(_, record)| record.span_id == span).count();
    assert_eq!(of_span(&of_client.span_id), 2, "the intent and the outcome");
    assert_eq!(of_span(&of_its_own.span_id), 1);
    assert_eq!(log.count("sent_records_total{signal=\"traces\"}")?, 2);
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
