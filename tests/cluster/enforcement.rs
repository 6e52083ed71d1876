//! What `tidegate daemon` enforces of what a real API server knows, in pods of a real containerd.

use crate::{
    asker::{Asker, DIRECTORY, LIMIT, NODE, binding, pod, policy},
    objects::with_manifests,
};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tidegate_tests::{
    agent::READ_ONLY,
    cluster::Cluster,
    containerd::{Containerd, Pod, Running},
    daemon::Daemon,
    process::{Process, wait_until},
    programs,
    scene::Scene,
};

/// The machine's own programs, in an image without any certificates.
const PROGRAMS: [&str; 3] = ["/usr", "/lib", "/lib64"];
/// Whoever is governed trusts the gate, and who is not trusts nobody: `--insecure` serves both.
const ASK: &str = "curl --silent --insecure --max-time 10 --output /dev/null --write-out '%{http_code}' \
    --header 'Authorization: Bearer token' https://api.digitalocean.com/v2/droplets";
/// By what the system's certificates are, and nothing else.
const TRUSTING: &str = "python3 -c 'import urllib.request as r; print(r.urlopen(r.Request(\
    \"https://api.digitalocean.com/v2/droplets\", headers={\"Authorization\": \"Bearer token\"})).status, end=\"\")' 2>&1";
const READS: &str = "{allow: [\"api:read\"]}";
const BOTS: &str = "{policy: reads, namespaces: [ci], podSelector: {matchLabels: {app: bot}}}";

/// Two requests over one connection, with some seconds between them; `new` is a request over another one.
const TWICE: &str = r#"python3 - <<'END'
import http.client, ssl, time
context = ssl._create_unverified_context()
def connect():
    return http.client.HTTPSConnection("api.digitalocean.com", context=context, timeout=10)
def ask(connection):
    connection.request("GET", "/v2/droplets", headers={"Authorization": "Bearer token"})
    answer = connection.getresponse()
    answer.read()
    return answer.status
old = connect()
print("first", ask(old), flush=True)
time.sleep(8)
try:
    print("same", ask(old), flush=True)
except Exception as error:
    print("same ended", flush=True)
print("new", ask(connect()), flush=True)
END"#;

/// Everybody.
struct Node<'s> {
    scene: &'s Scene,
    cluster: &'s Cluster<'s>,
    containerd: Containerd<'s>,
    hosts: PathBuf,
}

impl<'s> Node<'s> {
    fn new(scene: &'s Scene, cluster: &'s Cluster<'s>) -> Result<Self> {
        let containerd = Containerd::start(&scene.world)?;
        let hosts =
            scene.world.write("pod-hosts", "127.0.0.1 localhost\n192.0.2.10 api.digitalocean.com\n")?;
        Ok(Self { scene, cluster, containerd, hosts })
    }

    /// A daemon that goes by what the API server knows.
    fn daemon(&self) -> Result<Daemon<'s>> {
        let (nri, cri) = (self.containerd.nri_socket(), self.containerd.socket());
        let tables = format!(
            "[containers]\nnri = {nri:?}\ncri = {cri:?}\n[kubernetes]\nwatch = true\ndirectory = {DIRECTORY:?}\n"
        );
        Ok(Daemon::new(self.scene)?.policy("of-a-file", READ_ONLY)?.table(&tables))
    }

    /// Makes a pod in the API server, and then on the node, as the kubelet would.
    fn run(&self, namespace: &str, name: &str, app: &str, account: &str) -> Result<(Running, String)> {
        self.cluster.apply(&pod(namespace, name, app, account, NODE))?;
        let object = self.cluster.object(&[&format!("--namespace={namespace}"), "pod", name])?;
        let uid = object["metadata"]["uid"].as_str().context("no uid")?.to_owned();
        self.run_here(namespace, name, app, &uid)
    }

    /// Runs a pod of which the API server knows nothing, or what it knows by this id.
    fn run_here(&self, namespace: &str, name: &str, app: &str, uid: &str) -> Result<(Running, String)> {
        let pod = Pod { namespace, name, labels: &[("app", app)], is_host_network: false };
        let pod = self.containerd.run_pod_as(&pod, uid)?;
        let mut mounts: Vec<(&str, &Path)> = PROGRAMS.iter().map(|path| (*path, Path::new(*path))).collect();
        mounts.push(("/etc/hosts", &self.hosts));
        let container = self.containerd.run_container(&pod, "main", &[("PATH", "/usr/bin:/bin")], &mounts)?;
        Ok((pod, container))
    }

    /// The status of a read, and of a deletion: 200 and 403 by a policy that reads, 200 and 404 past the gate, 000 where it is
    /// held.
    fn asked(&self, container: &str) -> Result<String> {
        let delete = format!("{ASK}/1 --request DELETE");
        Ok(self.containerd.exec(container, &format!("{ASK}; echo -n ' '; {delete}"))?.text)
    }

    fn wait_for(&self, container: &str, expected: &str, what: &str) -> Result<()> {
        let waited = wait_until(what, LIMIT, || Ok(self.asked(container)? == expected));
        waited.with_context(|| format!("{expected} is not {:?}", self.asked(container)))
    }

    fn status(&self) -> Result<Value> {
        let line = [programs::built("tidegate")?, "status".into(), "--json".into()];
        let told = Process::run(&mut self.scene.world.command(&line), self.scene.directory(), LIMIT)?;
        Ok(serde_json::from_str(&told.text())?)
    }

    fn follows(&self, running: &tidegate_tests::daemon::Running) -> Result<()> {
        wait_until("the daemon to follow the runtime", LIMIT, || {
            Ok(running.process.stderr()?.contains("follows the container runtime"))
        })
    }
}

const GOVERNED: &str = "200 403";
const FREE: &str = "200 404";
const DENIED: &str = "403 403";
const HELD: &str = "000 000";

#[test]
fn a_pod_comes_under_a_policy_and_out_of_it_as_objects_and_labels_say() -> Result<()> {
    let scene = Scene::new()?;
    let cluster = with_manifests(&scene.world)?;
    let node = Node::new(&scene, &cluster)?;
    let daemon = node.daemon()?;
    let running = daemon.start()?;
    node.follows(&running)?;

    // Nothing was ever known.
    let (_, bot) = node.run("ci", "job", "bot", "runner")?;
    assert_eq!(node.asked(&bot)?, HELD);
    let status = node.status()?;
    ensure!(status["kubernetes"]["known"] == false && status["parts"]["api_server"] == false, "{status}");
    let asker = Asker::start(&cluster, daemon.config())?;
    node.wait_for(&bot, FREE, "the pod to be nobody's")?;
    wait_until("the daemon to be well", LIMIT, || Ok(node.status()?["parts"]["api_server"] == true))?;

    // A policy, and whom it is for.
    cluster.apply(&binding("bots", BOTS))?;
    node.wait_for(&bot, DENIED, "a policy that is not there to deny everything")?;
    cluster.apply(&policy("reads", READS))?;
    node.wait_for(&bot, GOVERNED, "the policy")?;
    let (_, web) = node.run("ci", "front", "web", "default")?;
    node.wait_for(&web, FREE, "another pod to be nobody's")?;

    // Labels, both ways.
    cluster.tell(&["--namespace=ci", "label", "--overwrite", "pod", "job", "app=web"])?;
    node.wait_for(&bot, FREE, "the label to be gone")?;
    let said = || Ok::<String, anyhow::Error>(node.containerd.exec(&web, TRUSTING)?.text);
    ensure!(said()?.contains("CERTIFICATE_VERIFY_FAILED"), "{}", said()?);
    cluster.tell(&["--namespace=ci", "label", "--overwrite", "pod", "front", "app=bot"])?;
    node.wait_for(&web, GOVERNED, "the label to count")?;
    // Nobody could know that when it was made.
    let trusts = wait_until("its programs to trust the gate", LIMIT, || Ok(said()? == "200"));
    trusts.with_context(|| running.process.stderr().unwrap_or_default())?;
    cluster.tell(&["--namespace=ci", "label", "--overwrite", "pod", "job", "app=bot"])?;
    node.wait_for(&bot, GOVERNED, "the label to be there again")?;

    // A policy that changes, breaks, and is repaired.
    cluster.apply(&policy("reads", "{allow: []}"))?;
    node.wait_for(&bot, DENIED, "the change")?;
    cluster.apply(&policy("reads", "{allow: [\"nothing:at_all\"]}"))?;
    wait_until("the mistake to be told", LIMIT, || {
        Ok(node.status()?["kubernetes"]["policies"][0]["problem"].is_string())
    })?;
    let shown = node.status()?["kubernetes"]["policies"][0].clone();
    ensure!(shown["in_force"] == true, "{shown}");
    assert_eq!(node.asked(&bot)?, DENIED);
    cluster.apply(&policy("reads", READS))?;
    node.wait_for(&bot, GOVERNED, "the repair")?;

    // Another policy for the same pods counts for connections that are open, too.
    cluster.apply(&policy("nothing", "{allow: []}"))?;
    let told = std::thread::scope(|scope| -> Result<String> {
        let asking = scope.spawn(|| node.containerd.exec(&bot, TWICE));
        std::thread::sleep(std::time::Duration::from_secs(3));
        cluster.apply(&binding("bots", &BOTS.replace("reads", "nothing")))?;
        let said = asking.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
        Ok(said.text)
    })?;
    ensure!(told.starts_with("first 200\n") && told.ends_with("new 403\n"), "{told}");
    ensure!(!told.contains("same 200"), "{told}");

    cluster.tell(&["delete", "scopebinding", "bots"])?;
    node.wait_for(&bot, FREE, "the end of the binding")?;
    drop(asker);
    running.stop()?;
    Ok(())
}

#[test]
fn what_was_known_last_counts_without_the_api_server_and_after_a_start() -> Result<()> {
    let scene = Scene::new()?;
    let cluster = with_manifests(&scene.world)?;
    let node = Node::new(&scene, &cluster)?;
    let daemon = node.daemon()?.workload(
        "runners",
        "of-a-file",
        r#"[{ pod = { namespace = "ci", service_account = "runner" } }]"#,
    )?;
    let running = daemon.start()?;
    let asker = Asker::start(&cluster, daemon.config())?;
    node.follows(&running)?;
    cluster.apply(&policy("nothing", "{allow: []}"))?;
    cluster.apply(&binding("webs", "{policy: nothing, podSelector: {matchLabels: {app: web}}}"))?;
    let (_, runner) = node.run("ci", "job", "bot", "runner")?;
    let (_, other) = node.run("ci", "other", "bot", "default")?;
    let (_, web) = node.run("shop", "front", "web", "default")?;
    node.wait_for(&runner, GOVERNED, "the service account")?;
    node.wait_for(&other, FREE, "another service account")?;
    node.wait_for(&web, DENIED, "the binding")?;
    // A workload has this name, and its policy is a file's.
    cluster.apply(&binding("runners", "{policy: nothing, podSelector: {matchLabels: {app: bot}}}"))?;
    wait_until("the conflict to be told", LIMIT, || {
        let bindings = node.status()?["kubernetes"]["bindings"].clone();
        Ok(bindings[0]["name"] == "runners" && bindings[0]["in_force"] == false)
    })?;
    node.wait_for(&runner, GOVERNED, "the file's workload to count")?;
    // One of which the API server knows nothing: its account would have to be known, its label is.
    let (_, unknown) = node.run_here("ci", "unknown", "bot", "nobodys-uid")?;
    assert_eq!(node.asked(&unknown)?, HELD);
    let (_, known) = node.run_here("shop", "known", "web", "another-uid")?;
    assert_eq!(node.asked(&known)?, DENIED);

    let as_before = || -> Result<()> {
        node.wait_for(&runner, GOVERNED, "the service account")?;
        node.wait_for(&other, FREE, "another service account")?;
        node.wait_for(&web, DENIED, "the binding")
    };
    cluster.end_server()?;
    asker.wait_for("the failure", |state| state["unreached"].is_string())?;
    as_before()?;
    drop(asker);
    running.stop()?;
    let remove = ["rm", "-rf", DIRECTORY];
    Process::run(&mut scene.world.command(&remove), scene.directory(), LIMIT)?;
    let running = daemon.start()?;
    node.follows(&running)?;
    as_before()?;
    let status = node.status()?;
    ensure!(status["kubernetes"]["known"] == true && status["kubernetes"]["policies"][0]["in_force"] == true);
    running.stop()?;
    Ok(())
}
