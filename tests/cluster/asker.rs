//! `tidegate cluster` in a world, as a user who may do nothing, with the token of the agents' service account.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tidegate_tests::{
    cluster::Cluster,
    process::{Process, wait_until},
    programs,
};

/// The node whose pods it asks for.
pub(crate) const NODE: &str = "node-1";
/// Where it writes, in the world.
pub(crate) const DIRECTORY: &str = "/run/tidegate-cluster";
/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Makes its directory, and becomes it: the program is opened first, since its user may not come where it lies.
const BECOME: &str = r#"
mkdir -p "$1" && chown 65432:65432 "$1" && exec 9<"$2" && shift 2 &&
exec setpriv --reuid=65432 --regid=65432 --clear-groups --no-new-privs --bounding-set=-all /proc/self/fd/9 "$@"
"#;

/// It, until it is dropped.
pub(crate) struct Asker<'c> {
    pub(crate) process: Process,
    cluster: &'c Cluster<'c>,
}

impl<'c> Asker<'c> {
    /// With this configuration, as the service account of the manifests.
    pub(crate) fn start(cluster: &'c Cluster<'c>, config: &Path) -> Result<Self> {
        Self::start_with(cluster, config, NODE, &[])
    }

    /// As [`Self::start`], of another node.
    pub(crate) fn of_node(cluster: &'c Cluster<'c>, config: &Path, node: &str) -> Result<Self> {
        Self::start_with(cluster, config, node, &[])
    }

    /// As [`Self::of_node`], with more arguments.
    pub(crate) fn start_with(
        cluster: &'c Cluster<'c>,
        config: &Path,
        node: &str,
        more: &[&str],
    ) -> Result<Self> {
        let world = cluster.world();
        let kubeconfig = world.directory().join("agent.kubeconfig");
        if !kubeconfig.exists() {
            let token = cluster.token("tidegate-system", "tidegate")?;
            world.write("agent.kubeconfig", cluster.configuration(&token))?;
        }
        // What is in there it may read, and nothing of that is anybody's but the test's.
        for directory in [world.directory().to_owned(), world.directory().join("cluster")] {
            fs::set_permissions(directory, Permissions::from_mode(0o755))?;
        }
        fs::set_permissions(world.directory().join("cluster/certificates"), Permissions::from_mode(0o755))?;
        let directory = if node == NODE { DIRECTORY.to_owned() } else { format!("{DIRECTORY}-{node}") };
        let own = world.directory().join(format!("{node}.toml"));
        let text = fs::read_to_string(config)?;
        fs::write(&own, text.replace(DIRECTORY, &directory))?;
        let program = programs::built("tidegate")?;
        let mut arguments = vec![
            "sh".to_owned(),
            "-c".to_owned(),
            BECOME.to_owned(),
            "become".to_owned(),
            directory,
            program.display().to_string(),
            "cluster".to_owned(),
            format!("--config={}", own.display()),
            format!("--node={node}"),
            format!("--kubeconfig={}", kubeconfig.display()),
        ];
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let mut command = world.command(&arguments);
        command.env("TIDEGATE_LOG", "tidegate=debug").stdin(Stdio::null());
        Ok(Self { process: Process::start(&mut command, world.directory())?, cluster })
    }

    /// What it has written for the daemon.
    pub(crate) fn state(&self) -> Result<Value> {
        let file = format!("{DIRECTORY}/state.json");
        let world = self.cluster.world();
        let told = Process::run(&mut world.command(&["cat", &file]), world.directory(), LIMIT)?;
        ensure!(told.status.success(), "{file}: {told:?}\n{}", self.process.stderr()?);
        Ok(serde_json::from_str(&told.text())?)
    }

    /// Waits until what it has written is so.
    pub(crate) fn wait_for(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<()> {
        let waited = wait_until(what, LIMIT, || Ok(self.state().is_ok_and(|state| is_so(&state))));
        waited.with_context(|| format!("{:?}\n{}", self.state(), self.process.stderr().unwrap_or_default()))
    }
}

/// The condition of an object.
pub(crate) fn condition(cluster: &Cluster<'_>, kind: &str, name: &str) -> Result<Value> {
    let object = cluster.object(&[kind, name])?;
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    Ok(conditions.into_iter().find(|condition| condition["type"] == "Accepted").unwrap_or_default())
}

/// Waits until an object's condition has this status and reason, for its present generation.
pub(crate) fn wait_for_condition(
    cluster: &Cluster<'_>,
    (kind, name): (&str, &str),
    (status, reason): (&str, &str),
) -> Result<Value> {
    let is_so = || -> Result<bool> {
        let object = cluster.object(&[kind, name])?;
        let condition = condition(cluster, kind, name)?;
        Ok(condition["status"] == status
            && condition["reason"] == reason
            && condition["observedGeneration"] == object["metadata"]["generation"])
    };
    let waited = wait_until(&format!("{kind} {name}: {status} {reason}"), LIMIT, is_so);
    waited.with_context(|| format!("{:?}", condition(cluster, kind, name)))?;
    condition(cluster, kind, name)
}

/// A ScopePolicy that says this.
pub(crate) fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: tidegate.dev/v1alpha1\nkind: ScopePolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

/// A ScopeBinding that says this.
pub(crate) fn binding(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: tidegate.dev/v1alpha1\nkind: ScopeBinding\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

/// A pod that runs on the node, by the name of its service account.
pub(crate) fn pod(namespace: &str, name: &str, app: &str, account: &str, node: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n---\n\
         apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {account}, namespace: {namespace}}}\n\
         secrets: [{{name: none}}]\nautomountServiceAccountToken: false\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: {app}}}}}\n\
         spec: {{nodeName: {node}, serviceAccountName: {account}, automountServiceAccountToken: false, \
         containers: [{{name: main, image: localhost/busybox:1}}]}}\n"
    )
}

/// A configuration's file that watches, with a policy and a workload that are files.
pub(crate) fn config(cluster: &Cluster<'_>) -> Result<PathBuf> {
    let world = cluster.world();
    let policies = world.directory().join("files.d");
    fs::create_dir_all(&policies)?;
    fs::write(policies.join("of-a-file.toml"), "allow = [\"api:read\"]\n")?;
    let text = format!(
        "policy_dir = {policies:?}\n[[workload]]\nname = \"of-a-file\"\npolicy = \"of-a-file\"\n\
         match = [{{ pod = {{ namespace = \"x\" }} }}]\n[kubernetes]\nwatch = true\ndirectory = {DIRECTORY:?}\n"
    );
    world.write("watching.toml", text)
}
