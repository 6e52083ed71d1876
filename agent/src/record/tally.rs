//! How often what was recorded, and how long it took, for those who watch many machines.
//!
//! Every label has few values: the workloads of the configuration, and words of this program.

use super::{AuditRecord, Phase, Verdict};
use prometheus_client::{
    encoding::{EncodeLabelSet, LabelSetEncoder},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::fmt;

/// Upper bounds in seconds, from what the proxy costs to what a slow API takes.
const BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
const MICROSECONDS: f64 = 1e6;

/// Counts outcomes. Copies count together.
#[derive(Clone, Debug)]
pub struct Tally {
    outcomes: Family<Outcome, Counter>,
    seconds: Family<OfWorkload, Histogram, fn() -> Histogram>,
    bytes: Family<Flow, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Outcome {
    workload: String,
    decision: &'static str,
    verdict: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct OfWorkload(String);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Flow {
    workload: String,
    direction: &'static str,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            outcomes: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            bytes: Family::default(),
        }
    }
}

impl Tally {
    /// Counts one record. A write's intent is no outcome.
    pub fn count(&self, record: &AuditRecord) {
        if record.phase != Phase::Outcome {
            return;
        }
        let workload = &record.subject.workload;
        let outcome = Outcome {
            workload: workload.clone(),
            decision: record.decision.word(),
            verdict: record.verdict.map_or("", Verdict::word),
            reason: record.reason.code(),
        };
        self.outcomes.get_or_create(&outcome).inc_by(record.count.unwrap_or(1));
        for (direction, bytes) in [("in", record.bytes_in), ("out", record.bytes_out)] {
            self.bytes.get_or_create(&Flow { workload: workload.clone(), direction }).inc_by(bytes);
        }
        if record.verdict == Some(Verdict::Forwarded) {
            #[expect(clippy::cast_precision_loss, reason = "no request takes 2^52 microseconds")]
            let seconds = record.durations.total as f64 / MICROSECONDS;
            self.seconds.get_or_create(&OfWorkload(workload.clone())).observe(seconds);
        }
    }

    /// Lets a registry tell the counts.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "outcomes",
            "Requests and connections, by what was decided and done",
            self.outcomes.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "From a forwarded request's head to the last byte of its answer",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register_with_unit(
            "workload",
            "What workloads have sent (in) and got (out)",
            Unit::Bytes,
            self.bytes.clone(),
        );
    }
}

impl EncodeLabelSet for Outcome {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let Self { workload, decision, verdict, reason } = self;
        let labels =
            [("workload", &**workload), ("decision", decision), ("verdict", verdict), ("reason", reason)];
        labels.encode(encoder)
    }
}

impl EncodeLabelSet for OfWorkload {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        [("workload", &*self.0)].encode(encoder)
    }
}

impl EncodeLabelSet for Flow {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        [("workload", &*self.workload), ("direction", self.direction)].encode(encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Durations, tests::record};
    use prometheus_client::encoding::text::encode;

    #[test]
    fn outcomes_are_told_by_what_was_decided_and_done() {
        let tally = Tally::default();
        let allowed = AuditRecord {
            verdict: Some(Verdict::Forwarded),
            durations: Durations { total: 3_000, ..Durations::default() },
            bytes_in: 5,
            bytes_out: 7,
            ..record()
        };
        tally.count(&allowed);
        tally.count(&AuditRecord { count: Some(3), ..allowed.clone() });
        tally.count(&AuditRecord { phase: Phase::Intent, ..allowed.clone() });
        let mut registry = Registry::with_prefix("tidegate");
        tally.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let AuditRecord { subject, decision, reason, .. } = allowed;
        let labels = format!(
            "workload=\"{}\",decision=\"{}\",verdict=\"forwarded\",reason=\"{}\"",
            subject.workload,
            decision.word(),
            reason.code()
        );
        for line in [
            format!("tidegate_outcomes_total{{{labels}}} 4"),
            format!("tidegate_workload_bytes_total{{workload=\"{}\",direction=\"in\"}} 10", subject.workload),
            format!(
                "tidegate_request_duration_seconds_bucket{{le=\"0.005\",workload=\"{}\"}} 2",
                subject.workload
            ),
        ] {
            assert!(text.contains(&line), "{line} in\n{text}");
        }
    }
}
