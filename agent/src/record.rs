//! Stage 8: the audit records, one JSON object a line.

pub mod chain;
pub mod fingerprint;
mod line;
pub mod redact;
pub mod signer;
pub mod sink;
pub mod tally;
mod token;
pub mod trace_parent;
pub mod unfinished;
pub mod verify;

use crate::{
    decide::Effect,
    identify::{Subject, runtime::Runtime},
    reason::Reason,
};
use aws_lc_rs::rand;
pub use fingerprint::RandomUnavailable;
use serde::Serialize;
use std::{
    net::{IpAddr, SocketAddr},
    time::{SystemTime, UNIX_EPOCH},
};
use time::OffsetDateTime;
use trace_parent::TraceParent;

/// The version of the record's keys, written as `tidegate.schema`.
pub const SCHEMA: u32 = 1;

/// What was done on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The request went to the upstream.
    Forwarded,
    /// The client got tidegate's own answer.
    Refused,
    /// The connection was closed without an answer.
    Closed,
    /// The bytes were passed on without a policy decision.
    Passed,
    /// The request went to the upstream; without dry-run it would have been refused.
    WouldRefuse,
}

impl Verdict {
    /// The word as it stands in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Refused => "refused",
            Self::Closed => "closed",
            Self::Passed => "passed",
            Self::WouldRefuse => "would_refuse",
        }
    }
}

/// Which of a request's lines this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// A write, recorded before its first byte goes to the upstream.
    Intent,
    /// What became of a request or connection.
    Outcome,
}

/// One line of the audit log. Keys are OpenTelemetry's where one exists, `tidegate.*` otherwise.
///
/// Its strings are as they came: [`AuditRecord::to_line`] redacts every one of them.
#[derive(Clone, Debug, Serialize)]
pub struct AuditRecord {
    /// RFC 3339, UTC, microseconds: see [`timestamp`].
    pub timestamp: String,
    /// [`SCHEMA`].
    #[serde(rename = "tidegate.schema")]
    pub schema: u32,
    /// Which line of the request this is.
    #[serde(rename = "tidegate.phase")]
    pub phase: Phase,
    /// See [`request_id`]; both lines of a write share it.
    #[serde(rename = "tidegate.request.id")]
    pub request_id: String,
    /// Who: see [`Subject`].
    #[serde(flatten)]
    pub subject: Subject,
    /// Where to: see [`Destination`].
    #[serde(flatten)]
    pub destination: Destination,
    /// The request; absent for connections that carried none.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestFacts>,
    /// What the engine answered.
    #[serde(rename = "tidegate.decision")]
    pub decision: Effect,
    /// Why.
    #[serde(rename = "tidegate.reason")]
    pub reason: Reason,
    /// The deciding entry of the policy.
    #[serde(rename = "tidegate.rule", skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What was done on the wire; absent in an intent.
    #[serde(rename = "tidegate.verdict", skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The status that the client got.
    #[serde(rename = "http.response.status_code", skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What the API's answer says of the token's budget: see [`Ratelimit`].
    #[serde(flatten)]
    pub ratelimit: Ratelimit,
    /// The error's text.
    #[serde(rename = "tidegate.detail", skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What the client is made of, as far as can be guessed; told where it refused the local CA.
    #[serde(rename = "tidegate.client.runtime", skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// What to set or do about it.
    #[serde(rename = "tidegate.hint", skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'static str>,
    /// How many equal refusals within a second this record stands for; absent where it is one.
    #[serde(rename = "tidegate.count", skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Bytes from the workload: the request's body, or the raw bytes of a connection that was passed on.
    #[serde(rename = "tidegate.bytes.in")]
    pub bytes_in: u64,
    /// Bytes to the workload.
    #[serde(rename = "tidegate.bytes.out")]
    pub bytes_out: u64,
    /// Times: see [`Durations`].
    #[serde(flatten)]
    pub durations: Durations,
}

/// Where the workload meant to go.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Destination {
    /// The original destination's address.
    #[serde(rename = "destination.address", skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The original destination's port.
    #[serde(rename = "destination.port", skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The name that the client asked for (SNI or Host): a claim.
    #[serde(rename = "server.address", skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl Destination {
    /// The original destination, with no name yet.
    pub fn new(address: SocketAddr) -> Self {
        Self { address: Some(address.ip().to_canonical()), port: Some(address.port()), host: None }
    }
}

/// The request as it was classified.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RequestFacts {
    /// The method.
    #[serde(rename = "http.request.method")]
    pub method: String,
    /// The canonical path, or the raw one where it was refused.
    #[serde(rename = "url.path")]
    pub path: String,
    /// The query.
    #[serde(rename = "url.query", skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// `1.1` or `2`.
    #[serde(rename = "network.protocol.version")]
    pub protocol: &'static str,
    /// The client's user agent.
    #[serde(rename = "user_agent.original", skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// The trace that the client says it belongs to: see [`TraceParent`].
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
    /// The catalogue's operation; absent for an unclassified request.
    #[serde(rename = "tidegate.operation", skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The scopes it needs.
    #[serde(rename = "tidegate.scopes.required")]
    pub required: Vec<String>,
    /// Those of them that the policy does not allow.
    #[serde(rename = "tidegate.scopes.missing")]
    pub missing: Vec<String>,
    /// The resources that it names, as `kind:id`.
    #[serde(rename = "tidegate.resources", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// The parts that were taken out of the answer, as JSON pointers; absent where there are none.
    #[serde(rename = "tidegate.filtered", skip_serializing_if = "Vec::is_empty")]
    pub filtered: Vec<String>,
    /// `dop`, `doo`, `dor`, `other`, or `none`.
    #[serde(rename = "tidegate.token.type")]
    pub token_type: &'static str,
    /// Keyed with a key that never leaves the host.
    #[serde(rename = "tidegate.token.fingerprint", skip_serializing_if = "Option::is_none")]
    pub token_fingerprint: Option<String>,
}

/// What the API's answer says of the token's budget, as far as it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ratelimit {
    /// Requests an hour.
    #[serde(rename = "tidegate.ratelimit.limit", skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Those that are left.
    #[serde(rename = "tidegate.ratelimit.remaining", skip_serializing_if = "Option::is_none")]
    pub remaining: Option<u32>,
    /// When the oldest leaves the window, in unix seconds.
    #[serde(rename = "tidegate.ratelimit.reset", skip_serializing_if = "Option::is_none")]
    pub reset: Option<u64>,
}

/// Times in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Durations {
    /// From the request's head (or the accept) to its last byte.
    #[serde(rename = "tidegate.duration_us.total")]
    pub total: u64,
    /// Classifying and deciding.
    #[serde(rename = "tidegate.duration_us.decide", skip_serializing_if = "Option::is_none")]
    pub decide: Option<u64>,
    /// From the first byte to the upstream to the head of its answer.
    #[serde(rename = "tidegate.duration_us.upstream", skip_serializing_if = "Option::is_none")]
    pub upstream: Option<u64>,
}

/// The time as it stands in a record: RFC 3339, UTC, always with microseconds, so that lines sort by it.
pub fn timestamp(time: SystemTime) -> String {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or_default();
    let utc = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = utc.to_calendar_date();
    let (hour, minute, second) = utc.to_hms();
    let month = u8::from(month);
    let microsecond = since_epoch.subsec_micros();
    let mut text = String::with_capacity("1970-01-01T00:00:00.000000Z".len());
    let mut put = |number: u32, digits: u32, end: char| {
        let places = (0..digits).rev().map(|place| number / 10_u32.pow(place) % 10);
        text.extend(places.filter_map(|digit| char::from_digit(digit, 10)).chain([end]));
    };
    put(year.unsigned_abs(), 4, '-');
    put(u32::from(month), 2, '-');
    put(u32::from(day), 2, 'T');
    put(u32::from(hour), 2, ':');
    put(u32::from(minute), 2, ':');
    put(u32::from(second), 2, '.');
    put(microsecond, 6, 'Z');
    text
}

/// A new request id: 128 random bits in hexadecimal.
///
/// # Errors
/// When the system gives no random bytes.
pub fn request_id() -> Result<String, RandomUnavailable> {
    let mut id = [0; 16];
    rand::fill(&mut id).map_err(|_| RandomUnavailable)?;
    Ok(hex(&id))
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(if value < 10 { b'0' + value } else { b'a' + value - 10 });
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 0xf));
    }
    text
}

#[cfg(test)]
mod tests;
