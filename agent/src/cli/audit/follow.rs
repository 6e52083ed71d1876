//! The lines of a log, and those that are appended to it while it is read.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// More than any record, so that a file that is no audit log cannot fill the memory.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// How far from its end a log is followed from.
const SHOWN_BEFORE: u64 = 16 << 10;

/// How often it is looked at for more.
const POLL: Duration = Duration::from_millis(200);

/// Reads a log line by line.
#[derive(Debug)]
pub(in crate::cli) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    is_followed: bool,
    /// What there is of the line that is not at its end yet.
    begun: Vec<u8>,
}

impl Lines {
    /// Those from the start, or, where the log is to be followed, those near its end.
    pub(super) fn open(path: &Path, is_followed: bool) -> io::Result<Self> {
        if is_followed {
            return Self::follow(path, SHOWN_BEFORE);
        }
        let reader = BufReader::new(File::open(path)?);
        Ok(Self { path: path.to_owned(), reader, is_followed, begun: Vec::new() })
    }

    /// Those in so many bytes before the end, and what comes.
    pub(in crate::cli) fn follow(path: &Path, before: u64) -> io::Result<Self> {
        let mut reader = BufReader::new(File::open(path)?);
        let length = reader.get_ref().metadata()?.len();
        if let Some(start) = length.checked_sub(before).filter(|start| *start > 0) {
            reader.seek(SeekFrom::Start(start))?;
            reader.skip_until(b'\n')?;
        }
        Ok(Self { path: path.to_owned(), reader, is_followed: true, begun: Vec::new() })
    }

    /// The next line, without its end. None where there is no more; a log that is followed has always more.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.ready()? {
                return Ok(Some(line));
            }
            if !self.is_followed {
                let rest = std::mem::take(&mut self.begun);
                return Ok(Some(rest).filter(|rest| !rest.is_empty()));
            }
            thread::sleep(POLL);
        }
    }

    /// The next line that is there with its end; None where there is none yet.
    pub(in crate::cli) fn ready(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let room = MAX_LINE_BYTES.saturating_sub(self.begun.len() as u64).max(1);
            let read = self.reader.by_ref().take(room).read_until(b'\n', &mut self.begun)?;
            if self.begun.last() == Some(&b'\n') {
                let mut line = std::mem::take(&mut self.begun);
                line.pop();
                return Ok(Some(line));
            }
            if read > 0 {
                if self.begun.len() as u64 >= MAX_LINE_BYTES {
                    self.begun.clear();
                }
                continue;
            }
            if !self.is_followed || !self.has_moved()? {
                return Ok(None);
            }
            match File::open(&self.path) {
                Ok(file) => self.reader = BufReader::new(file),
                // The next one is rotated as well, and its successor not there yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
            self.begun.clear();
        }
    }

    /// Whether the log was rotated, or cut, and everything of the old one has been read.
    fn has_moved(&mut self) -> io::Result<bool> {
        let own = self.reader.get_ref().metadata()?;
        let Ok(current) = fs::metadata(&self.path) else { return Ok(false) };
        if (own.dev(), own.ino()) == (current.dev(), current.ino()) {
            return Ok(current.len() < self.reader.stream_position()?);
        }
        // What was written between the last look and the move is read first.
        Ok(own.len() <= self.reader.stream_position()?)
    }
}
