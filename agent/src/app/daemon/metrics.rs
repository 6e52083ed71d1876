//! The metrics: what the records tell, and how the daemon itself is.

use super::{super::door::Servant, desk::Desk};
use crate::{
    control::Desk as _,
    health::{Part, http::Metrics, status::Status},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// Writes them when they are asked for.
pub(super) fn of(desk: Arc<Desk>, servant: Servant) -> Metrics {
    let mut registry = Registry::with_prefix("tidegate");
    registry.register_collector(Box::new(OfDaemon(desk)));
    Arc::new(move || {
        // Whoever serves tells first; the end is told once.
        let mut text = servant.metrics().unwrap_or_default();
        text.truncate(text.trim_end().strip_suffix("# EOF").map_or(text.len(), str::len));
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

/// One gauge for each part, which an alert can name.
fn encode_parts(parts: &BTreeMap<Part, bool>, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "1 while this part is well";
    let mut family = encoder.encode_descriptor("part_healthy", help, None, MetricType::Gauge)?;
    for (part, is_well) in parts {
        let metric = ConstGauge::new(i64::from(*is_well));
        metric.encode(family.encode_family(&[("part", part.word())])?)?;
    }
    Ok(())
}

impl Collector for OfDaemon {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Status { healthy, parts, up_seconds, canary_seconds_ago, protected, counters, .. } =
            self.0.status();
        encode_parts(&parts, &mut encoder)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As the daemon does, of parts alone.
    #[derive(Debug)]
    struct OfParts(BTreeMap<Part, bool>);

    impl Collector for OfParts {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            encode_parts(&self.0, &mut encoder)
        }
    }

    #[test]
    fn each_part_has_a_gauge_of_its_own() {
        let mut registry = Registry::with_prefix("tidegate");
        let parts = [(Part::Canary, true), (Part::AuditLog, false)];
        registry.register_collector(Box::new(OfParts(parts.into())));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected =
            [r#"tidegate_part_healthy{part="canary"} 1"#, r#"tidegate_part_healthy{part="audit_log"} 0"#];
        assert_eq!(lines, expected);
    }
}
