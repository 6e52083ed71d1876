//! The proxy: the gate, and the tasks that serve it. What is captured for it, and how, is its owner's.

use super::{
    Error,
    ca::{Keeper, Published},
    counts::Counts,
    refusals::Refusals,
    reload::{Bell, Reloader, Running},
    server::{Server, Sessions},
};
use crate::{
    capture::{
        self,
        canary::Canary,
        event::Events,
        listener::{Listener, SharedFlows},
        log::Log,
        maps::FlowTable,
        own_sockets::OwnSockets,
    },
    classify::Catalogue,
    config::{self, Config, ForwardProxies, ForwardProxy, forward_proxy},
    decide::store::{PolicyFile, PolicySet, Store},
    forward::{
        Forwarder,
        ratelimit::Budgets,
        upstream::{Resolve, load_roots},
    },
    host::HostName,
    identify::Workloads,
    record::{
        fingerprint::Fingerprinter,
        redact::Redactor,
        signer::{self as audit_key, Signer as AuditSigner},
        sink::Sink,
    },
    session::{
        Recorder, Services, gate::Gate, limiter::Limiter, protected::ProtectedAddresses,
        proxies::ProxyAddresses, route::Names,
    },
    terminate::Signer,
};
use std::{
    collections::BTreeSet,
    future::Future,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

/// How long connections may take to end once the workload is gone.
const DRAIN: Duration = Duration::from_secs(5);

/// How long the newest audit records may stay without a signature.
const SIGNED_WITHIN: Duration = Duration::from_secs(10);

/// What a proxy is made of.
pub(super) struct Plan {
    pub(super) config: Config,
    pub(super) workloads: Arc<Workloads>,
    pub(super) policies: PolicySet,
    /// The policies' files.
    pub(super) files: Arc<[PolicyFile]>,
    /// Rung when they are to be read again.
    pub(super) bell: Bell,
    /// The configuration, where it is looked at again then.
    pub(super) running: Option<Arc<Running>>,
    /// Where the protected addresses are kept for the next start.
    pub(super) addresses: Option<PathBuf>,
    /// Where the CA comes from.
    pub(super) authority: config::Ca,
}

/// What of the kernel side the proxy serves.
pub(super) struct Taken {
    pub(super) flows: FlowTable,
    pub(super) events: Events,
    pub(super) log: Log,
    pub(super) forward_proxies: capture::maps::ForwardProxies,
    pub(super) listeners: Vec<Listener>,
    /// The agent's own subject, whose connections are no workload's.
    pub(super) canary: Option<Arc<Canary>>,
}

/// A running proxy.
pub(super) struct Proxy {
    trust_anchor: String,
    authority: Option<(Keeper, Signer)>,
    /// The addresses of protected hosts.
    pub(super) addresses: Arc<ProtectedAddresses>,
    /// The forward proxies.
    pub(super) proxies: Arc<ProxyAddresses>,
    /// Their addresses, as far as they were known at the start.
    pub(super) captured: Vec<SocketAddr>,
    /// How the agent connects itself.
    pub(super) own_sockets: OwnSockets,
    /// What has happened so far.
    pub(super) counts: Arc<Counts>,
    /// The audit log.
    pub(super) sink: Arc<Sink>,
    gate: Arc<Gate>,
    reloader: Option<Reloader>,
    drain: watch::Sender<bool>,
    tasks: JoinSet<()>,
    sessions: Sessions,
    refusals: Arc<Refusals>,
    reports: JoinSet<()>,
}

impl Proxy {
    /// Builds the gate and all behind it; nothing comes to it yet.
    pub(super) async fn build(plan: Plan) -> Result<Self, Error> {
        let Plan { config, workloads, policies, files, bell, running, addresses: kept, authority } = plan;
        let fingerprinter = Fingerprinter::ephemeral()?;
        let signer = match AuditSigner::open(&config.audit.key) {
            // A daemon's log is the machine's; a command's ends with it.
            Ok(signer) if kept.is_some() => {
                Some(signer.keeping_head_in(audit_key::head_path(&config.audit.key)))
            }
            Ok(signer) => Some(signer),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the audit log is chained and not signed");
                None
            }
        };
        let sink = Arc::new(Sink::open(&config.audit, Redactor::new(fingerprinter.clone()), signer)?);
        let names = Names::new(&config.hosts);
        let ca = Keeper::open(&authority, names.domains())?;
        let resolve = system_resolver();
        let prefixes = config.capture.edge_prefixes.clone();
        let addresses = ProtectedAddresses::new(config.hosts.clone(), prefixes, Arc::clone(&resolve));
        let addresses = Arc::new(match kept {
            Some(file) => addresses.kept_in(file),
            None => addresses,
        });
        addresses.learn_first().await;
        let proxies = forward_proxies(&config);
        let proxies = Arc::new(ProxyAddresses::new(proxies, Arc::clone(&resolve)));
        let captured = proxies.learn_first().await;

        let (drain, draining) = watch::channel(false);
        let own_sockets = OwnSockets::default();
        sink.export(&config.audit, &own_sockets);
        let forwarder = Forwarder::start(
            &config.upstream,
            config.limits.body_idle_timeout,
            load_roots(config.upstream.ca_file.as_deref(), ca.anchors())?,
            resolve,
            own_sockets.clone(),
        );
        let services = Arc::new(Services {
            catalogue: Catalogue::embedded(),
            own_sockets: own_sockets.clone(),
            forwarder: forwarder.map_err(Error::Upstream)?,
            recorder: Recorder::new(Arc::clone(&sink), fingerprinter, &config.audit),
            limiter: Limiter::default(),
            budgets: Budgets::default(),
            limits: config.limits.clone(),
            drain: draining,
        });
        let trust_anchor = ca.anchors_pem();
        let terminator = ca.terminator()?;
        let signer = terminator.signer();
        let store = Arc::new(Store::new(policies));
        let known = (Arc::clone(&addresses), Arc::clone(&proxies));
        let governed = (workloads, Arc::clone(&store));
        let gate = Arc::new(Gate::new(governed, names, &config, known, terminator, services));
        let counts = Arc::default();
        let mut tasks = JoinSet::new();
        let learning = Arc::clone(&addresses);
        tasks.spawn(async move { learning.keep_learning().await });
        tasks.spawn(keep_signing(Arc::clone(&sink)));
        Ok(Self {
            trust_anchor,
            authority: Some((ca, signer)),
            addresses,
            proxies,
            captured,
            own_sockets,
            drain,
            tasks,
            sessions: Sessions::default(),
            refusals: Arc::new(Refusals::new(Arc::clone(&gate), Arc::clone(&counts))),
            counts,
            sink,
            reports: JoinSet::new(),
            reloader: Some(Reloader { store, files, bell, running }),
            gate,
        })
    }

    /// Follows the CA from now on, and keeps what programs must trust in the directory `published`. No other agent may
    /// be at work.
    pub(super) fn follow_authority(&mut self, mut published: Option<Published>) {
        if let Some((ca, signer)) = self.authority.take() {
            if let Some(published) = &mut published {
                ca.publish(published);
            }
            self.spawn(ca.keep(signer, published));
        }
    }

    /// Keeps in the file at `path` how many reads have no record yet, and records what an earlier agent left there.
    /// No other agent may be at work.
    pub(super) fn count_unfinished(&self, path: &Path) -> std::io::Result<()> {
        let left = self.gate.recorder().keep_unfinished_in(path)?;
        if left > 0 {
            tracing::warn!(count = left, "an earlier agent was killed before it recorded some reads");
            self.gate.lost(left);
        }
        Ok(())
    }

    /// The certificate that the workload must trust, PEM.
    pub(super) fn trust_anchor(&self) -> &str {
        &self.trust_anchor
    }

    /// Begins to serve what the kernel side sends to these listeners; the answer serves further ones.
    pub(super) fn serve(&mut self, taken: Taken) -> Server {
        let Taken { flows, events, log, forward_proxies, listeners, canary } = taken;
        let flows = SharedFlows::new(flows);
        if let Some(reloader) = self.reloader.take() {
            self.tasks.spawn(reloader.keep_loading());
        }
        self.tasks.spawn(logged("the kernel side's log", log.copy()));
        let reports = Arc::clone(&self.refusals).report(events, canary.clone(), self.drain.subscribe());
        self.reports.spawn(reports);
        self.tasks.spawn(flows.clone().sweep());
        self.tasks.spawn(keep_capturing(Arc::clone(&self.proxies), forward_proxies));
        let server = Server {
            flows,
            gate: Arc::clone(&self.gate),
            refusals: Arc::clone(&self.refusals),
            canary,
            counts: Arc::clone(&self.counts),
            drain: self.drain.subscribe(),
            sessions: Arc::clone(&self.sessions),
        };
        for listener in listeners {
            server.serve(listener, None);
        }
        server
    }

    /// From now on this is told of each process that is refused since its network namespace has no listener.
    pub(super) fn tell_of_unserved(&self, told: impl Fn(u32) + Send + Sync + 'static) {
        self.refusals.tell_of_unserved(told);
    }

    /// Runs as long as the proxy does.
    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Lets connections end, and ends those that do not; each is recorded either way.
    pub(super) async fn stop(mut self) {
        self.drain.send_replace(true);
        let all = std::mem::take(&mut *self.sessions.lock().unwrap_or_else(PoisonError::into_inner));
        for sessions in all {
            let Ok(mut sessions) = sessions.await else { continue };
            let ended = async { while sessions.join_next().await.is_some() {} };
            if timeout(DRAIN, ended).await.is_err() {
                sessions.shutdown().await;
            }
        }
        while self.reports.join_next().await.is_some() {}
        self.tasks.shutdown().await;
        self.refusals.finish();
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

/// Captures what the names of forward proxies come to resolve to.
async fn keep_capturing(proxies: Arc<ProxyAddresses>, mut captured: capture::maps::ForwardProxies) {
    let capture = |address| {
        if let Err(error) = captured.add(address) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(%address, error, "a new address of a forward proxy is not captured");
        }
    };
    proxies.keep_learning(capture).await;
}

/// A task that ends only by failing.
async fn logged(what: &'static str, task: impl Future<Output = std::io::Result<()>>) {
    if let Err(error) = task.await {
        tracing::error!(%error, "{what} cannot be read any more");
    }
}

/// The captured ports, each once.
pub(super) fn ports(config: &Config) -> Vec<u16> {
    let ports = config.capture.tls_ports.iter().chain(&config.capture.plain_ports).copied();
    ports.collect::<BTreeSet<u16>>().into_iter().collect()
}

fn forward_proxies(config: &Config) -> Vec<ForwardProxy> {
    match &config.capture.forward_proxies {
        ForwardProxies::Listed(proxies) => proxies.clone(),
        ForwardProxies::FromEnvironment => {
            let lookup =
                |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
            let (mut proxies, unusable) = forward_proxy::from_environment(lookup);
            // What the agent may use, programs may know of.
            let own = config.upstream.proxy.iter().filter(|own| !proxies.contains(own)).cloned();
            proxies.extend(own.collect::<Vec<_>>());
            for (variable, error) in unusable {
                tracing::warn!(variable, %error, "this proxy is not captured; see `capture.forward_proxies`");
            }
            proxies
        }
    }
}

fn system_resolver() -> Resolve {
    Arc::new(|host: HostName| {
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((host.as_str(), 443)).await?;
            Ok(addresses.map(|address| address.ip()).collect())
        })
    })
}

/// The mount that a cgroup's directory lies in: the highest directory above it on the same device.
pub(super) fn mount_of(cgroup: &Path) -> PathBuf {
    let device = |path: &Path| path.metadata().ok().map(|metadata| metadata.dev());
    let own = device(cgroup);
    cgroup.ancestors().take_while(|path| device(path) == own).last().unwrap_or(cgroup).to_owned()
}
