//! Whether the agent does what it is there for, told loudly where it does not.
//!
//! Each part is checked again and again; one that has not been checked for too long counts as failed. Ready is the
//! agent when every part is well, alive when its event loop turns.

pub mod http;
pub mod status;

use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// How often parts are checked, and how often the log repeats what is wrong.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// A check may be late by its own length, and by a machine that is busy.
const MAX_AGE: Duration = Duration::from_secs(180);

/// How often the event loop shows that it turns, and how long it may not.
const BEAT: Duration = Duration::from_secs(1);
const MAX_SILENCE: Duration = Duration::from_secs(10);

/// A part of the agent's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A subject's connections are captured, as the agent's own subject has found.
    Canary,
    /// The programs are attached, and they are the agent's.
    Programs,
    /// Whoever should be a subject is listed as one.
    Subjects,
    /// The network namespaces of subjects can be entered, where they have their own.
    Networks,
    /// The process that serves connections answers.
    Proxy,
    /// The audit log can be written.
    AuditLog,
    /// What the Kubernetes API server knows is known, and up to date.
    ApiServer,
    /// The event loop turns.
    EventLoop,
}

impl Part {
    /// Its name in labels and documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Programs => "programs",
            Self::Subjects => "subjects",
            Self::Networks => "networks",
            Self::Proxy => "proxy",
            Self::AuditLog => "audit_log",
            Self::ApiServer => "api_server",
            Self::EventLoop => "event_loop",
        }
    }

    /// Its name in logs and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Programs => "programs",
            Self::Subjects => "subjects",
            Self::Networks => "network namespaces",
            Self::Proxy => "proxy",
            Self::AuditLog => "audit log",
            Self::ApiServer => "API server",
            Self::EventLoop => "event loop",
        }
    }
}

/// How a part is, and since when.
#[derive(Clone, Debug)]
enum Standing {
    /// Nobody has checked it yet.
    Unknown,
    /// It was well when it was last checked.
    Well { checked: Instant },
    /// It is not well.
    Failed { since: Instant, why: String },
}

/// A part that is not well.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Problem {
    /// Which.
    pub part: Part,
    /// What is wrong, causes included.
    pub why: String,
    /// For how long, in seconds.
    pub seconds: u64,
}

/// The state of all parts.
#[derive(Debug)]
pub struct Health {
    parts: Mutex<BTreeMap<Part, Standing>>,
    started: Instant,
    /// Milliseconds from the start to the event loop's last turn.
    beat: AtomicU64,
}

impl Health {
    /// Of these parts, none of them checked yet; the event loop is always one.
    pub fn new(parts: &[Part]) -> Self {
        let parts = parts.iter().map(|part| (*part, Standing::Unknown)).collect();
        let health = Self { parts: Mutex::new(parts), started: Instant::now(), beat: AtomicU64::new(0) };
        health.report(Part::EventLoop, Ok(()));
        health
    }

    /// Notes how a part was found, with what is wrong; a change is logged at once.
    pub fn report(&self, part: Part, result: Result<(), String>) {
        let mut parts = self.parts();
        let before = parts.get(&part);
        let now = Instant::now();
        let after = match result {
            Ok(()) => {
                if let Some(Standing::Failed { .. }) = before {
                    tracing::warn!(part = part.as_str(), "well again");
                }
                Standing::Well { checked: now }
            }
            Err(why) => {
                let since = match before {
                    Some(Standing::Failed { since, why: known }) => {
                        if *known != why {
                            tell(part, &why);
                        }
                        *since
                    }
                    Some(Standing::Well { .. } | Standing::Unknown) | None => {
                        tell(part, &why);
                        now
                    }
                };
                Standing::Failed { since, why }
            }
        };
        parts.insert(part, after);
    }

    /// What is not well.
    pub fn problems(&self) -> Vec<Problem> {
        self.problems_at(Instant::now())
    }

    fn problems_at(&self, now: Instant) -> Vec<Problem> {
        let problem = |part: Part, why: String, since: Instant| {
            let seconds = now.saturating_duration_since(since).as_secs();
            Some(Problem { part, why, seconds })
        };
        let parts = self.parts();
        let found = parts.iter().filter_map(|(part, standing)| match standing {
            Standing::Unknown => problem(*part, "not checked yet".to_owned(), self.started),
            Standing::Failed { since, why } => problem(*part, why.clone(), *since),
            Standing::Well { checked } => {
                // The others are told of by events, or have a thread that watches them.
                let is_checked = matches!(part, Part::Canary | Part::Programs | Part::Subjects);
                let is_stale = now.saturating_duration_since(*checked) > MAX_AGE;
                let why = || "it was well, and has not been checked for too long".to_owned();
                if is_checked && is_stale { problem(*part, why(), *checked) } else { None }
            }
        });
        found.collect()
    }

    /// Whether each part is well.
    pub fn parts_well(&self) -> BTreeMap<Part, bool> {
        let problems = self.problems();
        let is_well = |part: Part| !problems.iter().any(|problem| problem.part == part);
        self.parts().keys().map(|part| (*part, is_well(*part))).collect()
    }

    /// How long ago a part was last found well, in seconds; None where it is not well.
    pub fn checked_seconds_ago(&self, part: Part) -> Option<u64> {
        match self.parts().get(&part)? {
            Standing::Well { checked } => Some(checked.elapsed().as_secs()),
            Standing::Unknown | Standing::Failed { .. } => None,
        }
    }

    /// Seconds since the start.
    pub fn seconds_up(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// Whether the event loop turns.
    pub fn is_alive(&self) -> bool {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.beat.load(Relaxed))) <= MAX_SILENCE
    }

    /// Checks a part once, on a thread that may block, and notes the result.
    pub async fn check<E: std::error::Error + Send + 'static>(
        &self,
        part: Part,
        check: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) -> bool {
        let result = match tokio::task::spawn_blocking(check).await {
            Ok(result) => result.map_err(|error| told(&error)),
            Err(_) => Err("the check itself failed".to_owned()),
        };
        let is_well = result.is_ok();
        self.report(part, result);
        is_well
    }

    /// Checks a part every minute, for as long as the agent runs.
    pub async fn keep_checking<E: std::error::Error + Send + 'static>(
        self: Arc<Self>,
        part: Part,
        check: impl Fn() -> Result<(), E> + Send + Sync + 'static,
    ) {
        let check = Arc::new(check);
        loop {
            tokio::time::sleep(INTERVAL).await;
            let check = Arc::clone(&check);
            self.check(part, move || check()).await;
        }
    }

    /// Repeats what is wrong in the log every minute, for as long as the agent runs.
    pub async fn keep_telling(self: Arc<Self>) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.problems().iter().for_each(|problem| tell(problem.part, &problem.why));
        }
    }

    /// Shows that the event loop turns, for as long as it does.
    pub async fn keep_beating(self: Arc<Self>) {
        let mut beats = tokio::time::interval(BEAT);
        loop {
            beats.tick().await;
            self.beat();
        }
    }

    fn beat(&self) {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat.store(elapsed, Relaxed);
    }

    /// Watches the event loop from a thread of its own, which ends with the last other owner. `alive` is called
    /// every second while it turns: a service manager can be told then.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn watch_over(self: &Arc<Self>, mut alive: impl FnMut() + Send + 'static) -> io::Result<()> {
        let health = Arc::downgrade(self);
        let watch = move || {
            while let Some(health) = health.upgrade() {
                health.look(&mut alive);
                drop(health);
                thread::sleep(BEAT);
            }
        };
        thread::Builder::new().name("watchdog".to_owned()).spawn(watch).map(drop)
    }

    fn look(&self, alive: &mut impl FnMut()) {
        if self.is_alive() {
            alive();
            self.report(Part::EventLoop, Ok(()));
        } else {
            let why = format!("it has not turned for {} seconds", MAX_SILENCE.as_secs());
            self.report(Part::EventLoop, Err(why));
        }
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<Part, Standing>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(part: Part, why: &str) {
    tracing::error!(part = part.as_str(), why, "tidegate is unhealthy; see `tidegate status`");
}

/// The error with its causes.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whys(health: &Health, after: Duration) -> Vec<(Part, String, u64)> {
        let problems = health.problems_at(Instant::now() + after);
        problems.into_iter().map(|problem| (problem.part, problem.why, problem.seconds)).collect()
    }

    #[test]
    fn a_part_is_a_problem_until_it_was_found_well_and_when_that_is_long_ago() {
        let health = Health::new(&[Part::Canary, Part::AuditLog]);
        let unknown = |part| (part, "not checked yet".to_owned(), 0);
        assert_eq!(whys(&health, Duration::ZERO), [unknown(Part::Canary), unknown(Part::AuditLog)]);
        let parts = [(Part::Canary, false), (Part::AuditLog, false), (Part::EventLoop, true)];
        assert_eq!(health.parts_well(), parts.into());
        health.report(Part::Canary, Ok(()));
        health.report(Part::AuditLog, Ok(()));
        assert_eq!(whys(&health, Duration::ZERO), []);
        assert!(health.parts_well().values().all(|is_well| *is_well));
        assert_eq!(health.checked_seconds_ago(Part::Canary), Some(0));
        let stale = whys(&health, Duration::from_secs(181));
        assert!(matches!(&stale[..], [(Part::Canary, why, 181)] if why.contains("too long")), "{stale:?}");
    }

    #[test]
    fn a_problem_lasts_from_its_first_report_to_its_end() {
        let health = Health::new(&[]);
        health.report(Part::Programs, Err("gone".into()));
        health.report(Part::Programs, Err("gone, and more".into()));
        let after = whys(&health, Duration::from_secs(7));
        assert_eq!(after, [(Part::Programs, "gone, and more".to_owned(), 7)]);
        assert_eq!(health.checked_seconds_ago(Part::Programs), None);
        health.report(Part::Programs, Ok(()));
        assert_eq!(whys(&health, Duration::ZERO), []);
    }

    #[tokio::test]
    async fn a_check_is_told_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot look")]
        struct Outer(#[source] io::Error);
        let health = Health::new(&[]);
        assert!(!health.check(Part::Programs, || Err(Outer(io::Error::other("dark")))).await);
        assert_eq!(health.problems().first().map(|problem| problem.why.as_str()), Some("cannot look: dark"));
        assert!(!health.check(Part::Programs, || -> Result<(), Outer> { panic!("a defect") }).await);
        assert!(health.check(Part::Programs, || Ok::<(), Outer>(())).await);
        assert_eq!(health.problems(), []);
    }

    #[test]
    fn an_event_loop_that_stands_still_is_noticed() {
        let mut health = Health::new(&[]);
        let mut calls = 0;
        health.look(&mut || calls += 1);
        assert!(health.is_alive());
        // As if all of this had begun long ago.
        health.started -= Duration::from_secs(11);
        health.look(&mut || calls += 1);
        assert!(!health.is_alive());
        assert_eq!(health.problems().first().map(|problem| problem.part), Some(Part::EventLoop));
        health.beat();
        health.look(&mut || calls += 1);
        assert_eq!((health.problems(), calls), (vec![], 2));
    }

    #[test]
    fn the_watchdog_ends_with_what_it_watches() {
        let health = Arc::new(Health::new(&[]));
        let (told, heard) = std::sync::mpsc::channel();
        health.watch_over(move || _ = told.send(())).unwrap();
        heard.recv_timeout(Duration::from_secs(10)).unwrap();
        drop(health);
        while heard.recv_timeout(Duration::from_secs(10)).is_ok() {}
        assert_eq!(heard.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected));
    }
}
