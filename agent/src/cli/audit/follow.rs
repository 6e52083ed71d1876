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
pub(super) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    is_followed: bool,
    /// What there is of the line that is not at its end yet.
    begun: Vec<u8>,
}

impl Lines {
    /// Those from the start, or, where the log is to be followed, those near its end.
    pub(super) fn open(path: &Path, is_followed: bool) -> io::Result<Self> {
        let mut reader = BufReader::new(File::open(path)?);
        if is_followed {
            let length = reader.get_ref().metadata()?.len();
            if let Some(start) = length.checked_sub(SHOWN_BEFORE).filter(|start| *start > 0) {
                reader.seek(SeekFrom::Start(start))?;
                reader.skip_until(b'\n')?;
            }
        }
        Ok(Self { path: path.to_owned(), reader, is_followed, begun: Vec::new() })
    }

    /// The next line, without its end. None where there is no more; a log that is followed has always more.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let room = MAX_LINE_BYTES.saturating_sub(self.begun.len() as u64).max(1);
            let read = self.reader.by_ref().take(room).read_until(b'\n', &mut self.begun)?;
            if self.begun.last() == Some(&b'\n') {
                let mut line = std::mem::take(&mut self.begun);
                line.pop();
                return Ok(Some(line));
            }
            if read > 0 && self.begun.len() as u64 >= MAX_LINE_BYTES {
                self.begun.clear();
                continue;
            }
            if read > 0 {
                continue;
            }
            if !self.is_followed {
                let rest = std::mem::take(&mut self.begun);
                return Ok(Some(rest).filter(|rest| !rest.is_empty()));
            }
            if self.has_moved()? {
                self.reader = BufReader::new(File::open(&self.path)?);
                self.begun.clear();
            } else {
                thread::sleep(POLL);
            }
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
