//! The way to the audit log: writes are recorded before they go out, and no loss goes unnoticed.

use crate::{
    config::{self, OnAuditFailure},
    record::{
        AuditRecord,
        fingerprint::{Fingerprinter, LastToken, TokenFacts},
        sink::{Error, Sink},
        unfinished::{Begun, Unfinished},
    },
};
use http::HeaderValue;
use std::{fs::File, io, sync::Arc};

/// Writes audit records.
#[derive(Debug)]
pub struct Recorder {
    sink: Arc<Sink>,
    fingerprinter: Fingerprinter,
    on_failure: OnAuditFailure,
    sync: bool,
    unfinished: Arc<Unfinished>,
}

/// A record that had to be in the log is not.
#[derive(Debug, thiserror::Error)]
pub enum Unrecorded {
    /// The log does not take it.
    #[error("the audit log cannot be written")]
    Write(#[from] Error),
    /// Nobody waited for the disk.
    #[error("the audit log cannot be synced")]
    Sync(#[source] io::Error),
    /// An earlier record could not be written, and `audit.on_failure` refuses reads too.
    #[error("the audit log could not be written before")]
    Before,
}

impl Recorder {
    /// Records go to `sink`, under the rules of `[audit]`.
    pub fn new(sink: Arc<Sink>, fingerprinter: Fingerprinter, audit: &config::Audit) -> Self {
        Self {
            sink,
            fingerprinter,
            on_failure: audit.on_failure,
            sync: audit.sync,
            unfinished: Arc::default(),
        }
    }

    /// Keeps in the file how many reads have no record yet; answers what an earlier agent left there.
    ///
    /// # Errors
    /// As [`Unfinished::keep_in_file`].
    pub fn keep_unfinished_in(&self, file: File) -> io::Result<u64> {
        self.unfinished.keep_in_file(file)
    }

    /// Counts a read that goes out before its record is written. It goes out uncounted where that fails, since what
    /// a kill loses of it is all that is at stake.
    pub fn begin_read(&self) -> Option<Begun> {
        let begun = self.unfinished.begin();
        begun.inspect_err(|error| tracing::error!(%error, "cannot count a read that has no record yet")).ok()
    }

    /// What a record may say of an `Authorization` value on a connection whose last one was this.
    pub fn token_facts(&self, last: &LastToken, authorization: Option<&HeaderValue>) -> TokenFacts {
        last.facts(&self.fingerprinter, authorization)
    }

    /// Writes what became of a request or connection. Nothing can be taken back any more, so a failure is
    /// logged, and remembered for [`Recorder::check`].
    pub fn outcome(&self, record: &AuditRecord) {
        if let Err(error) = self.sink.write(record) {
            tracing::error!(%error, source = std::error::Error::source(&error), "an audit record is lost");
        }
    }

    /// Writes what became of a read that was counted, which may come some other reads later. Where a loss is to refuse the next
    /// read, that has to wait for it.
    pub fn read_outcome(&self, record: &AuditRecord, begun: Begun) {
        match self.on_failure {
            OnAuditFailure::RefuseWrites => self.sink.write_soon(record, begun),
            OnAuditFailure::RefuseAll => self.outcome(record),
        }
    }

    /// Writes that a write to the API is about to happen; when this returns, the log holds it.
    ///
    /// # Errors
    /// When the log does not hold it, so that the request must not go out.
    pub async fn intent(&self, record: &AuditRecord) -> Result<(), Unrecorded> {
        self.sink.write(record)?;
        if self.sync {
            let sink = Arc::clone(&self.sink);
            let synced = tokio::task::spawn_blocking(move || sink.sync()).await;
            synced.map_err(|error| Unrecorded::Sync(io::Error::other(error)))??;
        }
        Ok(())
    }

    /// Whether reads may go on.
    ///
    /// # Errors
    /// When the last record could not be written, and reads are to be refused then.
    pub fn check(&self) -> Result<(), Unrecorded> {
        match self.on_failure {
            OnAuditFailure::RefuseAll if self.sink.is_broken() => Err(Unrecorded::Before),
            OnAuditFailure::RefuseAll | OnAuditFailure::RefuseWrites => Ok(()),
        }
    }
}
