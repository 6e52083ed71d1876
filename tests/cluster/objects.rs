//! The manifests, the definitions and the examples, before the API server.

use crate::manifests;
use anyhow::{Result, ensure};
use std::{fs, path::PathBuf};
use tidegate_tests::{cluster::Cluster, netns::World};

/// What this server refuses of the manifests, and what it says: it is older than `maxSurge`, which it drops, and then
/// nothing would ever be replaced. All else is taken as it is.
const UNKNOWN_HERE: (&str, &str) = ("maxUnavailable: 0", "maxUnavailable: Invalid value");

/// What takes a server that knows conditions in schemas (1.25) or refuses unknown keys when it is asked to (1.25).
const BY_NEWER_SERVERS: [&str; 7] = [
    "allow-without-scopes",
    "everything",
    "misspelt-key",
    "name",
    "rate-and-share",
    "unknown-without-write",
    "values",
];

fn files(directory: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(manifests().join(directory))? {
        let path = entry?.path();
        let is_object = path.extension().is_some_and(|extension| extension == "yaml")
            && !path.ends_with("kustomization.yaml");
        if is_object {
            files.push(path);
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "{directory} is empty");
    Ok(files)
}

/// An API server with everything in it that may be applied.
pub(crate) fn with_manifests(world: &World) -> Result<Cluster<'_>> {
    let cluster = Cluster::start(world)?;
    let base = cluster.tell(&["kustomize", &manifests().join("base").display().to_string()])?;
    let refused = cluster.apply(&base).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(refused.contains(UNKNOWN_HERE.1) && refused.lines().count() == 1, "{refused}");
    cluster.apply(&base.replace(UNKNOWN_HERE.0, "maxUnavailable: 1"))?;
    for path in files("crds")? {
        cluster.apply_file(&path)?;
    }
    cluster.tell(&["wait", "--for=condition=Established", "--timeout=20s", "crd", "--all"])?;
    Ok(cluster)
}

#[test]
fn the_api_server_takes_the_manifests_and_the_examples_and_refuses_the_bad_ones() -> Result<()> {
    let world = World::new()?;
    let cluster = with_manifests(&world)?;
    for path in files("examples")? {
        cluster.apply_file(&path)?;
    }
    let agents = cluster.object(&["--namespace=tidegate-system", "daemonset", "tidegate"])?;
    assert_eq!(agents["spec"]["template"]["spec"]["containers"][0]["args"][0], "daemon", "{agents}");
    let policies = cluster.object(&["scopepolicies"])?;
    assert_eq!(policies["items"].as_array().map(Vec::len), Some(2), "{policies}");
    for path in files("examples/bad")? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let asked = ["create", "--dry-run=server", "--filename", &path.display().to_string()];
        let told = cluster.ask(&asked)?;
        let is_refused = !told.status.success() && told.stderr.contains("is invalid: ");
        assert_eq!(is_refused, !BY_NEWER_SERVERS.contains(&&*name), "{name}: {told:?}");
    }
    world.close()
}

#[test]
fn the_agents_account_may_do_what_its_role_says_and_nothing_else() -> Result<()> {
    let world = World::new()?;
    let cluster = with_manifests(&world)?;
    let token = cluster.token("tidegate-system", "tidegate")?;
    let as_agent = world.write("agent.kubeconfig", cluster.configuration(&token))?;
    let as_agent = format!("--kubeconfig={}", as_agent.display());
    let may = |verb: &str, what: &str| -> Result<bool> {
        let (resource, below) = what.split_once('/').unwrap_or((what, ""));
        let subresource = format!("--subresource={below}");
        // The last file counts.
        let asked = [&as_agent, "--namespace=tidegate-system", "auth", "can-i", &subresource, verb, resource];
        Ok(cluster.ask(&asked)?.text().trim() == "yes")
    };
    let objects = ["scopepolicies.tidegate.dev", "scopebindings.tidegate.dev"];
    for what in ["pods", objects[0], objects[1]] {
        for verb in ["get", "list", "watch"] {
            ensure!(may(verb, what)?, "{verb} {what}");
        }
        for verb in ["create", "update", "patch", "delete"] {
            ensure!(!may(verb, what)?, "{verb} {what}");
        }
    }
    for what in objects.map(|what| format!("{what}/status")) {
        ensure!(may("update", &what)? && may("patch", &what)? && !may("get", &what)?, "{what}");
    }
    for what in
        ["nodes", "secrets", "configmaps", "pods/exec", "pods/log", "pods/status", "serviceaccounts/token"]
    {
        for verb in ["get", "list", "create", "update"] {
            ensure!(!may(verb, what)?, "{verb} {what}");
        }
    }
    world.close()
}
