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

/// All objects as one text, with this behind their configuration; `directory` is a new one for what they are made of.
///
/// # Errors
/// When something cannot be read or written, or was not made.
pub fn render(directory: &Path, config: &str) -> Result<String> {
    let base: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "deploy", "kubernetes", "base"].iter().collect();
    let (copy, overlay) = (directory.join("base"), directory.join("overlay"));
    copy_tree(&base, &copy)?;
    fs::create_dir(&overlay)?;
    let text = fs::read_to_string(copy.join("tidegate.toml"))? + CONFIG + config;
    fs::write(overlay.join("tidegate.toml"), text)?;
    let mut changes = CHANGES.to_owned();
    for (name, path) in LIBRARIES {
        let volume = json!({ "name": name, "hostPath": { "path": path, "type": "Directory" } });
        let mount = json!({ "name": name, "mountPath": path, "readOnly": true });
        let at = "/spec/template/spec";
        for (at, value) in
            [(format!("{at}/volumes/-"), volume), (format!("{at}/containers/0/volumeMounts/-"), mount)]
        {
            writeln!(changes, "- {}", json!({ "op": "add", "path": at, "value": value }))?;
        }
    }
    fs::write(overlay.join("daemonset.yaml"), changes)?;
    let (name, tag) = image::NAME.rsplit_once(':').context("a tag")?;
    let text = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: {NAMESPACE}\n\
         resources: [../base]\nimages: [{{name: tidegate, newName: {name}, newTag: {tag}}}]\n\
         configMapGenerator: [{{name: tidegate-config, behavior: replace, files: [tidegate.toml]}}]\n\
         patches: [{{path: daemonset.yaml, target: {{kind: DaemonSet, name: tidegate}}}}]\n"
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
