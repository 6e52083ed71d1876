//! The agents of `deploy/kubernetes/base` in a cluster, changed no further than an old server, a node in a machine and a
//! program for tests make it necessary; and pods for them.

use super::{Cluster, node::Node};
use crate::{
    audit::Record,
    image,
    process::{Finished, Process},
    scene::Scene,
};
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(60);

/// Their namespace.
pub const NAMESPACE: &str = "tidegate-system";

/// What the configuration has besides: the node's tree of cgroups is a part of the machine's, and its processes are not all
/// of the machine's.
const CONFIG: &str = "\n[capture]\ncgroup_root = \"/sys/fs/cgroup\"\nsticky_tags = false\n";

/// The overlay's DaemonSet. `maxSurge` is of Kubernetes 1.22: this server drops it, and takes no `maxUnavailable: 0` without
/// it. The directories are for the program of tests, which is no static one.
const CHANGES: &str = r#"
- op: replace
  path: /spec/updateStrategy/rollingUpdate
  value: { maxUnavailable: 1 }
"#;
const LIBRARIES: [(&str, &str); 3] = [("lib", "/lib"), ("lib64", "/lib64"), ("usr-lib", "/usr/lib")];

/// A cluster of one node with agents on it. Fields drop in this order.
#[derive(Debug)]
pub struct Agents<'s> {
    /// The node.
    pub node: Node<'s>,
    /// The cluster.
    pub cluster: Cluster<'s>,
    scene: &'s Scene,
    overlay: PathBuf,
}

impl<'s> Agents<'s> {
    /// With the manifests as they are, and agents that are at work.
    ///
    /// # Errors
    /// When something was not made or does not come up.
    pub fn start(scene: &'s Scene) -> Result<Self> {
        let directory = scene.directory();
        let ca_file = format!("--ca-file={}", scene.standin.ca_file().display());
        let (archive, _) = image::make(directory, &[ca_file])?;
        let mut cluster = Cluster::start(&scene.world)?;
        cluster.manage()?;
        let node = Node::join(&cluster, scene, &[&archive])?;
        let overlay = directory.join("manifests/overlay");
        let agents = Self { node, cluster, scene, overlay };
        agents.write()?;
        agents.apply()?;
        agents.wait_until_rolled_out().with_context(|| agents.told())?;
        Ok(agents)
    }

    fn write(&self) -> Result<()> {
        let base: PathBuf =
            [env!("CARGO_MANIFEST_DIR"), "..", "deploy", "kubernetes", "base"].iter().collect();
        let copy = self.overlay.with_file_name("base");
        copy_tree(&base, &copy)?;
        fs::create_dir(&self.overlay)?;
        let config = fs::read_to_string(copy.join("tidegate.toml"))? + CONFIG;
        fs::write(self.overlay.join("tidegate.toml"), config)?;
        let mut changes = CHANGES.to_owned();
        for (name, path) in LIBRARIES {
            let volume = json!({ "name": name, "hostPath": { "path": path, "type": "Directory" } });
            let mount = json!({ "name": name, "mountPath": path, "readOnly": true });
            let at = "/spec/template/spec";
            writeln!(
                changes,
                "- {}",
                json!({ "op": "add", "path": format!("{at}/volumes/-"), "value": volume })
            )?;
            let at = format!("{at}/containers/0/volumeMounts/-");
            writeln!(changes, "- {}", json!({ "op": "add", "path": at, "value": mount }))?;
        }
        fs::write(self.overlay.join("daemonset.yaml"), changes)?;
        let (name, tag) = image::NAME.rsplit_once(':').context("a tag")?;
        let text = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: {NAMESPACE}\n\
             resources: [../base]\nimages: [{{name: tidegate, newName: {name}, newTag: {tag}}}]\n\
             configMapGenerator: [{{name: tidegate-config, behavior: replace, files: [tidegate.toml]}}]\n\
             patches: [{{path: daemonset.yaml, target: {{kind: DaemonSet, name: tidegate}}}}]\n"
        );
        Ok(fs::write(self.overlay.join("kustomization.yaml"), text)?)
    }

    fn apply(&self) -> Result<()> {
        let text = self.cluster.tell(&["kustomize", &self.overlay.display().to_string()])?;
        self.cluster.apply(&text).map(drop)
    }

    /// Waits until every agent is of the newest template, and ready.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_until_rolled_out(&self) -> Result<()> {
        self.tell(&["rollout", "status", "daemonset/tidegate", "--timeout=80s"]).map(drop)
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
                "tolerations": [{ "operator": "Exists" }],
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
        self.cluster.apply(&pod.to_string())?;
        let wait = ["wait", "--for=condition=Ready", "--timeout=60s", "pod", name];
        self.cluster.tell(&wait).with_context(|| self.told()).map(drop)
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

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &place)?;
        } else {
            fs::copy(entry.path(), place)?;
        }
    }
    Ok(())
}
