//! A file of lines that other processes may append to as well.
//!
//! ```text
//! {"timestamp":…}\n      a record: one write(2) to a file opened with O_APPEND, so that lines never mix
//! {"timesta\n            what a crash or a full disk left of one; the next writer ends the line
//! ```
//!
//! There is no lock, since a stopped process could hold it, and nothing is ever cut off, since another agent's record
//! could stand behind. So a reader must expect lines that are no JSON, and empty ones.

use super::{Error, place::Identity};
use std::{
    fs::{DirBuilder, File, Metadata, OpenOptions},
    io::{self, ErrorKind, Seek, Write},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

/// How often a record is written again because it came to stand behind another writer's torn line.
const MAX_ATTEMPTS: usize = 4;
/// As much as is read of the last line; a longer one tells nothing.
const MAX_LAST_LINE: u64 = 1 << 20;

/// The file, and what this writer knows of its end.
#[derive(Debug)]
pub(super) struct LogFile {
    file: Arc<File>,
    pub(super) identity: Identity,
    /// When it was made, as far as the filesystem tells.
    pub(super) made: SystemTime,
    /// Where its own last line ended.
    end: u64,
    /// Whether the last line has no end.
    torn: bool,
}

impl LogFile {
    /// The log that was opened at this path. None where it is no file that keeps what is written, but a pipe, terminal or
    /// device.
    ///
    /// A last line that a crash left without an end is ended, and reported.
    pub(super) fn new(file: File, path: &Path) -> Result<(Arc<File>, Option<Self>), Error> {
        let file = Arc::new(file);
        let metadata = file.metadata().map_err(|source| Error::Open { path: path.to_owned(), source })?;
        if !metadata.is_file() {
            return Ok((file, None));
        }
        let made = metadata.created().or_else(|_| metadata.modified()).unwrap_or_else(|_| SystemTime::now());
        let identity = Identity::of(&metadata);
        let mut log = Self { file: Arc::clone(&file), identity, made, end: metadata.len(), torn: false };
        log.end_torn_line(path).map_err(|source| Error::Write { path: path.to_owned(), source })?;
        Ok((file, Some(log)))
    }

    /// How long it was after this writer's last line.
    pub(super) fn length(&self) -> u64 {
        self.end
    }

    /// What [`File::sync_data`] may be called on while others write.
    pub(super) fn shared(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// The last line with an end, without it.
    pub(super) fn last_line(&self) -> io::Result<Vec<u8>> {
        let length = self.file.metadata()?.len();
        let start = length.saturating_sub(MAX_LAST_LINE);
        let mut text = vec![0; usize::try_from(length - start).unwrap_or_default()];
        self.file.read_exact_at(&mut text, start)?;
        let mut lines = text.split(|byte| *byte == b'\n').rev().skip(1);
        Ok(lines.find(|line| !line.is_empty()).unwrap_or_default().to_vec())
    }

    /// Looks at the end of the file as it was found. Where the disk is full, the first record ends the line.
    fn end_torn_line(&mut self, path: &Path) -> io::Result<()> {
        if self.line_ends_before(self.end)? {
            return Ok(());
        }
        tracing::warn!(path = %path.display(), "the last record of the audit log is incomplete: its writer was killed, or the disk was full");
        self.torn = (&*self.file).write(b"\n").is_err();
        Ok(())
    }

    /// Appends a line with its end, so that it stands whole in the file.
    pub(super) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let start = self.append_once(line)?;
            let is_next = start == self.end;
            self.end = start + line.len() as u64;
            // Another writer has been here. If it died in its line, this record was glued to it: once more.
            if is_next || self.line_ends_before(start)? {
                return Ok(());
            }
        }
        Err(io::Error::other("other writers leave torn lines faster than they can be ended"))
    }

    /// Appends lines with their ends at once. Answers how many of their bytes stand in the file as lines, with why those are
    /// not all.
    pub(super) fn append_all(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        // If another writer has been here and died in its line, the first of these would be glued to it.
        match self.file.metadata() {
            Ok(metadata) if metadata.len() == self.end => {}
            Ok(metadata) => match self.line_ends_before(metadata.len()) {
                Ok(ends) => self.torn |= !ends,
                Err(error) => return (0, Err(error)),
            },
            Err(error) => return (0, Err(error)),
        }
        let ended;
        let text = if self.torn {
            ended = [b"\n", lines].concat();
            &ended
        } else {
            lines
        };
        let mut stands = 0;
        let result = self.put(text, &mut stands);
        (stands.saturating_sub(text.len() - lines.len()), result.map(|end| self.end = end))
    }

    /// Appends one line, behind the end of a torn one if there is one, and answers where the line starts.
    fn append_once(&mut self, line: &[u8]) -> io::Result<u64> {
        let ended;
        let text = if self.torn {
            ended = [b"\n", line].concat();
            &ended
        } else {
            line
        };
        Ok(self.put(text, &mut 0)? - line.len() as u64)
    }

    /// Appends a text, and answers where it ends; `stands` is how much of it went in at first.
    fn put(&mut self, text: &[u8], stands: &mut usize) -> io::Result<u64> {
        *stands = write(&self.file, text)?;
        // Until it is known to be whole.
        self.torn = true;
        let mut end = self.position()?;
        if let Some(rest) = text.get(*stands..)
            && !rest.is_empty()
        {
            // The disk is full, or another limit reached: the second write says which. If it goes well after all,
            // the text is whole only where nobody came between.
            let more = write(&self.file, rest)?;
            end += more as u64;
            if more < rest.len() || self.position()? != end {
                return Err(ErrorKind::WriteZero.into());
            }
            *stands += more;
        }
        self.torn = false;
        Ok(end)
    }

    /// With O_APPEND the file's position is the end of the last write through this descriptor.
    fn position(&self) -> io::Result<u64> {
        (&*self.file).stream_position()
    }

    fn line_ends_before(&self, position: u64) -> io::Result<bool> {
        let Some(last) = position.checked_sub(1) else { return Ok(true) };
        let mut byte = [0];
        // A file that was cut shorter since then (by a rotation) has no torn line there.
        Ok(self.file.read_at(&mut byte, last)? == 0 || byte == *b"\n")
    }
}

fn check_owner(path: &Path, metadata: &Metadata) -> Result<(), Error> {
    let owner = metadata.uid();
    let is_trusted = owner == 0 || owner == rustix::process::geteuid().as_raw();
    if is_trusted { Ok(()) } else { Err(Error::Foreign { path: path.to_owned(), owner }) }
}

/// Opens the log at this path, and makes it (for its owner only) and its directories where they are missing.
pub(super) fn open(path: &Path) -> Result<File, Error> {
    // In a directory that others can write to, a link would lead the agent's records to a file of their choice.
    if let Ok(link) = path.symlink_metadata()
        && link.is_symlink()
    {
        check_owner(path, &link)?;
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let made = DirBuilder::new().recursive(true).mode(0o750).create(parent);
        made.map_err(|source| Error::Directory { path: path.to_owned(), source })?;
    }
    let opened = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
    let opened = opened.and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = opened.map_err(|source| Error::Open { path: path.to_owned(), source })?;
    if metadata.is_file() {
        if metadata.permissions().mode() & 0o002 != 0 {
            return Err(Error::WorldWritable { path: path.to_owned() });
        }
        check_owner(path, &metadata)?;
    }
    Ok(file)
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
