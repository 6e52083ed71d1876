//! Paths within a system's tree, whose links lead to places in that tree.

use super::{Error, failed, run};
use crate::whole_file;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use std::{
    fs,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::Command,
};

/// The root of a system's tree: the machine's own or that of an image.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    directory: OwnedFd,
}

impl Root {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let unusable = |source| Error::Root { path: path.to_owned(), source };
        let real = fs::canonicalize(path).map_err(unusable)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, &real, flags, Mode::empty()).map_err(|errno| unusable(errno.into()))?;
        Ok(Self { path: real, directory })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn is_machine(&self) -> bool {
        self.path == Path::new("/")
    }

    /// Where a path of the tree leads, links and all; None where there is nothing.
    pub(crate) fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let opened = openat2(&self.directory, path, flags, Mode::empty(), resolve).ok()?;
        fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).ok()
    }

    /// Runs a tool of the tree in the tree.
    pub(super) fn run(&self, tool: &Path, arguments: &[&str]) -> Result<String, Error> {
        let mut words = vec![tool.display().to_string()];
        words.extend(arguments.iter().map(|word| (*word).to_owned()));
        let mut command = if self.is_machine() {
            Command::new(tool)
        } else {
            words.splice(0..0, ["chroot".to_owned(), self.path.display().to_string()]);
            let mut command = Command::new("chroot");
            command.arg(&self.path).arg(tool);
            command
        };
        command.args(arguments).current_dir("/");
        run(command, words.join(" "))
    }
}

/// Puts a file in its place, whole, with this mode whatever the caller's umask.
pub(super) fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    whole_file::put(path, content, mode).map_err(failed("write", path))
}
