//! Removes the cgroups that a command has made below its own.

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, unlinkat},
    io::Errno,
};
use std::{ffi::CString, io, os::fd::OwnedFd, path::Path};

/// Removes what can be removed below a cgroup. It goes from directory to directory, because a command can nest
/// them deeper than any path is long, and with one descriptor, because it can nest them deeper than files are open.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut directory = match openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    // The way down, and what would not go at each step of it.
    let mut steps: Vec<(CString, Vec<CString>)> = Vec::new();
    let mut stuck: Vec<CString> = Vec::new();
    loop {
        let next = children(&directory)?.into_iter().find(|name| {
            !stuck.contains(name) && unlinkat(&directory, name, AtFlags::REMOVEDIR) == Err(Errno::BUSY)
        });
        if let Some(name) = next {
            directory = openat(&directory, &name, flags, Mode::empty())?;
            steps.push((name, std::mem::take(&mut stuck)));
            continue;
        }
        let Some((name, siblings)) = steps.pop() else { return Ok(()) };
        directory = openat(&directory, c"..", flags, Mode::empty())?;
        stuck = siblings;
        if unlinkat(&directory, &name, AtFlags::REMOVEDIR).is_err() {
            stuck.push(name);
        }
    }
}

fn children(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
