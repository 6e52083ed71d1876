//! The kernel's news of the tree of cgroups (inotify).

use super::POLL;
use crate::capture::readable;
use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::Errno,
};
use std::{
    collections::{BTreeSet, HashMap},
    io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};
use tokio::io::unix::AsyncFd;

/// The kernel's news of the tree.
pub(super) struct News {
    queue: AsyncFd<OwnedFd>,
    watched: HashMap<i32, PathBuf>,
    warned: bool,
}

pub(super) enum Changed {
    Directories(BTreeSet<PathBuf>),
    /// The queue was full.
    Anything,
}

impl News {
    pub(super) fn start() -> io::Result<Self> {
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self { queue: readable::watch(queue)?, watched: HashMap::new(), warned: false })
    }

    pub(super) fn watch(&mut self, directory: &Path) {
        let events = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::ONLYDIR;
        match inotify::add_watch(self.queue.get_ref(), directory, events) {
            Ok(watch) => {
                self.watched.insert(watch, directory.to_owned());
            }
            Err(Errno::NOENT | Errno::NODEV) => {}
            Err(error) if !self.warned => {
                self.warned = true;
                let error = io::Error::from(error);
                tracing::warn!(
                    %error,
                    "new cgroups are found only when they connect, or every {POLL:?}; see fs.inotify.max_user_watches"
                );
            }
            Err(_) => {}
        }
    }

    /// Waits for news.
    pub(super) async fn changed(&mut self) -> Changed {
        loop {
            let Ok(mut guard) = self.queue.readable().await else { return std::future::pending().await };
            let mut directories = BTreeSet::new();
            let mut is_overrun = false;
            let mut gone = Vec::new();
            let mut buffer = [MaybeUninit::uninit(); 16 << 10];
            let mut reader = inotify::Reader::new(self.queue.get_ref(), &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => is_overrun = true,
                    Ok(event) if event.events().contains(ReadFlags::IGNORED) => gone.push(event.wd()),
                    Ok(event) => directories.extend(self.watched.get(&event.wd()).cloned()),
                    Err(Errno::INTR) => {}
                    Err(_) => break,
                }
            }
            guard.clear_ready();
            drop(guard);
            for watch in gone {
                self.watched.remove(&watch);
            }
            if is_overrun {
                return Changed::Anything;
            }
            if !directories.is_empty() {
                return Changed::Directories(directories);
            }
        }
    }
}
