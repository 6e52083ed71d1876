//! Loads the policies again when they change or when somebody asks for it: all or none, and the last good set stays.

mod running;

pub(super) use running::Running;

use super::{Error, proxy::Proxy, watch::Watch};
use crate::{
    classify::Catalogue,
    decide::store::{self, FileError, Missing, OBJECT, PolicyFile, PolicySet, Reading, Store},
    toml_file::{Error as LoadError, Source},
};
use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{
        Notify,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
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

/// Policies that come from objects: all that there are from now on.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) objects: Vec<Source>,
    /// Told when they are in force.
    pub(super) taken: oneshot::Sender<Outcome>,
}

/// What policies are read from.
pub(super) struct Origin {
    /// What the files said when they were last right.
    files: Vec<Source>,
    objects: Vec<Source>,
    offers: UnboundedReceiver<Offer>,
}

impl Origin {
    /// What is in force at the start; the sender brings other objects.
    pub(super) fn of(sources: &[Source]) -> (Self, UnboundedSender<Offer>) {
        let is_object =
            |source: &Source| source.path.extension().is_some_and(|extension| extension == OBJECT);
        let (objects, files) = sources.iter().cloned().partition(is_object);
        let (sender, offers) = unbounded_channel();
        (Self { files, objects, offers }, sender)
    }
}

/// Keeps the store at what its files say, and the objects.
pub(super) struct Reloader {
    pub(super) store: Arc<Store>,
    pub(super) files: Arc<[PolicyFile]>,
    pub(super) bell: Bell,
    /// The configuration, where it is looked at again.
    pub(super) running: Option<Arc<Running>>,
    /// The process that serves by them, where that is another one.
    pub(super) proxy: Option<Arc<Proxy>>,
    pub(super) origin: Origin,
}

/// Opens the files that are to be watched. `places`: where the command is to write.
pub(super) fn open(paths: &[PathBuf], places: &[PathBuf]) -> Result<Arc<[PolicyFile]>, Error> {
    let files: Result<Vec<_>, _> = paths.iter().map(|path| PolicyFile::open(path, places)).collect();
    Ok(files?.into())
}

impl Reloader {
    /// Goes on for good.
    pub(super) async fn keep_loading(mut self) {
        let watch =
            Watch::start(self.files.iter().map(PolicyFile::watched_directory)).unwrap_or_else(|error| {
                tracing::warn!(%error, "changes of the policy files are seen only every {POLL:?}");
                Watch::SILENT
            });
        // What was read before the watch began may have changed since, so that the first look is at once.
        let mut seen: Arc<str> = store::digest(&self.origin.files);
        let mut polls = interval(POLL);
        loop {
            let mut asked = tokio::select! {
                biased;
                () = self.bell.rung.notified() => true,
                () = watch.changed() => false,
                Some(Offer { objects, taken }) = self.origin.offers.recv() => {
                    // Who has gone needs no answer.
                    let _is_heard = taken.send(self.take(objects).await);
                    continue;
                }
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
    async fn load(&mut self, snapshot: Snapshot, asked: bool) -> Outcome {
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
        let readings = match snapshot.found {
            Ok(readings) => readings,
            Err(error) => return refused(error),
        };
        match self.replace_files(readings).await {
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
    /// Puts other objects in force, beside what the files said when they were last right.
    async fn take(&mut self, objects: Vec<Source>) -> Outcome {
        match self.replace(self.origin.files.clone(), objects).await {
            Ok(change) => {
                let policies = change.policies.join(", ");
                tracing::info!(
                    before = &*change.before,
                    after = &*change.after,
                    policies,
                    "other ScopePolicies"
                );
                Ok(policies)
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "the ScopePolicies stay as they are");
                Err(error.to_string())
            }
        }
    }

    async fn replace_files(&mut self, readings: Vec<Reading>) -> Result<store::Change, Refused> {
        let mut files = Vec::with_capacity(readings.len());
        for Reading { source, doubt } in readings {
            if let Some(doubt) = doubt {
                return Err(doubt.into());
            }
            files.push(source);
        }
        self.replace(files, self.origin.objects.clone()).await
    }

    async fn replace(&mut self, files: Vec<Source>, objects: Vec<Source>) -> Result<store::Change, Refused> {
        let store = Arc::clone(&self.store);
        let sources = [files.as_slice(), objects.as_slice()].concat();
        let loading = spawn_blocking(move || -> Result<_, Refused> {
            let set = PolicySet::load(&sources, Catalogue::embedded())?;
            store.check(&set)?;
            Ok((set, sources))
        });
        let (set, sources) = loading.await??;
        // Whoever decides by them first: what this process has of them only says what is in force.
        if let Some(proxy) = &self.proxy {
            proxy.replace(sources).await.map_err(Refused::Proxy)?;
        }
        let change = self.store.replace(set)?;
        (self.origin.files, self.origin.objects) = (files, objects);
        Ok(change)
    }
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
