//! The agents of the DaemonSet on a real node, and pods beside them.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};
use tidegate_tests::{
    audit::Record,
    cluster::{agents::Agents, manifests::NAMESPACE},
    process::wait_until,
    scene::Scene,
};

const LIMIT: Duration = Duration::from_secs(120);

/// A binding that takes the neighbour.
const BINDING: &str = "apiVersion: tidegate.dev/v1alpha1\nkind: ScopeBinding\nmetadata: {name: free}\n\
    spec: {policy: read-only, podSelector: {matchLabels: {team: free}}}\n";
const FREE: [(&str, &str); 1] = [("team", "free")];

/// The label by which the manifests' own configuration takes pods.
const GATED: [(&str, &str); 1] = [("tidegate.dev/policy", "read-only")];

const SLEEP: &str = "sleep 1000000";
/// Shows what it finds mounted.
const TELL: &str = "cat /proc/self/mountinfo >/tmp/first; sleep 1000000";
/// By what the system's certificates are, and nothing else.
const TRUSTING: &str = "python3 -c 'import urllib.request as r; print(r.urlopen(r.Request(\
    \"https://api.digitalocean.com/v2/droplets\", headers={\"Authorization\": \"Bearer token\"})).status, end=\"\")' 2>&1";
const LOOK: &str = "curl --silent --show-error --max-time 10 --output /dev/null --write-out '%{http_code}' \
    --header 'Authorization: Bearer token' https://api.digitalocean.com/v2/droplets 2>&1";
/// Whoever answers, also where nobody has made the pod trust him.
const DELETE: &str = "curl --insecure --silent --max-time 10 --output /dev/null --write-out '%{http_code}' \
    --header 'Authorization: Bearer token' --request DELETE https://api.digitalocean.com/v2/droplets/1";

/// How many deletions have reached the API.
fn deletions(scene: &Scene) -> Result<usize> {
    Ok(scene.requests()?.iter().filter(|request| request.method == "DELETE").count())
}

#[test]
fn pods_are_held_by_the_agents_of_the_daemon_set_to_the_policies_of_the_config_map() -> Result<()> {
    let scene = Scene::new()?;
    let agents = Agents::start(&scene)?;
    agents.run_pod("gated", &GATED, TELL)?;
    agents.run_pod("other", &FREE, SLEEP)?;
    assert_eq!(agents.said("gated", LOOK)?, "200");
    let first = agents.said("gated", "cat /tmp/first")?;
    assert!(first.contains("/cover-"), "the agent was in its mounts before: {first}\n{}", agents.told());
    assert_eq!((agents.said("gated", DELETE)?.as_str(), deletions(&scene)?), ("403", 0));
    // Nobody has given it the local CA, or stands between.
    assert!(agents.said("other", LOOK)?.contains("certificate"));
    assert_eq!((agents.said("other", DELETE)?.as_str(), deletions(&scene)?), ("404", 1));

    let records = agents.records()?;
    let [look, delete] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((look.reason(), delete.reason()), ("scopes_allowed", "missing_scope"));
    let keys = ["k8s.namespace.name", "k8s.pod.name", "k8s.container.name", "process.executable.name"];
    assert_eq!(keys.map(|key| delete.text(key)), ["default", "gated", "main", "curl"]);
    let gated = agents.cluster.object(&["pod", "gated"])?;
    assert_eq!(gated.pointer("/metadata/uid"), delete.value("k8s.pod.uid"));

    // The other container of the agent's pod has been told, as the manifests' account.
    agents.cluster.apply(BINDING)?;
    wait_until("the binding", LIMIT, || Ok(agents.said("other", DELETE)? == "403"))?;
    assert_eq!(deletions(&scene)?, 1);
    wait_until("its programs to trust the gate", LIMIT, || Ok(agents.said("other", TRUSTING)? == "200"))
        .with_context(|| agents.told())?;
    agents.tell(&["delete", "scopebinding", "free"])?;
    wait_until("the binding to be gone", LIMIT, || Ok(agents.said("other", DELETE)? == "404"))?;

    let write = |policy: &str| {
        let change = json!({ "data": { "read-only.toml": policy } }).to_string();
        agents.tell(&["patch", "configmap", "tidegate-policies", "--type=merge", "--patch", &change])
    };
    write("allow = [\"api:read\", \"droplet:delete\"]\n")?;
    wait_until("the changed policy", LIMIT, || Ok(agents.said("gated", DELETE)? == "404"))?;
    write("allow = [\"api:read\", \"droplet:destroy\"]\n")?;
    let mut status = agents.tidegate(&["status"])?;
    wait_until("the mistake to be told of", LIMIT, || {
        status = agents.tidegate(&["status"])?;
        Ok(status.text().contains("unknown scope `droplet:destroy`"))
    })
    .with_context(|| format!("{status:?}\n{}", agents.told()))?;
    assert_eq!(agents.said("gated", DELETE)?, "404", "the last good one");
    agents.node.end()
}

/// What a pod does that never stops asking: answers, or the reason why there was none, in two columns.
fn poll() -> String {
    let columns = "%{http_code} %{exitcode}\\n";
    let (delete, look) = (DELETE.replace("%{http_code}", columns), LOOK.replace("%{http_code}", columns));
    format!("while :; do {delete}; {look} | tail -n 1; sleep 0.1; done")
}

/// This server has no `maxSurge`, whose part a second DaemonSet plays.
#[test]
fn no_request_of_a_pod_fails_while_the_next_agent_follows() -> Result<()> {
    let scene = Scene::new()?;
    let agents = Agents::start(&scene)?;
    let poll = poll();
    agents.run_pod("canary", &GATED, &format!("for i in 1 2 3; do ({poll}) & done; wait"))?;
    let answers = || -> Result<Vec<String>> {
        Ok(agents.cluster.tell(&["logs", "canary"])?.lines().map(str::to_owned).collect())
    };
    let come = |more: usize| -> Result<usize> {
        let before = answers()?.len();
        wait_until("answers", LIMIT, || Ok(answers()?.len() >= before + more))
            .with_context(|| agents.told())?;
        Ok(before)
    };
    come(10)?;
    let before = come(10)?;
    let logs = |set: &str| agents.tell(&["logs", &format!("daemonset/{set}"), "--container=tidegate"]);
    agents.surge("tidegate-next")?;
    wait_until("the agent to know of the next", LIMIT, || {
        Ok(logs("tidegate")?.contains("another agent waits to follow this one"))
    })
    .with_context(|| agents.told())?;
    come(60)?;
    agents.retire()?;
    wait_until("the next agent to be ready", LIMIT, || Ok(logs("tidegate-next")?.contains(": ready")))
        .with_context(|| agents.told())?;
    come(60)?;

    let log = logs("tidegate-next")?;
    let since = answers()?.split_off(before);
    let failed: Vec<&String> =
        since.iter().filter(|line| !["200 0", "403 0"].contains(&line.as_str())).collect();
    ensure!(failed.is_empty() && since.len() > 130, "{failed:?} of {}\n{log}", since.len());
    ensure!(log.matches("took over a listener").count() == 3 && !log.contains("ERROR"), "{log}");
    assert_eq!(deletions(&scene)?, 0);
    let exec =
        ["exec", "daemonset/tidegate-next", "--container=tidegate", "--", "tidegate", "audit", "--json"];
    let records = Record::of_lines(&agents.tell(&exec)?)?;
    let chains: BTreeSet<&str> = records.iter().map(|record| record.text("tidegate.chain.id")).collect();
    let reasons: BTreeSet<&str> = records.iter().map(Record::reason).collect();
    assert_eq!((chains.len(), reasons), (2, BTreeSet::from(["missing_scope", "scopes_allowed"])));
    agents.node.end()
}

/// This server ends the one agent before it starts the next.
#[test]
fn nothing_gets_past_while_agents_are_replaced_or_killed() -> Result<()> {
    let scene = Scene::new()?;
    let agents = Agents::start(&scene)?;
    agents.run_pod("canary", &GATED, &poll())?;
    agents.run_pod("other", &[], SLEEP)?;
    let answers = || -> Result<Vec<String>> {
        Ok(agents.cluster.tell(&["logs", "canary"])?.lines().map(str::to_owned).collect())
    };
    let is_served = || -> Result<bool> {
        let before = answers()?.len();
        std::thread::sleep(Duration::from_millis(500));
        let answers = answers()?;
        let since = answers.get(before..).unwrap_or_default();
        Ok(since.iter().any(|line| line == "200 0") && since.iter().any(|line| line == "403 0"))
    };
    wait_until("the pod to be served", LIMIT, is_served)?;
    let old = agents.tell(&["get", "pods", "--output=name"])?;
    let change = json!({ "spec": { "template": { "metadata": { "annotations": { "changed": "yes" } } } } });
    let change = change.to_string();
    agents.tell(&["patch", "daemonset", "tidegate", "--patch", &change])?;
    agents.wait_until_rolled_out().with_context(|| agents.told())?;
    assert_ne!(agents.tell(&["get", "pods", "--output=name"])?, old, "another agent");
    wait_until("the pod to be served by the next agent", LIMIT, is_served)?;

    // The kubelet starts it again at once, and after the second time only when ten seconds have passed.
    agents.kill()?;
    wait_until("the agent to be back", LIMIT, is_served)?;
    agents.kill()?;
    assert_eq!(agents.said("canary", DELETE)?, "000");
    assert_eq!(agents.said("other", DELETE)?, "404", "which nobody holds");
    agents.wait_until_rolled_out()?;
    wait_until("the agent to be back again", LIMIT, is_served).with_context(|| agents.told())?;

    let answers = answers()?;
    for answer in &answers {
        let (status, exit) = answer.split_once(' ').context("two columns")?;
        let is_none = status == "000" && exit != "0";
        ensure!(is_none || ["403 0", "200 0"].contains(&answer.as_str()), "{answer} in {answers:?}");
    }
    ensure!(answers.iter().any(|answer| answer == "000 7"), "nothing was refused: {answers:?}");
    assert_eq!(deletions(&scene)?, 1, "the neighbour's alone");
    let pods = agents.cluster.object(&["pods", "--namespace", NAMESPACE])?;
    let containers = pods.pointer("/items/0/status/containerStatuses").and_then(Value::as_array);
    let of_agent = |container: &&Value| container.get("name") == Some(&"tidegate".into());
    let agent = containers.and_then(|containers| containers.iter().find(of_agent)).context("the agent")?;
    assert_eq!(agent.get("restartCount"), Some(&2.into()), "{pods}");
    agents.node.end()
}
