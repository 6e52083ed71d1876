//! Through the CRI, without NRI.

use crate::{LIMIT, cgroup_of, claims, rules};
use anyhow::{Context as _, Result};
use std::{path::Path, sync::Arc};
use tidegate::containers::{
    Network, Registry,
    cri::{Role, Runtime},
};
use tidegate_tests::{
    containerd::{Containerd, Pod},
    netns::World,
    process::wait_until,
};

#[test]
fn what_runs_is_found_and_followed() -> Result<()> {
    let world = World::new()?;
    let mut containerd = Containerd::start(&world)?;
    let gated = Pod { namespace: "ci-1", name: "a", labels: &[("app", "bot")], is_host_network: false };
    let first = containerd.run_pod(&gated)?;
    let container = containerd.run_container(&first, "main", &[], &[])?;
    let executor = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let registry = Arc::new(Registry::new(rules()?));
    let runtime = Arc::new(Runtime::new(containerd.socket()));
    let version = executor.block_on(runtime.version())?;
    assert!(version.starts_with("containerd "), "{version}");
    executor.spawn({
        let (registry, runtime) = (Arc::clone(&registry), Arc::clone(&runtime));
        async move { runtime.follow(&registry, Role::Alone).await }
    });
    wait_until("the container is found", LIMIT, || Ok(registry.container(&container).is_some()))?;
    let member = registry.container(&container).context("the container")?;
    let (pod, known) = (member.pod.clone().context("its pod")?, member.container.clone().context("itself")?);
    assert_eq!((&*pod.namespace, &*pod.name, &*pod.uid), ("ci-1", "a", &*first.uid));
    assert_eq!(pod.cgroup.as_deref(), Some(Path::new(&first.cgroup)));
    assert!(matches!(pod.network, Network::Own(_)), "{:?}", pod.network);
    assert_eq!((&*known.name, known.image.as_deref()), ("main", Some("localhost/busybox:1")));
    let cgroup = cgroup_of(known.pid.context("its process")?)?;
    assert_eq!(known.cgroup.as_ref(), Some(&cgroup));
    assert_eq!(claims(&registry, &cgroup), [("ci".to_owned(), first.cgroup.clone().into())]);

    let second = containerd.run_pod(&Pod { name: "b", is_host_network: true, ..gated })?;
    wait_until("another is found", LIMIT, || Ok(registry.pod(&second.id).is_some()))?;
    assert_eq!(registry.pod(&second.id).context("the pod")?.network, Network::Host);
    containerd.end()?;
    containerd.begin()?;
    containerd.remove_pod(&first)?;
    wait_until("the first is gone", LIMIT, || Ok(registry.pods().len() == 1))?;
    assert!(registry.containers().is_empty());
    containerd.remove_pod(&second)?;
    wait_until("all are gone", LIMIT, || Ok(registry.pods().is_empty()))?;
    world.close()
}
