//! One agent for one cgroup root and one set of pins: locks on the directories themselves, which end with their holder.

use super::{Error, Pins, io_error};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{
    fmt::{self, Display, Formatter},
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// A process that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its name, which it chose itself.
    pub name: String,
}

impl Display for Holder {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "process {} (`{}`)", self.pid, self.name)
    }
}

/// The holder in a message, known or not.
pub(super) fn named(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "a process that is not visible here".to_owned(), Holder::to_string)
}

/// The locks of a running agent, released when dropped or when its process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    directories: Vec<File>,
}

impl Lock {
    /// Locks every directory, or none.
    ///
    /// # Errors
    /// [`Error::Held`] where another process has locked one of them.
    pub fn take(directories: &[&Path]) -> Result<Self, Error> {
        let mut taken = Self { directories: Vec::new() };
        for directory in directories {
            taken.directories.push(lock(directory)?);
        }
        Ok(taken)
    }
}

/// Whether no agent holds these pins, or attaches at this cgroup. Another one may be quicker to take its place.
///
/// # Errors
/// When they cannot be locked.
pub fn is_free(pins: &Pins, cgroup: &Path) -> Result<bool, Error> {
    pins.prepare()?;
    let directories: Vec<&Path> = pins.base().into_iter().chain([cgroup]).collect();
    match Lock::take(&directories) {
        Ok(_unlocked_at_once) => Ok(true),
        Err(Error::Held { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A child between fork and exec has the descriptors too, and closing them here would not unlock them there.
        for directory in &self.directories {
            let _ = flock(directory, FlockOperation::Unlock);
        }
    }
}

fn lock(path: &Path) -> Result<File, Error> {
    let directory = File::open(path).map_err(io_error("open", path))?;
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(directory),
        Err(Errno::WOULDBLOCK) => Err(Error::Held { path: path.to_owned(), holder: holder(&directory) }),
        Err(errno) => Err(io_error("lock", path)(errno.into())),
    }
}

fn holder(directory: &File) -> Option<Holder> {
    let metadata = directory.metadata().ok()?;
    let device = metadata.dev();
    let place =
        Place { major: rustix::fs::major(device), minor: rustix::fs::minor(device), inode: metadata.ino() };
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid = locks.lines().find_map(|line| pid_of(line, &place))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(Holder { pid, name: name.trim_end().to_owned() })
}

/// How `/proc/locks` names a file.
struct Place {
    major: u32,
    minor: u32,
    inode: u64,
}

/// The holder in a line such as `3: FLOCK  ADVISORY  WRITE 1234 00:1a:5678 0 EOF`. Lines of those who wait have `->`
/// behind their number; processes of other pid namespaces are 0 or below.
fn pid_of(line: &str, place: &Place) -> Option<u32> {
    let mut fields = line.split_whitespace().skip(1);
    if fields.next() != Some("FLOCK") {
        return None;
    }
    let pid = fields.nth(2)?.parse().ok().filter(|pid| *pid != 0)?;
    let mut file = fields.next()?.split(':');
    let major = u32::from_str_radix(file.next()?, 16).ok()?;
    let minor = u32::from_str_radix(file.next()?, 16).ok()?;
    let inode: u64 = file.next()?.parse().ok()?;
    ((major, minor, inode) == (place.major, place.minor, place.inode)).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("3: FLOCK  ADVISORY  WRITE 1234 00:1a:5678 0 EOF", Some(1234); "the lock")]
    #[test_case("3: POSIX  ADVISORY  WRITE 1234 00:1a:5678 0 EOF", None; "of another kind")]
    #[test_case("3: FLOCK  ADVISORY  WRITE 1234 00:1b:5678 0 EOF", None; "of another filesystem")]
    #[test_case("3: FLOCK  ADVISORY  WRITE 1234 00:1a:5679 0 EOF", None; "of another file")]
    #[test_case("3: -> FLOCK  ADVISORY  WRITE 1234 00:1a:5678 0 EOF", None; "of one who waits")]
    #[test_case("3: FLOCK  ADVISORY  WRITE 0 00:1a:5678 0 EOF", None; "of another pid namespace")]
    #[test_case("3: FLOCK  ADVISORY  WRITE -1 00:1a:5678 0 EOF", None; "of a process that is gone")]
    #[test_case("3: FLOCK  ADVISORY  WRITE 1234", None; "cut short")]
    #[test_case("", None; "empty")]
    fn the_holder_is_read_from_the_list_of_locks(line: &str, expected: Option<u32>) {
        assert_eq!(pid_of(line, &Place { major: 0, minor: 0x1a, inode: 5678 }), expected);
    }

    #[test]
    fn a_directory_is_locked_once_and_free_again_after() {
        let directory = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let first = Lock::take(&[directory.path()]).unwrap();
        let inherited = first.directories[0].try_clone().unwrap();
        let error = Lock::take(&[other.path(), directory.path()]).unwrap_err();
        assert!(error.to_string().contains(&format!("process {} (", std::process::id())), "{error}");
        Lock::take(&[other.path()]).unwrap();
        drop(first);
        Lock::take(&[directory.path()]).unwrap();
        drop(inherited);
    }

    #[test]
    fn whoever_waits_is_told_when_the_holder_has_ended() {
        let (base, cgroup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let pins = Pins::Private(base.path().to_owned());
        let is_free = || is_free(&pins, cgroup.path()).unwrap();
        assert!(is_free());
        let held = Lock::take(&[base.path(), cgroup.path()]).unwrap();
        assert!(!is_free());
        drop(held);
        assert!(is_free());
        Lock::take(&[base.path(), cgroup.path()]).unwrap();
    }
}
