//! The kernel's news of directories.

use crate::capture::readable;
use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
    path::Arg,
};
use std::{future::pending, io, mem::MaybeUninit, os::fd::OwnedFd};
use tokio::io::unix::AsyncFd;

/// A queue of news; none where nobody tells any.
pub(super) struct Watch(Option<AsyncFd<OwnedFd>>);

impl Watch {
    /// Which never has news.
    pub(super) const SILENT: Self = Self(None);

    /// Of what comes, goes and changes in these directories. Directories, since editors and Kubernetes put another file in
    /// the place of the one that was there.
    ///
    /// # Errors
    /// When one of them cannot be watched.
    pub(super) fn start(directories: impl IntoIterator<Item = impl Arg>) -> io::Result<Self> {
        let mut directories = directories.into_iter().peekable();
        if directories.peek().is_none() {
            return Ok(Self::SILENT);
        }
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let events = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::ATTRIB
            | WatchFlags::MOVE_SELF
            | WatchFlags::DELETE_SELF
            | WatchFlags::ONLYDIR;
        for directory in directories {
            inotify::add_watch(&queue, directory, events)?;
        }
        Ok(Self(Some(readable::watch(queue)?)))
    }

    /// Waits for news, and forgets them.
    pub(super) async fn changed(&self) {
        let Some(queue) = &self.0 else { return pending().await };
        let Ok(mut guard) = queue.readable().await else { return pending().await };
        self.forget();
        guard.clear_ready();
    }

    /// Forgets what has come so far.
    pub(super) fn forget(&self) {
        let Some(queue) = &self.0 else { return };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(queue.get_ref(), &mut buffer);
        while matches!(reader.next(), Ok(_) | Err(Errno::INTR)) {}
    }
}
