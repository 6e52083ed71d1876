//! Where `tidegate top` has everything from: the log that is followed, and the daemon that is asked.

use super::{decision::Decision, model::Model};
use crate::{
    cli::audit::follow::Lines,
    control::{self, Error},
    health::status::Status,
    record::redact::escape_control,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How far before its end a log is read from: some thousand records.
const SHOWN_BEFORE: u64 = 4 << 20;

/// How often the daemon is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// The daemon as far as it is known.
#[derive(Debug)]
pub(super) enum Daemon {
    /// A log alone is looked at.
    NotAsked,
    /// Why there is none.
    Absent(String),
    /// How it is.
    Here(Box<Status>),
}

impl Daemon {
    pub(super) fn ask(socket: &Path) -> Self {
        let path = || escape_control(&socket.display().to_string()).into_owned();
        match control::status(socket) {
            Ok(status) => Self::Here(Box::new(status)),
            Err(Error::NoDaemon(_)) => Self::Absent(format!("no daemon at {}", path())),
            Err(Error::Forbidden { .. }) => Self::Absent(format!("not allowed to ask at {}", path())),
            Err(error @ (Error::Broken { .. } | Error::Refused(_))) => {
                Self::Absent(escape_control(&error.to_string()).into_owned())
            }
        }
    }

    /// Asks it again and again, until nobody wants to know.
    pub(super) fn ask_regularly(socket: PathBuf) -> io::Result<Receiver<Self>> {
        let (sender, receiver) = mpsc::sync_channel(0);
        thread::Builder::new().name("status".to_owned()).spawn(move || {
            while sender.send(Self::ask(&socket)).is_ok() {
                thread::sleep(ASK_EVERY);
            }
        })?;
        Ok(receiver)
    }
}

/// The log, which need not be there yet.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) path: PathBuf,
    lines: io::Result<Lines>,
    /// Whether it could be read once.
    was_read: bool,
}

impl Log {
    pub(super) fn open(path: PathBuf) -> Self {
        let lines = Lines::follow(&path, SHOWN_BEFORE);
        Self { was_read: lines.is_ok(), path, lines }
    }

    /// Why it cannot be read.
    pub(super) fn trouble(&self) -> Option<&io::Error> {
        self.lines.as_ref().err()
    }

    /// Reads at most so many lines of what there is; answers whether there may be more.
    pub(super) fn feed(&mut self, model: &mut Model, now: SystemTime, most: usize) -> bool {
        if self.lines.is_err() {
            // What was read already is not read again.
            self.lines = Lines::follow(&self.path, if self.was_read { 0 } else { SHOWN_BEFORE });
        }
        let Ok(lines) = &mut self.lines else { return false };
        self.was_read = true;
        for _ in 0..most {
            match lines.ready() {
                Ok(Some(line)) => {
                    Decision::of(&line).into_iter().for_each(|decision| model.add(decision, seconds(now)));
                }
                Ok(None) => return false,
                Err(error) => {
                    self.lines = Err(error);
                    return false;
                }
            }
        }
        true
    }
}

/// Since the epoch.
pub(super) fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const LINE: &str = r#"{"tidegate.phase":"outcome","tidegate.workload":"ci","tidegate.decision":"allow"}"#;

    #[test]
    fn a_log_that_comes_later_is_read_from_its_start_and_across_rotations() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let (mut log, mut model) = (Log::open(path.clone()), Model::default());
        assert!(!log.feed(&mut model, UNIX_EPOCH, 10));
        assert_eq!(log.trouble().map(io::Error::kind), Some(io::ErrorKind::NotFound));
        fs::write(&path, format!("{LINE}\n{LINE}\n{{\"torn")).unwrap();
        assert!(!log.feed(&mut model, UNIX_EPOCH, 10));
        assert!(log.trouble().is_none());
        assert_eq!(model.decisions(), 2);
        fs::rename(&path, folder.path().join("old")).unwrap();
        assert!(!log.feed(&mut model, UNIX_EPOCH, 10) && log.trouble().is_none());
        fs::write(&path, format!("{LINE}\n").repeat(5)).unwrap();
        assert!(log.feed(&mut model, UNIX_EPOCH, 3), "there is more");
        assert!(!log.feed(&mut model, UNIX_EPOCH, 3));
        assert_eq!(model.decisions(), 7);
    }

    #[test]
    fn a_daemon_that_is_not_there_is_said_so() {
        let Daemon::Absent(why) = Daemon::ask(Path::new("/nonexistent/\u{1b}[2J")) else { panic!() };
        assert_eq!(why, "no daemon at /nonexistent/\\u{1b}[2J");
        assert_eq!((seconds(UNIX_EPOCH), seconds(UNIX_EPOCH + ASK_EVERY)), (0, 1));
    }
}
