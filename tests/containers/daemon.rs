//! Pods under `tidegate daemon`: programs of an image that knows nothing of it, from their first connect on.

use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use tidegate_tests::{
    agent::{LIMIT, READ_ONLY},
    audit::Record,
    containerd::{Containerd, Pod, Running},
    daemon::Daemon,
    process::{Process, wait_until},
    programs,
    scene::Scene,
};

pub(crate) const GATED: Pod<'_> =
    Pod { namespace: "ci-1", name: "job-7", labels: &[("app", "bot")], is_host_network: false };
const ON_HOST: Pod<'_> =
    Pod { namespace: "ci-1", name: "job-8", labels: &[("app", "bot")], is_host_network: true };
const OTHER: Pod<'_> =
    Pod { namespace: "web", name: "front", labels: &[("app", "bot")], is_host_network: false };

/// The machine's own programs, in an image without any certificates.
pub(crate) const PROGRAMS: [&str; 3] = ["/usr", "/lib", "/lib64"];

pub(crate) const LOOK: &str = "curl --silent --show-error --max-time 10 --output /dev/null --write-out '%{http_code}' \
    --header 'Authorization: Bearer token' https://api.digitalocean.com/v2/droplets 2>&1";
const DELETE: &str = "curl --silent --show-error --max-time 10 --output /dev/null --write-out '%{http_code}' \
    --header 'Authorization: Bearer token' --request DELETE https://api.digitalocean.com/v2/droplets/1 2>&1";
pub(crate) const LOOK_IN_PYTHON: &str = "python3 -c 'import urllib.request as r; print(r.urlopen(r.Request(\
    \"https://api.digitalocean.com/v2/droplets\", headers={\"Authorization\": \"Bearer token\"})).status, end=\"\")' 2>&1";

/// Everybody, and what pods find at their `/etc/hosts`.
pub(crate) struct Node<'s> {
    scene: &'s Scene,
    pub(crate) containerd: Containerd<'s>,
    pub(crate) hosts: PathBuf,
}

impl<'s> Node<'s> {
    pub(crate) fn new(scene: &'s Scene) -> Result<Self> {
        let containerd = Containerd::start(&scene.world)?;
        let hosts =
            scene.world.write("pod-hosts", "127.0.0.1 localhost\n192.0.2.10 api.digitalocean.com\n")?;
        Ok(Self { scene, containerd, hosts })
    }

    /// With one workload, whose pods may look.
    pub(crate) fn daemon(&self) -> Result<Daemon<'s>> {
        self.daemon_at(&self.containerd.nri_socket())
    }

    /// As [`Self::daemon`], with this socket for NRI's.
    pub(crate) fn daemon_at(&self, nri: &Path) -> Result<Daemon<'s>> {
        let containers = format!("[containers]\nnri = {nri:?}\ncri = {:?}\n", self.containerd.socket());
        let gated = r#"[{ pod = { namespace = "ci-*", labels = { app = "bot" } } }]"#;
        let daemon = Daemon::new(self.scene)?.policy("look", READ_ONLY)?;
        Ok(daemon.workload("gated", "look", gated)?.table(&containers))
    }

    /// Starts a container of the machine's programs.
    pub(crate) fn start(&self, pod: &Running) -> Result<String> {
        self.start_with(pod, &[])
    }

    /// As [`Self::start`], with further files of the machine's.
    pub(crate) fn start_with(&self, pod: &Running, further: &[(&str, &Path)]) -> Result<String> {
        let mut mounts: Vec<(&str, &Path)> = PROGRAMS.iter().map(|path| (*path, Path::new(*path))).collect();
        mounts.push(("/etc/hosts", &self.hosts));
        mounts.extend(further);
        self.containerd.run_container(pod, "main", &[("PATH", "/usr/bin:/bin")], &mounts)
    }

    /// What a command in there answers.
    pub(crate) fn said(&self, container: &str, script: &str) -> Result<String> {
        Ok(self.containerd.exec(container, script)?.text)
    }

    /// Starts the daemon of [`Self::daemon`], which follows the runtime from then on.
    pub(crate) fn begin(&self) -> Result<(Daemon<'s>, tidegate_tests::daemon::Running)> {
        let daemon = self.daemon()?;
        let running = daemon.start()?;
        self.follows(&running)?;
        Ok((daemon, running))
    }

    /// Waits until the daemon follows the runtime.
    pub(crate) fn follows(&self, running: &tidegate_tests::daemon::Running) -> Result<()> {
        wait_until("the daemon to follow the runtime", LIMIT, || {
            Ok(running.process.stderr()?.contains("follows the container runtime"))
        })
    }
}

pub(crate) fn decided(records: &[Record]) -> Vec<(&str, &str)> {
    let with_request = records.iter().filter(|record| !record.text("http.request.method").is_empty());
    let outcomes = with_request.filter(|record| record.phase() != "intent");
    outcomes.map(|record| (record.text("tidegate.workload"), record.reason())).collect()
}

#[test]
fn a_pod_is_held_to_its_policy_from_its_first_connect_and_its_neighbour_is_not_touched() -> Result<()> {
    let scene = Scene::new()?;
    let node = Node::new(&scene)?;
    let (daemon, running) = node.begin()?;

    let pod = node.containerd.run_pod(&GATED)?;
    let gated = node.start(&pod)?;
    assert_eq!(node.said(&gated, LOOK)?, "200", "{}", running.process.stderr()?);
    assert_eq!(node.said(&gated, DELETE)?, "403");
    assert_eq!(node.said(&gated, LOOK_IN_PYTHON)?, "200");

    let other = node.containerd.run_pod(&OTHER)?;
    let neighbour = node.start(&other)?;
    // Nobody has given it the local CA, or stands between.
    let untrusting = node.said(&neighbour, LOOK)?;
    assert!(untrusting.contains("certificate"), "{untrusting}");
    assert_eq!(node.said(&neighbour, &DELETE.replace("curl", "curl --insecure"))?, "404");

    let peers = scene.requests()?.into_iter().filter_map(|request| Some(request.peer?.ip().to_string()));
    let peers: Vec<String> = peers.collect();
    assert!(peers.iter().all(|peer| peer.starts_with("198.18.")), "each from its own network: {peers:?}");

    for pod in [&pod, &other] {
        node.containerd.remove_pod(pod)?;
    }
    wait_until("the listeners to go", LIMIT, || Ok(daemon.listeners_elsewhere()? == 0))?;
    running.stop()?;
    let records = daemon.records()?;
    assert_eq!(
        decided(&records),
        [("gated", "scopes_allowed"), ("gated", "missing_scope"), ("gated", "scopes_allowed")]
    );
    let first = records.first().context("a record")?;
    let told = ["k8s.namespace.name", "k8s.pod.name", "k8s.pod.uid", "k8s.container.name", "container.id"];
    assert_eq!(told.map(|key| first.text(key)), ["ci-1", "job-7", &*pod.uid, "main", &*gated]);
    Ok(())
}

/// Starts programs in there that never stop asking, each time on a new connection, and write down what they get.
fn keep_asking(node: &Node<'_>, container: &str) -> Result<()> {
    let poll = format!("while [ ! -e /tmp/stop ]; do {LOOK}; echo; done");
    let script = format!("for i in 1 2 3; do ({poll}) >/tmp/answers.$i 2>&1 </dev/null & done");
    node.said(container, &script).map(drop)
}

#[test]
fn no_request_of_a_pod_fails_while_one_daemon_follows_another() -> Result<()> {
    let scene = Scene::new()?;
    let node = Node::new(&scene)?;
    let (daemon, running) = node.begin()?;
    let pod = node.containerd.run_pod(&GATED)?;
    let gated = node.start(&pod)?;
    keep_asking(&node, &gated)?;
    let come = |more: usize| -> Result<()> {
        let count =
            || -> Result<usize> { Ok(node.said(&gated, "cat /tmp/answers.* | wc -l")?.trim().parse()?) };
        let before = count()?;
        wait_until("answers", LIMIT, || Ok(count()? > before + more))
    };
    let process = Process::start(daemon.command()?.arg("--wait"), scene.directory())?;
    let next = tidegate_tests::daemon::Running { process };
    wait_until("the daemon to know of the next", LIMIT, || {
        Ok(running.process.stderr()?.contains("another agent waits to follow this one"))
    })?;
    come(30)?;
    running.stop()?;
    node.follows(&next)?;
    come(30)?;
    let told = node.said(&gated, "touch /tmp/stop; cat /tmp/answers.* | sort | uniq -c")?;
    let log = next.process.stderr()?;
    ensure!(told.lines().count() == 1 && told.trim().ends_with(" 200"), "{told}\n{log}");
    ensure!(log.contains("took over a listener") && !log.contains("ERROR"), "{log}");
    // Whoever has been handed a pod's listener lets its network go with it.
    node.containerd.remove_pod(&pod)?;
    wait_until("the listener to go", LIMIT, || Ok(daemon.listeners_elsewhere()? == 0))?;
    next.stop()?;
    Ok(())
}

#[test]
fn programs_of_an_image_without_certificates_trust_the_gate() -> Result<()> {
    let scene = Scene::new()?;
    let node = Node::new(&scene)?;
    let (daemon, running) = node.begin()?;
    let pod = node.containerd.run_pod(&GATED)?;
    let go = programs::runtimes()?.join("go/go-client");
    let container = node.start_with(&pod, &[("/go-client", &go)])?;
    let url = "https://api.digitalocean.com/v2/droplets";
    let in_node = format!(
        "node -e 'fetch(\"{url}\", {{ headers: {{ Authorization: \"Bearer token\" }} }}) \
         .then(answer => console.log(answer.status), error => console.log(error.cause))' 2>&1"
    );
    assert_eq!(node.said(&container, &in_node)?.trim_end(), "200");
    assert_eq!(node.said(&container, &format!("/go-client {url} 2>&1"))?.trim_end(), format!("{url} 200"));
    // Neither has a setting of its own that says so.
    let bare = format!("env -i PATH=/usr/bin /go-client {url} 2>&1");
    assert_eq!(node.said(&container, &bare)?.trim_end(), format!("{url} 200"));
    node.containerd.remove_pod(&pod)?;
    running.stop()?;
    assert_eq!(decided(&daemon.records()?), [("gated", "scopes_allowed"); 3]);
    Ok(())
}

#[test]
fn a_pod_on_the_hosts_network_is_held_as_well() -> Result<()> {
    let scene = Scene::new()?;
    let node = Node::new(&scene)?;
    let (daemon, running) = node.begin()?;
    let pod = node.containerd.run_pod(&ON_HOST)?;
    let container = node.start(&pod)?;
    assert_eq!(node.said(&container, LOOK)?, "200");
    assert_eq!((node.said(&container, DELETE)?.as_str(), daemon.listeners_elsewhere()?), ("403", 0));
    node.containerd.remove_pod(&pod)?;
    running.stop()?;
    Ok(())
}

#[test]
fn a_pod_that_was_there_before_the_daemon_is_held_and_shut_when_the_daemon_is_killed() -> Result<()> {
    let scene = Scene::new()?;
    let node = Node::new(&scene)?;
    let daemon = node.daemon()?;
    let pod = node.containerd.run_pod(&GATED)?;
    let container = node.start(&pod)?;
    let running = daemon.start()?;
    node.follows(&running)?;
    let insecure = DELETE.replace("curl", "curl --insecure");
    wait_until("the pod to be held", LIMIT, || Ok(node.said(&container, &insecure)? == "403"))?;
    let before = scene.requests()?.len();
    running.kill()?;
    assert_eq!(node.said(&container, &insecure)?.trim_end().rsplit('\n').next(), Some("000"));
    assert_eq!(scene.requests()?.len(), before);
    let running = daemon.start()?;
    node.follows(&running)?;
    wait_until("the pod to be served again", LIMIT, || Ok(node.said(&container, &insecure)? == "403"))?;
    assert_eq!(scene.requests()?.len(), before, "nothing passed");
    node.containerd.remove_pod(&pod)?;
    running.stop()?;
    Ok(())
}

#[test]
fn without_nri_a_pod_is_held_and_its_neighbour_passes_once_the_runtime_has_told_of_them() -> Result<()> {
    let scene = Scene::new()?;
    let node = Node::new(&scene)?;
    let daemon = node.daemon_at(Path::new("/nonexistent/nri.sock"))?;
    let running = daemon.start()?;
    let insecure = DELETE.replace("curl", "curl --insecure");
    let (pod, other) = (node.containerd.run_pod(&GATED)?, node.containerd.run_pod(&OTHER)?);
    let (gated, neighbour) = (node.start(&pod)?, node.start(&other)?);
    // Until then nothing of either passes.
    let came_to = |container: &str, expected: &str| -> Result<bool> {
        let said = node.said(container, &insecure)?;
        ensure!(said == expected || said.ends_with("000"), "{said}");
        Ok(said == expected)
    };
    wait_until("the pod to be held", LIMIT, || came_to(&gated, "403"))?;
    wait_until("its neighbour to pass", LIMIT, || came_to(&neighbour, "404"))?;
    assert_eq!(scene.requests()?.len(), 1, "the neighbour's alone");
    for pod in [&pod, &other] {
        node.containerd.remove_pod(pod)?;
    }
    wait_until("the listeners to go", LIMIT, || Ok(daemon.listeners_elsewhere()? == 0))?;
    running.stop()?;
    Ok(())
}
