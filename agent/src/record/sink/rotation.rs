//! When a log has grown or aged enough, and what becomes of it then: it is moved aside, and the oldest go.

use crate::{config, record::timestamp};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

const BYTES_PER_MIB: u64 = 1 << 20;
const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// How often a failure is told, while every record meets it.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The limits of a log.
#[derive(Debug)]
pub(super) struct Rotation {
    longest: u64,
    oldest: Duration,
    keep: usize,
    told: Option<SystemTime>,
}

impl Rotation {
    pub(super) fn new(audit: &config::Audit) -> Self {
        Self {
            longest: audit.max_size_mib.saturating_mul(BYTES_PER_MIB),
            oldest: Duration::from_secs(audit.max_age_days.saturating_mul(SECONDS_PER_DAY)),
            keep: audit.keep_files,
            told: None,
        }
    }

    /// Whether a log of this length, made at this time, has to go.
    pub(super) fn is_due(&self, length: u64, made: SystemTime, now: SystemTime) -> bool {
        let is_old = now.duration_since(made).is_ok_and(|age| age >= self.oldest);
        length >= self.longest || (is_old && length > 0)
    }

    /// Moves the log aside, whatever name it has to get, and removes the oldest of those that were moved before.
    /// Whether it was moved; where not, it goes on as it is, since a record must not be lost for it.
    pub(super) fn rotate(&mut self, path: &Path, now: SystemTime) -> bool {
        let path = &target(path);
        match move_aside(path, now) {
            Ok(()) => self.remove_oldest(path),
            Err(error) => {
                self.tell(now, &error, path, "the audit log cannot be rotated and grows on");
                return false;
            }
        }
        true
    }

    fn remove_oldest(&mut self, path: &Path) {
        let files = rotated(path);
        let excess = files.len().saturating_sub(self.keep);
        for file in files.iter().take(excess) {
            if let Err(error) = fs::remove_file(file) {
                self.tell(SystemTime::now(), &error, file, "an old audit log cannot be removed");
            }
        }
    }

    fn tell(&mut self, now: SystemTime, error: &io::Error, path: &Path, what: &'static str) {
        let is_news =
            self.told.is_none_or(|told| now.duration_since(told).is_ok_and(|ago| ago >= TELL_EVERY));
        if is_news {
            self.told = Some(now);
            tracing::error!(path = %path.display(), %error, "{what}");
        }
    }
}

/// Where the log is: a link to it stays, and leads to the next file.
fn target(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Never over another: two writers may rotate at once, and then the second moves what the first has begun.
fn move_aside(path: &Path, now: SystemTime) -> io::Result<()> {
    let time: String = timestamp(now).chars().filter(|char| !matches!(char, '-' | ':')).collect();
    for number in 0..100 {
        let mut name = OsString::from(path);
        name.push(format!(".{time}"));
        if number > 0 {
            name.push(format!("-{number}"));
        }
        match renameat_with(CWD, path, CWD, &name, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::EXIST) => {}
            result => return result.map_err(io::Error::from),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// The files that the log at `path` was moved to, the oldest first.
pub fn rotated(path: &Path) -> Vec<PathBuf> {
    let path = &target(path);
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Vec::new();
    };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| {
            let entry = entry.file_name();
            let time = entry.to_str().and_then(|entry| entry.strip_prefix(name)?.strip_prefix('.'));
            time.is_some_and(is_time)
        })
        .map(|entry| directory.join(entry.file_name()))
        .collect();
    found.sort();
    found
}

/// Such as `20261122T131031.000001Z`, perhaps with a number behind.
fn is_time(text: &str) -> bool {
    let (time, number) = text.split_once('Z').unwrap_or_default();
    let is_number = number.is_empty()
        || number.strip_prefix('-').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    time.len() == "20261122T131031.000001".len()
        && time.bytes().all(|byte| byte.is_ascii_digit() || byte == b'T' || byte == b'.')
        && is_number
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("20261122T131031.000001Z", true; "a time")]
    #[test_case("20261122T131031.000001Z-2", true; "the second of a moment")]
    #[test_case("20261122T131031.000001Z.gz", false; "what somebody made of it")]
    #[test_case("1", false; "the number of another rotation")]
    #[test_case("", false; "nothing")]
    fn files_of_this_rotation_are_known_by_their_names(text: &str, expected: bool) {
        assert_eq!(is_time(text), expected);
    }

    #[test]
    fn a_log_is_moved_over_no_other_and_the_oldest_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let mut rotation = Rotation { longest: 10, oldest: Duration::from_secs(60), keep: 2, told: None };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for content in ["one", "two", "three"] {
            fs::write(&path, content).unwrap();
            assert!(rotation.rotate(&path, now));
        }
        let contents: Vec<_> = rotated(&path).iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        assert_eq!(contents, ["two", "three"]);
        assert!(!rotation.rotate(&path, now), "there is nothing to move");
    }

    #[test]
    fn a_link_to_the_log_stays_and_leads_to_the_next_file() {
        let directory = tempfile::tempdir().unwrap();
        let (link, log) = (directory.path().join("link"), directory.path().join("data/audit.jsonl"));
        fs::create_dir(log.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&log, &link).unwrap();
        fs::write(&link, "one").unwrap();
        let mut rotation = Rotation { longest: 10, oldest: Duration::from_secs(60), keep: 2, told: None };
        assert!(rotation.rotate(&link, SystemTime::UNIX_EPOCH));
        assert!(!log.exists() && link.is_symlink());
        fs::write(&link, "two").unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "two");
        assert_eq!(fs::read_to_string(&rotated(&link)[0]).unwrap(), "one");
    }

    #[test_case(9, 0, false; "young and short")]
    #[test_case(10, 0, true; "long")]
    #[test_case(1, 60, true; "old")]
    #[test_case(0, 600, false; "old and empty")]
    fn it_is_due_by_length_and_age(length: u64, age_seconds: u64, expected: bool) {
        let rotation = Rotation { longest: 10, oldest: Duration::from_secs(60), keep: 2, told: None };
        let made = SystemTime::UNIX_EPOCH;
        assert_eq!(rotation.is_due(length, made, made + Duration::from_secs(age_seconds)), expected);
    }
}
