//! A process of a container's, by what procfs shows of it. All of it comes through one descriptor, which never comes to
//! mean another process.

use super::mounts;
use crate::run::mountinfo::{self, Mount};
use rustix::{
    fs::{CWD, Mode, OFlags, fstat, openat, readlinkat},
    io::Errno,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read as _},
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
};

/// The kernel lets no program have more variables and arguments than this by default.
const MAX_WORDS: u64 = 6 << 20;
/// So many mounts are a hundred thousand.
const MAX_TABLE: u64 = 32 << 20;

/// Why a process is not to be entered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the process {0} is gone")]
    Gone(u32),
    #[error("the process {0} is none of the container's")]
    Another(u32),
    #[error("the process {0} lives in the machine's own mounts")]
    OfMachine(u32),
    #[error("the process {0} is still the runtime's")]
    Early(u32),
    #[error("cannot read `/proc/{pid}/{name}`")]
    Read { pid: u32, name: &'static str, source: io::Error },
}

impl Error {
    /// Whether it may be one of the runtime's, before the container's own is there.
    pub(super) fn is_passing(&self) -> bool {
        !matches!(self, Self::Read { .. })
    }
}

/// The process.
pub(super) struct Process {
    pid: u32,
    directory: OwnedFd,
}

impl Process {
    /// The one of this number, which must be in the cgroup or below it.
    pub(super) fn open(pid: u32, cgroup: &Path) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()).map_err(|errno| {
            let source = errno.into();
            if errno == Errno::NOENT { Error::Gone(pid) } else { Error::Read { pid, name: "", source } }
        })?;
        let process = Self { pid, directory };
        let own = process.read("cgroup", MAX_WORDS)?;
        let own = own.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"0::"));
        if own.is_some_and(|own| Path::new(OsStr::from_bytes(own)).starts_with(cgroup)) {
            Ok(process)
        } else {
            Err(Error::Another(pid))
        }
    }

    /// Its root, to look up paths from, and its mount namespace, neither of which is this process's own or the machine's: a
    /// runtime's first step into a container is a mount namespace in which all of the machine's files are still there.
    pub(super) fn surroundings(&self) -> Result<(OwnedFd, OwnedFd), Error> {
        let failed = |name| move |errno| self.failed(name, errno);
        let open = |name: &'static str, flags| {
            openat(&self.directory, name, flags | OFlags::CLOEXEC, Mode::empty()).map_err(failed(name))
        };
        let root = open("root", OFlags::PATH | OFlags::DIRECTORY)?;
        let namespace = open("ns/mnt", OFlags::RDONLY)?;
        let identity = |status: rustix::fs::Stat| (status.st_dev, status.st_ino);
        let theirs = fstat(&namespace).map(identity).map_err(failed("ns/mnt"))?;
        // Where the first process is another's, it may not be looked at, and is not the machine's then.
        let of_machine =
            ["/proc/self/ns/mnt", "/proc/1/ns/mnt"].map(|path| rustix::fs::stat(path).map(identity));
        if of_machine.iter().flatten().any(|other| *other == theirs) {
            return Err(Error::OfMachine(self.pid));
        }
        let theirs = fstat(&root).map(identity).map_err(failed("root"))?;
        let of_machine = ["/", "/proc/1/root"].map(|path| rustix::fs::stat(path).map(identity));
        if of_machine.iter().flatten().any(|other| *other == theirs) {
            return Err(Error::Early(self.pid));
        }
        Ok((root, namespace))
    }

    /// Fails where its program lies on none of the mounts that it sees, as a runtime's does until it becomes the container's:
    /// its variables and arguments are the runtime's.
    pub(super) fn check_program(&self) -> Result<(), Error> {
        let program = openat(&self.directory, "exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let program = program.map_err(|errno| self.failed("exe", errno))?;
        let mount = mounts::mount_of(&program).map_err(|errno| self.failed("exe", errno))?;
        let is_own = self.mounts()?.iter().any(|other| other.id == mount);
        is_own.then_some(()).ok_or(Error::Early(self.pid))
    }

    /// The mounts that it sees of which what is mounted on them appears nowhere else.
    pub(super) fn private_mounts(&self) -> Result<BTreeSet<u64>, Error> {
        let private = self.mounts()?.into_iter().filter(|mount| !mount.is_shared);
        Ok(private.map(|mount| mount.id).collect())
    }

    fn mounts(&self) -> Result<Vec<Mount>, Error> {
        let table = self.read("mountinfo", MAX_TABLE)?;
        mountinfo::parse(&table).map_err(|source| Error::Read { pid: self.pid, name: "mountinfo", source })
    }

    /// Its variables, of two of the same name the last.
    pub(super) fn environment(&self) -> Result<BTreeMap<OsString, OsString>, Error> {
        let words = words(&self.read("environ", MAX_WORDS)?);
        let pair = |word: OsString| {
            let bytes = word.as_bytes();
            let end = bytes.iter().position(|&byte| byte == b'=')?;
            let (name, value) = (bytes.get(..end)?, bytes.get(end + 1..)?);
            Some((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value).to_owned()))
        };
        Ok(words.into_iter().filter_map(pair).collect())
    }

    /// Its program and what that was given.
    pub(super) fn command(&self) -> Result<Vec<OsString>, Error> {
        Ok(words(&self.read("cmdline", MAX_WORDS)?))
    }

    /// Where it works, as it names that.
    pub(super) fn working_directory(&self) -> Option<PathBuf> {
        let link = readlinkat(&self.directory, "cwd", Vec::new()).ok()?;
        Some(PathBuf::from(OsString::from_vec(link.into_bytes()))).filter(|path| path.is_absolute())
    }

    fn read(&self, name: &'static str, limit: u64) -> Result<Vec<u8>, Error> {
        let opened = openat(&self.directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let opened = opened.map_err(|errno| self.failed(name, errno))?;
        let mut content = Vec::new();
        let read = File::from(opened).take(limit).read_to_end(&mut content);
        read.map_err(|source| match source.raw_os_error() {
            Some(number) => self.failed(name, Errno::from_raw_os_error(number)),
            None => Error::Read { pid: self.pid, name, source },
        })?;
        Ok(content)
    }

    fn failed(&self, name: &'static str, errno: Errno) -> Error {
        match errno {
            Errno::SRCH | Errno::NOENT => Error::Gone(self.pid),
            errno => Error::Read { pid: self.pid, name, source: errno.into() },
        }
    }
}

/// What the kernel ends with a zero each.
fn words(text: &[u8]) -> Vec<OsString> {
    let words = text.split(|&byte| byte == 0).filter(|word| !word.is_empty());
    words.map(|word| OsStr::from_bytes(word).to_owned()).collect()
}
