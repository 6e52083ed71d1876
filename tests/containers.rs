//! Pods and containers of a real containerd, seen through NRI and CRI, and what they are given before they start. Root
//! only; needs what `cargo xtask containerd` makes.

mod containers {
    mod cover;
    mod cri;
    mod daemon;
    mod many;
    mod nri;
    mod podman;
    mod privileges;
}

use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tidegate::{
    config::file,
    containers::{
        Member, Registry,
        injection::{self, Image, Published},
        nri::{Plugin, State},
        registry::News,
        rules::Rules,
    },
    toml_file::Source,
};
use tidegate_tests::{certificates, cgroup, containerd::Containerd, netns::World, process::wait_until};
use tokio::runtime::Runtime;

const LIMIT: Duration = Duration::from_secs(20);

/// Which pods are of the workload `ci`.
const RULES: &str = "[[workload]]\nname = \"ci\"\npolicy = \"p\"\nmatch = [{ pod = { namespace = \"ci-*\", labels = { app = \"bot\" } } }]\n";

/// The agent's part: the plugin, whatever it entered, and what a subscriber was told.
struct Agent {
    registry: Arc<Registry>,
    plugin: Arc<Plugin>,
    told: Arc<Mutex<Vec<News>>>,
    anchors: String,
    _runtime: Runtime,
}

fn rules() -> Result<Rules> {
    let source = Source::from_bytes(Path::new("tidegate.toml"), RULES.as_bytes().to_vec());
    let config = file::parse(&source.context("the rules")?)?;
    Ok(Rules::of(&config.workloads))
}

impl Agent {
    /// One that follows this containerd, and has come to.
    fn start(world: &World, containerd: &Containerd<'_>) -> Result<Self> {
        let published = world.directory().join("trust");
        fs::create_dir(&published)?;
        let anchors = certificates::Authority::new("tidegate test")?.pem().to_owned();
        fs::write(published.join(injection::ANCHORS), &anchors)?;
        fs::write(published.join(injection::BUNDLE), format!("# the machine's\n{anchors}"))?;
        let copies = world.directory().join("copies");
        let adjust = {
            let (anchors, published) = (anchors.clone(), published.clone());
            move |member: &Member, spec: &injection::Spec| {
                let id = member.container.as_ref().map(|container| container.id.clone()).unwrap_or_default();
                let published = Published { directory: &published, anchors: &anchors };
                injection::prepare(spec, Image::Unknown, &published, &copies.join(id))
                    .map_err(|error| error.to_string())
            }
        };
        let registry = Arc::new(Registry::new(rules()?));
        let (socket, cgroups) = (containerd.nri_socket(), cgroup::mount_point()?);
        let plugin = Arc::new(Plugin::new(socket, cgroups, Arc::clone(&registry), Arc::new(adjust)));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut notices = registry.subscribe();
        runtime.spawn({
            let told = Arc::clone(&told);
            async move {
                while let Some(notice) = notices.recv().await {
                    told.lock().unwrap_or_else(PoisonError::into_inner).push(notice.news.clone());
                    notice.done();
                }
            }
        });
        runtime.spawn({
            let plugin = Arc::clone(&plugin);
            async move { plugin.serve().await }
        });
        let agent = Self { registry, plugin, told, anchors, _runtime: runtime };
        agent.wait_until_synchronized()?;
        Ok(agent)
    }

    fn wait_until_synchronized(&self) -> Result<()> {
        let is_there = || matches!(*self.plugin.state.borrow(), State::Synchronized { .. });
        wait_until("the plugin is synchronized", LIMIT, || Ok(is_there()))
            .with_context(|| format!("{:?}", *self.plugin.state.borrow()))
    }

    fn told(&self) -> Vec<News> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn container(&self, id: &str) -> Result<Member> {
        self.registry.container(id).with_context(|| format!("the container {id} is not in the registry"))
    }
}

/// The cgroup of a process, from the mount's root.
fn cgroup_of(pid: u32) -> Result<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    Ok(line.context("a process without a cgroup2")?.into())
}

/// The names of the workloads that claim a cgroup, and by which cgroup.
fn claims(registry: &Registry, cgroup: &Path) -> Vec<(String, PathBuf)> {
    let claims = registry.claims(cgroup).into_iter();
    claims.map(|claim| (claim.workload.to_string(), claim.cgroup)).collect()
}

/// Nothing of the pods is left on the machine.
fn is_clean(world: &World) -> Result<()> {
    let pods = world.cgroup().path().join("kubepods");
    let left: Vec<PathBuf> =
        fs::read_dir(&pods)?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    // The pods' own cgroups are the kubelet's to remove, of which there is none here.
    for pod in &left {
        let inside = fs::read_dir(pod)?.flatten().filter(|entry| entry.path().is_dir()).count();
        ensure!(inside == 0, "{} still has cgroups", pod.display());
    }
    Ok(())
}
