//! Files that nobody else may read: owner-only from the first byte, whole or not there, checked before use.

use rustix::{
    fs::{
        CWD, FileType, Mode, OFlags, RawMode, RenameFlags, Stat, fstat, fsync, mkdirat, openat, renameat_with,
    },
    io::Errno,
    process::geteuid,
};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// No key, chain or state is as long.
const LONGEST: u64 = 1 << 20;

/// What anybody but the owner may do.
const OTHERS: RawMode = 0o077;

/// Why a file cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others can read or write it.
    #[error(
        "`{}` is open to others (mode {mode:04o}): run `chmod {wanted:04o}` on it; if somebody can have read a key, make \
         a new one (of the CA by `tidegate ca rotate --now`)",
        path.display()
    )]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: RawMode,
        /// What they should be.
        wanted: RawMode,
    },
    /// It is somebody else's.
    #[error("`{}` belongs to user {owner}, who could change it: run `chown {wanted}` on it", path.display())]
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        wanted: u32,
    },
    /// It is a link, a device, or a directory for a file.
    #[error("`{}` is not a plain {wanted}: put one in its place (no link, no device)", path.display())]
    Kind {
        /// The path.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
    /// It has more names.
    #[error("`{}` has {links} names, and others may reach it by those: put a copy in its place", path.display())]
    Linked {
        /// The file.
        path: PathBuf,
        /// How many.
        links: u64,
    },
    /// It is far too long.
    #[error("`{}` is longer than {LONGEST} bytes, so it is something else: see which file is meant", .0.display())]
    TooLong(PathBuf),
}

pub(super) fn failed<E: Into<io::Error>>(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> Error + use<E> {
    let path = path.to_owned();
    move |error| Error::Io { action, path, source: error.into() }
}

/// Whether the system said that there is none.
pub(crate) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// How much others may have of a file.
#[derive(Clone, Copy)]
pub(crate) enum Allowed {
    /// Nothing.
    Owner,
    /// The group may read: as systemd hands over credentials, whose group bits are an access list's mask.
    GroupReads,
}

/// A directory with an owner and nobody else, made with those above it where there is none.
pub(super) fn private_directory(path: &Path) -> Result<(), Error> {
    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
        use std::os::unix::fs::DirBuilderExt;
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(failed("make", parent))?;
    }
    match mkdirat(CWD, path, Mode::RWXU) {
        Ok(()) => sync_directory(path.parent().unwrap_or(path)),
        Err(Errno::EXIST) => check_directory(path),
        Err(errno) => Err(failed("make", path)(errno)),
    }
}

/// Checks that the directory is the owner's alone.
pub(super) fn check_directory(path: &Path) -> Result<(), Error> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(CWD, path, flags, Mode::empty()).map_err(failed("open", path))?;
    let status = fstat(&opened).map_err(failed("examine", path))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
        return Err(Error::Kind { path: path.to_owned(), wanted: "directory" });
    }
    check_owner(path, &status)?;
    check_mode(path, &status, OTHERS, 0o700)
}

/// Reads a file that must be the owner's alone.
pub(crate) fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = openat(CWD, path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::LOOP => Error::Kind { path: path.to_owned(), wanted: "file" },
        errno => failed("open", path)(errno),
    })?;
    let status = fstat(&opened).map_err(failed("examine", path))?;
    let is_file = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
    if is_file && status.st_nlink > 1 {
        return Err(Error::Linked { path: path.to_owned(), links: status.st_nlink });
    }
    read_checked(path, opened, &status, Allowed::Owner)
}

/// Reads a secret that somebody else keeps, where links are as usual as in Kubernetes: what counts is where they lead.
pub(crate) fn read_secret(path: &Path, allowed: Allowed) -> Result<Zeroizing<Vec<u8>>, Error> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = openat(CWD, path, flags, Mode::empty()).map_err(failed("open", path))?;
    let status = fstat(&opened).map_err(failed("examine", path))?;
    read_checked(path, opened, &status, allowed)
}

fn read_checked(
    path: &Path,
    opened: OwnedFd,
    status: &Stat,
    allowed: Allowed,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(Error::Kind { path: path.to_owned(), wanted: "file" });
    }
    check_owner(path, status)?;
    match allowed {
        Allowed::Owner => check_mode(path, status, OTHERS, 0o600)?,
        Allowed::GroupReads => check_mode(path, status, 0o037, 0o440)?,
    }
    let length = u64::try_from(status.st_size).unwrap_or(u64::MAX);
    if length > LONGEST {
        return Err(Error::TooLong(path.to_owned()));
    }
    // With room for all of it, so that no half-read key is left behind in a buffer that was too small.
    let capacity = usize::try_from(length).unwrap_or_default().saturating_add(1);
    let mut content = Zeroizing::new(Vec::with_capacity(capacity));
    File::from(opened).take(length).read_to_end(&mut content).map_err(failed("read", path))?;
    Ok(content)
}

fn check_owner(path: &Path, status: &Stat) -> Result<(), Error> {
    let own = geteuid().as_raw();
    if status.st_uid == own || status.st_uid == 0 {
        return Ok(());
    }
    Err(Error::Foreign { path: path.to_owned(), owner: status.st_uid, wanted: own })
}

fn check_mode(path: &Path, status: &Stat, forbidden: RawMode, wanted: RawMode) -> Result<(), Error> {
    let mode = status.st_mode & 0o7777;
    if mode & forbidden == 0 {
        return Ok(());
    }
    Err(Error::Exposed { path: path.to_owned(), mode, wanted })
}

/// Makes a file that was not there, owner-only from its first byte, and has it on the disk.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> Result<(), Error> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(CWD, path, flags, Mode::RUSR | Mode::WUSR).map_err(failed("make", path))?;
    let mut file = File::from(opened);
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed("write", path))
}

/// Puts an owner-only file in the place of the one that may be there: at each moment one of them is, whole.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &new)(error)),
        Ok(()) | Err(_) => {}
    }
    write_new(&new, content)?;
    fs::rename(&new, path).map_err(failed("replace", path))?;
    sync_directory(path.parent().unwrap_or(path))
}

/// Gives what is whole its name, which nothing must have.
pub(super) fn publish(from: &Path, to: &Path) -> Result<(), Error> {
    sync_directory(from)?;
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(failed("make", to))?;
    sync_directory(to.parent().unwrap_or(to))
}

pub(super) fn sync_directory(path: &Path) -> Result<(), Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = openat(CWD, path, flags, Mode::empty()).map_err(failed("open", path))?;
    fsync(opened).map_err(failed("sync", path))
}

#[cfg(test)]
mod tests;
