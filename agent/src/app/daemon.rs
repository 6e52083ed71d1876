//! `tidegate daemon`: the gate of a machine's workloads. What it attaches stays when it ends, so that the gate is shut
//! then, until the next one takes over.

mod asked;
#[cfg(feature = "kubernetes")]
mod cluster;
pub mod commands;
#[cfg(feature = "kubernetes")]
mod containers;
mod desk;
mod early;
mod ending;
mod listeners;
mod metrics;
mod namespaces;
mod places;
mod subjects;
mod tell;
mod upkeep;

use super::{
    Error,
    agent::{self, Agent, Plan, Sources, Taken},
    ca::{Published, TRUST},
    handover::{self, Manager},
    reload::{self, Running},
    succession::{Succession, Turn},
};
#[cfg(feature = "kubernetes")]
use crate::classify::Catalogue;
use crate::{
    capture::{
        self, Capture, Options,
        canary::Canary,
        connections::Destinations,
        listener::{self, Listener},
        pins::{BPFFS, Pins, base},
        standing::Mismatch,
    },
    config::{Config, Mode, RUN_DIR, STATE_DIR},
    decide::store::PolicySet,
    health::{Health, Part, status},
    identify::{
        Workloads,
        cgroups::Cgroups,
        members::Members,
        tagging::{Kernel, Meant, Reconsider, Tagger},
    },
    protect::Copies,
    run::{
        cgroup::{self, Cgroup},
        limits::OpenFiles,
    },
    session::protected::mirror,
    toml_file::Source,
};
use asked::Asked;
#[cfg(feature = "kubernetes")]
use cluster::{Cluster, Concerned};
use commands::Commands;
#[cfg(feature = "kubernetes")]
use containers::Containers;
use desk::{Desk, Told};
pub use early::attach;
use listeners::Left;
use namespaces::{Namespaces, News, Served};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use signal_hook::{consts::SIGXFSZ, flag};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicBool},
};
use subjects::Matching;
use tidegate_ebpf_common::{SETTING_STICKY, SETTING_TARGETED, Settings};
use tokio::{runtime::Runtime, sync::mpsc};
use upkeep::{Earlier, Upkeep};

/// Under which rules the daemon holds the machine's workloads, loaded and checked.
#[derive(Debug)]
pub struct Charge {
    /// The configuration.
    pub config: Config,
    /// The file that it came from.
    pub config_file: PathBuf,
    /// What was read from it.
    pub config_source: Source,
    /// The policies, with those of all workloads.
    pub policies: PolicySet,
    /// What they were read from.
    pub policy_sources: Vec<Source>,
    /// The files that they came from, absolute.
    pub policy_files: Vec<PathBuf>,
}

/// Holds the workloads until it is told to end.
///
/// # Errors
/// Says which part could not be started. What an earlier daemon has attached stays then.
pub fn run(charge: Charge, turn: Turn) -> Result<(), Error> {
    let system = |action| move |source| Error::System { action, source };
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    // A limit on file sizes then fails a write to the log, instead of killing the agent.
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map_err(system("handle SIGXFSZ"))?;
    // A dump of its memory would hold the CA's key and what passes through.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|errno| system("forbid dumps of the agent's memory")(errno.into()))?;
    OpenFiles::raise().map_err(system("raise the limit on open files"))?;
    let asked = Asked::listen().map_err(system("handle signals"))?;
    let runtime = Runtime::new().map_err(system("start the runtime"))?;
    runtime.block_on(hold(charge, turn, asked))
}

async fn hold(charge: Charge, turn: Turn, asked: Asked) -> Result<(), Error> {
    #[cfg_attr(not(feature = "kubernetes"), expect(unused_mut, reason = "all policies are files"))]
    let Charge { config, config_file, config_source, mut policies, mut policy_sources, policy_files } =
        charge;
    let manager = Arc::new(Manager::of_environment());
    // Before there is another process, which would inherit them.
    let left = Left { kept: handover::kept(), turn };
    let root = cgroup::root(config.capture.cgroup_root.as_deref())?;
    let cgroups = Arc::new(Cgroups::new(agent::mount_of(&root), root.clone()));
    let commands = Commands::of(&config, &cgroups)?;
    let matching = Matching::of(&config, &cgroups, &commands)?;
    let files = reload::open(&policy_files, &[])?;
    places::make(Path::new(RUN_DIR), 0o755)?;
    places::make(&Path::new(RUN_DIR).join(TRUST), 0o755)?;
    places::make(Path::new(STATE_DIR), 0o700)?;
    #[cfg(feature = "kubernetes")]
    let containers = Containers::of(&config, cgroups.mount())?;
    #[cfg(feature = "kubernetes")]
    let members = containers.as_ref().map(Containers::members);
    #[cfg(feature = "kubernetes")]
    let cluster = Cluster::of(&config, &policy_sources, cgroups.own().map(|own| cgroups.name(&own)));
    #[cfg(feature = "kubernetes")]
    if let Some(cluster) = &cluster {
        policy_sources.extend(cluster.sources());
        policies = PolicySet::load(&policy_sources, Catalogue::embedded()).map_err(Error::Objects)?;
    }
    #[cfg(not(feature = "kubernetes"))]
    let members: Option<Arc<dyn Members>> = None;
    let workloads = Workloads::matched(Arc::clone(&matching.list), Arc::clone(&cgroups), members.clone());
    let workloads = Arc::new(workloads);
    #[cfg(feature = "kubernetes")]
    if let (Some(cluster), Some(containers)) = (&cluster, &containers) {
        workloads.set_further(cluster.bound());
        let (rules, told) = cluster.governance();
        containers.registry().govern(rules, Some(told), || ()).await;
    }
    let plan = Plan {
        config: config.clone(),
        workloads: Arc::clone(&workloads),
        policies,
        files,
        bell: asked.reload.clone(),
        running: Some(Arc::new(Running::new(config.clone(), config_file))),
        addresses: Some(Path::new(STATE_DIR).join("protected.json")),
        authority: config.ca.clone(),
        proxy: Some(Sources { config: config_source, policies: policy_sources }),
    };
    let mut agent = Agent::build(plan).await?;
    let mut parts =
        vec![Part::Canary, Part::Programs, Part::Subjects, Part::Networks, Part::Proxy, Part::AuditLog];
    parts.extend(config.kubernetes.watch.then_some(Part::ApiServer));
    let health = Arc::new(Health::new(&parts));
    #[cfg(feature = "kubernetes")]
    let kubernetes = cluster.as_ref().map(|cluster| Arc::clone(&cluster.shown));
    #[cfg(not(feature = "kubernetes"))]
    let kubernetes = None;
    #[cfg(feature = "kubernetes")]
    let concerned = containers.as_ref().map(|containers| Concerned {
        offers: agent.offers.clone(),
        workloads: Arc::clone(&workloads),
        registry: containers.registry(),
        health: Arc::clone(&health),
        servant: Some(agent.servant.clone()),
    });
    let governed = Governed { matching, members, workloads, kubernetes };
    let (mut upkeep, told, told_of) =
        capture(&config, governed, left, &health, &cgroups, &mut agent, &manager).await?;
    #[cfg(feature = "kubernetes")]
    if let Some(containers) = containers {
        agent.spawn(containers.keep(told_of.tagger, told_of.networks));
    }
    #[cfg(feature = "kubernetes")]
    if let (Some(cluster), Some(concerned)) = (cluster, concerned) {
        agent.spawn(cluster.keep(concerned));
    }
    #[cfg(not(feature = "kubernetes"))]
    drop(told_of);
    let succession = Succession::default();
    let desk = Desk {
        told,
        commands,
        bell: asked.reload.clone(),
        group: tell::trusted_group(),
        succession: succession.clone(),
    };
    tell::start(&config, desk, &health, &mut agent, &manager).await?;
    tokio::select! {
        () = upkeep.keep_proving(&manager) => {}
        () = asked.stop.notified() => {}
        () = agent.failed() => return Err(Error::ServantEnded),
    }
    manager.tell("STOPPING=1");
    ending::end(agent, upkeep, &succession).await;
    Ok(())
}

/// Who is a subject.
struct Governed {
    matching: Matching,
    members: Option<Arc<dyn Members>>,
    workloads: Arc<Workloads>,
    kubernetes: Option<Arc<Mutex<status::Kubernetes>>>,
}

/// Where single cgroups and networks are seen to at once.
#[cfg_attr(not(feature = "kubernetes"), expect(dead_code, reason = "nobody tells of containers"))]
struct ToldOf {
    tagger: mpsc::UnboundedSender<Reconsider>,
    networks: mpsc::UnboundedSender<News>,
}

/// Takes over what an earlier daemon has left, or begins, in an order in which a subject could at no moment pass:
/// programs, settings, listeners, and only then what is a subject no more.
async fn capture(
    config: &Config,
    Governed { matching, members, workloads, kubernetes }: Governed,
    left: Left,
    health: &Arc<Health>,
    cgroups: &Arc<Cgroups>,
    agent: &mut Agent,
    manager: &Arc<Manager>,
) -> Result<(Upkeep, Told, ToldOf), Error> {
    let ports = agent::ports(config);
    let root = cgroups.top();
    let pins = Pins::on(Path::new(BPFFS));
    let options = Options {
        cgroup: root,
        pins: &pins,
        sticky_tags: config.capture.sticky_tags,
        packet_sockets: config.capture.sticky_tags && runs_lsm_programs(),
        ports: &ports,
        forward_proxies: &agent.captured,
        flows: capture::DEFAULT_FLOWS,
    };
    let mut capture = Capture::start(&options)?;
    // Elsewhere the hooks never see the agent's sockets, and would never forget them.
    let own = cgroups.own();
    if own.as_ref().is_none_or(|own| own.starts_with(root)) {
        agent.own_sockets.exempt(capture.exempt);
    }
    // Before it connects anywhere: what it opened in a cgroup that nobody has looked at yet would count as a subject's
    // once it is exempt no more, so that the end of the daemon's connections would not reach the upstream.
    if let Some(own) = own
        && own.starts_with(root)
        && matching.is_nobodys(&cgroups.name(&own))
        && !members.as_ref().is_some_and(|members| members.standing(&cgroups.name(&own)).may_be_claimed())
    {
        capture.subjects.resolve(Cgroup::at(own).id()?)?;
    }
    // From here on no other daemon is at work.
    agent.follow_authority(Some(Published::new(RUN_DIR.into(), Copies::of_machine())));
    let (left, inheritance) = left.listeners(&capture.listeners);
    ending::count_unfinished(agent, inheritance).await?;
    let targeted = config.capture.mode == Mode::Targeted;
    let mut flags = if targeted { SETTING_TARGETED } else { 0 };
    let is_sticky = capture.attached.follows_threads();
    flags |= if is_sticky { SETTING_STICKY } else { 0 };
    let protected = Arc::clone(&agent.addresses.whole().borrow());
    mirror::apply(&mut capture.protected, &protected);
    let (addresses, mut kernel) = (Arc::clone(&agent.addresses), capture.protected);
    agent.spawn(async move { mirror::mirror(&addresses, &mut kernel).await });
    capture.settings.set(Settings { flags, reserved: 0 })?;

    let (listeners, elsewhere) =
        listeners::of(left, &ports, agent, &capture.listeners, &mut capture.flows, manager)?;
    for listener in &listeners {
        capture.listeners.publish(listener.netns_cookie, listener.address)?;
    }
    let canary = Arc::new(Canary::new(root).map_err(|source| Error::File {
        action: "make the canary's cgroup below",
        path: root.to_owned(),
        source,
    })?);
    let families = listener::families(listeners.iter());
    let destinations = Destinations {
        ports: ports.iter().copied().collect(),
        targeted,
        protected: protected.iter().copied().collect(),
        forward_proxies: agent.captured.iter().copied().collect(),
    };
    let shown: Vec<status::Listener> = listeners.iter().map(shown).collect();
    let server = agent.serve(Taken {
        flows: capture.flows,
        events: capture.events,
        log: capture.log,
        forward_proxies: capture.forward_proxies,
        listeners,
        canary: Some(Arc::clone(&canary)),
    });

    let served = Served::default();
    let parts = namespaces::Parts {
        server,
        own_sockets: agent.own_sockets.clone(),
        published: capture.listeners,
        avoid: [ports.as_slice(), agent.proxies.ports()].concat(),
        manager: Arc::clone(manager),
        served: served.clone(),
        health: Arc::clone(health),
    };
    let (namespaces, told) = Namespaces::start(parts, &matching, cgroups, members.clone(), elsewhere)?;
    let unserved = told.clone();
    agent.tell_of_unserved(move |pid| {
        // Nobody listens any more when the agent ends.
        let _is_heard = unserved.send(News::Unserved(pid));
    });
    agent.spawn(namespaces.keep());

    let (tagged, news) = mpsc::unbounded_channel();
    let users = matching.users();
    subjects::enter_users(&users, &mut capture.subjects)?;
    matching.follow_programs(&mut capture.sticky, is_sticky)?;
    let kernel = Kernel { subjects: capture.subjects, sticky: is_sticky.then_some(capture.sticky) };
    let own = canary.cgroup().to_owned();
    let patterns = Arc::clone(matching.list.patterns());
    let meant = Meant { patterns, members: members.clone(), own };
    let (reconsider, asked) = mpsc::unbounded_channel();
    let tagger = Tagger::start(Arc::clone(cgroups), meant, kernel, tagged, asked)?;
    let told_of = ToldOf { tagger: reconsider, networks: told.clone() };
    let report = Arc::clone(health);
    let compared = move |compared: Result<(), Mismatch>| {
        report.report(Part::Subjects, compared.map_err(|mismatch| mismatch.to_string()));
    };
    agent.spawn(tagger.keep_tagging(users.clone(), compared));
    // Outside of the root nobody is a subject, by whatever user.
    let below = (root != cgroups.mount()).then(|| root.to_owned());
    let counts = Arc::clone(&agent.counts);
    let spared = agent.servant.proxy().map(|proxy| proxy.pid());
    let earlier = Earlier { users, below, destinations, spared };
    let is_heard = move || drop(told.send(News::Tagged));
    agent.spawn(upkeep::end_earlier(news, is_heard, earlier, counts));
    let told = Told {
        health: Arc::clone(health),
        counts: Arc::clone(&agent.counts),
        servant: agent.servant.clone(),
        addresses: Arc::clone(&agent.addresses),
        cgroups: Arc::clone(cgroups),
        workloads,
        kubernetes,
        members,
        programs: capture
            .attached
            .programs()
            .map(|(name, id)| status::Program { name: name.to_owned(), id })
            .collect(),
        listeners: shown,
        served: served.clone(),
        pins: base(Path::new(BPFFS)),
        own: canary.cgroup().to_owned(),
        service: service_of(cgroups),
    };
    let (addresses, health) = (Arc::clone(&agent.addresses), Arc::clone(health));
    let attached = capture.attached;
    let upkeep = Upkeep { attached, canary, families, ports, targeted, addresses, health, served };
    Ok((upkeep, told, told_of))
}

fn shown(listener: &Listener) -> status::Listener {
    status::Listener { netns_cookie: listener.netns_cookie, address: listener.address }
}

/// The daemon's own cgroup, if it is one of a service.
fn service_of(cgroups: &Cgroups) -> Option<PathBuf> {
    let own = cgroups.name(&cgroups.own()?);
    own.extension().is_some_and(|kind| kind == "service").then_some(own)
}

/// Whether the kernel calls BPF LSM programs: without `bpf` in this list, Linux 5.10 attaches them and calls none.
fn runs_lsm_programs() -> bool {
    let list = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    list.trim().split(',').any(|module| module == "bpf")
}
