//! What the Kubernetes API server knows, as far as the daemon acts on it: it is told by a file that another process writes,
//! and keeps what it was told for the next start.

use crate::{
    app::{door::Servant, reload::Offer},
    classify::Catalogue,
    cluster::{
        Accepted, Names, State,
        accepted::Held,
        state::{self, FILE_NAME, KEPT},
    },
    config::{Config, STATE_DIR, Selection},
    containers::{
        Member, Registry,
        registry::{Told, ToldPod},
        rules::Rules,
    },
    health::{
        Health, Part,
        status::{Kubernetes, Object},
    },
    identify::{Workload, Workloads, members::MemberPattern, table::Table, workloads::Matched},
    toml_file::Source,
    whole_file,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error as StdError,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    sync::{mpsc::UnboundedSender, oneshot},
    task::spawn_blocking,
    time::{interval, sleep},
};

use crate::app::watch::Watch;

/// How often the file is looked at when nothing has told of a change.
const POLL: Duration = Duration::from_secs(5);
/// What comes at once is taken at once.
const REST: Duration = Duration::from_millis(20);
/// How long a connection takes at most from where it is told whose it is to where it is served.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// How long the API server may tell nothing before the daemon counts as unwell: it goes by what was known last.
const PATIENCE: Duration = Duration::from_secs(180);

/// What is shown of it.
pub(super) type Shown = Arc<Mutex<Kubernetes>>;

/// What is known, and where it comes from.
pub(super) struct Cluster {
    directory: PathBuf,
    kept: PathBuf,
    names: Names,
    spared: Vec<String>,
    own: Option<PathBuf>,
    /// The files' rules.
    rules: Rules,
    /// What counts; none as long as nobody has ever told anything.
    known: Option<Accepted>,
    /// What of it is kept for the next start.
    remembered: Option<Accepted>,
    seen: Option<State>,
    unreached: Option<(Instant, String)>,
    /// Why the node keeps its taint.
    taint: Option<String>,
    pub(super) shown: Shown,
}

/// Whom a change concerns.
pub(super) struct Concerned {
    pub(super) offers: UnboundedSender<Offer>,
    pub(super) workloads: Arc<Workloads>,
    pub(super) registry: Arc<Registry>,
    pub(super) health: Arc<Health>,
    /// Who serves the connections of pods.
    pub(super) servant: Option<Servant>,
}

impl Concerned {
    /// Ends what pods have open that others govern now; and again, what was on its way to be served meanwhile.
    fn recall(&self, pods: BTreeSet<String>) {
        let Some(Servant::Proxy(proxy)) = self.servant.clone() else { return };
        proxy.recall(pods.clone());
        tokio::spawn(async move {
            sleep(ON_ITS_WAY).await;
            proxy.recall(pods);
        });
    }
}

impl Cluster {
    /// What is known at the start, where the API server is asked at all. `own` is the agent's cgroup, from the mount's
    /// root, and `policies` are those that are files.
    pub(super) fn of(config: &Config, policies: &[Source], own: Option<PathBuf>) -> Option<Self> {
        Self::at(config, policies, own, &Path::new(STATE_DIR).join(KEPT))
    }

    fn at(config: &Config, policies: &[Source], own: Option<PathBuf>, kept: &Path) -> Option<Self> {
        if !config.kubernetes.watch {
            return None;
        }
        let stem = |source: &Source| source.path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let mut cluster = Self {
            directory: config.kubernetes.directory.clone(),
            kept: kept.to_owned(),
            names: Names {
                policies: policies.iter().filter_map(stem).collect(),
                workloads: Names::of_workloads(config),
            },
            spared: config.kubernetes.spared_namespaces.clone(),
            own,
            rules: Rules::of(&config.workloads),
            known: None,
            remembered: None,
            seen: None,
            unreached: None,
            taint: None,
            shown: Shown::default(),
        };
        for path in [cluster.kept.clone(), cluster.directory.join(FILE_NAME)] {
            match State::read(&path) {
                Ok((state, _)) => {
                    cluster.known = Some(cluster.after(&state));
                    if path == cluster.kept {
                        cluster.remembered.clone_from(&cluster.known);
                    }
                }
                Err(error) if is_missing(&error) => {}
                Err(error) => {
                    let error: &dyn StdError = &error;
                    tracing::error!(path = %path.display(), error, "not believed");
                }
            }
        }
        cluster.show(None);
        Some(cluster)
    }

    fn after(&self, state: &State) -> Accepted {
        self.known.clone().unwrap_or_default().after(state, &self.names, Catalogue::embedded())
    }

    /// The policies of objects.
    pub(super) fn sources(&self) -> Vec<Source> {
        self.known.as_ref().map(Accepted::sources).unwrap_or_default()
    }

    /// The workloads of objects.
    pub(super) fn bound(&self) -> Vec<Matched> {
        let matched = |(workload, selection): (Workload, Arc<Selection>)| {
            let member = MemberPattern { selection: Some(selection), ..MemberPattern::default() };
            let table = Table { member: Some(member), ..Table::default() };
            Matched { workload, matches: vec![table], except: Vec::new() }
        };
        self.selections().into_iter().map(matched).collect()
    }

    fn selections(&self) -> Vec<(Workload, Arc<Selection>)> {
        let bindings = self.known.iter().flat_map(Accepted::bindings);
        let selection = |binding: &crate::manifest::Binding| {
            let (name, policy) = (binding.name.as_str().into(), binding.policy.as_str().into());
            (Workload { name, policy }, Arc::new(binding.selection.clone()))
        };
        bindings.map(selection).collect()
    }

    /// Which policy each workload of objects has.
    fn policies(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        self.selections().into_iter().map(|(workload, _)| (workload.name, workload.policy)).collect()
    }

    /// What tells pods apart, and what is known of them.
    pub(super) fn governance(&self) -> (Rules, Told) {
        let selections = self.selections();
        let rules = selections.into_iter().map(|(workload, selection)| (workload.name, selection));
        let pod = |pod: &state::Pod| {
            let state::Pod { namespace, name, uids, labels, service_account } = pod.clone();
            ((namespace, name), ToldPod { uids, labels, service_account })
        };
        let pods = self.known.iter().flat_map(|known| known.pods.values()).map(pod).collect();
        let (spared, own) = (self.spared.clone(), self.own.clone());
        (self.rules.clone().with(rules), Told { is_known: self.known.is_some(), pods, spared, own })
    }

    /// Follows the file for as long as the agent runs.
    pub(super) async fn keep(mut self, concerned: Concerned) {
        let mut watch = None;
        let mut polls = interval(POLL);
        loop {
            // The directory may come later.
            let news = watch.get_or_insert_with(|| Watch::start([&self.directory]).ok()).as_ref();
            if news.is_none() {
                watch = None;
            }
            tokio::select! {
                () = changed(watch.as_ref().and_then(Option::as_ref)) => sleep(REST).await,
                _ = polls.tick() => {}
            }
            if let Some(Some(watch)) = &watch {
                watch.forget();
            }
            let path = self.directory.join(FILE_NAME);
            let read = spawn_blocking(move || State::read(&path)).await;
            let problem = match read.map_err(|error| state::Error::Io(error.into())).and_then(|read| read) {
                Ok((state, touched)) => {
                    self.note(&state, touched);
                    self.take(state, &concerned).await
                }
                Err(error) if is_missing(&error) => {
                    self.miss();
                    None
                }
                Err(error) => Some(format!("{}: {error}", self.directory.join(FILE_NAME).display())),
            };
            self.report(problem, &concerned.health);
        }
    }

    /// Notes since when the API server tells nothing, and what else is wrong there.
    fn note(&mut self, state: &State, touched: SystemTime) {
        self.taint.clone_from(&state.taint);
        // A time that is still to come proves nothing.
        let silent = touched.elapsed().map_or(true, |age| age > PATIENCE);
        let why = match &state.unreached {
            _ if silent => Some("`tidegate cluster` has told nothing any more".to_owned()),
            why => why.clone(),
        };
        self.unreached = why.map(|why| {
            let earlier = self.unreached.take().map(|(since, _)| since);
            // One that has been silent has been so long enough.
            let since = if silent { Instant::now().checked_sub(PATIENCE) } else { Some(Instant::now()) };
            (earlier.into_iter().chain(since).min().unwrap_or_else(Instant::now), why)
        });
    }

    /// Notes since when nobody tells anything.
    fn miss(&mut self) {
        let since = self.unreached.take().map_or_else(Instant::now, |(since, _)| since);
        self.unreached = Some((since, "`tidegate cluster` has told nothing yet".to_owned()));
    }

    /// Acts on what has changed: policies first, then who is governed by them, then which pods those are. Answers what is
    /// wrong.
    async fn take(&mut self, state: State, concerned: &Concerned) -> Option<String> {
        if self.seen.as_ref() == Some(&state) {
            return None;
        }
        let before = (self.sources(), self.policies());
        let earlier = self.known.replace(self.after(&state));
        if self.sources() != before.0 {
            let (taken, answer) = oneshot::channel();
            // Nobody answers where the agent ends.
            let _is_heard = concerned.offers.send(Offer { objects: self.sources(), taken });
            let gone = || "nobody takes policies any more; restart the agent".to_owned();
            if let Err(problem) = answer.await.unwrap_or_else(|_| Err(gone())) {
                self.known = earlier;
                return Some(problem);
            }
        }
        let (rules, told) = self.governance();
        let registry = &concerned.registry;
        let further = || concerned.workloads.set_further(self.bound());
        let governed = registry.govern(rules, Some(told), further).await;
        let mut changed: BTreeSet<String> = governed.iter().map(|pod| pod.uid.clone()).collect();
        let mut renamed = self.policies();
        renamed.retain(|workload, policy| before.1.get(workload).is_some_and(|before| before != policy));
        changed.extend(registry.pods().iter().filter_map(|pod| {
            let member = Member { pod: Some(Arc::clone(pod)), container: None };
            let mut claims = registry.claims_of(&member).into_iter();
            claims.any(|claim| renamed.contains_key(&claim.workload)).then(|| pod.uid.clone())
        }));
        if !changed.is_empty() {
            tracing::info!(pods = changed.len(), "other pods are governed, or by other policies");
            concerned.recall(changed);
        }
        self.seen = Some(state);
        if self.known != self.remembered {
            self.remember().await;
        }
        None
    }

    async fn remember(&mut self) {
        let (Some(known), kept) = (&self.known, self.kept.clone()) else { return };
        let state = known.state();
        let put = spawn_blocking(move || {
            let bytes = state.to_bytes().map_err(io::Error::other)?;
            whole_file::put(&kept, &bytes, 0o600)
        });
        match put.await.map_err(io::Error::other).and_then(|put| put) {
            Ok(()) => self.remembered.clone_from(&self.known),
            Err(error) => {
                tracing::error!(%error, path = %self.kept.display(), "what the API server knows is not kept for the next start");
            }
        }
    }

    fn report(&self, problem: Option<String>, health: &Health) {
        let unreached = self.unreached.as_ref().filter(|(since, _)| since.elapsed() >= PATIENCE);
        let result = match (&problem, &self.known, unreached) {
            (Some(problem), ..) => Err(problem.clone()),
            (None, None, _) => Err(format!(
                "nothing is known of the cluster: pods are held until `tidegate cluster` has written {}",
                self.directory.join(FILE_NAME).display()
            )),
            (None, Some(_), Some((_, why))) => Err(format!("what was known last counts: {why}")),
            (None, Some(_), None) => Ok(()),
        };
        health.report(Part::ApiServer, result);
        self.show(problem);
    }

    fn show(&self, problem: Option<String>) {
        let object = |(name, held): (&String, &Held)| Object {
            name: name.clone(),
            in_force: held.content.is_some(),
            problem: held.problem.clone(),
        };
        let known = self.known.as_ref();
        let shown = Kubernetes {
            known: known.is_some(),
            unreached: problem.or_else(|| self.unreached.as_ref().map(|(_, why)| why.clone())),
            taint: self.taint.clone(),
            pods: known.map_or(0, |known| known.pods.len()),
            policies: known.map(|known| known.policies.iter().map(object).collect()).unwrap_or_default(),
            bindings: known.map(|known| known.bindings.iter().map(object).collect()).unwrap_or_default(),
        };
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }
}

async fn changed(watch: Option<&Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => Watch::SILENT.changed().await,
    }
}

fn is_missing(error: &state::Error) -> bool {
    matches!(error, state::Error::Io(error) if error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests;
