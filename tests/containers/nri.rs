//! Through NRI.

use crate::{Agent, LIMIT, cgroup_of, claims, is_clean};
use anyhow::{Context as _, Result, anyhow, ensure};
use std::{fs, path::Path, thread};
use tidegate::containers::{Network, registry::News};
use tidegate_tests::{
    certificates,
    containerd::{Containerd, Pod},
    netns::World,
    process::wait_until,
};

const GATED: Pod<'_> = Pod {
    namespace: "ci-1",
    name: "job-7",
    labels: &[("app", "bot"), ("team", "a")],
    is_host_network: false,
};
const OTHER: Pod<'_> =
    Pod { namespace: "web", name: "front", labels: &[("app", "bot")], is_host_network: true };

#[test]
fn a_pod_is_known_before_it_runs_and_is_given_trust() -> Result<()> {
    let world = World::new()?;
    let containerd = Containerd::start(&world)?;
    let agent = Agent::start(&world, &containerd)?;
    let pod = containerd.run_pod(&GATED)?;
    let container = containerd.run_container(&pod, "main", &[], &[])?;

    let member = agent.container(&container)?;
    let (known_pod, known) =
        (member.pod.clone().context("its pod")?, member.container.clone().context("itself")?);
    assert_eq!((&*known_pod.namespace, &*known_pod.name, &*known_pod.uid), ("ci-1", "job-7", &*pod.uid));
    assert_eq!(known_pod.labels.get("team").map(String::as_str), Some("a"));
    assert_eq!((&*known.name, known.image.as_deref()), ("main", Some("localhost/busybox:1")));
    assert_eq!(known_pod.cgroup.as_deref(), Some(Path::new(&pod.cgroup)));
    let pid = known.pid.context("its process")?;
    assert_eq!(known.cgroup, Some(cgroup_of(pid)?), "where the kernel has it");
    let Network::Own(path) = &known_pod.network else { panic!("{:?}", known_pod.network) };
    assert!(path.starts_with("/var/run/netns") || path.starts_with("/run/netns"), "{}", path.display());
    let claimed = [("ci".to_owned(), pod.cgroup.clone().into())];
    assert_eq!(claims(&agent.registry, &cgroup_of(pid)?), claimed);
    let facts = serde_json::to_value(member.record_facts())?;
    let expected = serde_json::json!({
        "k8s.namespace.name": "ci-1", "k8s.pod.name": "job-7", "k8s.pod.uid": pod.uid, "k8s.container.name": "main",
        "container.id": container, "container.image.name": "localhost/busybox:1",
    });
    assert_eq!(facts, expected);

    let inside = containerd.exec(&container, "cat $SSL_CERT_FILE && cat $NODE_EXTRA_CA_CERTS")?;
    assert_eq!(inside.text, format!("# the machine's\n{0}{0}", agent.anchors), "{inside:?}");
    let covered = containerd.exec(&container, "cat /etc/ssl/certs/ca-certificates.crt /etc/ssl/cert.pem")?;
    assert_eq!(
        covered.text,
        format!("# the machine's\n{0}# the machine's\n{0}", agent.anchors),
        "{covered:?}"
    );
    let changed =
        containerd.exec(&container, "touch /run/tidegate-trust/x; echo >>/etc/ssl/cert.pem; echo $?")?;
    assert!(changed.text.contains("Read-only"), "{changed:?}");
    let own = containerd.exec(&container, "readlink /proc/self/ns/net")?;
    assert_ne!(
        own.text.trim(),
        fs::read_link("/proc/self/ns/net")?.to_string_lossy(),
        "a network of its own"
    );

    let started = agent.told().into_iter().filter(|news| matches!(news, News::Container(told) if told.container.as_deref().is_some_and(|told| told.id == container)));
    assert_eq!(started.count(), 1, "told of once, at its start");
    containerd.remove_pod(&pod)?;
    wait_until("the pod is gone", LIMIT, || Ok(agent.registry.pods().is_empty()))?;
    assert!(agent.registry.containers().is_empty());
    let is_stopped = |news: &News| matches!(news, News::PodStopped(told) if told.id == pod.id);
    assert!(agent.told().iter().any(is_stopped), "{:?}", agent.told());
    world.close()
}

#[test]
fn a_pod_that_no_workload_claims_is_left_as_it_is() -> Result<()> {
    let world = World::new()?;
    let containerd = Containerd::start(&world)?;
    let agent = Agent::start(&world, &containerd)?;
    let pod = containerd.run_pod(&OTHER)?;
    let container = containerd.run_container(&pod, "main", &[], &[])?;
    let member = agent.container(&container)?;
    assert_eq!(member.network(), &Network::Host);
    assert_eq!(claims(&agent.registry, Path::new(&pod.cgroup)), []);
    let inside = containerd.exec(&container, "env; ls /etc/ssl/certs /run")?;
    assert!(!inside.text.contains("SSL_CERT") && !inside.text.contains("tidegate"), "{inside:?}");
    assert!(!inside.text.contains("ca-certificates.crt"), "{inside:?}");
    containerd.remove_pod(&pod)?;
    world.close()
}

#[test]
fn a_pods_own_certificates_are_merged_and_not_replaced() -> Result<()> {
    let world = World::new()?;
    let containerd = Containerd::start(&world)?;
    let agent = Agent::start(&world, &containerd)?;
    let corporate = certificates::Authority::new("corporate")?.pem().to_owned();
    let volume = world.directory().join("volume");
    fs::create_dir(&volume)?;
    fs::write(volume.join("corp.pem"), &corporate)?;
    let pod = containerd.run_pod(&GATED)?;
    let variables = [("SSL_CERT_FILE", "/etc/corp/corp.pem"), ("REQUESTS_CA_BUNDLE", "/nowhere.pem")];
    let container = containerd.run_container(&pod, "main", &variables, &[("/etc/corp", &volume)])?;
    let inside =
        containerd.exec(&container, "echo $SSL_CERT_FILE $REQUESTS_CA_BUNDLE; cat $SSL_CERT_FILE")?;
    assert!(inside.text.starts_with("/etc/corp/corp.pem /nowhere.pem\n"), "{inside:?}");
    assert!(
        inside.text.contains(corporate.trim()) && inside.text.contains(agent.anchors.trim()),
        "{inside:?}"
    );
    assert_eq!(fs::read_to_string(volume.join("corp.pem"))?, corporate);
    containerd.remove_pod(&pod)?;
    world.close()
}

#[test]
fn the_plugin_comes_back_with_the_runtime_and_finds_the_same() -> Result<()> {
    let world = World::new()?;
    let mut containerd = Containerd::start(&world)?;
    let agent = Agent::start(&world, &containerd)?;
    let pod = containerd.run_pod(&GATED)?;
    let container = containerd.run_container(&pod, "main", &[], &[])?;
    let before = agent.container(&container)?;
    let told = agent.told().len();
    containerd.end()?;
    let is_apart = || matches!(*agent.plugin.state.borrow(), tidegate::containers::nri::State::Apart(_));
    wait_until("the plugin notices", LIMIT, || Ok(is_apart()))?;
    assert_eq!(agent.container(&container)?, before, "what runs goes on");
    containerd.begin()?;
    agent.wait_until_synchronized()?;
    assert_eq!(agent.container(&container)?, before);
    assert_eq!(agent.told().len(), told, "nothing is new: {:?}", agent.told().get(told..));

    let next = containerd.run_pod(&Pod { name: "job-8", ..GATED })?;
    let second = containerd.run_container(&next, "main", &[], &[])?;
    assert!(containerd.exec(&second, "cat $SSL_CERT_FILE")?.text.contains(&agent.anchors));
    for pod in [pod, next] {
        containerd.remove_pod(&pod)?;
    }
    wait_until("both pods are gone", LIMIT, || Ok(agent.registry.pods().is_empty()))?;
    world.close()
}

#[test]
fn pods_at_once_are_told_of_once_each() -> Result<()> {
    const PODS: usize = 20;
    const AT_ONCE: usize = 5;
    let world = World::new()?;
    let containerd = Containerd::start(&world)?;
    let agent = Agent::start(&world, &containerd)?;
    let run = &|number: usize| -> Result<()> {
        let name = format!("job-{number}");
        let pod = containerd.run_pod(&Pod { name: &name, ..GATED })?;
        let container = containerd.run_container(&pod, "main", &[], &[])?;
        let pid =
            agent.container(&container)?.container.and_then(|container| container.pid).context("a pid")?;
        ensure!(claims(&agent.registry, &cgroup_of(pid)?).len() == 1, "{name} is claimed once");
        containerd.remove_pod(&pod)
    };
    let run_some = &|first: usize| (first..PODS).step_by(AT_ONCE).try_for_each(run);
    thread::scope(|scope| {
        let running: Vec<_> = (0..AT_ONCE).map(|first| scope.spawn(move || run_some(first))).collect();
        running.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("a thread panicked"))?)
    })?;
    wait_until("all pods are gone", LIMIT, || {
        Ok(agent.registry.pods().is_empty() && agent.registry.containers().is_empty())
    })?;
    let told = agent.told();
    let count = |is_it: fn(&News) -> bool| told.iter().filter(|news| is_it(news)).count();
    assert_eq!(count(|news| matches!(news, News::Container(_))), PODS);
    // What has gone once is not told of again, whoever has noticed first.
    assert_eq!(count(|news| matches!(news, News::ContainerGone(_))), PODS);
    assert_eq!(count(|news| matches!(news, News::PodGone(_))), PODS);
    is_clean(&world)?;
    world.close()
}
