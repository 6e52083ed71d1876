//! The other places that get each record: the systemd journal, and an OpenTelemetry collector. The log is what counts,
//! so that nothing waits for them.

#[cfg(feature = "otlp")]
use super::otlp::Exporter;
use super::{
    Sink,
    journal::{self, Journal},
};
use crate::{capture::own_sockets::OwnSockets, config, record::AuditRecord};
use prometheus_client::registry::Registry;
use std::path::Path;
#[cfg(feature = "otlp")]
use std::sync::OnceLock;

/// Those that are wanted.
#[derive(Debug)]
pub(super) struct Others {
    journal: Option<Journal>,
    #[cfg(feature = "otlp")]
    exporter: OnceLock<Exporter>,
}

impl Others {
    /// Without the collector, to which connections must first be possible: see [`Sink::export`].
    pub(super) fn of(audit: &config::Audit) -> Self {
        Self {
            journal: audit.journald.then(journal).flatten(),
            #[cfg(feature = "otlp")]
            exporter: OnceLock::new(),
        }
    }

    /// Whether the log is all there is.
    pub(super) fn are_none(&self) -> bool {
        #[cfg(feature = "otlp")]
        if self.exporter.get().is_some() {
            return false;
        }
        self.journal.is_none()
    }

    /// Passes on what the log holds: `line` is the record as it stands there, redacted.
    #[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "the exporter is not built in"))]
    pub(super) fn tell(&self, record: &AuditRecord, line: &[u8]) {
        if let Some(journal) = &self.journal {
            journal.tell(line);
        }
        #[cfg(feature = "otlp")]
        if let Some(exporter) = self.exporter.get() {
            exporter.tell(record, line);
        }
    }
}

/// None where the process may have no socket, which is no reason to do without the log.
fn journal() -> Option<Journal> {
    let opened = Journal::new(Path::new(journal::SOCKET));
    opened.inspect_err(|error| tracing::error!(%error, "the journal gets no records; the log has them")).ok()
}

impl Sink {
    /// From now on the collector of `[audit.otlp]`, if there is one, gets each record, too, over connections that
    /// `own_sockets` makes. Where that cannot be, the log says so, and goes on alone. Only the first call counts.
    #[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "the exporter is not built in"))]
    pub fn export(&self, audit: &config::Audit, own_sockets: &OwnSockets) {
        #[cfg(feature = "otlp")]
        if let Some(settings) = &audit.otlp {
            match Exporter::start(settings, own_sockets) {
                Ok(exporter) => drop(self.others.exporter.set(exporter)),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "the collector gets no records; the log has them");
                }
            }
        }
    }

    /// Sends what the collector has not got yet, within some seconds; later records are for the log alone.
    pub fn finish(&self) {
        #[cfg(feature = "otlp")]
        if let Some(exporter) = self.others.exporter.get() {
            exporter.finish();
        }
    }

    /// Lets a registry tell what the records have told, and what became of those for the collector.
    pub fn register(&self, registry: &mut Registry) {
        self.tally().register(registry);
        #[cfg(feature = "otlp")]
        if let Some(exporter) = self.others.exporter.get() {
            exporter.register(registry);
        }
    }
}
