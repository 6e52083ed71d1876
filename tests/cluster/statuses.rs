//! What `tidegate cluster` writes: the status of objects, and what the daemon is told of them and of pods.

use crate::{
    asker::{Asker, LIMIT, NODE, binding, config, pod, policy, wait_for_condition},
    manifests,
    objects::with_manifests,
};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidegate_tests::{netns::World, process::wait_until};

const READS: &str = "{allow: [\"api:read\"]}";

fn spec<'s>(state: &'s Value, kind: &str, name: &str) -> &'s Value {
    let mut objects = state[kind].as_array().into_iter().flatten();
    objects.find(|object| object["name"] == name).map_or(&Value::Null, |object| &object["spec"])
}

#[test]
fn each_object_is_told_what_became_of_it_and_its_last_content_stays() -> Result<()> {
    let world = World::new()?;
    let cluster = with_manifests(&world)?;
    let asker = Asker::start(&cluster, &config(&cluster)?)?;
    cluster.apply(&policy("reads", READS))?;
    cluster.apply(&binding("ci", "{policy: reads, namespaces: [ci]}"))?;
    wait_for_condition(&cluster, ("scopepolicy", "reads"), ("True", "Accepted"))?;
    let accepted = wait_for_condition(&cluster, ("scopebinding", "ci"), ("True", "Accepted"))?;
    ensure!(accepted["lastTransitionTime"].is_string() && accepted["observedGeneration"] == 1, "{accepted}");
    let shown = cluster.tell(&["get", "scopebindings", "--no-headers"])?;
    let columns: Vec<&str> = shown.split_whitespace().take(3).collect();
    assert_eq!(columns, ["ci", "reads", "True"]);

    // Broken: with the field, while what was in order stays.
    cluster.apply(&policy("reads", "{allow: [\"api:read\", \"droplet:raed\"]}"))?;
    let refused = wait_for_condition(&cluster, ("scopepolicy", "reads"), ("False", "Invalid"))?;
    let message = refused["message"].as_str().context("no message")?;
    ensure!(message.starts_with("spec.allow[1]: unknown scope `droplet:raed`"), "{message}");
    ensure!(refused["observedGeneration"] == 2, "{refused}");
    wait_for_condition(&cluster, ("scopebinding", "ci"), ("False", "PolicyRefused"))?;
    asker.wait_for("the last content to stay", |state| {
        *spec(state, "policies", "reads") == json!({ "allow": ["api:read"] })
    })?;

    // A binding that no longer says for whom it is keeps those for whom it was. Newer servers refuse it before.
    let bound = json!({ "policy": "reads", "namespaces": ["ci"] });
    let unsaid = "{policy: reads, podSelector: {matchExpressions: [{key: app, operator: In}]}}";
    cluster.apply(&binding("ci", unsaid))?;
    let refused = wait_for_condition(&cluster, ("scopebinding", "ci"), ("False", "Invalid"))?;
    let message = refused["message"].as_str().context("no message")?;
    ensure!(message.starts_with("spec.podSelector.matchExpressions[0]: "), "{message}");
    ensure!(*spec(&asker.state()?, "bindings", "ci") == bound, "{}", asker.state()?);
    cluster.apply(&binding("ci", "{policy: reads, namespaces: [ci], podSelector: null}"))?;
    wait_for_condition(&cluster, ("scopebinding", "ci"), ("False", "PolicyRefused"))?;

    // Names that files have.
    cluster.apply(&policy("of-a-file", READS))?;
    wait_for_condition(&cluster, ("scopepolicy", "of-a-file"), ("False", "NameConflict"))?;
    cluster.apply(&binding("of-a-file", "{policy: of-a-file, namespaces: [ci]}"))?;
    wait_for_condition(&cluster, ("scopebinding", "of-a-file"), ("False", "NameConflict"))?;
    cluster.apply(&binding("other", "{policy: of-a-file, namespaces: [ci]}"))?;
    wait_for_condition(&cluster, ("scopebinding", "other"), ("True", "Accepted"))?;

    // Repaired, and deleted.
    cluster.apply(&policy("reads", "{allow: []}"))?;
    wait_for_condition(&cluster, ("scopepolicy", "reads"), ("True", "Accepted"))?;
    wait_for_condition(&cluster, ("scopebinding", "ci"), ("True", "Accepted"))?;
    cluster.tell(&["delete", "scopepolicy", "reads"])?;
    wait_for_condition(&cluster, ("scopebinding", "ci"), ("False", "PolicyNotFound"))?;
    asker.wait_for("the policy to be gone", |state| spec(state, "policies", "reads").is_null())?;
    cluster.tell(&["delete", "scopebinding", "ci"])?;
    asker.wait_for("the binding to be gone", |state| spec(state, "bindings", "ci").is_null())?;
    drop(asker);
    world.close()
}

#[test]
fn of_pods_it_knows_its_own_nodes_labels_and_accounts() -> Result<()> {
    let world = World::new()?;
    let cluster = with_manifests(&world)?;
    cluster.apply(&pod("ci", "job", "bot", "runner", NODE))?;
    cluster.apply(&pod("ci", "elsewhere", "bot", "runner", "node-2"))?;
    let uid = cluster.object(&["--namespace=ci", "pod", "job"])?["metadata"]["uid"].clone();
    let asker = Asker::start(&cluster, &config(&cluster)?)?;
    let pod = |app: &str| json!([{ "namespace": "ci", "name": "job", "uids": [uid], "labels": { "app": app }, "service_account": "runner" }]);
    asker.wait_for("the pod", |state| state["pods"] == pod("bot"))?;
    cluster.tell(&["--namespace=ci", "label", "--overwrite", "pod", "job", "app=web"])?;
    asker.wait_for("its new label", |state| state["pods"] == pod("web"))?;
    cluster.tell(&["--namespace=ci", "delete", "pod", "job", "--grace-period=0", "--force"])?;
    asker.wait_for("its end", |state| state["pods"] == json!([]))?;
    drop(asker);
    world.close()
}

#[test]
fn what_was_known_stays_while_the_api_server_is_gone_and_several_agents_write_once() -> Result<()> {
    let world = World::new()?;
    let cluster = with_manifests(&world)?;
    let path = config(&cluster)?;
    {
        let agents = (1..=12).map(|number| Asker::of_node(&cluster, &path, &format!("node-{number}")));
        let agents: Vec<Asker<'_>> = agents.collect::<Result<_>>()?;
        agents[0].wait_for("the beginning", |state| state["policies"] == json!([]))?;
        cluster.apply(&policy("reads", READS))?;
        wait_for_condition(&cluster, ("scopepolicy", "reads"), ("True", "Accepted"))?;
        // The time within which every other would have written, too.
        std::thread::sleep(std::time::Duration::from_secs(3));
        let said = |agent: &Asker<'_>| -> Result<usize> {
            Ok(agent.process.stderr()?.matches("said what becomes of it").count())
        };
        let writes = agents.iter().map(said).sum::<Result<usize>>()?;
        ensure!(writes == 1, "{writes} agents have written");
        let object = cluster.object(&["scopepolicy", "reads"])?;
        ensure!(object["metadata"]["generation"] == 1, "{object}");
    }
    let asker = Asker::start(&cluster, &path)?;
    asker.wait_for("the policy", |state| !spec(state, "policies", "reads").is_null())?;
    drop(asker);
    cluster.end_server()?;
    let asker = Asker::start(&cluster, &path)?;
    asker.wait_for("the failure", |state| state["unreached"].is_string())?;
    ensure!(!spec(&asker.state()?, "policies", "reads").is_null(), "{}", asker.state()?);
    drop(asker);
    cluster.begin_server()?;
    let asker = Asker::start(&cluster, &path)?;
    asker.wait_for("the API server", |state| state["unreached"].is_null())?;
    cluster.end_server()?;
    asker.wait_for("the failure", |state| state["unreached"].is_string())?;
    ensure!(!spec(&asker.state()?, "policies", "reads").is_null(), "{}", asker.state()?);
    cluster.begin_server()?;
    cluster.apply(&policy("later", READS))?;
    asker.wait_for("what is new since", |state| !spec(state, "policies", "later").is_null())?;
    wait_until("that it is told as up to date", LIMIT * 2, || Ok(asker.state()?["unreached"].is_null()))?;
    drop(asker);
    world.close()
}

#[test]
fn an_api_server_without_the_definitions_is_not_one_without_bindings() -> Result<()> {
    let world = World::new()?;
    let cluster = with_manifests(&world)?;
    cluster.tell(&["delete", "crd", "--all"])?;
    let asker = Asker::start(&cluster, &config(&cluster)?)?;
    wait_until("the lists to fail", LIMIT, || {
        let told = asker.process.stderr()?;
        Ok(["ScopePolicies", "ScopeBindings"].iter().all(|list| told.contains(&format!("list=\"{list}\""))))
    })?;
    ensure!(asker.state().is_err(), "{:?}", asker.state());
    cluster.tell(&["apply", "--validate=false", "-k", &manifests().join("crds").display().to_string()])?;
    asker.wait_for("all lists", |state| state["bindings"] == json!([]))?;
    drop(asker);
    world.close()
}

#[test]
fn it_does_not_run_as_root() -> Result<()> {
    let world = World::new()?;
    let file = world.write("tidegate.toml", "")?;
    let program = tidegate_tests::programs::built("tidegate")?;
    let line =
        [program.as_os_str(), "cluster".as_ref(), "--node=n".as_ref(), "--config".as_ref(), file.as_os_str()];
    let told = tidegate_tests::process::Process::run(&mut world.command(&line), world.directory(), LIMIT)?;
    ensure!(told.status.code() == Some(2) && told.stderr.contains("another user than root"), "{told:?}");
    world.close()
}
