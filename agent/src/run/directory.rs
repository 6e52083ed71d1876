//! A run's directory: the pins of its links, and what another process needs to clean up after it.
//!
//! ```text
//! RUN_DIR/runs/            0700
//! ├── lock                 held while a run is made, and while dead ones are looked for
//! └── PID-RANDOM/
//!     ├── lock             held shared by tidegate and by its reaper: free means that both are dead
//!     ├── record.json      whose run it is, and its cgroup
//!     ├── child.json       what the child has to do
//!     ├── failure          what the child could not do
//!     └── bpf/             a bpffs of its own, with the pins
//! ```

use crate::{
    run::{cgroup, filesystem},
    whole_file,
};
use rustix::mount::{MountFlags, UnmountFlags};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Why a run's directory could not be made, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file of the directory is not what this version writes.
    #[error("`{}` is not as tidegate writes it", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
}

/// What `record.json` holds.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Record {
    /// tidegate's process id.
    pub pid: i32,
    /// The cgroup, which may not be made yet.
    pub cgroup: PathBuf,
}

/// A run's directory, kept from being swept as long as this value lives.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    /// Closing the file gives the lock back.
    _lock: File,
}

impl RunDirectory {
    /// Makes the directory of a new run, whose cgroup will lie below `cgroup_parent`.
    ///
    /// # Errors
    /// A file cannot be made.
    pub fn create(run_dir: &Path, cgroup_parent: &Path) -> Result<Self, Error> {
        let runs = runs(run_dir)?;
        let _all = lock_all(&runs)?;
        let id = run_id(&runs)?;
        let path = runs.join(&id);
        make_directory(&path, 0o700)?;
        let lock = open_lock(&path)?;
        lock.try_lock_shared().map_err(io::Error::from).map_err(failed("lock", &path))?;
        let directory = Self { path, _lock: lock };
        let cgroup = directory.cgroup_path(cgroup_parent);
        // The record comes before the cgroup: a crash between them leaves nothing that nobody knows of.
        write_json(
            &directory.path.join("record.json"),
            &Record { pid: std::process::id().cast_signed(), cgroup },
        )?;
        Ok(directory)
    }

    /// Takes part in the run at `path`; None where it was removed meanwhile.
    ///
    /// # Errors
    /// The lock cannot be opened.
    pub fn join(path: &Path) -> Result<Option<Self>, Error> {
        let lock = match OpenOptions::new().read(true).open(path.join("lock")) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open the lock of", path)(error)),
        };
        // Waits for a sweep that has begun, after which the directory is gone.
        lock.lock_shared().map_err(failed("lock", path))?;
        Ok(path.exists().then(|| Self { path: path.to_owned(), _lock: lock }))
    }

    /// The runs below `run_dir` whose tidegate and reaper are both dead, each locked against other sweeps.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn dead(run_dir: &Path) -> Result<Vec<Self>, Error> {
        let runs = runs(run_dir)?;
        let _all = lock_all(&runs)?;
        let mut dead = Vec::new();
        for entry in fs::read_dir(&runs).map_err(failed("read", &runs))? {
            let path = entry.map_err(failed("read", &runs))?.path();
            if !path.is_dir() {
                continue;
            }
            let lock = open_lock(&path)?;
            match lock.try_lock() {
                Ok(()) => dead.push(Self { path, _lock: lock }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
            }
        }
        Ok(dead)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the run's cgroup belongs.
    pub(super) fn cgroup_path(&self, parent: &Path) -> PathBuf {
        let id = self.path.file_name().unwrap_or_default();
        let mut name = OsString::from(cgroup::NAME_PREFIX);
        name.push(id);
        parent.join(name)
    }

    /// Where the links and maps are to be pinned.
    pub fn pins(&self) -> PathBuf {
        self.path.join("bpf")
    }

    /// The record; None where the run died before it wrote one.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub fn record(&self) -> Result<Option<Record>, Error> {
        read_json(&self.path.join("record.json"))
    }

    /// Mounts the bpffs for the pins.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mount_pins(&self) -> Result<(), Error> {
        let pins = self.pins();
        make_directory(&pins, 0o700)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount("bpf", &pins, "bpf", flags, c"mode=0700")
            .map_err(|errno| failed("mount a bpffs at", &pins)(errno.into()))
    }

    /// Removes the pins and their bpffs. The links end here, so nothing may be left that they hold back.
    ///
    /// # Errors
    /// A pin or the mount stays.
    pub fn remove_pins(&self) -> Result<(), Error> {
        let pins = self.pins();
        while is_bpffs(&pins) {
            remove_contents(&pins)?;
            rustix::mount::unmount(&pins, UnmountFlags::DETACH)
                .map_err(|errno| failed("unmount", &pins)(errno.into()))?;
        }
        Ok(())
    }

    /// Removes the directory; nothing to do where it is gone already.
    ///
    /// # Errors
    /// Something stays.
    pub fn remove(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &self.path)(error)),
            _ => Ok(()),
        }
    }
}

/// Writes `value` whole or not at all, readable by the owner only.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec(value).map_err(|source| Error::Format { path: path.to_owned(), source })?;
    whole_file::put(path, &text, 0o600).map_err(failed("write", path))
}

/// Reads what [`write_json`] wrote; None where there is no such file, or an empty one.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let text = match fs::read(path) {
        Ok(text) if text.is_empty() => return Ok(None),
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|source| Error::Format { path: path.to_owned(), source })
}

fn runs(run_dir: &Path) -> Result<PathBuf, Error> {
    // The daemon's control socket lies beside, which non-root programs may use.
    make_directory(run_dir, 0o755)?;
    let runs = run_dir.join("runs");
    make_directory(&runs, 0o700)?;
    Ok(runs)
}

fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(failed("make", path)),
    }
}

fn lock_all(runs: &Path) -> Result<File, Error> {
    let lock = open_lock(runs)?;
    lock.lock().map_err(failed("lock", runs))?;
    Ok(lock)
}

fn open_lock(directory: &Path) -> Result<File, Error> {
    let path = directory.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    file.map_err(failed("open", &path))
}

/// The process id, for people, and a random part, since ids come again.
fn run_id(runs: &Path) -> Result<String, Error> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| failed("get random bytes for a directory in", runs)(io::ErrorKind::Other.into()))?;
    Ok(format!("{}-{:016x}", std::process::id(), u64::from_ne_bytes(random)))
}

fn is_bpffs(path: &Path) -> bool {
    filesystem::magic(path).is_ok_and(|magic| magic == filesystem::BPF)
}

fn remove_contents(directory: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(directory).map_err(failed("read", directory))? {
        let entry = entry.map_err(failed("read", directory))?;
        // The kernel keeps names with a dot for its own entries (progs.debug), which end with the mount.
        if entry.file_name().as_encoded_bytes().contains(&b'.') {
            continue;
        }
        let path = entry.path();
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(failed("unpin", &path))?;
    }
    Ok(())
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_dead_when_nobody_holds_its_lock() {
        let scratch = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(scratch.path(), Path::new("/cgroup")).unwrap();
        let path = run.path().to_owned();
        let reaper = RunDirectory::join(&path).unwrap().unwrap();
        assert!(RunDirectory::dead(scratch.path()).unwrap().is_empty());
        drop(run);
        assert!(RunDirectory::dead(scratch.path()).unwrap().is_empty());
        drop(reaper);
        let dead = RunDirectory::dead(scratch.path()).unwrap();
        assert_eq!(dead.iter().map(RunDirectory::path).collect::<Vec<_>>(), [&path]);
        assert!(
            RunDirectory::dead(scratch.path()).unwrap().is_empty(),
            "a second sweep leaves it to the first"
        );
    }

    #[test]
    fn the_record_names_the_cgroup_before_it_exists() {
        let scratch = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(scratch.path(), Path::new("/cgroup")).unwrap();
        let record = run.record().unwrap().unwrap();
        let id = run.path().file_name().unwrap().to_str().unwrap();
        assert_eq!(record.cgroup, Path::new("/cgroup").join(format!("tidegate-run-{id}")));
        assert_eq!(record.pid.cast_unsigned(), std::process::id());
    }

    #[test]
    fn a_run_that_was_removed_is_joined_by_nobody() {
        let scratch = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(scratch.path(), Path::new("/cgroup")).unwrap();
        run.remove_pins().unwrap();
        run.remove().unwrap();
        run.remove().unwrap();
        assert!(RunDirectory::join(run.path()).unwrap().is_none());
    }

    #[test]
    fn a_run_that_died_before_its_record_is_found_dead() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir_all(scratch.path().join("runs/7-half")).unwrap();
        let dead = RunDirectory::dead(scratch.path()).unwrap();
        assert_eq!(dead.first().unwrap().record().unwrap(), None);
    }
}
