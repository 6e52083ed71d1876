//! The agent: who serves connections, in this process or in another one, and the tasks around that. What is captured for
//! it, and how, is its owner's.

use super::{
    Error,
    ca::{Follower, Keeper, Published},
    counts::Counts,
    door::{Door, Patience, Servant},
    engine::Engine,
    ground::Ground,
    proxy::{Following, Proxy},
    refusals::Refusals,
    reload::{Bell, Offer, Origin, Reloader, Running},
    server::{Accepting, Server},
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
    config::{self, Config, ForwardProxies, ForwardProxy, forward_proxy},
    decide::store::{PolicyFile, PolicySet, Store},
    forward::upstream::{Resolve, load_certificates},
    host::HostName,
    identify::Workloads,
    record::{
        signer::{self as audit_key, Signer as AuditSigner},
        sink::place::{self, Place as _},
    },
    session::{protected::ProtectedAddresses, proxies::ProxyAddresses, route::Names},
    toml_file::Source,
};
use std::{
    collections::BTreeSet,
    future::{Future, pending},
    io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{mpsc::UnboundedSender, watch},
    task::JoinSet,
};

/// What an agent is made of.
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
    /// For another process, which serves.
    pub(super) proxy: Option<Sources>,
}

/// What the configuration and the policies were read from.
pub(super) struct Sources {
    pub(super) config: Source,
    pub(super) policies: Vec<Source>,
}

/// What of the kernel side the agent serves.
pub(super) struct Taken {
    pub(super) flows: FlowTable,
    pub(super) events: Events,
    pub(super) log: Log,
    pub(super) forward_proxies: capture::maps::ForwardProxies,
    pub(super) listeners: Vec<Listener>,
    /// The agent's own subject, whose connections are no workload's.
    pub(super) canary: Option<Arc<Canary>>,
}

/// A running agent.
pub(super) struct Agent {
    trust_anchor: String,
    authority: Option<(Keeper, Arc<dyn Follower>)>,
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
    /// Who serves connections.
    pub(super) servant: Servant,
    door: Arc<Door>,
    reloader: Option<Reloader>,
    /// Brings policies of objects.
    #[cfg_attr(not(feature = "kubernetes"), expect(dead_code, reason = "all policies are files"))]
    pub(super) offers: UnboundedSender<Offer>,
    drain: watch::Sender<bool>,
    tasks: JoinSet<()>,
    accepting: Accepting,
    refusals: Arc<Refusals>,
    reports: JoinSet<()>,
}

impl Agent {
    /// Builds the gate and all behind it; nothing comes to it yet.
    pub(super) async fn build(plan: Plan) -> Result<Self, Error> {
        let Plan { config, workloads, policies, files, bell, running, addresses: kept, authority, proxy } =
            plan;
        let log = place::Own::new(&config.audit, audit_signer(&config.audit, kept.is_some()));
        let ca = Keeper::open(&authority, Names::new(&config.hosts).domains())?;
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

        let (store, counts) = (Arc::new(Store::new(policies)), Arc::<Counts>::default());
        let roots = load_certificates(config.upstream.ca_file.as_deref(), ca.anchors())?;
        let own_sockets = OwnSockets::default();
        let ground = Ground { own_sockets: own_sockets.clone(), resolve, roots, log, ca: &ca };
        let known = (&addresses, &proxies);
        let (origin, offers) = Origin::of(proxy.as_ref().map_or(&[], |sources| sources.policies.as_slice()));
        let mut tasks = JoinSet::new();
        let (servant, follower): (Servant, Arc<dyn Follower>) = match proxy {
            None => {
                let (means, follower) = ground.means(known)?;
                let served = (Arc::clone(&store), Arc::clone(&counts));
                let engine = Engine::start(&config, served, means)?;
                (Servant::Here(Arc::new(engine)), Arc::new(follower))
            }
            Some(sources) => {
                let every = addresses.every();
                let start = ground.start(sources, &addresses, &captured);
                let rights = Arc::new(ground.rights());
                if config.audit.path != Path::new("-") {
                    // What is wrong with it is told best by whoever may look at it.
                    rights.log.open()?;
                }
                let proxy = Arc::new(Proxy::start(&config, start, Arc::clone(&rights)).await?);
                tasks.spawn(keep_protecting(every, Arc::clone(&proxy)));
                (Servant::Proxy(Arc::clone(&proxy)), Arc::new(Following { proxy, rights }))
            }
        };
        let learning = Arc::clone(&addresses);
        tasks.spawn(async move { learning.keep_learning().await });
        let door = Arc::new(Door {
            workloads,
            addresses: Arc::clone(&addresses),
            servant: servant.clone(),
            counts: Arc::clone(&counts),
            patience: Patience::from_now(),
        });
        let proxy = servant.proxy();
        Ok(Self {
            trust_anchor: ca.anchors_pem(),
            authority: Some((ca, follower)),
            addresses,
            proxies,
            captured,
            own_sockets,
            drain: watch::Sender::new(false),
            tasks,
            accepting: Accepting::default(),
            refusals: Arc::new(Refusals::new(Arc::clone(&door), Arc::clone(&counts))),
            counts,
            servant,
            reports: JoinSet::new(),
            reloader: Some(Reloader { store, files, bell, running, proxy, origin }),
            offers,
            door,
        })
    }

    /// Follows the CA from now on, and keeps what programs must trust in the directory `published`. No other agent may
    /// be at work.
    pub(super) fn follow_authority(&mut self, mut published: Option<Published>) {
        if let Some((ca, follower)) = self.authority.take() {
            if let Some(published) = &mut published {
                ca.publish(published);
            }
            self.spawn(ca.keep(follower, published));
        }
    }

    /// Waits until the process that serves has ended, where that is another one.
    pub(super) async fn failed(&self) {
        match &self.servant {
            Servant::Here(_) => pending().await,
            Servant::Proxy(proxy) => proxy.ended().await,
        }
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
        let proxy = self.servant.proxy();
        self.tasks.spawn(keep_capturing(Arc::clone(&self.proxies), forward_proxies, proxy));
        let server = Server {
            flows,
            door: Arc::clone(&self.door),
            refusals: Arc::clone(&self.refusals),
            canary,
            drain: self.drain.subscribe(),
            accepting: Arc::clone(&self.accepting),
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

    /// Runs as long as the agent does.
    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Accepts no more. The answer is the listeners, in which more may wait.
    pub(super) async fn close(&mut self) -> Vec<Listener> {
        self.drain.send_replace(true);
        let all = std::mem::take(&mut *self.accepting.lock().unwrap_or_else(PoisonError::into_inner));
        let mut listeners = Vec::new();
        for accepting in all {
            // One that has failed accepts no more, either.
            listeners.extend(accepting.await.ok().flatten());
        }
        while self.reports.join_next().await.is_some() {}
        listeners
    }

    /// Ends everything but the connections: what another agent does from here on.
    pub(super) async fn rest(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Lets connections end, and ends those that do not in time; each is recorded either way.
    pub(super) async fn stop(mut self, patience: Duration) {
        // Whoever connects is refused at once.
        drop(self.close().await);
        self.servant.drain(patience).await;
        self.rest().await;
        self.refusals.finish();
        self.servant.finish().await;
    }
}

/// Tells the other process every change of the protected addresses.
async fn keep_protecting(mut every: watch::Receiver<Arc<BTreeSet<IpAddr>>>, proxy: Arc<Proxy>) {
    while every.changed().await.is_ok() {
        let now = Arc::clone(&every.borrow_and_update());
        proxy.protect(&now);
    }
}

/// Who signs heads of the log's chain, if anybody can. `is_kept`: a daemon's log is the machine's; a command's ends
/// with it.
fn audit_signer(audit: &config::Audit, is_kept: bool) -> Option<AuditSigner> {
    match AuditSigner::open(&audit.key) {
        Ok(signer) if is_kept => Some(signer.keeping_head_in(audit_key::head_path(&audit.key))),
        Ok(signer) => Some(signer),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the audit log is chained and not signed");
            None
        }
    }
}

/// Captures what the names of forward proxies come to resolve to.
async fn keep_capturing(
    proxies: Arc<ProxyAddresses>,
    mut captured: capture::maps::ForwardProxies,
    proxy: Option<Arc<Proxy>>,
) {
    let capture = |address| {
        if let Some(proxy) = &proxy {
            proxy.capture(address);
        }
        if let Err(error) = captured.add(address) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(%address, error, "a new address of a forward proxy is not captured");
        }
    };
    proxies.keep_learning(capture).await;
}

/// A task that ends only by failing.
async fn logged(what: &'static str, task: impl Future<Output = io::Result<()>>) {
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
