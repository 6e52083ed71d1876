//! Records of reads, which are written together: those of all reads that end in one turn of the event loop with one write(2).

use super::{
    Error, Output, SignedHead, Sink,
    ledger::{Due, Ledger},
};
use crate::record::{AuditRecord, unfinished::Begun};
use std::{
    cell::RefCell,
    sync::{Arc, atomic::Ordering},
};
use tokio::{runtime::Handle, task::yield_now};

thread_local! {
    /// A line on its way to those that wait.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Sink {
    /// Appends the record of a read before long: with those of the reads that end in the same turn of the event loop, before
    /// anything that [`Self::write`] appends, and at once where much waits already. A loss is logged and counted.
    pub fn write_soon(self: &Arc<Self>, record: &AuditRecord, begun: Begun) {
        let mut begun = Some(begun);
        let held =
            if self.others.are_none() && !self.is_stream { self.hold(record, &mut begun) } else { None };
        let due = held.unwrap_or_else(|| {
            if let Err(error) = self.write(record) {
                self.lament(&error, 1);
            }
            Due::SeenTo
        });
        match (due, Handle::try_current()) {
            (Due::SeenTo, _) => {}
            (Due::Soon, Ok(runtime)) => {
                let sink = Arc::clone(self);
                runtime.spawn(async move {
                    // Behind all that can go on now, some of which ends reads as well.
                    yield_now().await;
                    sink.flush();
                });
            }
            (Due::Soon, Err(_)) | (Due::Now, _) => self.flush(),
        }
    }

    /// None where nothing waits, since it is a stream or the record has no line.
    fn hold(&self, record: &AuditRecord, begun: &mut Option<Begun>) -> Option<Due> {
        LINE.with_borrow_mut(|line| {
            line.clear();
            record.write_line(&self.redactor, line).ok()?;
            let mut output = self.output();
            let Output::File(ledger) = &mut *output else { return None };
            let due = ledger.waiting.push(line, begun.take()?);
            drop(output);
            self.tally.count(record);
            Some(due)
        })
    }

    /// Appends what waits.
    fn flush(&self) {
        let newest = match &mut *self.output() {
            Output::File(ledger) => self.append_waiting(ledger),
            Output::Stream(_) => None,
        };
        self.keep(newest.as_ref());
    }

    /// Appends what waits. What the log does not take is lost.
    pub(super) fn append_waiting(&self, ledger: &mut Ledger) -> Option<SignedHead> {
        if ledger.waiting.is_empty() {
            return None;
        }
        let (opened, whole, result) = match self.begin(ledger) {
            Ok(opened) => {
                let (whole, result) = ledger.append_waiting();
                (opened, whole, result.map_err(|source| self.write_error(source)))
            }
            Err(error) => (None, 0, Err(error)),
        };
        let lost = ledger.waiting.len() - whole;
        ledger.waiting.clear();
        self.written.fetch_add(whole as u64, Ordering::Relaxed);
        self.failed.fetch_add(lost as u64, Ordering::Relaxed);
        self.broken.store(result.is_err(), Ordering::Relaxed);
        if let Err(error) = result {
            self.lament(&error, lost);
        }
        self.sign_if_due(ledger, whole as u64).or(opened)
    }

    fn lament(&self, error: &Error, records: usize) {
        tracing::error!(%error, source = std::error::Error::source(error), records, "audit records are lost");
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.flush();
    }
}
