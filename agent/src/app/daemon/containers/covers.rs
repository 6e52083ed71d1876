//! What lies over the stores of containers that are there already: some at once, each until it is done.

use crate::containers::{
    Container, Member,
    cover::{Cover, Covered, Error},
    injection::ANCHORS,
};
use std::{
    collections::HashMap,
    error::Error as StdError,
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

/// How many containers are seen to at once, and of those that failed before.
const AT_ONCE: usize = 8;
const AGAIN_AT_ONCE: usize = 2;
/// How long one that is gone is waited for, whose process may hang in a file system of its.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a container is left alone behind a first failure, which may be that the runtime is still making it; behind each
/// further one it is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How long the runtime is given to make it.
const MAKING: Duration = Duration::from_secs(10);
/// What may be the runtime's doing is told of when it has gone on for so long.
const PASSING: Duration = Duration::from_secs(1);

/// The containers that were seen to, or are being.
pub(super) struct Covers {
    cover: Cover,
    permits: Permits,
    seen: HashMap<String, Seen>,
    /// The local CA's certificates, when they were looked at last.
    anchors: Option<String>,
}

/// What fails again and again does not hold up others.
#[derive(Clone)]
struct Permits {
    first: Arc<Semaphore>,
    again: Arc<Semaphore>,
}

struct Seen {
    container: Arc<Container>,
    /// Its process: a container that is started again has another, and its mounts are new.
    pid: u32,
    is_covered: Arc<AtomicBool>,
    /// Whether it is to be done again for all that.
    is_due: bool,
    /// Dropped to end it.
    is_wanted: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Seen {
    /// Whether nothing is to be begun: it is covered, or somebody who knows all this is at it.
    fn suffices(&self, container: &Container, pid: u32) -> bool {
        let is_under_way =
            self.is_wanted.is_some() && !self.task.is_finished() && *self.container == *container;
        !self.is_due && self.pid == pid && (is_under_way || self.is_covered.load(Ordering::Relaxed))
    }
}

impl Covers {
    pub(super) fn new(cover: Cover) -> Self {
        let of = |count| Arc::new(Semaphore::new(count));
        let permits = Permits { first: of(AT_ONCE), again: of(AGAIN_AT_ONCE) };
        Self { cover, permits, seen: HashMap::new(), anchors: None }
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
        if self.seen.get(&container.id).is_some_and(|seen| seen.suffices(&container, pid)) {
            return None;
        }
        let (is_wanted, unwanted) = oneshot::channel::<()>();
        let (done, waiting) = oneshot::channel();
        let is_covered = Arc::new(AtomicBool::new(false));
        let attempts = Attempts {
            cover: self.cover.clone(),
            permits: self.permits.clone(),
            name: shown(member),
            container: Arc::clone(&container),
            is_covered: Arc::clone(&is_covered),
        };
        let task = tokio::spawn(async move {
            tokio::select! {
                () = attempts.last(done) => {}
                _ = unwanted => {}
            }
        });
        let id = container.id.clone();
        let seen = Seen { container, pid, is_covered, is_due: false, is_wanted: Some(is_wanted), task };
        self.seen.insert(id, seen);
        Some(waiting)
    }

    /// A container has stopped, or is none of a workload's: what has not been done by now is not, unless it is begun again.
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
    permits: Permits,
    name: String,
    container: Arc<Container>,
    is_covered: Arc<AtomicBool>,
}

impl Attempts {
    /// Ends with the one that succeeds, or when no further one would; the first one's end drops `first`.
    async fn last(self, first: oneshot::Sender<()>) {
        let (mut first, mut is_told) = (Some(first), false);
        let (started, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let permits = if first.is_some() { &self.permits.first } else { &self.permits.again };
            let permit = permits.acquire().await;
            let begun = Instant::now();
            let is_new = started.elapsed() < MAKING;
            let pid = self.cover.process_of(&self.container);
            let covered = match pid {
                Some(pid) => self.cover.cover(&self.container, pid, is_new).await,
                None => Err(Error::NoProcess),
            };
            drop(permit);
            drop(first.take());
            let error = match covered {
                Ok(covered) => {
                    self.is_covered.store(true, Ordering::Relaxed);
                    return tell(&self.name, covered, begun.elapsed());
                }
                Err(error) => error,
            };
            // Where the first process is not known, there may be none yet.
            let is_known = self.container.pid.is_some();
            if (is_known || !is_new) && !pid.is_some_and(is_there) {
                return tracing::debug!(container = self.name, "nothing runs in it any more");
            }
            // What keeps its readers waiting would do so each time.
            let is_last = matches!(error, Error::Late);
            let is_lasting = !error.is_passing() || started.elapsed() >= PASSING;
            tell_of_failure(&self.name, &error, is_lasting && !is_told);
            if is_last {
                return;
            }
            is_told |= is_lasting;
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

fn is_there(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
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

    /// Fails at first, since nothing is published; the directory of the container's copies shows an attempt behind that.
    #[tokio::test]
    async fn what_fails_is_tried_again_until_the_container_stops() {
        let scratch = tempfile::tempdir().unwrap();
        let (published, copies) = (scratch.path().join("trust"), scratch.path().join("copies"));
        let cover =
            Cover { published: published.clone(), copies: copies.clone(), cgroups: "/nowhere".into() };
        let mut covers = Covers::new(cover);
        let of = |id: &str, name: &str| {
            let (id, name, cgroup) = (id.into(), name.into(), Some("/c".into()));
            let container =
                Container { id, name, pid: Some(std::process::id()), cgroup, ..Container::default() };
            Member { pod: None, container: Some(Arc::new(container)) }
        };
        let first = ["a", "b"].map(|id| covers.begin(&of(id, "")).unwrap());
        for first in first {
            assert!(first.await.is_err(), "nobody is held back by what failed");
        }
        assert!(covers.begin(&of("a", "")).is_none(), "it goes on by itself");
        assert!(covers.begin(&of("a", "named")).is_some(), "more is known of it");
        covers.rest("b");
        let rested = &mut covers.seen.get_mut("b").unwrap().task;
        timeout(Duration::from_secs(10), rested).await.unwrap().unwrap();

        assert!(!covers.are_outdated(), "there is no CA yet");
        fs::create_dir(&published).unwrap();
        fs::write(published.join(ANCHORS), "").unwrap();
        timeout(Duration::from_secs(30), appears(&copies.join("a"))).await.unwrap();
        assert!(!copies.join("b").exists(), "it has stopped");
        assert!(covers.begin(&of("b", "")).is_some(), "it goes on for all that");
        timeout(Duration::from_secs(30), appears(&copies.join("b"))).await.unwrap();
        covers.rest("b");
        assert!(covers.begin(&of("b", "")).is_some(), "nobody waits for what is ending");

        assert!(!covers.are_outdated(), "it is the first");
        fs::write(published.join(ANCHORS), "rotated").unwrap();
        assert!(covers.are_outdated());
        assert!(covers.begin(&of("a", "named")).is_some(), "it goes by the new one");
        covers.end("a").await;
        assert!(!copies.join("a").exists());
    }

    async fn appears(path: &Path) {
        while !path.exists() {
            sleep(Duration::from_millis(10)).await;
        }
    }
}
