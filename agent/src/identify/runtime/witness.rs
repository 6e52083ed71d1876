//! The process of a connection, held so that it can be looked at even when it has ended.

use super::{Content, Guess, guess, libraries};
use crate::identify::Subject;
use rustix::fs::{Mode, OFlags};
use std::{
    collections::HashMap,
    fs::File,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// As many executables as are remembered.
const MAX_KNOWN: usize = 64;

/// A process, and its executable whatever becomes of the path.
#[derive(Debug)]
pub struct Witness {
    pid: Option<u32>,
    path: PathBuf,
    /// Opened as a place only, which asks nothing of its filesystem: that may be the workload's own.
    executable: Option<OwnedFd>,
}

impl Witness {
    /// Takes hold of a connection's process.
    pub fn of(subject: &Subject) -> Self {
        let executable = subject.pid.and_then(|pid| {
            let path = format!("/proc/{pid}/exe");
            rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()
        });
        let path = subject.executable.clone().unwrap_or_default().into();
        Self { pid: subject.pid, path, executable }
    }

    /// One that another process of the agent holds, as its [`Self::parts`] were.
    pub fn of_parts(pid: Option<u32>, path: PathBuf, executable: Option<OwnedFd>) -> Self {
        Self { pid, path, executable }
    }

    /// The process, the path of its executable, and the place of that.
    pub fn parts(&self) -> (Option<u32>, &Path, Option<BorrowedFd<'_>>) {
        (self.pid, &self.path, self.executable.as_ref().map(AsFd::as_fd))
    }

    /// The path of the executable, as the record has it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the process and its executable. Reads files that the workload may have made: it can take long.
    pub fn guess(&self, known: &Known) -> Guess {
        let content = self.content(known);
        // A process id may have been given away since; the path tells.
        let link = self.pid.and_then(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok());
        let is_same = link.is_some_and(|link| link == self.path);
        let mapped = self.pid.filter(|_| is_same).and_then(libraries::mapped);
        let linked = || {
            let elf = content.elf.as_ref();
            elf.map(|elf| libraries::linked(&self.path, &elf.libraries)).unwrap_or_default()
        };
        guess(&self.path, &content, &mapped.unwrap_or_else(linked))
    }

    fn content(&self, known: &Known) -> Content {
        let Some(executable) = &self.executable else { return Content::default() };
        let place = PathBuf::from(format!("/proc/self/fd/{}", executable.as_raw_fd()));
        match libraries::regular(&place) {
            Ok(file) => known.content(&self.path, &file),
            Err(_) => Content::default(),
        }
    }
}

/// Which file, in which state: device, inode, length, time of change.
type Id = (u64, u64, u64, i64, i64);

/// What has been read of executables, so that each is read once.
#[derive(Debug, Default)]
pub struct Known(Mutex<HashMap<Id, Content>>);

impl Known {
    /// What the file at this path holds.
    pub fn content(&self, executable: &Path, file: &File) -> Content {
        let Ok(metadata) = file.metadata() else { return Content::default() };
        let id = (metadata.dev(), metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec());
        if let Some(content) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return content.clone();
        }
        // Not under the lock: a file may lie on a filesystem that lets its readers wait for ever.
        let content = Content::read(executable, file);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Programs that come in any number need not be remembered.
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(id, content.clone());
        content
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Runtime, *};
    use std::process::{Command, Stdio};

    fn subject(pid: u32, executable: &Path) -> Subject {
        let executable = Some(executable.to_string_lossy().into_owned());
        Subject { pid: Some(pid), executable, ..Subject::default() }
    }

    #[test]
    fn a_process_is_known_while_it_lives_and_after() {
        let mut child = Command::new("/usr/bin/perl").args(["-e", "sleep 60"]).spawn().unwrap();
        let path = Path::new("/usr/bin/perl").canonicalize().unwrap();
        // Until the exec the child is this program.
        let link = format!("/proc/{}/exe", child.id());
        while std::fs::read_link(&link).unwrap() != path {
            std::thread::yield_now();
        }
        let (witness, known) = (Witness::of(&subject(child.id(), &path)), Known::default());
        let alive = witness.guess(&known);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((alive.runtime, witness.guess(&known).runtime), (Runtime::Perl, Runtime::Perl));
    }

    #[test]
    fn an_executable_that_is_gone_is_still_read() {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("unnamed");
        std::fs::copy("/usr/bin/openssl", &copy).unwrap();
        let mut child = Command::new(&copy)
            .args(["s_server", "-accept", "0", "-nocert"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let link = format!("/proc/{}/exe", child.id());
        while std::fs::read_link(&link).unwrap() != copy {
            std::thread::yield_now();
        }
        let witness = Witness::of(&subject(child.id(), &copy));
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_file(&copy).unwrap();
        assert_eq!(witness.guess(&Known::default()).runtime, Runtime::OpenSsl);
    }

    #[test]
    fn nothing_is_known_of_nobody() {
        let witness = Witness::of(&Subject::default());
        assert_eq!(witness.guess(&Known::default()), Guess::default());
    }
}
