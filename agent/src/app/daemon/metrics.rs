//! The metrics: what the records tell, and how the daemon itself is.

use super::desk::Desk;
use crate::{
    control::Desk as _,
    health::{http::Metrics, status::Status},
    record::sink::Sink,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use std::{fmt, sync::Arc};

/// Writes them when they are asked for.
pub(super) fn of(desk: Arc<Desk>, sink: Arc<Sink>) -> Metrics {
    let mut registry = Registry::with_prefix("tidegate");
    sink.tally().register(&mut registry);
    registry.register_collector(Box::new(OfDaemon(desk)));
    Arc::new(move || {
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &registry) {
            tracing::error!(%error, "the metrics cannot be told");
        }
        text
    })
}

/// What `tidegate status` tells as numbers.
struct OfDaemon(Arc<Desk>);

impl fmt::Debug for OfDaemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfDaemon").finish_non_exhaustive()
    }
}

impl Collector for OfDaemon {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Status { healthy, up_seconds, canary_seconds_ago, protected, counters, .. } = self.0.status();
        let mut gauge = |name: &str, help: &str, value: u64| -> fmt::Result {
            let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let encoder = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
            metric.encode(encoder)
        };
        gauge("healthy", "1 while every part is well", u64::from(healthy))?;
        gauge("up_seconds", "How long the daemon has run", up_seconds)?;
        if let Some(seconds) = canary_seconds_ago {
            gauge("canary_age_seconds", "How long ago capture was proven", seconds)?;
        }
        gauge("open_connections", "Connections of workloads that are open", counters.open)?;
        gauge("protected_addresses", "Addresses of protected hosts", protected.len() as u64)?;
        let counts = [
            ("redirected_connections", "Connections that came to the gate", counters.redirected),
            ("kernel_refusals", "What the kernel side refused", counters.refused),
            ("kernel_refusals_lost", "Refusals that there was no room to report", counters.lost_events),
            ("ended_connections", "Connections from before that were ended", counters.ended),
            ("unwritten_records", "Audit records that could not be written", counters.unwritten_records),
        ];
        for (name, help, value) in counts {
            let metric = ConstCounter::new(value);
            let encoder = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
            metric.encode(encoder)?;
        }
        Ok(())
    }
}
