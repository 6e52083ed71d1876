//! What became of the records that were to go to the collector.

use prometheus_client::{
    encoding::{EncodeLabelSet, LabelSetEncoder},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use std::fmt;

/// What records are sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Signal {
    /// As log records; `traced` where each request is sent as a trace, too, whose span they then belong to.
    Logs { traced: bool },
    /// As traces.
    Traces,
}

impl Signal {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Logs { .. } => "logs",
            Self::Traces => "traces",
        }
    }

    /// Where the collector takes it, behind the endpoint.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Logs { .. } => "/v1/logs",
            Self::Traces => "/v1/traces",
        }
    }
}

/// Of all signals.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    sent: Family<OfSignal, Counter>,
    lost: Family<OfSignal, Counter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct OfSignal(&'static str);

impl Counts {
    /// The counters of records that the collector took, and of those that it will never get.
    pub(super) fn of(&self, signal: Signal) -> (Counter, Counter) {
        let label = OfSignal(signal.word());
        (self.sent.get_or_create_owned(&label), self.lost.get_or_create_owned(&label))
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("otlp_sent_records", "Records that the collector took", self.sent.clone());
        registry.register(
            "otlp_lost_records",
            "Records that the collector never gets; the audit log has them",
            self.lost.clone(),
        );
    }
}

impl EncodeLabelSet for OfSignal {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        [("signal", self.0)].encode(encoder)
    }
}
