//! Each request as a trace, made of its record when it is finished: a span of the server's kind, and in it one for each
//! time that the record has.
//!
//! ```text
//! client's span (traceparent)
//! └─ DELETE droplets_destroy      server    timestamp, tidegate.duration_us.total
//!    ├─ decide                    internal  from the beginning, tidegate.duration_us.decide
//!    └─ upstream                  client    behind the decision, tidegate.duration_us.upstream
//! ```
//!
//! The record does not say when the first byte went to the upstream, so that its span stands as early as it can have.

use super::{
    queue::Entry,
    value::{Record, attributes, resource, scope, text, unix_nanos},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{ResourceSpans, ScopeSpans, Span, SpanFlags, Status, span::SpanKind, status::StatusCode},
};
use serde_json::Value;

/// The client records its span, and so is this one.
const SAMPLED: u8 = 1;

/// From here on an answer's status is the server's fault.
const FIRST_SERVER_ERROR: u64 = 500;

/// Where a request stands among traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// 128 random bits.
    request_id: [u8; 16],
    /// The client's.
    pub(super) parent: Option<Parent>,
}

/// What the client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    pub(super) flags: u8,
}

impl Place {
    pub(super) fn of(record: &Record) -> Option<Self> {
        let request_id = bytes(text(record, "tidegate.request.id"))?;
        let parent = || {
            let [flags] = bytes(text(record, "trace_flags"))?;
            let (trace_id, span_id) = (bytes(text(record, "trace_id"))?, bytes(text(record, "span_id"))?);
            Some(Parent { trace_id, span_id, flags })
        };
        Some(Self { request_id, parent: parent() })
    }

    /// A client that records no span of its own wants none here.
    pub(super) fn is_recorded(&self) -> bool {
        self.flags() & SAMPLED != 0
    }

    pub(super) fn flags(&self) -> u8 {
        self.parent.map_or(SAMPLED, |parent| parent.flags)
    }

    /// The client's trace, or one of the request's own.
    pub(super) fn trace_id(&self) -> [u8; 16] {
        self.parent.map_or(self.request_id, |parent| parent.trace_id)
    }

    /// The request's span, by which log records find it: no less random than the request's id is.
    pub(super) fn span_id(&self) -> [u8; 8] {
        self.number(0)
    }

    /// The id of the request's span, or of one in it.
    fn number(&self, number: u64) -> [u8; 8] {
        let low = self.request_id.last_chunk().map_or(0, |low| u64::from_be_bytes(*low));
        // Zeros are no id.
        low.wrapping_add(number).max(1).to_be_bytes()
    }
}

/// The requests of these records for the collector, and how many there are.
pub(super) fn request(entries: &[Entry]) -> (ExportTraceServiceRequest, usize) {
    let records = entries.iter().filter_map(|entry| serde_json::from_slice::<Record>(&entry.line).ok());
    let traces: Vec<Vec<Span>> = records.filter_map(|record| spans(&record)).collect();
    let count = traces.len();
    let spans = traces.into_iter().flatten().collect();
    let of_scope = ScopeSpans { scope: Some(scope()), spans, ..ScopeSpans::default() };
    let of_resource =
        ResourceSpans { resource: Some(resource()), scope_spans: vec![of_scope], ..ResourceSpans::default() };
    (ExportTraceServiceRequest { resource_spans: vec![of_resource] }, count)
}

/// The request's span and those in it; none where nobody records it.
fn spans(record: &Record) -> Option<Vec<Span>> {
    let place = Place::of(record).filter(Place::is_recorded)?;
    let micros = |key: &str| record.get(key).and_then(Value::as_u64);
    let nanos = |key: &str| micros(key).map(|micros| micros.saturating_mul(1_000));
    let start = unix_nanos(record);
    let end = start.saturating_add(nanos("tidegate.duration_us.total").unwrap_or_default());
    let is_remote = SpanFlags::ContextHasIsRemoteMask as u32 | SpanFlags::ContextIsRemoteMask as u32;
    let server = Span {
        trace_id: place.trace_id().to_vec(),
        span_id: place.span_id().to_vec(),
        parent_span_id: place.parent.map(|parent| parent.span_id.to_vec()).unwrap_or_default(),
        flags: u32::from(place.flags()) | place.parent.map_or(0, |_| is_remote),
        name: name(record),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: start,
        end_time_unix_nano: end,
        attributes: attributes(record),
        status: status(record),
        ..Span::default()
    };
    let decided = nanos("tidegate.duration_us.decide").map(|nanos| start.saturating_add(nanos).min(end));
    let answered = nanos("tidegate.duration_us.upstream").map(|nanos| {
        let sent = decided.unwrap_or(start);
        (sent, sent.saturating_add(nanos).min(end))
    });
    let parts = [
        ("decide", SpanKind::Internal, decided.map(|decided| (start, decided))),
        ("upstream", SpanKind::Client, answered),
    ];
    let within = (1..).zip(parts).filter_map(|(number, (name, kind, time))| {
        let (from, to) = time?;
        Some(Span {
            trace_id: server.trace_id.clone(),
            span_id: place.number(number).to_vec(),
            parent_span_id: server.span_id.clone(),
            flags: u32::from(place.flags()) | SpanFlags::ContextHasIsRemoteMask as u32,
            name: name.to_owned(),
            kind: kind.into(),
            start_time_unix_nano: from,
            end_time_unix_nano: to,
            ..Span::default()
        })
    });
    let within: Vec<Span> = within.collect();
    Some([vec![server], within].concat())
}

/// One of few, so that requests of one kind can be told together.
fn name(record: &Record) -> String {
    let (method, operation) = (text(record, "http.request.method"), text(record, "tidegate.operation"));
    match operation {
        "" => method.to_owned(),
        operation => format!("{method} {operation}"),
    }
}

/// A refusal is the client's fault, by OpenTelemetry's rules, and no error of the server's.
fn status(record: &Record) -> Option<Status> {
    let answered = record.get("http.response.status_code").and_then(Value::as_u64);
    let is_error = answered.is_some_and(|status| status >= FIRST_SERVER_ERROR)
        || text(record, "tidegate.verdict") == "closed";
    is_error.then(|| Status {
        message: text(record, "tidegate.reason").to_owned(),
        code: StatusCode::Error.into(),
    })
}

/// The bytes that so many hexadecimal digits stand for.
fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_whole = digits.len() == 2 * N && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    is_whole.then_some(bytes)
}

#[cfg(test)]
mod tests;
