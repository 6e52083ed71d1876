//! A hashed certificate directory with some certificates more.

use super::{
    Error, failed,
    tree::{MAX_FILE, Source, own_link, read_opened},
    write,
};
use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat, readlinkat};
use std::{
    ffi::{OsStr, OsString},
    fs::{self, OpenOptions},
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStringExt,
            fs::{OpenOptionsExt, PermissionsExt, chown, symlink},
        },
    },
    path::Path,
};

/// Debian has Java's keystore in a directory of its own there.
const MAX_DEPTH: usize = 3;
/// Real ones have some hundred entries.
const MAX_ENTRIES: usize = 20_000;
/// And a few megabytes.
const MAX_SIZE: u64 = 64 << 20;
/// Of how many certificates whose subjects have one hash ours may be one.
#[cfg(feature = "kubernetes")]
const MAX_OF_ONE_HASH: u32 = 16;

/// A certificate to add.
pub(super) struct Anchor {
    /// Of its subject.
    pub(super) hash: u32,
    pub(super) pem: String,
}

/// Makes `copy` show what `original` shows, and the anchors under their hashes.
///
/// Relative links keep their meaning once `copy` lies over `original`.
pub(super) fn copy_with(
    path: &Path,
    original: &Source,
    copy: &Path,
    anchors: &[Anchor],
) -> Result<(), Error> {
    let opened = original.open().map_err(failed("open", path))?;
    let mut left = Left { entries: MAX_ENTRIES, bytes: MAX_SIZE };
    copy_content(&opened, copy, MAX_DEPTH, &mut left).map_err(failed("copy", path))?;
    for Anchor { hash, pem } in anchors {
        // Counting stops at the first gap, so a certificate must stand right behind those of the same hash.
        let mut paths = (0_u32..).map(|number| copy.join(format!("{hash:08x}.{number}")));
        if let Some(path) = paths.find(|path| fs::symlink_metadata(path).is_err()) {
            write(&path, pem.as_bytes())?;
        }
    }
    let status = fstat(&opened).map_err(io::Error::from);
    status.and_then(|status| give(copy, &status)).map_err(failed("copy", path))
}

/// Whether a program that looks for one of the anchors by its hash finds it.
#[cfg(feature = "kubernetes")]
pub(super) fn has_all(directory: &Source, anchors: &[Anchor]) -> bool {
    let Ok(opened) = directory.open() else { return false };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    anchors.iter().all(|Anchor { hash, pem }| {
        let names = (0..MAX_OF_ONE_HASH).map(|number| format!("{hash:08x}.{number}"));
        let contents = names.map_while(|name| openat(&opened, name, flags, Mode::empty()).ok());
        let mut contents = contents.filter_map(|opened| read_opened(&opened, MAX_FILE).ok());
        contents.any(|content| content == pem.as_bytes())
    })
}

/// What may still be copied.
struct Left {
    entries: usize,
    bytes: u64,
}

/// It stays this process's own until it is full: a process that is not almighty may not write to others' directories.
fn copy_content(original: &OwnedFd, copy: &Path, depth: usize, left: &mut Left) -> io::Result<()> {
    fs::create_dir(copy)?;
    for entry in fs::read_dir(own_link(original))? {
        let too_many = || io::Error::other(format!("it has more than {MAX_ENTRIES} entries"));
        left.entries = left.entries.checked_sub(1).ok_or_else(too_many)?;
        let name = entry?.file_name();
        copy_entry(original, &name, &copy.join(&name), depth, left)?;
    }
    Ok(())
}

/// Whoever owns the directory may exchange an entry at any time: all is done on what was opened once.
fn copy_entry(
    directory: &OwnedFd,
    name: &OsStr,
    copy: &Path,
    depth: usize,
    left: &mut Left,
) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(directory, name, flags, Mode::empty())?;
    let status = fstat(&opened)?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Symlink => {
            let target = OsString::from_vec(readlinkat(&opened, c"", Vec::new())?.into_bytes());
            symlink(target, copy)
        }
        FileType::RegularFile => {
            let content = read_opened(&opened, MAX_FILE)?;
            let too_much = || io::Error::other(format!("it has more than {MAX_SIZE} bytes"));
            left.bytes = left.bytes.checked_sub(content.len() as u64).ok_or_else(too_much)?;
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(copy)?.write_all(&content)?;
            give(copy, &status)
        }
        FileType::Directory if depth > 0 => {
            copy_content(&opened, copy, depth - 1, left)?;
            give(copy, &status)
        }
        // Neither a deeper directory nor a pipe or the like holds what is looked for.
        FileType::Directory
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => Ok(()),
    }
}

/// Gives a copy the mode and owner of the original; in this order, since a mode is its owner's to change.
fn give(copy: &Path, status: &Stat) -> io::Result<()> {
    fs::set_permissions(copy, fs::Permissions::from_mode(status.st_mode & 0o777))?;
    chown(copy, Some(status.st_uid), Some(status.st_gid))
}

#[cfg(test)]
mod tests;
