//! What lies over the stores of containers that are there already, one after the other and each once.

use crate::containers::{
    Member,
    cover::{Cover, Covered, Error},
    injection::ANCHORS,
};
use std::{
    collections::HashMap,
    error::Error as StdError,
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinHandle,
    time::timeout,
};

/// How many containers are seen to at once.
const AT_ONCE: usize = 8;
/// How long one that is gone is waited for, whose process may hang in a file system of its.
const PATIENCE: Duration = Duration::from_secs(1);

/// The containers that were seen to, or are being.
pub(super) struct Covers {
    cover: Cover,
    permits: Arc<Semaphore>,
    seen: HashMap<String, Seen>,
    /// The local CA's certificates, when they were looked at last.
    anchors: Option<String>,
}

struct Seen {
    /// Its process: a container that is started again has another, and its mounts are new.
    pid: u32,
    /// Whether it is to be done again at the next news.
    is_due: Arc<AtomicBool>,
    /// Dropped to end it.
    is_wanted: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Covers {
    pub(super) fn new(cover: Cover) -> Self {
        Self { cover, permits: Arc::new(Semaphore::new(AT_ONCE)), seen: HashMap::new(), anchors: None }
    }

    /// Whether the local CA was rotated since it was last asked: then whoever was seen to is due again, also by what the
    /// runtime has mounted. What trusts both generations by then needs nothing.
    pub(super) fn are_outdated(&mut self) -> bool {
        let anchors = fs::read_to_string(self.cover.published.join(ANCHORS)).ok();
        let is_new = anchors.is_some() && anchors != self.anchors;
        let is_first = self.anchors.is_none();
        if is_new {
            self.anchors = anchors;
        }
        if is_new && !is_first {
            self.seen.values().for_each(|seen| seen.is_due.store(true, Ordering::Relaxed));
        }
        is_new && !is_first
    }

    /// Begins with a container, unless that has been done. The receiver ends with it.
    pub(super) fn begin(&mut self, member: &Member) -> Option<oneshot::Receiver<()>> {
        let container = Arc::clone(member.container.as_ref()?);
        let pid = self.cover.process_of(&container)?;
        if let Some(seen) = self.seen.get(&container.id)
            && seen.pid == pid
            && !seen.is_due.load(Ordering::Relaxed)
        {
            return None;
        }
        let (is_wanted, mut unwanted) = oneshot::channel();
        let (done, waiting) = oneshot::channel();
        let is_due = Arc::new(AtomicBool::new(false));
        let (cover, permits) = (self.cover.clone(), Arc::clone(&self.permits));
        let (failed, name, id) = (Arc::clone(&is_due), shown(member), container.id.clone());
        let task = tokio::spawn(async move {
            // Dropped at the end, however that comes.
            let _done = done;
            let attempt = async {
                let _permit = permits.acquire().await;
                let begun = Instant::now();
                (cover.cover(&container, pid).await, begun.elapsed())
            };
            tokio::select! {
                (covered, took) = attempt => {
                    failed.store(covered.is_err(), Ordering::Relaxed);
                    tell(&name, covered, took);
                }
                _ = &mut unwanted => {}
            }
        });
        self.seen.insert(id, Seen { pid, is_due, is_wanted, task });
        Some(waiting)
    }

    /// A container is gone, and what it was given goes.
    pub(super) async fn end(&mut self, id: &str) {
        if let Some(Seen { is_wanted, task, .. }) = self.seen.remove(id) {
            drop(is_wanted);
            // Nothing is left to write into the directory then.
            let _ended = timeout(PATIENCE, task).await;
        }
        if let Err(error) = fs::remove_dir_all(self.cover.copies.join(id))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(container = id, %error, "what a container was given is left");
        }
    }
}

fn shown(member: &Member) -> String {
    let name = member.container.as_ref().map(|container| container.name.as_str()).unwrap_or_default();
    match &member.pod {
        Some(pod) => format!("{}/{}/{name}", pod.namespace, pod.name),
        None => name.to_owned(),
    }
}

fn tell(container: &str, covered: Result<Covered, Error>, took: Duration) {
    match covered {
        Ok(Covered { stores, warnings }) => {
            for warning in warnings {
                tracing::warn!(container, "{warning}");
            }
            let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            let count = stores.len();
            if count == 0 {
                tracing::debug!(
                    container,
                    took_ms,
                    "the stores that it reads trust the local CA, or it has none"
                );
            } else {
                tracing::info!(
                    container,
                    stores = count,
                    took_ms,
                    "the local CA is in the stores that it reads"
                );
            }
            for store in stores {
                tracing::debug!(container, store = %store.display(), "a copy with the local CA lies over it");
            }
        }
        Err(error) => {
            let error: &dyn StdError = &error;
            tracing::warn!(
                container,
                error,
                "the local CA was not put into its stores: programs that go by them will refuse tidegate's certificates"
            );
        }
    }
}
