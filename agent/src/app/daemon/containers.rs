//! Pods and containers: tagged and listened for before they start, and given what makes their programs trust the local
//! CA; and those that are there already, in their own mount namespaces.

mod covers;

use super::{super::Error, namespaces::News as Networks, places};
use crate::{
    app::ca::TRUST,
    config::{Config, RUN_DIR},
    containers::{
        Member, Network, Registries, Registry,
        cover::Cover,
        cri,
        docker::Engine,
        injection::{self, ANCHORS, Adjustment, Image, Published, Spec},
        nri::{self, Adjust, Plugin},
        registry::{News, Notice},
        rules::Rules,
    },
    identify::{members::Members, tagging::Reconsider},
};
use covers::Covers;
use std::{
    fs, iter,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender},
        oneshot, watch,
    },
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

/// Where the CRI's socket is, by runtime.
const CRI_SOCKETS: [&str; 2] = ["/run/containerd/containerd.sock", "/run/crio/crio.sock"];
/// Where engines that speak Docker's protocol have their socket.
const ENGINE_SOCKETS: [&str; 2] = ["/run/docker.sock", "/run/podman/podman.sock"];

/// Copies of certificate files, for each container a directory.
const COPIES: &str = "containers";

/// How long a runtime is held back by a container whose stores take their time: its own limit is usually 2 s.
const HELD_BACK: Duration = Duration::from_millis(1200);

/// How often it is looked whether the local CA is another one.
const LOOK: Duration = Duration::from_secs(5);

/// Whoever tells of containers, and whoever is told.
pub(super) struct Containers {
    /// What the container runtime of Kubernetes tells.
    registry: Arc<Registry>,
    plugin: Plugin,
    runtime: Option<cri::Runtime>,
    /// Engines that speak Docker's protocol, each of which tells of its own containers alone.
    engines: Vec<(Engine, Arc<Registry>)>,
    cover: Cover,
}

impl Containers {
    /// None where no workload means a pod or container, or could come to. `cgroups` is the cgroup2 mount.
    ///
    /// # Errors
    /// When the directory for copies cannot be made.
    pub(super) fn of(config: &Config, cgroups: &Path) -> Result<Option<Self>, Error> {
        let rules = Rules::of(&config.workloads);
        if rules.is_empty() && !config.kubernetes.watch {
            return Ok(None);
        }
        let registry = Arc::new(Registry::new(rules.clone()));
        let run = Path::new(RUN_DIR);
        let copies = run.join(COPIES);
        // A file of a pod's that is merged may hold a key beside its certificates. The mount shows it to the pod alone.
        places::make(&copies, 0o700)?;
        let cover = Cover { published: run.join(TRUST), copies: copies.clone(), cgroups: cgroups.to_owned() };
        let adjust = adjust(run.join(TRUST), copies);
        let settings = &config.containers;
        let plugin = Plugin::new(settings.nri.clone(), cgroups.to_owned(), Arc::clone(&registry), adjust);
        let runtime = sockets(settings.cri.as_ref(), &CRI_SOCKETS).into_iter().next().map(cri::Runtime::new);
        let engines = sockets(settings.engine.as_ref(), &ENGINE_SOCKETS);
        let with_registry = |socket| (Engine::new(socket), Arc::new(Registry::new(rules.clone())));
        let engines = engines.into_iter().map(with_registry).collect();
        Ok(Some(Self { registry, plugin, runtime, engines, cover }))
    }

    /// What the container runtime of Kubernetes tells.
    pub(super) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    /// Who is asked whose a cgroup is.
    pub(super) fn members(&self) -> Arc<dyn Members> {
        let of_engines = self.engines.iter().map(|(_, registry)| registry);
        Arc::new(Registries(iter::once(&self.registry).chain(of_engines).map(Arc::clone).collect()))
    }

    /// Follows them for as long as the agent runs. Whatever holds a runtime back waits until the cgroup is tagged and
    /// the network has its listeners.
    pub(super) async fn keep(self, tagger: UnboundedSender<Reconsider>, networks: UnboundedSender<Networks>) {
        let Self { registry, plugin, runtime, engines, cover } = self;
        let told = |registry: &Arc<Registry>| Told {
            registry: Arc::clone(registry),
            covers: Covers::new(cover.clone()),
            tagger: tagger.clone(),
            networks: networks.clone(),
        };
        // They end with this future.
        let mut tasks = JoinSet::new();
        for (engine, registry) in engines {
            tasks.spawn(told(&registry).follow(registry.subscribe()));
            tasks.spawn(async move { engine.follow(&registry).await });
        }
        tasks.spawn(told(&registry).follow(registry.subscribe()));
        if let Some(runtime) = runtime {
            tasks.spawn(follow_runtime(runtime, registry, plugin.state.subscribe()));
        }
        plugin.serve().await;
    }
}

/// The CRI tells all that is there as long as NRI does not, and more about that when it does.
async fn follow_runtime(
    runtime: cri::Runtime,
    registry: Arc<Registry>,
    mut state: watch::Receiver<nri::State>,
) {
    loop {
        let role = match *state.borrow_and_update() {
            nri::State::Synchronized { .. } => cri::Role::BesideNri,
            nri::State::Starting | nri::State::Apart(_) => cri::Role::Alone,
        };
        tokio::select! {
            () = runtime.follow(&registry, role) => {}
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}

/// The one that is given, or those of the usual ones that are there.
fn sockets(given: Option<&PathBuf>, usual: &[&str]) -> Vec<PathBuf> {
    let there = || usual.iter().map(PathBuf::from).filter(|socket| socket.exists()).collect();
    given.map_or_else(there, |socket| vec![socket.clone()])
}

/// What containers are given: read anew for each, since the CA may have been rotated.
fn adjust(published: PathBuf, copies: PathBuf) -> Arc<Adjust> {
    Arc::new(move |member: &Member, spec: &Spec| -> Result<Adjustment, String> {
        let anchors = fs::read_to_string(published.join(ANCHORS))
            .map_err(|error| format!("cannot read the local CA's certificates: {error}"))?;
        let published = Published { directory: &published, anchors: &anchors };
        let id = member.container.as_ref().map(|container| container.id.as_str()).unwrap_or_default();
        injection::prepare(spec, Image::Unknown, &published, &copies.join(id))
            .map_err(|error| error.to_string())
    })
}

struct Told {
    registry: Arc<Registry>,
    covers: Covers,
    tagger: UnboundedSender<Reconsider>,
    networks: UnboundedSender<Networks>,
}

impl Told {
    async fn follow(mut self, mut notices: UnboundedReceiver<Notice>) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                notice = notices.recv() => match notice {
                    Some(notice) => self.heed(notice).await,
                    None => return,
                },
                _ = looks.tick() => if self.covers.are_outdated() {
                    for member in self.registry.containers() {
                        // Nobody waits for these.
                        drop(self.cover(&member));
                    }
                }
            }
        }
    }

    async fn heed(&mut self, notice: Notice) {
        self.see_to(&notice.news).await;
        // Once nothing of the container's passes any more.
        let covered = if let News::Container(member) = &notice.news { self.cover(member) } else { None };
        match covered {
            // The next one does not wait.
            Some(covered) => drop(tokio::spawn(async move {
                let _is_late = timeout(HELD_BACK, covered).await;
                notice.done();
            })),
            None => notice.done(),
        }
    }

    fn cover(&mut self, member: &Member) -> Option<oneshot::Receiver<()>> {
        // One that turns out to be claimed may have read its stores by then.
        let is_meant = !self.registry.claims_of(member).is_empty() || self.registry.awaits_of(member);
        if is_meant {
            return self.covers.begin(member);
        }
        if let Some(container) = &member.container {
            self.covers.rest(&container.id);
        }
        None
    }

    async fn see_to(&mut self, news: &News) {
        match news {
            News::Pod(pod) => {
                let member = Member { pod: Some(Arc::clone(pod)), container: None };
                self.enter(&member, [&pod.cgroup, &pod.sandbox_cgroup]).await;
            }
            News::Container(member) => {
                let cgroup = member.container.as_ref().and_then(|container| container.cgroup.clone());
                self.enter(member, [&cgroup, &None]).await;
            }
            News::PodStopped(pod) | News::PodGone(pod) => self.leave(&pod.network).await,
            News::ContainerStopped(member) => {
                if let Some(container) = &member.container {
                    self.covers.rest(&container.id);
                }
                if member.pod.is_none() {
                    self.leave(member.network()).await;
                }
            }
            News::ContainerGone(member) => {
                if let Some(container) = &member.container {
                    self.covers.end(&container.id).await;
                }
            }
        }
    }

    async fn enter(&self, member: &Member, cgroups: [&Option<PathBuf>; 2]) {
        let is_claimed = !self.registry.claims_of(member).is_empty();
        // Before the cgroup is known to the kernel it counts as a subject's, so that there is no hurry.
        if let (true, Network::Own(path)) = (is_claimed, member.network()) {
            let (done, seen) = oneshot::channel();
            let of_pod = member.pod.as_ref().and_then(|pod| pod.pid);
            let of_container = member.container.as_ref().and_then(|container| container.pid);
            let pid = of_pod.or(of_container);
            let _is_heard = self.networks.send(Networks::Inhabited { path: path.clone(), pid, done });
            // An error is an agent that ends.
            let _ended = seen.await;
        }
        for cgroup in cgroups.into_iter().flatten() {
            let (done, seen) = oneshot::channel();
            let _is_heard = self.tagger.send(Reconsider { cgroup: cgroup.clone(), done });
            let _ended = seen.await;
        }
    }

    async fn leave(&self, network: &Network) {
        if let Network::Own(path) = network {
            let _is_heard = self.networks.send(Networks::Left(path.clone()));
        }
    }
}
