//! TOML files of an administrator: opened with care, and every problem told with its file and line.

use rustix::fs::{FileType, Mode, OFlags};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fmt,
    fs::File,
    io::{self, Read},
    ops::Range,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// A policy or configuration is a few kilobytes, and one of 10,000 workloads a megabyte; the limit keeps a wrong file from
/// filling the memory.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// The text of a file, and the path that its problems are told under.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Source {
    /// Where it came from.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
}

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// From 1; 0 where the problem is the file itself.
    pub line: usize,
    /// From 1, in characters; 0 where the problem is the file itself.
    pub column: usize,
    /// What is wrong, with the offending value and what to do.
    pub message: String,
}

/// All that is wrong in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The file.
    pub path: PathBuf,
    /// At least one, in the order of the file.
    pub problems: Vec<Problem>,
}

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be opened.
    #[error("cannot open `{}`", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("cannot read `{}`", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is a directory, a pipe or a device.
    #[error("{}: not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// Others than its owner can change it.
    #[error(
        "{}: writable by group or others (mode {mode:04o}), so anybody there could widen it; run `chmod go-w` on it",
        .path.display()
    )]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is larger than a policy or configuration can sensibly be.
    #[error("{}: larger than {MAX_BYTES} bytes", .0.display())]
    TooLarge(PathBuf),
    /// Its content is wrong.
    #[error("{0}")]
    Invalid(Invalid),
}

impl Error {
    /// The problems with their places; one without a place where the file as a whole is wrong.
    pub fn problems(&self) -> Vec<Problem> {
        if let Self::Invalid(invalid) = self {
            return invalid.problems.clone();
        }
        let cause = std::error::Error::source(self).map(|source| format!(": {source}")).unwrap_or_default();
        vec![Problem { line: 0, column: 0, message: format!("{self}{cause}") }]
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{}: {}", self.path.display(), problem.line, problem.message)?;
        }
        Ok(())
    }
}

impl Source {
    /// Opens and reads a file, and refuses one that others than its owner could have written.
    ///
    /// # Errors
    /// When it is not a regular, private enough file of valid UTF-8.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |source: rustix::io::Errno| Error::Open { path: path.to_owned(), source: source.into() };
        // Without NONBLOCK the open of a pipe would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        Self::read(path, rustix::fs::open(path, flags, Mode::empty()).map_err(io)?)
    }

    /// Reads a file that is open already, with the same checks; its problems are told as of `path`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn read(path: &Path, file: OwnedFd) -> Result<Self, Error> {
        let io = |source: rustix::io::Errno| Error::Open { path: path.to_owned(), source: source.into() };
        // All checks are on what was opened, so that nobody can swap the file in between.
        let stat = rustix::fs::fstat(&file).map_err(io)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::NotRegular(path.to_owned()));
        }
        let mode = stat.st_mode & 0o7777;
        if mode & 0o022 != 0 {
            return Err(Error::Writable { path: path.to_owned(), mode });
        }
        let mut bytes = Vec::new();
        let mut limited = File::from(file).take(MAX_BYTES + 1);
        limited.read_to_end(&mut bytes).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Error::TooLarge(path.to_owned()));
        }
        Self::from_bytes(path, bytes)
    }

    /// Takes bytes as the content of the file at `path`.
    ///
    /// # Errors
    /// When they are not UTF-8 or begin with a byte order mark.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, Error> {
        let invalid = |line, column, message: &str| {
            let problem = Problem { line, column, message: message.to_owned() };
            Err(Error::Invalid(Invalid { path: path.to_owned(), problems: vec![problem] }))
        };
        match String::from_utf8(bytes) {
            Err(error) => {
                let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
                let (line, column) = place(&String::from_utf8_lossy(valid), valid.len());
                invalid(line, column, "not UTF-8; save the file as UTF-8")
            }
            Ok(text) if text.starts_with('\u{feff}') => {
                invalid(1, 1, "begins with a byte order mark; save the file as UTF-8 without one")
            }
            Ok(text) => Ok(Self { path: path.to_owned(), text }),
        }
    }

    /// The line of a place in the text, from 1.
    pub fn line(&self, offset: usize) -> usize {
        place(&self.text, offset).0
    }

    /// Parses the text as TOML of the given shape.
    ///
    /// # Errors
    /// When it is not TOML, or has keys or types that the shape has not; only the first such problem is known.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Error> {
        toml::from_str(&self.text)
            .map_err(|error| self.invalid(error.span().unwrap_or(0..0), error.message()))
    }

    /// The error that a parser has told of the text at `span`.
    pub fn invalid(&self, span: Range<usize>, message: &str) -> Error {
        let mut findings = Findings::new(self);
        let offending = self.text.get(span.clone()).unwrap_or_default();
        findings.add(span, worded(message, offending));
        Error::Invalid(Invalid { path: self.path.clone(), problems: findings.problems })
    }
}

/// Collects the problems of one file, so that all are told at once.
#[derive(Debug)]
pub struct Findings<'a> {
    source: &'a Source,
    problems: Vec<Problem>,
}

impl<'a> Findings<'a> {
    /// None yet.
    pub fn new(source: &'a Source) -> Self {
        Self { source, problems: Vec::new() }
    }

    /// Adds a problem with the text at `span`.
    pub fn add(&mut self, span: Range<usize>, message: impl fmt::Display) {
        let (line, column) = place(&self.source.text, span.start);
        self.problems.push(Problem { line, column, message: message.to_string() });
    }

    /// Adds problems that were found in a part of the file.
    pub fn extend(&mut self, problems: impl IntoIterator<Item = Problem>) {
        self.problems.extend(problems);
    }

    /// The value if nothing was wrong.
    ///
    /// # Errors
    /// With all the problems, in the order of the file.
    pub fn finish<T>(self, value: T) -> Result<T, Error> {
        if self.problems.is_empty() { Ok(value) } else { self.fail() }
    }

    /// For what is not there because something was wrong.
    ///
    /// # Errors
    /// Always: with all the problems, in the order of the file.
    pub fn fail<T>(mut self) -> Result<T, Error> {
        self.problems.sort();
        self.problems.dedup();
        Err(Error::Invalid(Invalid { path: self.source.path.clone(), problems: self.problems }))
    }
}

/// Line and column, from 1, of a byte offset.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

/// The parser's message in the words that the documentation uses, on one line, with the offending value.
fn worded(message: &str, offending: &str) -> String {
    let message = message
        .replace("unknown field", "unknown key")
        .replace("missing field", "missing key")
        .replace('\n', "; ");
    let is_shown = message.contains('`') || message.contains('"');
    match offending.lines().next().filter(|line| !is_shown && !line.is_empty() && line.len() <= 80) {
        Some(line) => format!("{message}: `{line}`"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use test_case::test_case;

    fn written(mode: u32, content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.toml");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test_case(0o644, true; "owner writes, all read")]
    #[test_case(0o600, true; "owner only")]
    #[test_case(0o664, false; "group writes")]
    #[test_case(0o646, false; "others write")]
    #[test_case(0o602, false; "others write only")]
    fn files_that_others_can_change_are_refused(mode: u32, expected: bool) {
        let (_dir, path) = written(mode, b"a = 1\n");
        assert_eq!(Source::open(&path).is_ok(), expected);
    }

    #[test]
    fn only_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Source::open(dir.path()), Err(Error::NotRegular(_))));
        let fifo = dir.path().join("pipe");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(matches!(Source::open(&fifo), Err(Error::NotRegular(_))), "must not wait for a writer");
        assert!(matches!(Source::open(Path::new("/dev/null")), Err(Error::NotRegular(_))));
        assert!(matches!(Source::open(&dir.path().join("none")), Err(Error::Open { .. })));
    }

    #[test]
    fn a_link_is_judged_by_the_file_that_it_leads_to() {
        let (dir, path) = written(0o666, b"");
        let link = dir.path().join("link.toml");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(Source::open(&link), Err(Error::Writable { .. })));
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused() {
        let (_dir, path) = written(0o600, &vec![b'#'; MAX_BYTES as usize + 1]);
        assert!(matches!(Source::open(&path), Err(Error::TooLarge(_))));
    }

    #[test_case(
        b"\xef\xbb\xbfa = 1",
        "f.toml:1: begins with a byte order mark; save the file as UTF-8 without one"
    )]
    #[test_case(b"a = 1\nb = \"\xff\"", "f.toml:2: not UTF-8; save the file as UTF-8")]
    fn other_encodings_are_refused(bytes: &[u8], expected: &str) {
        let error = Source::from_bytes(Path::new("f.toml"), bytes.to_vec()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }

    #[test_case("", 0, (1, 1); "empty")]
    #[test_case("ab\ncd", 4, (2, 2); "second line")]
    #[test_case("ä = 1", 3, (1, 3); "columns are characters")]
    #[test_case("ab", 99, (1, 3); "past the end")]
    #[test_case("ä", 1, (1, 2); "inside a character")]
    fn offsets_become_lines_and_columns(text: &str, offset: usize, expected: (usize, usize)) {
        assert_eq!(place(text, offset), expected);
    }
}
