//! Many pods, one after the other and a few at once: nothing is left of them.

use super::daemon::{GATED, LOOK, Node, decided};
use anyhow::{Context as _, Result, anyhow, ensure};
use aya::{
    Pod as Plain,
    maps::{HashMap, Map, MapData},
};
use std::{collections::BTreeMap, fs, path::PathBuf, thread};
use tidegate_ebpf_common::{Flow, FlowKey, ListenerKey, SUBJECT, maps};
use tidegate_tests::{
    agent::LIMIT,
    cgroup,
    containerd::Pod,
    process::{Process, wait_until},
    scene::Scene,
};

const PODS: usize = 200;
/// The network plugin's locks let no more gain anything.
const AT_ONCE: usize = 5;
/// As many ask the API, which takes longer than a pod's whole life.
const ASKING: usize = 40;

/// What grows with pods, by its name.
type Counts = BTreeMap<String, usize>;

fn entries<K: Plain, V: Plain>(scene: &Scene, name: &str, counts: impl Fn(&V) -> bool) -> Result<usize> {
    let path = scene.world.root().join("sys/fs/bpf/tidegate/v1/maps").join(name);
    let data = MapData::from_pin(&path).with_context(|| format!("opening {}", path.display()))?;
    let map: HashMap<MapData, K, V> = HashMap::try_from(Map::HashMap(data))?;
    let values: Result<Vec<(K, V)>, _> = map.iter().collect();
    Ok(values?.iter().filter(|(_, value)| counts(value)).count())
}

/// Of the kernel's tables, the daemon's descriptors and mounts, the world's interfaces and processes.
fn counts(scene: &Scene, daemon: u32) -> Result<Counts> {
    let mut counts = Counts::new();
    let mut add = |name: &str, count: usize| counts.insert(name.to_owned(), count);
    add("subjects", entries::<u64, u32>(scene, maps::CGROUPS, |standing| standing & SUBJECT != 0)?);
    add("listeners", entries::<ListenerKey, u32>(scene, maps::LISTENERS, |_| true)?);
    add("flows", entries::<FlowKey, Flow>(scene, maps::FLOWS, |_| true)?);
    add("originals", entries::<u64, Flow>(scene, maps::ORIGINALS, |_| true)?);
    add("mounts", fs::read_to_string(format!("/proc/{daemon}/mountinfo"))?.lines().count());
    let links = fs::read_dir(format!("/proc/{daemon}/fd"))?.flatten();
    let links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
    add("namespaces that are held", links.filter(|link| link.to_string_lossy().starts_with("net:")).count());
    let threads = fs::read_dir(format!("/proc/{daemon}/task"))?.flatten();
    let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    add("children", children.map(|children| children.split_whitespace().count()).sum());
    let script =
        "ls /run/tidegate/containers | wc -l; ip -o link show type veth | wc -l; ls /run/netns | wc -l";
    let told =
        Process::run(&mut scene.world.command(&["sh", "-c", script]), scene.directory(), LIMIT)?.text();
    for (name, line) in ["directories", "interfaces", "named namespaces"].into_iter().zip(told.lines()) {
        add(name, line.trim().parse()?);
    }
    add("processes", scene.world.cgroup().processes()?.len());
    Ok(counts)
}

#[test]
fn two_hundred_pods_leave_nothing_behind() -> Result<()> {
    let scene = Scene::new()?;
    let node = Node::new(&scene)?;
    let (daemon, running) = node.begin()?;
    let run = |number: usize| -> Result<()> {
        let name = format!("job-{number}");
        let pod = node.containerd.run_pod(&Pod { name: &name, ..GATED })?;
        let container = node.start(&pod)?;
        if number.is_multiple_of(PODS / ASKING) {
            let said = node.said(&container, LOOK)?;
            ensure!(said == "200", "{name}: {said}");
        }
        node.containerd.remove_pod(&pod)?;
        // As the kubelet does.
        let cgroup: PathBuf = cgroup::mount_point()?.join(pod.cgroup.trim_start_matches('/'));
        fs::remove_dir(&cgroup).with_context(|| format!("removing {}", cgroup.display()))
    };
    // What is made with the first stays: connections to the API that are kept, the directory of all pods.
    run(0)?;
    let process = running.process.id();
    wait_until("the first pod's listener to go", LIMIT, || Ok(daemon.listeners_elsewhere()? == 0))?;
    let before = counts(&scene, process)?;
    let run_some = &|first: usize| (first..PODS).step_by(AT_ONCE).try_for_each(&run);
    thread::scope(|scope| {
        let running: Vec<_> = (1..=AT_ONCE).map(|first| scope.spawn(move || run_some(first))).collect();
        running.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("a thread panicked"))?)
    })?;
    let mut after = Counts::new();
    let gone = wait_until("everything to be as before", LIMIT, || {
        after = counts(&scene, process)?;
        Ok(after == before)
    });
    gone.with_context(|| {
        format!("before {before:?}\nafter {after:?}\n{}", running.process.stderr().unwrap_or_default())
    })?;
    running.stop()?;
    assert_eq!(decided(&daemon.records()?), vec![("gated", "scopes_allowed"); ASKING]);
    Ok(())
}
