//! The audit log: a file of JSON lines to which any number of agents may append.
//!
//! ```text
//! {"timestamp":…}\n      a record: one write(2) to a file opened with O_APPEND, so that lines never mix
//! {"timesta\n            what a crash or a full disk left of one; the next writer ends the line
//! ```
//!
//! There is no lock, since a stopped process could hold it, and nothing is ever cut off, since another agent's record
//! could stand behind. So a reader must expect lines that are no JSON, and empty ones. What [`Sink::write`] reports as
//! written stands as a whole line in the file (and on the disk after [`Sink::sync`]).

use super::{AuditRecord, redact::Redactor};
use crate::config;
use std::{
    fs::{DirBuilder, File, Metadata, OpenOptions},
    io::{self, ErrorKind, Seek, Write},
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// How often a record is written again because it came to stand behind another writer's torn line.
const MAX_ATTEMPTS: usize = 4;

/// Appends records to the log. Shared between threads.
#[derive(Debug)]
pub struct Sink {
    path: PathBuf,
    file: File,
    /// Whether the log is a file that keeps what is written; else it is a pipe, terminal or device.
    is_regular: bool,
    tail: Mutex<Tail>,
    redactor: Redactor,
    written: AtomicU64,
    failed: AtomicU64,
}

/// What this writer knows of the end of the file.
#[derive(Debug, Default)]
struct Tail {
    /// Where its own last line ended.
    end: u64,
    /// Whether the last line has no end.
    torn: bool,
}

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
}

impl Sink {
    /// Opens the log, and makes it (for its owner only) and its directories where they are missing.
    ///
    /// A last line that a crash left without an end is ended, and reported.
    ///
    /// # Errors
    /// When it cannot be opened, is writable for everybody, or belongs to somebody else than root and the agent.
    pub fn open(audit: &config::Audit, redactor: Redactor) -> Result<Self, Error> {
        let path = audit.path.clone();
        // In a directory that others can write to, a link would lead the agent's records to a file of their choice.
        if let Ok(link) = path.symlink_metadata()
            && link.is_symlink()
        {
            check_owner(&path, &link)?;
        }
        let file = if path == Path::new("-") { standard_error() } else { open(&path)? };
        let opened = file.and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = opened.map_err(|source| Error::Open { path: path.clone(), source })?;
        let is_regular = metadata.is_file() && path != Path::new("-");
        if is_regular && metadata.permissions().mode() & 0o002 != 0 {
            return Err(Error::WorldWritable { path });
        }
        if is_regular {
            check_owner(&path, &metadata)?;
        }
        let tail = Mutex::default();
        let sink = Self {
            path,
            file,
            is_regular,
            tail,
            redactor,
            written: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        };
        sink.end_torn_line(metadata.len()).map_err(|source| sink.write_error(source))?;
        Ok(sink)
    }

    /// Appends the record as one line. When this returns `Ok`, write(2) has returned for all of it.
    ///
    /// # Errors
    /// When the log does not hold the whole record.
    pub fn write(&self, record: &AuditRecord) -> Result<(), Error> {
        let line = record.to_line(&self.redactor).map_err(io::Error::from);
        let result =
            line.and_then(|line| if self.is_regular { self.append(&line) } else { self.send(&line) });
        let counter = if result.is_ok() { &self.written } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        result.map_err(|source| self.write_error(source))
    }

    /// Returns when everything written so far is on the disk.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn sync(&self) -> Result<(), Error> {
        if !self.is_regular {
            return Ok(());
        }
        self.file.sync_data().map_err(|source| self.write_error(source))
    }

    /// What became of the records so far.
    pub fn counts(&self) -> Counts {
        Counts { written: self.written.load(Ordering::Relaxed), failed: self.failed.load(Ordering::Relaxed) }
    }

    fn write_error(&self, source: io::Error) -> Error {
        Error::Write { path: self.path.clone(), source }
    }

    /// Looks at the end of the file as it was found. Where the disk is full, the first record ends the line.
    fn end_torn_line(&self, length: u64) -> io::Result<()> {
        if !self.is_regular || self.line_ends_before(length)? {
            return Ok(());
        }
        tracing::warn!(path = %self.path.display(), "the last record of the audit log is incomplete: its writer was killed, or the disk was full");
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.torn = (&self.file).write(b"\n").is_err();
        Ok(())
    }

    /// To a pipe, terminal or device: all of it, since what was sent cannot be ended later.
    fn send(&self, line: &[u8]) -> io::Result<()> {
        let _tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        (&self.file).write_all(line)
    }

    fn append(&self, line: &[u8]) -> io::Result<()> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..MAX_ATTEMPTS {
            let start = self.append_once(&mut tail, line)?;
            let is_next = start == tail.end;
            tail.end = self.position()?;
            // Another writer has been here. If it died in its line, this record was glued to it: once more.
            if is_next || self.line_ends_before(start)? {
                return Ok(());
            }
        }
        Err(io::Error::other("other writers leave torn lines faster than they can be ended"))
    }

    /// Appends one line, behind the end of a torn one if there is one, and answers where the line starts.
    fn append_once(&self, tail: &mut Tail, line: &[u8]) -> io::Result<u64> {
        let ended;
        let text = if tail.torn {
            ended = [b"\n", line].concat();
            &ended
        } else {
            line
        };
        let length = write(&self.file, text)?;
        // Until it is known to be whole.
        tail.torn = true;
        let end = self.position()?;
        if let Some(rest) = text.get(length..)
            && !rest.is_empty()
        {
            // The disk is full, or another limit reached: the second write says which. If it goes well after all,
            // the line is whole only where nobody came between.
            let more = write(&self.file, rest)?;
            if more < rest.len() || self.position()? != end + more as u64 {
                return Err(ErrorKind::WriteZero.into());
            }
        }
        tail.torn = false;
        Ok(end - length as u64 + (text.len() - line.len()) as u64)
    }

    /// With O_APPEND the file's position is the end of the last write through this descriptor.
    fn position(&self) -> io::Result<u64> {
        (&self.file).stream_position()
    }

    fn line_ends_before(&self, position: u64) -> io::Result<bool> {
        let Some(last) = position.checked_sub(1) else { return Ok(true) };
        let mut byte = [0];
        // A file that was cut shorter since then (by a rotation) has no torn line there.
        Ok(self.file.read_at(&mut byte, last)? == 0 || byte == *b"\n")
    }
}

fn standard_error() -> io::Result<File> {
    Ok(io::stderr().as_fd().try_clone_to_owned()?.into())
}

fn check_owner(path: &Path, metadata: &Metadata) -> Result<(), Error> {
    let owner = metadata.uid();
    let is_trusted = owner == 0 || owner == rustix::process::geteuid().as_raw();
    if is_trusted { Ok(()) } else { Err(Error::Foreign { path: path.to_owned(), owner }) }
}

fn open(path: &Path) -> Result<io::Result<File>, Error> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let made = DirBuilder::new().recursive(true).mode(0o750).create(parent);
        made.map_err(|source| Error::Directory { path: path.to_owned(), source })?;
    }
    Ok(OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path))
}

fn write(mut file: &File, text: &[u8]) -> io::Result<usize> {
    loop {
        match file.write(text) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests;
