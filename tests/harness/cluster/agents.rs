//! The agents of the manifests in a cluster, and pods for them.

use super::{
    Cluster,
    manifests::{self, NAMESPACE, Place},
    node::Node,
};
use crate::{
    audit::Record,
    image,
    process::{Finished, Process},
    scene::Scene,
};
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::{fs, time::Duration};

const LIMIT: Duration = Duration::from_secs(60);

/// A cluster of one node with agents on it. Fields drop in this order.
#[derive(Debug)]
pub struct Agents<'s> {
    /// The node.
    pub node: Node<'s>,
    /// The cluster.
    pub cluster: Cluster<'s>,
    scene: &'s Scene,
}

impl<'s> Agents<'s> {
    /// With the manifests as they are, and agents that are at work.
    ///
    /// # Errors
    /// When something was not made or does not come up.
    pub fn start(scene: &'s Scene) -> Result<Self> {
        let agents = Self::before(scene, "")?;
        agents.deploy(&[])?;
        Ok(agents)
    }

    /// Before there are agents, on a node that is registered with these taints.
    ///
    /// # Errors
    /// As [`Agents::start`].
    pub fn before(scene: &'s Scene, taints: &str) -> Result<Self> {
        let directory = scene.directory();
        let ca_file = format!("--ca-file={}", scene.standin.ca_file().display());
        let (archive, _) = image::make(directory, &[ca_file])?;
        let mut cluster = Cluster::start(&scene.world)?;
        cluster.manage()?;
        let node = Node::join(&cluster, scene, &[&archive], taints)?;
        Ok(Self { node, cluster, scene })
    }

    /// Applies the manifests with these components, and waits until the agents are at work.
    ///
    /// # Errors
    /// As [`Agents::start`].
    pub fn deploy(&self, components: &[&str]) -> Result<()> {
        let directory = self.scene.directory().join("manifests");
        self.cluster.apply(&manifests::render_with(&directory, Place::Cluster, "", components)?)?;
        self.wait_until_rolled_out().with_context(|| self.told())
    }

    /// Waits until every agent is of the newest template, and ready.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_until_rolled_out(&self) -> Result<()> {
        self.tell(&["rollout", "status", "daemonset/tidegate", "--timeout=140s"]).map(drop)
    }

    /// Starts further agents beside these, as a server with `maxSurge` does, by a DaemonSet of this name; waits until each
    /// counts as ready.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn surge(&self, name: &str) -> Result<()> {
        let mut set = self.cluster.object(&["--namespace", NAMESPACE, "daemonset", "tidegate"])?;
        let labels = json!({ "app.kubernetes.io/name": name });
        for (place, own) in [
            ("/metadata", json!({ "name": name, "namespace": NAMESPACE })),
            ("/spec/selector/matchLabels", labels.clone()),
            ("/spec/template/metadata/labels", labels),
        ] {
            *set.pointer_mut(place).with_context(|| place.to_owned())? = own;
        }
        self.cluster.apply(&set.to_string())?;
        let set = format!("daemonset/{name}");
        let ready = self.tell(&["rollout", "status", &set, "--timeout=140s"]);
        ready.with_context(|| self.told()).map(drop)
    }

    /// Ends the first agents as a server does: they are told to, and have their time for it.
    ///
    /// # Errors
    /// When one stays.
    pub fn retire(&self) -> Result<()> {
        self.tell(&["delete", "daemonset", "tidegate"])?;
        // Nobody here looks after what has lost its owner.
        let pods = ["delete", "pods", "--selector=app.kubernetes.io/name=tidegate", "--timeout=60s"];
        self.tell(&pods).with_context(|| self.told()).map(drop)
    }

    /// kubectl in their namespace, to its end.
    ///
    /// # Errors
    /// When it fails.
    pub fn tell(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.tell(&[&["--namespace", NAMESPACE], arguments].concat())
    }

    /// tidegate in an agent's container.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn tidegate(&self, arguments: &[&str]) -> Result<Finished> {
        let exec = ["--namespace", NAMESPACE, "exec", "daemonset/tidegate", "--", "tidegate"];
        self.cluster.ask(&[&exec, arguments].concat())
    }

    /// The records so far.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn records(&self) -> Result<Vec<Record>> {
        let told = self.tidegate(&["audit", "--json"])?;
        ensure!(told.status.success(), "{told:?}");
        Record::of_lines(&told.text())
    }

    /// Everything that may say why agents do not work.
    pub fn told(&self) -> String {
        let asked: [&[&str]; 3] = [
            &["describe", "pods"],
            &["logs", "--selector=app.kubernetes.io/name=tidegate", "--tail=60"],
            &["get", "pods", "--all-namespaces", "--output=wide"],
        ];
        let told = asked.map(|line| self.tell(line).unwrap_or_else(|error| error.to_string()));
        format!("{}\n{}", told.join("\n"), self.node.logs())
    }

    /// Starts a pod of the machine's programs, in an image without certificates, that does this.
    ///
    /// # Errors
    /// When it does not come to run.
    pub fn run_pod(&self, name: &str, labels: &[(&str, &str)], script: &str) -> Result<()> {
        self.make_pod(name, labels, script, &json!([{ "operator": "Exists" }]))?;
        self.wait_for_pod(name)
    }

    /// Waits until a pod is ready.
    ///
    /// # Errors
    /// When it does not come to be.
    pub fn wait_for_pod(&self, name: &str) -> Result<()> {
        let wait = ["wait", "--for=condition=Ready", "--timeout=120s", "pod", name];
        self.cluster.tell(&wait).with_context(|| self.told()).map(drop)
    }

    /// As [`Agents::run_pod`], of a pod that need not come to run, and tolerates these taints.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn make_pod(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        script: &str,
        tolerations: &serde_json::Value,
    ) -> Result<()> {
        let labels: serde_json::Map<_, _> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let programs = ["/usr", "/lib", "/lib64"];
        let volume = |path: &str| json!({ "name": path.replace('/', "x"), "hostPath": { "path": path } });
        let mount =
            |path: &str| json!({ "name": path.replace('/', "x"), "mountPath": path, "readOnly": true });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": labels },
            "spec": {
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "tolerations": tolerations,
                "hostAliases": [{ "ip": "192.0.2.10", "hostnames": ["api.digitalocean.com"] }],
                "containers": [{
                    "name": "main", "image": "localhost/busybox:1", "imagePullPolicy": "Never",
                    "command": ["/bin/sh", "-c", script],
                    "env": [{ "name": "PATH", "value": "/usr/bin:/bin" }],
                    "volumeMounts": programs.map(mount),
                }],
                "volumes": programs.map(volume),
            },
        });
        self.cluster.apply(&pod.to_string()).map(drop)
    }

    /// What a command in a pod says.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn said(&self, pod: &str, script: &str) -> Result<String> {
        let finished = self.cluster.ask(&["exec", pod, "--", "sh", "-c", script])?;
        Ok(finished.text())
    }

    /// Kills the agents, as nobody would: from outside.
    ///
    /// # Errors
    /// When none is there.
    pub fn kill(&self) -> Result<()> {
        let mut is_any = false;
        for process in self.scene.world.cgroup().processes()? {
            let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            if words.get(1) == Some(&b"daemon".as_slice()) {
                let kill = ["kill", "-KILL", &process.to_string()];
                is_any |= Process::run(&mut self.scene.world.command(&kill), self.scene.directory(), LIMIT)?
                    .status
                    .success();
            }
        }
        ensure!(is_any, "no agent runs");
        Ok(())
    }
}
