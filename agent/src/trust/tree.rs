//! A system's tree, searched and read without surprises.
//!
//! Users own much of what is searched here, by root: links are followed within the tree alone, nothing is opened
//! that is not a regular file or a directory, nothing is read past a limit, and nothing is written.

use rustix::{
    fs::{CWD, FileType, FsWord, Mode, OFlags, ResolveFlags, fstat, fstatfs, openat2},
    io::Errno,
};
use std::{
    cell::Cell,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

/// The largest store that is read. The largest real ones have half a megabyte.
pub(super) const MAX_FILE: u64 = 16 << 20;
/// How many directory entries one search looks at.
const MAX_ENTRIES: usize = 100_000;
/// How much of a program tells its interpreter: what the kernel reads.
const MAX_HEAD: u64 = 256;
/// How often a lookup is tried again that another process's rename has disturbed.
const ATTEMPTS: usize = 64;

/// Filesystems whose files are the kernel's answers, some of which are gone once they are read: procfs, sysfs, cgroupfs,
/// cgroup2, debugfs, tracefs, securityfs, bpffs.
const OF_KERNEL: [FsWord; 8] =
    [0x9fa0, 0x6265_6572, 0x0027_e0eb, 0x6367_7270, 0x6462_6720, 0x7472_6163, 0x7363_6673, 0xcafe_4a11];

/// The root of a system's tree: the machine's own, that of an image, or that of a container at work.
#[derive(Debug)]
pub(super) struct Tree {
    /// As the kernel tells it, wherever that is mounted.
    root: PathBuf,
    directory: Arc<OwnedFd>,
    is_own: bool,
    entries_left: Cell<usize>,
}

/// Where this process finds what a place has: a path without links below a root that is kept open.
#[derive(Clone, Debug)]
pub(super) struct Source {
    root: Arc<OwnedFd>,
    path: PathBuf,
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for Source {}

impl Source {
    /// Opens it, for everything but reading and writing.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(&*self.root, &self.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }

    /// Reads a regular file.
    pub(super) fn read(&self, limit: u64) -> io::Result<Vec<u8>> {
        read_opened(&self.open()?, limit)
    }
}

/// Where a path leads, links and all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// As the tree's own programs name it.
    pub(super) path: PathBuf,
    /// As this process finds it.
    pub(super) source: Source,
    pub(super) is_directory: bool,
}

impl Tree {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let root = fs::canonicalize(root)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat2(CWD, &root, flags, Mode::empty(), ResolveFlags::empty())?;
        let is_own = root == Path::new("/");
        Ok(Self { root, directory: Arc::new(directory), is_own, entries_left: Cell::new(MAX_ENTRIES) })
    }

    /// The tree below a directory, such as the root of another process, which no path may name here.
    #[cfg(feature = "kubernetes")]
    pub(super) fn at(directory: OwnedFd) -> io::Result<Self> {
        let root = fs::read_link(own_link(&directory))?;
        let directory = Arc::new(directory);
        Ok(Self { root, directory, is_own: false, entries_left: Cell::new(MAX_ENTRIES) })
    }

    /// The regular file or directory that an absolute path of the tree leads to.
    pub(super) fn resolve(&self, path: &Path) -> Option<Place> {
        let opened = self.look_up(path).ok()?;
        let kind = FileType::from_raw_mode(fstat(&opened).ok()?.st_mode);
        let is_directory = kind == FileType::Directory;
        if !is_directory && kind != FileType::RegularFile {
            return None;
        }
        let shown = fs::read_link(own_link(&opened)).ok()?;
        let path = Path::new("/").join(shown.strip_prefix(&self.root).ok()?);
        let source = Source { root: Arc::clone(&self.directory), path: path.clone() };
        Some(Place { path, source, is_directory })
    }

    /// What exists below `base` by a pattern, each component of which may have one `*`.
    pub(super) fn glob(&self, base: &Path, pattern: &str) -> Vec<PathBuf> {
        let mut found = vec![base.to_owned()];
        for component in pattern.split('/') {
            found = match component.split_once('*') {
                None => found.into_iter().map(|path| path.join(component)).collect(),
                Some((head, tail)) => {
                    let matching = |name: &OsString| {
                        let bytes = name.as_bytes();
                        bytes
                            .strip_prefix(head.as_bytes())
                            .is_some_and(|rest| rest.ends_with(tail.as_bytes()))
                    };
                    let names = |path: &PathBuf| self.names(path).into_iter().filter(matching);
                    found.iter().flat_map(|path| names(path).map(|name| path.join(name))).collect()
                }
            };
        }
        found
    }

    /// Whether the search was cut short.
    pub(super) fn is_exhausted(&self) -> bool {
        self.entries_left.get() == 0
    }

    /// The names in a directory, in order; none where there is no directory.
    fn names(&self, path: &Path) -> Vec<OsString> {
        let Some(place) = self.resolve(path).filter(|place| place.is_directory) else { return Vec::new() };
        let Ok(directory) = place.source.open() else { return Vec::new() };
        let Ok(entries) = fs::read_dir(own_link(&directory)) else { return Vec::new() };
        let mut names = Vec::new();
        for entry in entries.flatten() {
            let Some(left) = self.entries_left.get().checked_sub(1) else { break };
            self.entries_left.set(left);
            names.push(entry.file_name());
        }
        names.sort();
        names
    }

    /// The content of a file of the tree.
    pub(super) fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        read_opened(&self.look_up(path)?, limit)
    }

    /// The first bytes of a file of the tree.
    pub(super) fn read_head(&self, path: &Path) -> Option<Vec<u8>> {
        let mut head = Vec::new();
        let file = open_regular(&self.look_up(path).ok()?).ok()?;
        file.take(MAX_HEAD).read_to_end(&mut head).ok()?;
        Some(head)
    }

    fn look_up(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut resolve = ResolveFlags::NO_MAGICLINKS;
        if !self.is_own {
            resolve |= ResolveFlags::IN_ROOT;
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        for _ in 1..ATTEMPTS {
            match openat2(&*self.directory, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                opened => return Ok(opened?),
            }
        }
        Err(Errno::AGAIN.into())
    }
}

/// Reads a regular file at a path that has no links.
#[cfg(feature = "kubernetes")]
pub(super) fn read(source: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_opened(&open(source)?, limit)
}

#[cfg(feature = "kubernetes")]
fn open(source: &Path) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(CWD, source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// The path of the file that a descriptor stands for, whatever has happened to its name.
pub(super) fn own_link(opened: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()))
}

pub(super) fn read_opened(opened: &OwnedFd, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open_regular(opened)?.take(limit + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    Ok(content)
}

/// A descriptor without rights to read comes first, since even opening a pipe or a device can block or do something.
fn open_regular(opened: &OwnedFd) -> io::Result<File> {
    if FileType::from_raw_mode(fstat(opened)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is not a regular file"));
    }
    if OF_KERNEL.contains(&fstatfs(opened)?.f_type) {
        return Err(io::Error::other("it is a file of the kernel's"));
    }
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(own_link(opened))
}

/// `path` from the working directory, where it is relative.
pub(super) fn absolute(path: &Path, working_directory: Option<&Path>) -> Option<PathBuf> {
    let joined = if path.is_absolute() { path.to_owned() } else { working_directory?.join(path) };
    joined.is_absolute().then_some(joined)
}
