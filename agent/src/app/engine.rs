//! What serves the connections: all that reads what workloads and upstreams send, and nothing that takes a privilege.
//! Those come as [`Means`].

use super::{Error, counts::Counts, sessions::Sessions};
use crate::{
    capture::own_sockets::OwnSockets,
    classify::Catalogue,
    config::Config,
    decide::store::Store,
    forward::{Forwarder, ratelimit::Budgets, upstream::Resolve},
    record::{
        fingerprint::Fingerprinter,
        redact::Redactor,
        sink::{self, Sink, place::Place},
    },
    session::{
        Recalls, Recorder, Services,
        gate::{Arrived, Clients, Gate},
        limiter::Limiter,
        protected::ProtectedAddresses,
        proxies::ProxyAddresses,
        route::Names,
    },
    terminate::Terminator,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use rustls::RootCertStore;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs::File,
    io,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

/// How long connections may take to end once the workload is gone, or nobody is there for new ones meanwhile.
pub(super) const DRAIN: Duration = Duration::from_secs(5);

/// As long where another agent accepts new ones meanwhile: less than Kubernetes lets an agent.
pub(super) const DRAIN_BESIDE: Duration = Duration::from_secs(20);

/// How long the newest audit records may stay without a signature.
const SIGNED_WITHIN: Duration = Duration::from_secs(10);

/// What only a privileged process has of itself.
pub(super) struct Means {
    pub(super) own_sockets: OwnSockets,
    pub(super) resolve: Resolve,
    pub(super) roots: RootCertStore,
    pub(super) terminator: Terminator,
    pub(super) log: Arc<dyn Place>,
    pub(super) clients: Arc<dyn Clients>,
    pub(super) addresses: Arc<ProtectedAddresses>,
    pub(super) proxies: Arc<ProxyAddresses>,
}

/// What became of records and connections so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Figures {
    pub(super) written: u64,
    pub(super) unwritten: u64,
    pub(super) open: u64,
}

/// Serves connections.
pub(super) struct Engine {
    pub(super) gate: Gate,
    sink: Arc<Sink>,
    counts: Arc<Counts>,
    sessions: Sessions,
    drain: watch::Sender<bool>,
    recalls: watch::Sender<Recalls>,
    metrics: Registry,
    signing: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// For workloads whose policies the store has. To be called within the runtime.
    pub(super) fn start(
        config: &Config,
        (store, counts): (Arc<Store>, Arc<Counts>),
        means: Means,
    ) -> Result<Self, Error> {
        let Means { own_sockets, resolve, roots, terminator, log, clients, addresses, proxies } = means;
        let fingerprinter = Fingerprinter::ephemeral()?;
        let redactor = Redactor::new(fingerprinter.clone());
        let sink = Arc::new(Sink::open_at(&config.audit, redactor, log)?);
        sink.export(&config.audit, &own_sockets);
        let (drain, draining) = watch::channel(false);
        let (recalls, recalled) = watch::channel(Recalls::default());
        let body_idle_timeout = config.limits.body_idle_timeout;
        let forwarder =
            Forwarder::start(&config.upstream, body_idle_timeout, roots, resolve, own_sockets.clone());
        let services = Arc::new(Services {
            catalogue: Catalogue::embedded(),
            own_sockets,
            forwarder: forwarder.map_err(Error::Upstream)?,
            recorder: Recorder::new(Arc::clone(&sink), fingerprinter, &config.audit),
            limiter: Limiter::default(),
            budgets: Budgets::default(),
            limits: config.limits.clone(),
            drain: draining,
            recalls: recalled,
        });
        let names = Names::new(&config.hosts);
        let known = (addresses, proxies);
        let gate = Gate::new(store, clients, names, config, known, terminator, services);
        let signing = Mutex::new(Some(tokio::spawn(keep_signing(Arc::clone(&sink)))));
        let mut metrics = Registry::with_prefix("tidegate");
        sink.register(&mut metrics);
        Ok(Self { gate, sink, counts, sessions: Sessions::default(), drain, recalls, metrics, signing })
    }

    /// Serves a connection.
    pub(super) fn serve(self: &Arc<Self>, arrived: Arrived) {
        let (engine, open) = (Arc::clone(self), self.counts.opened());
        self.sessions.spawn(async move {
            engine.gate.pass(arrived).await;
            drop(open);
        });
    }

    /// Keeps in the file how many reads have no record yet, and records what an earlier agent left there.
    pub(super) fn count_unfinished(&self, file: File) -> io::Result<()> {
        let left = self.gate.recorder().keep_unfinished_in(file)?;
        if left > 0 {
            tracing::warn!(count = left, "an earlier agent was killed before it recorded some reads");
            self.gate.lost(left);
        }
        Ok(())
    }

    /// Lets connections of these pods end, by their unique ids; those that come from here on stay.
    pub(super) fn recall(&self, pods: BTreeSet<String>) {
        self.recalls.send_modify(|recalls| recalls.add(pods, Instant::now()));
    }

    /// What became of records and connections so far.
    pub(super) fn figures(&self) -> Figures {
        let sink::Counts { written, failed } = self.sink.counts();
        Figures { written, unwritten: failed, open: self.counts.open.load(Relaxed) }
    }

    /// What its records have told, as text.
    pub(super) fn metrics(&self) -> Option<String> {
        let mut text = String::new();
        let encoded = encode(&mut text, &self.metrics);
        encoded.inspect_err(|error| tracing::error!(%error, "the metrics cannot be told")).ok()?;
        Some(text)
    }

    /// Lets connections end, and ends those that do not in time; each is recorded either way.
    pub(super) async fn drain(&self, patience: Duration) {
        self.drain.send_replace(true);
        self.sessions.finish(patience).await;
    }

    /// Signs what was recorded, and sends what a collector has not got yet.
    pub(super) fn finish(&self) {
        if let Some(signing) = self.signing.lock().unwrap_or_else(PoisonError::into_inner).take() {
            signing.abort();
        }
        sign(&self.sink);
        self.sink.finish();
    }
}

/// Signs what was recorded, some time after it was.
async fn keep_signing(sink: Arc<Sink>) {
    loop {
        sleep(SIGNED_WITHIN).await;
        sign(&sink);
    }
}

fn sign(sink: &Sink) {
    if let Err(error) = sink.checkpoint() {
        let error = &error as &dyn std::error::Error;
        tracing::error!(error, "the audit log's latest records are not signed yet");
    }
}
