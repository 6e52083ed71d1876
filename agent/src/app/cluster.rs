//! `tidegate cluster`: asks the Kubernetes API server, says of each object what becomes of it, and tells the daemon by a
//! file. It needs no privilege of the machine's; what it may do at the API server is all that it has.

mod news;
mod report;
mod taint;

use super::Error;
use crate::{
    classify::Catalogue,
    cluster::{Kind, Names, State, state::FILE_NAME, view::View},
    config::Config,
    whole_file,
};
use futures_util::StreamExt;
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};
use news::{News, Of};
use report::Reports;
use rustix::process::{DumpableBehavior, geteuid, set_dumpable_behavior};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::PathBuf,
    thread,
    time::{Duration, SystemTime},
};
use tokio::{
    runtime::Builder,
    time::{Instant, interval, sleep_until},
};

/// What comes at once is told at once, and no burst is told one by one.
const REST: Duration = Duration::from_millis(50);
/// A server that says nothing for so long is tried anew: of each list it tells once a minute how far it is.
const SILENCE: Duration = Duration::from_secs(150);
/// How often the file shows that somebody still looks after it, and the policies' directory is looked at.
const BEAT: Duration = Duration::from_secs(20);
/// What fails does so again within this: a rest and an attempt are shorter.
const FAILS: Duration = Duration::from_secs(30);

/// Where and as whom it asks.
#[derive(Clone, Debug)]
pub struct Inquiry {
    /// The configuration that the daemon has.
    pub config: Config,
    /// The node, by its name in Kubernetes.
    pub node: String,
    /// How the API server is reached, where that is not known from the pod that this runs in.
    pub kubeconfig: Option<PathBuf>,
    /// Whether the taint of nodes that are new is taken off this one once its agent is ready.
    pub removes_taint: bool,
}

/// Goes on until it is told to end.
///
/// # Errors
/// When it is root, cannot begin, or cannot write its file.
pub fn run(inquiry: &Inquiry) -> Result<(), Error> {
    let system = |action| move |source| Error::System { action, source };
    if geteuid().is_root() {
        return Err(Error::Root);
    }
    // Its memory holds the token.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|errno| system("forbid dumps of this process's memory")(errno.into()))?;
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(system("handle signals"))?;
    let waits = thread::Builder::new().name("signals".into()).spawn(move || {
        if signals.forever().next().is_some() {
            // What it has written stays, and there is nothing else.
            std::process::exit(0);
        }
    });
    waits.map_err(system("handle signals"))?;
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(system("start the runtime"))?.block_on(ask(inquiry))
}

/// As [`run`], in a runtime that is there already, and without giving anything up before.
///
/// # Errors
/// As [`run`].
pub async fn ask(inquiry: &Inquiry) -> Result<(), Error> {
    // There is one; where another part has set it already, that is this one.
    let _is_set = CryptoProvider::install_default(aws_lc_rs::default_provider());
    let client = client(inquiry).await?;
    let mut news = news::follow(&client, &inquiry.node);
    let mut faults = taint::follow(&client, inquiry)?;
    let mut told = Told::new(inquiry);
    let mut reports = Reports::new(client, inquiry.node.clone());
    let mut beat = interval(BEAT);
    loop {
        tokio::select! {
            next = news.next() => match next {
                Some(news) => told.hear(news),
                None => return Err(Error::ServerLost),
            },
            Some(fault) = faults.next() => told.note_taint(fault),
            () = at(told.due) => told.write()?,
            () = at(reports.due()) => reports.send(&told.view, &told.names).await,
            _ = beat.tick() => told.beat(),
        }
        if told.is_complete() {
            reports.plan(&told.view, &told.names);
        }
    }
}

async fn client(inquiry: &Inquiry) -> Result<Client, Error> {
    let unknown = |error: Box<dyn std::error::Error + Send + Sync>| Error::NoServer(error);
    let mut config = match &inquiry.kubeconfig {
        Some(path) => {
            let read = Kubeconfig::read_from(path).map_err(|error| unknown(error.into()))?;
            let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
            config.map_err(|error| unknown(error.into()))?
        }
        None => kube::Config::incluster().map_err(|error| unknown(error.into()))?,
    };
    config.connect_timeout = Some(Duration::from_secs(10));
    config.read_timeout = Some(SILENCE);
    config.write_timeout = Some(SILENCE);
    Client::try_from(config).map_err(|error| unknown(error.into()))
}

/// Waits for the moment, or for good.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// What was heard, and what of it the daemon was told.
struct Told {
    view: View,
    names: Names,
    policy_dir: PathBuf,
    file: PathBuf,
    /// Which lists were heard to their end at least once.
    complete: BTreeSet<Of>,
    /// Those that told last why they tell nothing, and when.
    unreached: Vec<(Of, String, Instant)>,
    /// Why the node's taint cannot be taken off.
    taint: Option<String>,
    /// When the file is to be written.
    due: Option<Instant>,
    written: Option<State>,
}

impl Told {
    fn new(inquiry: &Inquiry) -> Self {
        let config = &inquiry.config;
        let file = config.kubernetes.directory.join(FILE_NAME);
        // What an earlier process of this container's has seen in order may be wrong by now.
        let earlier = State::read(&file).map(|(state, _)| state).unwrap_or_default();
        let mut told = Self {
            view: View::after(&earlier),
            names: Names { workloads: Names::of_workloads(config), ..Names::default() },
            policy_dir: config.policy_dir.clone(),
            file,
            complete: BTreeSet::new(),
            unreached: Vec::new(),
            taint: None,
            due: None,
            written: None,
        };
        told.look_for_files();
        told
    }

    /// Whether all that there is has been heard of: before that, nothing can be said of anything.
    fn is_complete(&self) -> bool {
        self.complete.len() == Of::ALL.len()
    }

    fn hear(&mut self, News { of, event }: News) {
        let catalogue = Catalogue::embedded();
        let failed = event.as_ref().err().cloned();
        let before = self.unreached.iter().find(|(other, ..)| *other == of).map(|(_, why, _)| why);
        match (&failed, before) {
            (Some(why), before) if before != Some(why) => {
                tracing::warn!(list = of.word(), why, "the API server does not tell; tried again for good");
            }
            (None, Some(_)) => tracing::info!(list = of.word(), "the API server tells again"),
            (Some(_), _) | (None, None) => {}
        }
        self.unreached.retain(|(other, ..)| *other != of);
        self.unreached.extend(failed.map(|why| (of, why, Instant::now())));
        match event {
            Err(_) => {}
            Ok(news::Event::All(objects)) => {
                match of {
                    Of::Policies | Of::Bindings => {
                        let seen = objects.into_iter().map(news::seen).collect();
                        self.view.replace(of.kind(), seen, catalogue);
                    }
                    Of::Pods => {
                        self.view
                            .replace_pods(objects.into_iter().map(|object| news::pod(&object)).collect());
                    }
                }
                self.complete.insert(of);
            }
            Ok(news::Event::Is(object)) => match of {
                Of::Policies | Of::Bindings => {
                    let (name, seen) = news::seen(object);
                    self.view.apply(of.kind(), name, seen, catalogue);
                }
                Of::Pods => self.view.apply_pod(news::pod(&object)),
            },
            Ok(news::Event::Gone(object)) => match of {
                Of::Policies | Of::Bindings => self.view.remove(of.kind(), &news::seen(object).0),
                Of::Pods => self.view.remove_pod(&news::pod(&object)),
            },
        }
        self.due.get_or_insert_with(|| Instant::now() + REST);
    }

    fn note_taint(&mut self, fault: Option<String>) {
        self.taint = fault;
        self.due.get_or_insert_with(|| Instant::now() + REST);
    }

    /// Writes the file where it would say something else. Before all was heard, what an earlier process has told stays, but
    /// for why nothing new comes.
    fn write(&mut self) -> Result<(), Error> {
        self.due = None;
        let unreached = self.unreached.first().map(|(of, why, _)| format!("{}: {why}", of.word()));
        let mut state = if self.is_complete() {
            self.view.state(&self.names, unreached)
        } else {
            match State::read(&self.file) {
                Ok((mut earlier, _)) => {
                    earlier.unreached = unreached;
                    earlier
                }
                Err(_) => return Ok(()),
            }
        };
        state.taint.clone_from(&self.taint);
        if self.written.as_ref() == Some(&state) {
            return Ok(());
        }
        let failed = |source| Error::File { action: "write", path: self.file.clone(), source };
        let bytes = state.to_bytes().map_err(|error| failed(io::Error::other(error)))?;
        whole_file::put(&self.file, &bytes, 0o644).map_err(failed)?;
        let State { policies, bindings, pods, unreached, .. } = &state;
        tracing::debug!(
            policies = policies.len(),
            bindings = bindings.len(),
            pods = pods.len(),
            unreached,
            "told the daemon"
        );
        let untold = self.view.untold();
        if untold > 0 {
            tracing::warn!(
                pods = untold,
                "the daemon is not told of pods that have too many or too long labels"
            );
        }
        self.written = Some(state);
        Ok(())
    }

    /// Shows that somebody is there. A list that is followed again without anything new tells nothing, and fails no more.
    fn beat(&mut self) {
        let before = self.unreached.len();
        self.unreached.retain(|(.., at)| at.elapsed() < FAILS);
        if self.unreached.len() != before {
            self.due.get_or_insert_with(|| Instant::now() + REST);
        }
        if self.written.is_some() {
            let touched = File::options().write(true).open(&self.file);
            if let Err(error) = touched.and_then(|file| file.set_modified(SystemTime::now())) {
                tracing::warn!(%error, path = %self.file.display(), "cannot be touched");
            }
        }
        self.look_for_files();
    }

    /// The names that policies' files have.
    fn look_for_files(&mut self) {
        let entries = match fs::read_dir(&self.policy_dir) {
            Ok(entries) => entries,
            Err(error) => {
                return tracing::warn!(%error, path = %self.policy_dir.display(), "the policies' files are not known");
            }
        };
        let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
        let files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
        let names = files.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
        if self.names.policies != names {
            self.names.policies = names;
            self.due.get_or_insert_with(|| Instant::now() + REST);
        }
    }
}

impl Of {
    fn kind(self) -> Kind {
        match self {
            Self::Policies => Kind::Policy,
            Self::Bindings | Self::Pods => Kind::Binding,
        }
    }
}
