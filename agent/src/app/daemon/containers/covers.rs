//! What lies over the stores of containers that are there already, one after the other and each once.

use crate::containers::{
    Container, Member,
    cover::{Cover, Covered, Error},
    injection::ANCHORS,
};
use std::{
    collections::HashMap,
    error::Error as StdError,
    fs, io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

/// How many containers are seen to at once.
const AT_ONCE: usize = 8;
/// How long one that is gone is waited for, whose process may hang in a file system of its.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a container is left alone behind a first failure, which may be that the runtime is still making it; behind each
/// further one it is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// No attempt takes more than one part in so many of the time: what hangs must not hold up the others.
const SHARE: u32 = 10;
/// Failures are told of when they have gone on for so long.
const PASSING: Duration = Duration::from_secs(1);

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
    /// Whether it is to be done again.
    is_due: bool,
    /// Dropped to end it.
    is_wanted: Option<oneshot::Sender<()>>,
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
            self.seen.values_mut().for_each(|seen| seen.is_due = true);
        }
        is_new && !is_first
    }

    /// Begins with a container, unless that has been done. The receiver ends with the first attempt.
    pub(super) fn begin(&mut self, member: &Member) -> Option<oneshot::Receiver<()>> {
        let container = Arc::clone(member.container.as_ref()?);
        let pid = self.cover.process_of(&container)?;
        if let Some(seen) = self.seen.get(&container.id)
            && seen.pid == pid
            && !seen.is_due
        {
            return None;
        }
        let (is_wanted, unwanted) = oneshot::channel::<()>();
        let (done, waiting) = oneshot::channel();
        let id = container.id.clone();
        let attempts = Attempts {
            cover: self.cover.clone(),
            permits: Arc::clone(&self.permits),
            name: shown(member),
            container,
            pid,
        };
        let task = tokio::spawn(async move {
            tokio::select! {
                () = attempts.last(done) => {}
                _ = unwanted => {}
            }
        });
        self.seen.insert(id, Seen { pid, is_due: false, is_wanted: Some(is_wanted), task });
        Some(waiting)
    }

    /// A container has stopped: what has not been done by now is not.
    pub(super) fn rest(&mut self, id: &str) {
        if let Some(seen) = self.seen.get_mut(id) {
            seen.is_wanted = None;
        }
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

/// One container, as often as it takes.
struct Attempts {
    cover: Cover,
    permits: Arc<Semaphore>,
    name: String,
    container: Arc<Container>,
    pid: u32,
}

impl Attempts {
    /// Ends with the one that succeeds; the first one's end drops `first`.
    async fn last(self, first: oneshot::Sender<()>) {
        let (mut first, mut is_told) = (Some(first), false);
        let (started, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let permit = self.permits.acquire().await;
            let begun = Instant::now();
            // A runtime's own may have been the first in the cgroup.
            let pid = self.cover.process_of(&self.container).unwrap_or(self.pid);
            let covered = self.cover.cover(&self.container, pid).await;
            let took = begun.elapsed();
            drop((permit, first.take()));
            match covered {
                Ok(covered) => return tell(&self.name, covered, took),
                Err(error) => {
                    let is_new = !is_told && started.elapsed() >= PASSING;
                    tell_of_failure(&self.name, &error, is_new);
                    is_told |= is_new;
                }
            }
            sleep(pause.max(took * SHARE)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
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

fn tell(container: &str, Covered { stores, warnings }: Covered, took: Duration) {
    for warning in warnings {
        tracing::warn!(container, "{warning}");
    }
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let count = stores.len();
    if count == 0 {
        tracing::debug!(container, took_ms, "the stores that it reads trust the local CA, or it has none");
    } else {
        tracing::info!(container, stores = count, took_ms, "the local CA is in the stores that it reads");
    }
    for store in stores {
        tracing::debug!(container, store = %store.display(), "a copy with the local CA lies over it");
    }
}

fn tell_of_failure(container: &str, error: &Error, is_new: bool) {
    let error: &dyn StdError = error;
    if is_new {
        tracing::warn!(
            container,
            error,
            "the local CA is not in its stores yet: programs that go by them will refuse tidegate's certificates"
        );
    } else {
        tracing::debug!(container, error, "the local CA is not in its stores yet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Fails at first, since nothing is published; the directory of the container's copies shows an attempt behind that.
    #[tokio::test]
    async fn what_fails_is_tried_again_until_the_container_stops() {
        let scratch = tempfile::tempdir().unwrap();
        let (published, copies) = (scratch.path().join("trust"), scratch.path().join("copies"));
        let cover =
            Cover { published: published.clone(), copies: copies.clone(), cgroups: "/nowhere".into() };
        let mut covers = Covers::new(cover);
        let of = |id: &str| {
            let container = Container {
                id: id.into(),
                pid: Some(1 << 23),
                cgroup: Some("/c".into()),
                ..Container::default()
            };
            Member { pod: None, container: Some(Arc::new(container)) }
        };
        let first = ["a", "b"].map(|id| covers.begin(&of(id)).unwrap());
        for first in first {
            assert!(first.await.is_err(), "nobody is held back by what failed");
        }
        assert!(covers.begin(&of("a")).is_none(), "it goes on by itself");
        covers.rest("b");
        let rested = covers.seen.remove("b").unwrap().task;
        timeout(Duration::from_secs(10), rested).await.unwrap().unwrap();

        fs::create_dir(&published).unwrap();
        fs::write(published.join(ANCHORS), "").unwrap();
        timeout(Duration::from_secs(30), appears(&copies.join("a"))).await.unwrap();
        assert!(!copies.join("b").exists(), "it has stopped");
        covers.end("a").await;
        assert!(!copies.join("a").exists());
    }

    async fn appears(path: &Path) {
        while !path.exists() {
            sleep(Duration::from_millis(10)).await;
        }
    }
}
