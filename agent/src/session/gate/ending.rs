//! The records of connections that carried no request, or none that could be read.

use super::{Gate, Passage};
use crate::{
    decide::Effect,
    host::HostName,
    identify::{Subject, Workload, runtime::Guess},
    reason::Reason,
    record::{self, AuditRecord, Destination, Durations, Phase, Ratelimit, SCHEMA, Verdict},
};
use serde::{Deserialize, Serialize};
use std::{
    net::SocketAddr,
    time::{Instant, SystemTime},
};

/// What a connection without requests came to.
pub(super) struct Ending {
    pub(super) host: Option<HostName>,
    pub(super) effect: Effect,
    pub(super) reason: Reason,
    pub(super) verdict: Verdict,
    pub(super) status: Option<u16>,
    pub(super) detail: Option<String>,
    /// What the client is made of and what to do about it, where it refused the local CA.
    pub(super) guess: Option<Guess>,
    pub(super) bytes: (u64, u64),
    /// For how many of its kind it stands.
    pub(super) count: u64,
}

impl Ending {
    pub(super) fn closed(reason: Reason) -> Self {
        Self {
            host: None,
            effect: Effect::Deny,
            reason,
            verdict: Verdict::Closed,
            status: None,
            detail: None,
            guess: None,
            bytes: (0, 0),
            count: 1,
        }
    }

    pub(super) fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }
}

/// What the kernel side has refused.
#[derive(Debug, Deserialize, Serialize)]
pub struct Refusal {
    /// Whose it was.
    pub subject: Subject,
    /// Where it meant to go.
    pub destination: SocketAddr,
    /// The IP protocol.
    pub protocol: u32,
    /// Why.
    pub reason: Reason,
}

impl Gate {
    /// Records what the kernel side refused, `count` times.
    pub fn refused(&self, refusal: Refusal, count: u64) {
        let Refusal { subject, destination, protocol, reason } = refusal;
        let destination = Destination::new(destination);
        let ending = Ending { verdict: Verdict::Refused, count, ..Ending::closed(reason) };
        let names_protocol = reason == Reason::ProtocolRefused;
        let ending = if names_protocol { ending.detail(format!("IP protocol {protocol}")) } else { ending };
        let mut record = self.line(SystemTime::now(), Instant::now(), ending);
        if let Some(record) = &mut record {
            (record.destination, record.subject) = (destination, subject);
        }
        self.write(record);
    }

    /// Records `count` connections that reached the listener without a flow, the first of them from `peer`.
    pub fn no_flow(&self, peer: SocketAddr, count: u64) {
        let ending = Ending { count, ..Ending::closed(Reason::NoFlow) };
        self.write(self.line(SystemTime::now(), Instant::now(), ending.detail(format!("from {peer}"))));
    }

    /// Records that `count` refusals have no records of their own. They are of the `sole` workload, if there is one alone.
    pub fn unnamed(&self, sole: Option<&Workload>, count: u64) {
        let ending = Ending { count, verdict: Verdict::Refused, ..Ending::closed(Reason::RefusalFlood) };
        let mut record = self.line(SystemTime::now(), Instant::now(), ending);
        if let (Some(record), Some(workload)) = (&mut record, sole) {
            record.subject.workload = workload.name.to_string();
            record.subject.policy = workload.policy.to_string();
        }
        self.write(record);
    }

    /// Records that an earlier agent was killed while this many reads had no record yet.
    pub fn lost(&self, count: u64) {
        let ending = Ending {
            count,
            effect: Effect::Allow,
            verdict: Verdict::Forwarded,
            ..Ending::closed(Reason::RecordsLost)
        };
        self.write(self.line(SystemTime::now(), Instant::now(), ending));
    }

    pub(super) fn record(&self, passage: &Passage, ending: Ending) {
        let mut record = self.line(passage.accepted, passage.accepted_at, ending);
        if let Some(record) = &mut record {
            let host = record.destination.host.take();
            record.destination = Destination { host, ..Destination::new(passage.destination) };
            record.subject = Subject::clone(&passage.principal.subject);
        }
        self.write(record);
    }

    fn line(&self, at: SystemTime, since: Instant, ending: Ending) -> Option<AuditRecord> {
        let request_id = match record::request_id() {
            Ok(id) => id,
            Err(error) => {
                tracing::error!(%error, "an audit record is lost");
                return None;
            }
        };
        let total = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        Some(AuditRecord {
            timestamp: record::timestamp(at),
            schema: SCHEMA,
            phase: Phase::Outcome,
            request_id,
            subject: Subject::default(),
            destination: Destination {
                host: ending.host.map(|host| host.to_string()),
                ..Destination::default()
            },
            request: None,
            decision: ending.effect,
            reason: ending.reason,
            rule: None,
            verdict: Some(ending.verdict),
            status: ending.status,
            ratelimit: Ratelimit::default(),
            detail: ending.detail,
            runtime: ending.guess.map(|guess| guess.runtime),
            hint: ending.guess.map(Guess::hint),
            count: (ending.count > 1).then_some(ending.count),
            bytes_in: ending.bytes.0,
            bytes_out: ending.bytes.1,
            durations: Durations { total, ..Durations::default() },
        })
    }

    fn write(&self, record: Option<AuditRecord>) {
        if let Some(record) = record {
            self.services.recorder.outcome(&record);
        }
    }
}
