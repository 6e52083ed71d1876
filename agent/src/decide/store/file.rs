//! A policy file that is read again while the programs that it governs run: nothing that they, or users who could
//! not have written the first one, have put in its place may be loaded.

use crate::toml_file::{Error as LoadError, Source};
use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, Stat, StatVfsMountFlags, fstat, fstatvfs, openat, openat2, stat},
    io::Errno,
};
use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

/// Why a policy file is not read again.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read, or is not as a policy file must be.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its directory cannot be examined.
    #[error("cannot examine `{}`", path.display())]
    Examine {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The directory's path leads to another directory than at the start.
    #[error(
        "{}: not the directory that was there at the start, so the command may have put it there; move the first \
         one back, or start tidegate again",
        .0.display()
    )]
    Moved(PathBuf),
    /// A link or mount leads out of the directory.
    #[error(
        "{}: leads out of its directory, to where the command may be able to write; put the file itself there",
        .0.display()
    )]
    Outside(PathBuf),
    /// Hard links to it lie elsewhere.
    #[error("{}: has {links} names, and may be changed through the others; copy it", .path.display())]
    Linked {
        /// The file.
        path: PathBuf,
        /// How many names it has.
        links: u64,
    },
    /// Others can put files into its directory.
    #[error(
        "{}: writable by group or others (mode {mode:04o}), so anybody there could replace the policy; run `chmod \
         go-w` on it",
        .path.display()
    )]
    Loose {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody who could not have written the first one.
    #[error("{}: belongs to user {owner}; it must belong to root, or to the owner at the start", .path.display())]
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// Its owner's id.
        owner: u32,
    },
    /// The command is to write there.
    #[error(
        "{}: the command can write there, and so could widen its own policy; keep the policy in a directory of its \
         own that the working, home and temporary directories are not in, and start tidegate again",
        .0.display()
    )]
    Shared(PathBuf),
}

/// A policy file in a directory that is held open, so that no other directory can take its place.
#[derive(Debug)]
pub struct PolicyFile {
    /// As it was named, absolute: it names the policy too.
    path: PathBuf,
    directory: OwnedFd,
    directory_path: PathBuf,
    name: OsString,
    owner: u32,
    shared: bool,
}

/// What a policy file says.
#[derive(Debug)]
pub struct Reading {
    /// Its text.
    pub source: Source,
    /// Why it must not be believed, if so: the governed programs, or users who could not have written the first
    /// one, may have written it.
    pub doubt: Option<FileError>,
}

impl PolicyFile {
    /// The file at this absolute path. Where it is a link, the directory is the one in which the link ends,
    /// unless the link stays below its own. `places`: where the command is to write.
    ///
    /// # Errors
    /// The file or its directory is not there.
    pub fn open(path: &Path, places: &[PathBuf]) -> Result<Self, FileError> {
        let file = Self::at(path, path, places)?;
        match file.resolve() {
            Err(Errno::XDEV) => {
                let target = fs::canonicalize(path).map_err(failed(path))?;
                Self::at(path, &target, places)
            }
            Ok(_) | Err(_) => Ok(file),
        }
    }

    fn at(path: &Path, target: &Path, places: &[PathBuf]) -> Result<Self, FileError> {
        let parent = target.parent().unwrap_or(Path::new("/"));
        let directory_path = fs::canonicalize(parent).map_err(failed(parent))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            openat(CWD, &directory_path, flags, Mode::empty()).map_err(failed(&directory_path))?;
        let owner = stat(target).map_err(failed(target))?.st_uid;
        let shared = places.iter().any(|place| {
            let place = fs::canonicalize(place).unwrap_or_else(|_| place.clone());
            place.starts_with(&directory_path)
        });
        let name = target.file_name().unwrap_or_default().to_owned();
        Ok(Self { path: path.to_owned(), directory, directory_path, name, owner, shared })
    }

    /// Its directory, where the command must not be able to write; None where it is to write there.
    pub fn kept_directory(&self) -> Option<&Path> {
        (!self.shared).then_some(&self.directory_path)
    }

    /// The directory that is held open, by a path that always leads there.
    pub fn watched_directory(&self) -> PathBuf {
        held(self.directory.as_fd())
    }

    /// Reads it as it is now.
    ///
    /// # Errors
    /// When it cannot be read, or its directory is another than at the start.
    pub fn read(&self) -> Result<Reading, FileError> {
        self.find_directory()?;
        let file = self.resolve().map_err(|errno| match errno {
            Errno::XDEV | Errno::LOOP => FileError::Outside(self.path.clone()),
            errno => LoadError::Open { path: self.path.clone(), source: errno.into() }.into(),
        })?;
        let doubt = self.check(file.as_fd()).err();
        Ok(Reading { source: Source::read(&self.path, file)?, doubt })
    }

    fn check(&self, file: BorrowedFd<'_>) -> Result<(), FileError> {
        if self.shared {
            return Err(FileError::Shared(self.directory_path.clone()));
        }
        self.check_private(&self.directory_path, self.directory.as_fd())?;
        self.check_way(file)?;
        let status = fstat(file).map_err(failed(&self.path))?;
        if status.st_nlink > 1 {
            return Err(FileError::Linked { path: self.path.clone(), links: status.st_nlink });
        }
        self.check_owner(&self.path, &status)
    }

    /// Opens the file without leaving the directory, by link, `..` or mount.
    fn resolve(&self) -> Result<OwnedFd, Errno> {
        // Without NONBLOCK the open of a pipe would wait for a writer.
        self.open_below(&self.name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    fn open_below(&self, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.directory, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    fn find_directory(&self) -> Result<(), FileError> {
        let own = fstat(&self.directory).map_err(failed(&self.directory_path))?;
        match stat(&self.directory_path) {
            Ok(there) if (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino) => Ok(()),
            Ok(_) | Err(_) => Err(FileError::Moved(self.directory_path.clone())),
        }
    }

    /// Checks the directories between the held one and the file, which links may lead through.
    fn check_way(&self, file: BorrowedFd<'_>) -> Result<(), FileError> {
        let real = fs::read_link(held(file)).map_err(failed(&self.path))?;
        let base = fs::read_link(self.watched_directory()).map_err(failed(&self.path))?;
        let below = real.strip_prefix(&base).map_err(|_| FileError::Outside(self.path.clone()))?;
        for directory in below.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()) {
            let path = self.directory_path.join(directory);
            let opened = self.open_below(directory.as_os_str(), OFlags::PATH | OFlags::DIRECTORY);
            let opened = opened.map_err(failed(&path))?;
            self.check_private(&path, opened.as_fd())?;
        }
        Ok(())
    }

    fn check_private(&self, path: &Path, directory: BorrowedFd<'_>) -> Result<(), FileError> {
        // Kubernetes gives such a mount to a container, and its files modes of its own.
        let mount = fstatvfs(directory).map_err(failed(path))?;
        if mount.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Ok(());
        }
        let status = fstat(directory).map_err(failed(path))?;
        let mode = status.st_mode & 0o7777;
        if mode & 0o022 != 0 {
            return Err(FileError::Loose { path: path.to_owned(), mode });
        }
        self.check_owner(path, &status)
    }

    fn check_owner(&self, path: &Path, status: &Stat) -> Result<(), FileError> {
        if status.st_uid == 0 || status.st_uid == self.owner {
            return Ok(());
        }
        Err(FileError::Foreign { path: path.to_owned(), owner: status.st_uid })
    }
}

fn failed<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> FileError + use<E> {
    let path = path.to_owned();
    move |error| FileError::Examine { path, source: error.into() }
}

fn held(descriptor: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd()).into()
}

#[cfg(test)]
mod tests;
