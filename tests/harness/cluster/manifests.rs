//! The manifests of `deploy/kubernetes/base`, changed no further than a node in a machine, an old server and a program for
//! tests make it necessary.

use super::kubectl;
use crate::image;
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Their namespace.
pub const NAMESPACE: &str = "tidegate-system";

/// What the configuration has besides: the node's tree of cgroups is a part of the machine's, and its processes are not all
/// of the machine's.
const CONFIG: &str = "\n[capture]\ncgroup_root = \"/sys/fs/cgroup\"\nsticky_tags = false\n";

/// The overlay's DaemonSet. `maxSurge` is of Kubernetes 1.22: an older server drops it, and takes no `maxUnavailable: 0`
/// without it. The directories are for the program of tests, which is no static one.
const CHANGES: &str = r#"
- op: replace
  path: /spec/updateStrategy/rollingUpdate
  value: { maxUnavailable: 1 }
"#;
const LIBRARIES: [(&str, &str); 3] = [("lib", "/lib"), ("lib64", "/lib64"), ("usr-lib", "/usr/lib")];

/// Nothing routes the address that the kubelet names.
const SERVER: &str = r#"
- op: add
  path: /spec/template/spec/containers/1/env/-
  value: { name: KUBERNETES_SERVICE_HOST, value: "127.0.0.1" }
- op: add
  path: /spec/template/spec/containers/1/env/-
  value: { name: KUBERNETES_SERVICE_PORT, value: "6443" }
"#;

/// Nobody is there to be asked.
const ALONE: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: tidegate
spec:
  template:
    spec:
      containers:
      - name: cluster
        $patch: delete
      volumes:
      - name: token
        $patch: delete
"#;

/// Where the agents are to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On a node of a cluster.
    Cluster,
    /// On a machine without an API server.
    Alone,
}

/// All objects as one text, with this behind their configuration; `directory` is a new one for what they are made of.
///
/// # Errors
/// When something cannot be read or written, or was not made.
pub fn render(directory: &Path, place: Place, config: &str) -> Result<String> {
    render_with(directory, place, config, &[])
}

/// As [`render`], with these of `deploy/kubernetes/components`.
///
/// # Errors
/// As [`render`].
pub fn render_with(directory: &Path, place: Place, config: &str, components: &[&str]) -> Result<String> {
    let all: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "deploy", "kubernetes"].iter().collect();
    let (copy, overlay) = (directory.join("base"), directory.join("overlay"));
    copy_tree(&all.join("base"), &copy)?;
    copy_tree(&all.join("crds"), &directory.join("crds"))?;
    copy_tree(&all.join("components"), &directory.join("components"))?;
    let components: Vec<String> = components.iter().map(|name| format!("../components/{name}")).collect();
    fs::create_dir(&overlay)?;
    let mut text = fs::read_to_string(copy.join("tidegate.toml"))? + CONFIG + config;
    let (mut changes, mut others, containers) = (CHANGES.to_owned(), "", 0..2);
    match place {
        Place::Cluster => changes.push_str(SERVER),
        Place::Alone => {
            text = text.replace("watch = true", "watch = false");
            others = ", {path: alone.yaml}";
        }
    }
    fs::write(overlay.join("tidegate.toml"), text)?;
    fs::write(overlay.join("alone.yaml"), ALONE)?;
    for (name, path) in LIBRARIES {
        let volume = json!({ "name": name, "hostPath": { "path": path, "type": "Directory" } });
        let mount = json!({ "name": name, "mountPath": path, "readOnly": true });
        let mut add = |at: String, value: &serde_json::Value| {
            let at = format!("/spec/template/spec/{at}/-");
            writeln!(changes, "- {}", json!({ "op": "add", "path": at, "value": value }))
        };
        add("volumes".to_owned(), &volume)?;
        for number in containers.clone() {
            add(format!("containers/{number}/volumeMounts"), &mount)?;
        }
    }
    fs::write(overlay.join("daemonset.yaml"), changes)?;
    let (name, tag) = image::NAME.rsplit_once(':').context("a tag")?;
    let text = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: {NAMESPACE}\n\
         resources: [../base]\ncomponents: {components:?}\nimages: [{{name: tidegate, newName: {name}, newTag: {tag}}}]\n\
         configMapGenerator: [{{name: tidegate-config, behavior: replace, files: [tidegate.toml]}}]\n\
         patches: [{{path: daemonset.yaml, target: {{kind: DaemonSet, name: tidegate}}}}{others}]\n"
    );
    fs::write(overlay.join("kustomization.yaml"), text)?;
    let made = Command::new(kubectl()?).arg("kustomize").arg(&overlay).output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(String::from_utf8(made.stdout)?)
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
