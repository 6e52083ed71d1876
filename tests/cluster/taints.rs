//! The taint of nodes that are new: pods wait for the agent.

use crate::{
    asker::{Asker, LIMIT, NODE, config},
    manifests,
    objects::with_manifests,
};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::{fs, process::Stdio, time::Duration};
use tidegate_tests::{
    cluster::{Cluster, agents::Agents},
    netns::World,
    process::{Process, wait_until},
    scene::Scene,
};

const TAINT: &str = "tidegate.dev/agent-not-ready";
/// A node that had it not is looked at once in eighty seconds at least.
const NEXT_LOOK: Duration = Duration::from_secs(120);
const DELETE: &str = "curl --insecure --silent --max-time 10 --output /dev/null --write-out '%{http_code}' \
    --header 'Authorization: Bearer token' --request DELETE https://api.digitalocean.com/v2/droplets/1";

/// Says that it is ready once there is a file.
const AGENT: &str = "
import http.server, os, sys
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        is_ready = self.path == '/readyz' and os.path.exists(sys.argv[1])
        self.send_response(200 if is_ready else 503)
        self.send_header('Content-Length', '0')
        self.end_headers()
http.server.HTTPServer(('127.0.0.1', 9099), Health).serve_forever()
";

fn taints(cluster: &Cluster<'_>, node: &str) -> Result<Vec<Value>> {
    let node = cluster.object(&["node", node])?;
    Ok(node["spec"]["taints"].as_array().cloned().unwrap_or_default())
}

fn is_it(taint: &Value) -> bool {
    taint["key"] == TAINT
}

#[test]
fn no_pod_starts_on_a_new_node_before_the_agent_holds_it() -> Result<()> {
    let scene = Scene::new()?;
    let agents = Agents::before(&scene, &format!("{TAINT}=:NoExecute,example.com/other=yes:NoSchedule"))?;
    let before = taints(&agents.cluster, "node")?;
    ensure!(before.iter().any(is_it) && before.len() >= 2, "{before:?}");
    // All but the one.
    let others = before.iter().filter(|taint| !is_it(taint));
    let others: Vec<Value> =
        others.map(|taint| json!({ "key": taint["key"], "operator": "Exists" })).collect();
    let gated = [("tidegate.dev/policy", "read-only")];
    agents.make_pod("gated", &gated, "sleep 1000000", &others.into())?;
    let scheduled = || -> Result<Value> {
        let pod = agents.cluster.object(&["pod", "gated"])?;
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        Ok(conditions.into_iter().find(|one| one["type"] == "PodScheduled").unwrap_or_default())
    };
    wait_until("the scheduler to say why not", LIMIT, || {
        let condition = scheduled()?;
        Ok(condition["status"] == "False"
            && condition["message"].as_str().is_some_and(|why| why.contains(TAINT)))
    })
    .with_context(|| format!("{:?}", scheduled()))?;
    assert_eq!(taints(&agents.cluster, "node")?, before, "there is no agent");

    agents.deploy(&["node-taint"])?;
    agents.wait_for_pod("gated")?;
    let after = taints(&agents.cluster, "node")?;
    let expected: Vec<Value> = before.into_iter().filter(|taint| !is_it(taint)).collect();
    assert_eq!(after, expected, "it alone");
    assert_eq!(agents.said("gated", DELETE)?, "403", "{}", agents.told());
    assert!(scene.requests()?.iter().all(|request| request.method != "DELETE"));
    let log = agents.tell(&["logs", "daemonset/tidegate", "--container=cluster"])?;
    ensure!(log.contains("the taint stays until the agent is ready"), "{log}");
    ensure!(log.contains("taken off: the agent is ready"), "{log}");

    // As a node that is registered again.
    agents.cluster.tell(&["taint", "node", "node", &format!("{TAINT}=again:NoSchedule")])?;
    wait_until("it to be taken off again", NEXT_LOOK, || Ok(taints(&agents.cluster, "node")? == expected))
        .with_context(|| agents.told())?;
    agents.node.end()
}

#[test]
fn a_taint_stays_until_the_agent_is_ready_and_its_account_may_change_nodes() -> Result<()> {
    let world = World::new()?;
    let cluster = with_manifests(&world)?;
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE }, "spec": { "taints": [
        { "key": TAINT, "effect": "NoSchedule" },
        { "key": "example.com/other", "value": "yes", "effect": "NoSchedule" },
        { "key": TAINT, "value": "x", "effect": "PreferNoSchedule" },
    ] } });
    cluster.apply(&node.to_string())?;
    let before = taints(&cluster, NODE)?;
    let expected: Vec<Value> = before.iter().filter(|taint| !is_it(taint)).cloned().collect();
    ensure!(before.len() == expected.len() + 2, "{before:?}");

    let ready = world.directory().join("agent-is-ready");
    let agent = ["python3", "-c", AGENT, &ready.display().to_string()];
    let agent = Process::start(world.command(&agent).stdin(Stdio::null()), world.directory())?;
    let path = config(&cluster)?;
    let text = fs::read_to_string(&path)? + "[health]\nlisten = \"0.0.0.0:9099\"\n";
    fs::write(&path, text)?;
    let asker = Asker::start_with(&cluster, &path, NODE, &["--remove-taint"])?;
    asker.wait_for("everything to be known", |state| state["unreached"].is_null())?;
    wait_until("the agent to be asked", LIMIT, || {
        Ok(asker.process.stderr()?.contains("stays until the agent is ready"))
    })?;
    ensure!(asker.state()?.get("taint").is_none(), "{}", asker.state()?);

    fs::write(&ready, "")?;
    asker.wait_for("the refusal", |state| {
        let told = state["taint"].as_str().unwrap_or_default();
        told.contains("forbidden") && told.contains("ClusterRole tidegate-node-taint")
    })?;
    assert_eq!(taints(&cluster, NODE)?, before);

    cluster.apply_file(&manifests().join("components/node-taint/rbac.yaml"))?;
    wait_until("the taint to be gone", LIMIT, || Ok(taints(&cluster, NODE)? == expected))
        .with_context(|| asker.process.stderr().unwrap_or_default())?;
    asker.wait_for("nothing to be wrong any more", |state| state.get("taint").is_none())?;
    let told = asker.process.stderr()?.matches("cannot be taken off").count();
    assert_eq!(told, 1, "each fault is told once");
    drop((asker, agent));
    world.close()
}
