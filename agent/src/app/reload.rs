//! Loads the policies again when they change or when somebody asks for it: all or none, and the last good set stays.

mod running;

pub(super) use running::Running;

use super::{Error, proxy::Proxy, watch::Watch};
use crate::{
    classify::Catalogue,
    decide::store::{self, FileError, Missing, PolicyFile, PolicySet, Reading, Store},
    toml_file::{Error as LoadError, Source},
};
use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, oneshot},
    task::{JoinError, spawn_blocking},
    time::{interval, sleep},
};

/// How long files must stay as they are before they count as written to their end.
const QUIET: Duration = Duration::from_millis(200);

/// How often they are looked at when nothing has told of a change: not every filesystem does.
const POLL: Duration = Duration::from_secs(30);

/// Why the policies stay as they are.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Missing(#[from] Missing),
    #[error("the policies were not read to their end")]
    Panicked(#[from] JoinError),
    #[error("the process that serves connections does not take them")]
    Proxy(#[source] io::Error),
}

/// The policies' files at one moment.
struct Snapshot {
    found: Result<Vec<Reading>, Refused>,
    /// Equal for equal contents, and for equal failures.
    seen: Arc<str>,
}

/// What has changed, or why nothing has: for people.
pub(super) type Outcome = Result<String, String>;

/// Asks for a reload, and knows what came of the last one.
#[derive(Clone, Debug, Default)]
pub(super) struct Bell {
    rung: Arc<Notify>,
    waiting: Arc<Mutex<Vec<oneshot::Sender<Outcome>>>>,
    refused: Arc<Mutex<Option<String>>>,
}

impl Bell {
    /// Asks, and wants no answer but the log's.
    pub(super) fn ring(&self) {
        self.rung.notify_one();
    }

    /// Asks for a reload that begins after this.
    pub(super) fn ask(&self) -> oneshot::Receiver<Outcome> {
        let (asking, answer) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(asking);
        self.ring();
        answer
    }

    /// Why the files' policies are not those in force, where they are not.
    pub(super) fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, outcome: &Outcome) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = outcome.clone().err();
    }

    fn waiting(&self) -> Vec<oneshot::Sender<Outcome>> {
        std::mem::take(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Keeps the store at what its files say.
pub(super) struct Reloader {
    pub(super) store: Arc<Store>,
    pub(super) files: Arc<[PolicyFile]>,
    pub(super) bell: Bell,
    /// The configuration, where it is looked at again.
    pub(super) running: Option<Arc<Running>>,
    /// The process that serves by them, where that is another one.
    pub(super) proxy: Option<Arc<Proxy>>,
}

/// Opens the files that are to be watched. `places`: where the command is to write.
pub(super) fn open(paths: &[PathBuf], places: &[PathBuf]) -> Result<Arc<[PolicyFile]>, Error> {
    let files: Result<Vec<_>, _> = paths.iter().map(|path| PolicyFile::open(path, places)).collect();
    Ok(files?.into())
}

impl Reloader {
    /// Goes on for good.
    pub(super) async fn keep_loading(self) {
        let watch =
            Watch::start(self.files.iter().map(PolicyFile::watched_directory)).unwrap_or_else(|error| {
                tracing::warn!(%error, "changes of the policy files are seen only every {POLL:?}");
                Watch::SILENT
            });
        // What was read before the watch began may have changed since, so that the first look is at once.
        let mut seen: Arc<str> = self.store.current().digest().into();
        let mut polls = interval(POLL);
        loop {
            let mut asked = tokio::select! {
                biased;
                () = self.bell.rung.notified() => true,
                () = watch.changed() => false,
                _ = polls.tick() => false,
            };
            let mut waiting = self.bell.waiting();
            let mut snapshot = self.read().await;
            while !asked {
                asked = tokio::select! {
                    biased;
                    () = self.bell.rung.notified() => true,
                    () = sleep(QUIET) => false,
                };
                waiting.extend(self.bell.waiting());
                watch.forget();
                let later = self.read().await;
                let is_settled = later.seen == snapshot.seen;
                snapshot = later;
                if is_settled {
                    break;
                }
            }
            if asked || snapshot.seen != seen {
                seen = Arc::clone(&snapshot.seen);
                let outcome = self.load(snapshot, asked).await;
                self.bell.remember(&outcome);
                for asking in waiting {
                    // Who has gone needs no answer.
                    let _is_heard = asking.send(outcome.clone());
                }
            }
        }
    }

    async fn read(&self) -> Snapshot {
        let files = Arc::clone(&self.files);
        // A file may lie on a filesystem that takes its time.
        let snapshot = spawn_blocking(move || Snapshot::of(&files)).await;
        snapshot.unwrap_or_else(|error| Snapshot::failed(error.into()))
    }

    /// Loads what was read. Where somebody asks, the configuration is looked at as well.
    async fn load(&self, snapshot: Snapshot, asked: bool) -> Outcome {
        let before = self.store.current();
        let digest = before.digest();
        let refused = |error: Refused| {
            let error: &dyn std::error::Error = &error;
            tracing::error!(digest, error, "the policies stay as they are");
            let causes = std::iter::successors(Some(error), |error| error.source());
            let causes: Vec<_> = causes.map(ToString::to_string).collect();
            Err(format!("the policies stay as they are: {}", causes.join(": ")))
        };
        let restart = match self.running.as_ref().filter(|_| asked).map(|running| running.differing()) {
            Some(Err(error)) => return refused(error.into()),
            Some(Ok(keys)) if !keys.is_empty() => {
                let keys = keys.join(", ");
                tracing::warn!(
                    keys,
                    "the configuration has changed: restart the daemon to make these keys count"
                );
                format!("; the configuration has changed: restart the daemon to make {keys} count")
            }
            Some(Ok(_)) | None => String::new(),
        };
        if self.files.is_empty() {
            tracing::info!(digest, "the policy is built in, so there is nothing to reload");
            return Ok(format!("the policy is built in, so there is nothing to reload{restart}"));
        }
        match self.replace(snapshot).await {
            Ok(change) if change.before == change.after => {
                tracing::info!(digest, "the policies are as they were");
                Ok(format!("the policies are as they were{restart}"))
            }
            Ok(change) => {
                let policies = change.policies.join(", ");
                tracing::info!(before = digest, after = &*change.after, policies, "reloaded the policies");
                Ok(format!("reloaded the policies {policies}{restart}"))
            }
            Err(error) => refused(error),
        }
    }
}

impl Reloader {
    async fn replace(&self, snapshot: Snapshot) -> Result<store::Change, Refused> {
        let store = Arc::clone(&self.store);
        let (set, sources) = spawn_blocking(move || loaded(&store, snapshot)).await??;
        // Whoever decides by them first: what this process has of them only says what is in force.
        if let Some(proxy) = &self.proxy {
            proxy.replace(sources).await.map_err(Refused::Proxy)?;
        }
        Ok(self.store.replace(set)?)
    }
}

/// What can be put in force.
fn loaded(store: &Store, snapshot: Snapshot) -> Result<(PolicySet, Vec<Source>), Refused> {
    let readings = snapshot.found?;
    let mut sources = Vec::with_capacity(readings.len());
    for Reading { source, doubt } in readings {
        if let Some(doubt) = doubt {
            return Err(doubt.into());
        }
        sources.push(source);
    }
    let set = PolicySet::load(&sources, Catalogue::embedded())?;
    store.check(&set)?;
    Ok((set, sources))
}

impl Snapshot {
    fn of(files: &[PolicyFile]) -> Self {
        match files.iter().map(PolicyFile::read).collect::<Result<Vec<_>, _>>() {
            Ok(readings) => {
                let seen = store::digest(readings.iter().map(|reading| &reading.source));
                Self { found: Ok(readings), seen }
            }
            Err(error) => Self::failed(error.into()),
        }
    }

    fn failed(error: Refused) -> Self {
        Self { seen: error.to_string().into(), found: Err(error) }
    }
}

#[cfg(test)]
mod tests;
