//! The proxy of one workload: capture, gate, and the tasks that serve them.

use super::{Error, Job, ca::Keeper, refusals::Refusals, reload::Reloader};
use crate::{
    capture::{
        self, Capture, Options,
        listener::{self, Listener, SharedFlows},
        pins::Pins,
    },
    classify::Catalogue,
    config::{self, Config, ForwardProxies, ForwardProxy, forward_proxy},
    decide::store::{Handle, PolicyFile, Store},
    forward::{
        Forwarder,
        ratelimit::Budgets,
        upstream::{Resolve, load_roots},
    },
    host::HostName,
    identify::Workload,
    record::{fingerprint::Fingerprinter, redact::Redactor, sink::Sink},
    run::Enclosure,
    session::{
        Recorder, Services, gate::Gate, limiter::Limiter, protected::ProtectedAddresses,
        proxies::ProxyAddresses, route::Names,
    },
};
use std::{
    collections::BTreeSet,
    future::Future,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

/// How long connections may take to end once the workload is gone.
const DRAIN: Duration = Duration::from_secs(5);

/// How long accept rests when the process has no descriptor to give.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// A running proxy.
pub(super) struct Proxy {
    trust_anchor: String,
    drain: watch::Sender<bool>,
    tasks: JoinSet<()>,
    sessions: Vec<tokio::task::JoinHandle<JoinSet<()>>>,
    refusals: Arc<Refusals>,
    reports: JoinSet<()>,
}

impl Proxy {
    /// Attaches, listens and fills the maps, in an order in which a subject could at no moment pass.
    pub(super) async fn start(
        enclosure: &Enclosure,
        job: Job,
        files: Arc<[PolicyFile]>,
        hangup: Arc<Notify>,
    ) -> Result<Self, Error> {
        let Job { config, workload, policy, policies, .. } = job;
        let fingerprinter = Fingerprinter::ephemeral()?;
        let sink = Arc::new(Sink::open(&config.audit, Redactor::new(fingerprinter.clone()))?);
        let names = Names::new(&config.hosts);
        // A command's CA ends with it, so that there is no key to steal; a user's own is there anyhow.
        let in_memory = config::Ca { ephemeral: true, ..config.ca.clone() };
        let ca = Keeper::open(&in_memory, names.domains())?;
        let resolve = system_resolver();
        let addresses = Arc::new(ProtectedAddresses::new(
            config.hosts.clone(),
            config.capture.edge_prefixes.clone(),
            Arc::clone(&resolve),
        ));
        addresses.learn_first().await;
        let proxies = forward_proxies(&config);
        let proxies = Arc::new(ProxyAddresses::new(proxies, Arc::clone(&resolve)));
        let captured = proxies.learn_first().await;

        let (drain, draining) = watch::channel(false);
        let services = Arc::new(Services {
            catalogue: Catalogue::embedded(),
            forwarder: Forwarder::start(
                &config.upstream,
                config.limits.body_idle_timeout,
                load_roots(config.upstream.ca_file.as_deref(), ca.anchors())?,
                resolve,
            )
            .map_err(Error::Upstream)?,
            recorder: Recorder::new(sink, fingerprinter, &config.audit),
            limiter: Limiter::default(),
            budgets: Budgets::default(),
            limits: config.limits.clone(),
            drain: draining,
        });
        let cgroup = enclosure.cgroup().path().to_owned();
        let workload = Workload {
            name: workload.into(),
            policy: policy.as_str().into(),
            mount: mount_of(&cgroup),
            cgroup: cgroup.clone(),
        };
        let trust_anchor = ca.anchors_pem();
        let terminator = ca.terminator()?;
        let store = Arc::new(Store::new(policies));
        let policy = Handle::new(Arc::clone(&store), Arc::clone(&workload.policy));
        let known = (Arc::clone(&addresses), Arc::clone(&proxies));
        let gate = Arc::new(Gate::new(workload, policy, names, &config, known, terminator, services));

        let refusals = Arc::new(Refusals::new(Arc::clone(&gate)));
        let mut proxy = Self {
            trust_anchor,
            drain,
            tasks: JoinSet::new(),
            sessions: Vec::new(),
            refusals,
            reports: JoinSet::new(),
        };
        let options = Options {
            cgroup: &cgroup,
            pins: &Pins::Private(enclosure.pins()),
            sticky_tags: false,
            packet_sockets: false,
            ports: &ports(&config),
            forward_proxies: &captured,
            flows: capture::DEFAULT_FLOWS,
        };
        proxy.capture(&options, proxies, &gate)?;
        proxy.tasks.spawn(async move { addresses.keep_learning().await });
        proxy.tasks.spawn(Reloader { store, files, hangup }.keep_loading());
        Ok(proxy)
    }

    /// The certificate that the workload must trust, PEM.
    pub(super) fn trust_anchor(&self) -> &str {
        &self.trust_anchor
    }

    fn capture(
        &mut self,
        options: &Options<'_>,
        proxies: Arc<ProxyAddresses>,
        gate: &Arc<Gate>,
    ) -> Result<(), capture::Error> {
        let mut capture = Capture::start(options)?;
        let listeners = listener::bind(&[options.ports, proxies.ports()].concat())?;
        if listeners.is_empty() {
            tracing::warn!(
                "this network namespace has no global route, neither of IPv4 nor of IPv6: every connection of the \
                 command to a captured port is refused, to this machine too"
            );
        }
        for listener in &listeners {
            capture.listeners.publish(listener.netns_cookie, listener.address)?;
        }
        capture.subjects.add(options.cgroup)?;

        let Capture { flows, events, log, forward_proxies, .. } = capture;
        let flows = SharedFlows::new(flows);
        self.tasks.spawn(logged("the kernel side's log", log.copy()));
        self.reports.spawn(Arc::clone(&self.refusals).report(events, self.drain.subscribe()));
        self.tasks.spawn(flows.clone().sweep());
        self.tasks.spawn(keep_capturing(proxies, forward_proxies));
        for listener in listeners {
            let (drain, gate) = (self.drain.subscribe(), Arc::clone(gate));
            let refusals = Arc::clone(&self.refusals);
            self.sessions.push(tokio::spawn(serve(listener, flows.clone(), gate, refusals, drain)));
        }
        Ok(())
    }

    /// Lets connections end, and ends those that do not; each is recorded either way.
    pub(super) async fn stop(mut self) {
        self.drain.send_replace(true);
        for sessions in self.sessions.drain(..) {
            let Ok(mut sessions) = sessions.await else { continue };
            let ended = async { while sessions.join_next().await.is_some() {} };
            if timeout(DRAIN, ended).await.is_err() {
                sessions.shutdown().await;
            }
        }
        while self.reports.join_next().await.is_some() {}
        self.tasks.shutdown().await;
        self.refusals.finish();
    }
}

/// Accepts until the drain; answers the connections that are then still open.
async fn serve(
    listener: Listener,
    flows: SharedFlows,
    gate: Arc<Gate>,
    refusals: Arc<Refusals>,
    mut drain: watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut sessions = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(&flows) => accepted,
            Some(_ended) = sessions.join_next() => continue,
            _ = drain.wait_for(|draining| *draining) => return sessions,
        };
        match accepted {
            Ok(Ok(captured)) => {
                let gate = Arc::clone(&gate);
                sessions.spawn(async move { gate.pass(captured).await });
            }
            Ok(Err(no_flow)) => refusals.no_flow(no_flow.peer),
            Err(error) => {
                tracing::error!(%error, "cannot accept; connections wait");
                sleep(ACCEPT_REST).await;
            }
        }
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

fn ports(config: &Config) -> Vec<u16> {
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
fn mount_of(cgroup: &Path) -> PathBuf {
    let device = |path: &Path| path.metadata().ok().map(|metadata| metadata.dev());
    let own = device(cgroup);
    cgroup.ancestors().take_while(|path| device(path) == own).last().unwrap_or(cgroup).to_owned()
}
