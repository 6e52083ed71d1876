//! The audit log: a file of JSON lines to which any number of agents may append, or a stream.
//!
//! What [`Sink::write`] reports as written stands as a whole line in the file (and on the disk after [`Sink::sync`]).
//! In a file, each writer's lines are a chain (see [`super::chain`]), whose head is signed now and then:
//!
//! ```text
//! {…"tidegate.phase":"checkpoint"…}   the writer's first line in a file: where its chain goes on
//! {…}                                 its records
//! {…"tidegate.phase":"checkpoint"…}   each 1,000 records, and some seconds after the last: signed
//! ```

mod file;
mod journal;
mod ledger;
mod others;
#[cfg(feature = "otlp")]
mod otlp;
pub mod place;
mod rotation;
mod sentence;
mod soon;

pub use rotation::rotated;

use super::{
    AuditRecord, RandomUnavailable, SCHEMA,
    chain::{Head, Seal},
    hex,
    redact::Redactor,
    signer::{Signed, SignedHead, Signer},
    tally::Tally,
    timestamp,
};
use crate::config;
use file::LogFile;
use ledger::{Ledger, Waiting};
use others::Others;
use place::Place;
use rotation::Rotation;
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};

/// How many records may stand behind the last signature.
const SIGN_EVERY: u64 = 1_000;

/// Appends records to the log. Shared between threads.
#[derive(Debug)]
pub struct Sink {
    path: PathBuf,
    output: Mutex<Output>,
    /// Whether that is a stream, before which nothing waits.
    is_stream: bool,
    redactor: Redactor,
    place: Arc<dyn Place>,
    others: Others,
    tally: Tally,
    written: AtomicU64,
    failed: AtomicU64,
    /// Whether the last record could not be written.
    broken: AtomicBool,
}

#[derive(Debug)]
enum Output {
    /// A pipe, terminal or device.
    Stream(Arc<File>),
    File(Box<Ledger>),
}

/// A line that says where a chain is.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Checkpoint {
    timestamp: String,
    #[serde(rename = "tidegate.schema")]
    schema: u32,
    #[serde(rename = "tidegate.phase")]
    phase: String,
    /// The hash of the writer's line before, wherever that stands.
    #[serde(rename = "tidegate.chain.before")]
    pub(super) before: String,
    /// Whether it is its chain's first line in this file.
    #[serde(rename = "tidegate.chain.opens", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) opens: bool,
    /// The first line of a chain: the last line that another writer had left in the file, as `ID:NUMBER`.
    #[serde(rename = "tidegate.chain.after", skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<String>,
    /// Who signed, and the signature of the line before.
    #[serde(rename = "tidegate.signature.key", skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    #[serde(rename = "tidegate.signature", skip_serializing_if = "Option::is_none")]
    pub(super) signature: Option<String>,
}

/// The phase of a line that says where a chain is.
pub const CHECKPOINT: &str = "checkpoint";

/// How many records were written, and how many could not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Whole lines.
    pub written: u64,
    /// Records of which the log has nothing or a part.
    pub failed: u64,
}

/// The log cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its directory cannot be made.
    #[error("cannot make the directory of the audit log `{path}`")]
    Directory {
        /// The log.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be opened.
    #[error("cannot open the audit log `{path}`")]
    Open {
        /// The log.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Anybody could forge records.
    #[error("the audit log `{path}` is writable for everybody: remove that with chmod o-w")]
    WorldWritable {
        /// The log.
        path: PathBuf,
    },
    /// Somebody else could change what is written, or chose where it goes.
    #[error(
        "the audit log `{path}`, or the link to it, belongs to user {owner}, who could alter it: remove it, or \
         give it to the user that tidegate runs as"
    )]
    Foreign {
        /// The log.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// A record cannot be written.
    #[error("cannot write to the audit log `{path}`")]
    Write {
        /// The log.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its chain can have no name.
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
}

impl Sink {
    /// Opens the log, and makes it (for its owner only) and its directories where they are missing. Heads of its chain
    /// are signed where there is a `signer`.
    ///
    /// A last line that a crash left without an end is ended, and reported.
    ///
    /// # Errors
    /// When it cannot be opened, is writable for everybody, or belongs to somebody else than root and the agent.
    pub fn open(audit: &config::Audit, redactor: Redactor, signer: Option<Signer>) -> Result<Self, Error> {
        Self::open_at(audit, redactor, place::Own::new(audit, signer))
    }

    /// As [`Self::open`], at a place that somebody else may have the right to.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(audit: &config::Audit, redactor: Redactor, place: Arc<dyn Place>) -> Result<Self, Error> {
        let path = audit.path.clone();
        let output = if path == Path::new("-") {
            let stream = io::stderr().as_fd().try_clone_to_owned();
            let stream = stream.map_err(|source| Error::Open { path: path.clone(), source })?;
            Output::Stream(Arc::new(stream.into()))
        } else {
            match LogFile::new(place.open()?, &path)? {
                (stream, None) => Output::Stream(stream),
                (_, Some(file)) => Output::File(Box::new(Ledger {
                    file,
                    chain: Head::begin()?,
                    is_begun: false,
                    unsigned: 0,
                    rotation: Rotation::new(audit),
                    waiting: Waiting::default(),
                })),
            }
        };
        Ok(Self {
            path,
            is_stream: matches!(output, Output::Stream(_)),
            output: Mutex::new(output),
            redactor,
            place,
            others: Others::of(audit),
            tally: Tally::default(),
            written: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            broken: AtomicBool::new(false),
        })
    }

    /// Appends the record as one line. When this returns `Ok`, write(2) has returned for all of it.
    ///
    /// # Errors
    /// When the log does not hold the whole record.
    pub fn write(&self, record: &AuditRecord) -> Result<(), Error> {
        let line = record.to_line(&self.redactor).map_err(io::Error::from);
        let result = line.map_err(|source| self.write_error(source)).and_then(|line| {
            self.append(&line)?;
            self.others.tell(record, &line);
            Ok(())
        });
        let counter = if result.is_ok() { &self.written } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        self.broken.store(result.is_err(), Ordering::Relaxed);
        // What happened has happened, whatever the log holds of it.
        self.tally.count(record);
        result
    }

    /// Whether the last record could not be written.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Signs what was written since the last signature. To be called some seconds after a record, and at the end.
    ///
    /// # Errors
    /// When the log does not take it.
    pub fn checkpoint(&self) -> Result<(), Error> {
        let newest = match &mut *self.output() {
            Output::File(ledger) => {
                let newest = self.append_waiting(ledger);
                if ledger.unsigned > 0 { self.write_checkpoint(ledger)? } else { newest }
            }
            Output::Stream(_) => None,
        };
        self.keep(newest.as_ref());
        Ok(())
    }

    /// Returns when everything written so far is on the disk.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn sync(&self) -> Result<(), Error> {
        let file = match &*self.output() {
            Output::Stream(_) => return Ok(()),
            Output::File(ledger) => ledger.file.shared(),
        };
        file.sync_data().map_err(|source| self.write_error(source))
    }

    /// What the records so far have told.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What became of the records so far.
    pub fn counts(&self) -> Counts {
        Counts { written: self.written.load(Ordering::Relaxed), failed: self.failed.load(Ordering::Relaxed) }
    }

    fn output(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_error(&self, source: io::Error) -> Error {
        Error::Write { path: self.path.clone(), source }
    }

    fn append(&self, line: &[u8]) -> Result<(), Error> {
        let mut newest = None;
        match &mut *self.output() {
            // All of it, since what was sent to a stream cannot be ended later.
            Output::Stream(stream) => {
                (&**stream).write_all(line).map_err(|source| self.write_error(source))?;
            }
            Output::File(ledger) => {
                let waited = self.append_waiting(ledger);
                let opened = self.begin(ledger)?;
                ledger.append(line).map_err(|source| self.write_error(source))?;
                newest = self.sign_if_due(ledger, 1).or(opened).or(waited);
            }
        }
        self.keep(newest.as_ref());
        Ok(())
    }

    /// Sees to it that the file is the one to be written to, and has a line of the chain.
    fn begin(&self, ledger: &mut Ledger) -> Result<Option<SignedHead>, Error> {
        self.turn(ledger)?;
        if ledger.is_begun { Ok(None) } else { self.write_checkpoint(ledger) }
    }

    /// After so many more records.
    fn sign_if_due(&self, ledger: &mut Ledger, records: u64) -> Option<SignedHead> {
        ledger.unsigned += records;
        if ledger.unsigned < SIGN_EVERY {
            return None;
        }
        self.write_checkpoint(ledger).unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the audit log's latest records are not signed yet");
            None
        })
    }

    /// Waits for the disk, which no other writer is to do.
    fn keep(&self, newest: Option<&SignedHead>) {
        if let Some(newest) = newest {
            self.place.keep(newest);
        }
    }

    /// Goes on in a new file where the old one was moved away, by another agent, by logrotate, or here because it is due.
    fn turn(&self, ledger: &mut Ledger) -> Result<(), Error> {
        let now = SystemTime::now();
        if self.place.has(ledger.file.identity) {
            let is_due = ledger.rotation.is_due(ledger.file.length(), ledger.file.made, now);
            if !is_due || !self.place.rotate(now) {
                return Ok(());
            }
        }
        // Nobody syncs it later.
        if let Err(error) = ledger.file.shared().sync_data() {
            tracing::error!(%error, "the audit log that was moved away is perhaps not on the disk");
        }
        let (_, file) = LogFile::new(self.place.open()?, &self.path)?;
        let file =
            file.ok_or_else(|| self.write_error(io::Error::other("it is no regular file any more")))?;
        ledger.file = file;
        ledger.is_begun = false;
        Ok(())
    }

    /// Answers with what was signed.
    fn write_checkpoint(&self, ledger: &mut Ledger) -> Result<Option<SignedHead>, Error> {
        let is_first = ledger.chain.sequence == 0;
        let before = if is_first { ledger.file.last_line().ok() } else { None };
        let before = before.as_deref().and_then(Seal::of).map(|seal| seal.head);
        let signed = Signed { head: ledger.chain.clone(), opens: !ledger.is_begun };
        // Of a chain without lines there is nothing to sign but its name, which then nobody else can have chosen.
        let signature = self.place.sign(&signed).map(|made| (made.key, made.signature));
        let (key, signature) = signature.unzip();
        let checkpoint = Checkpoint {
            timestamp: timestamp(SystemTime::now()),
            schema: SCHEMA,
            phase: CHECKPOINT.to_owned(),
            before: hex(&ledger.chain.hash),
            opens: signed.opens,
            after: before.map(|head| format!("{}:{}", head.id, head.sequence)),
            key,
            signature: signature.clone(),
        };
        let line = serde_json::to_vec(&checkpoint).map_err(io::Error::from);
        line.and_then(|line| ledger.append(&line)).map_err(|source| self.write_error(source))?;
        ledger.is_begun = true;
        ledger.unsigned = 0;
        Ok(signature.map(|signature| SignedHead { path: self.path.clone(), signed, signature }))
    }
}

#[cfg(test)]
mod tests;
