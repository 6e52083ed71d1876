//! Whose a connection is: of a cgroup's workload, of a user's, of several, or of nobody.

use crate::api;
use anyhow::Result;
use tidegate_tests::{
    agent::{CREATOR, READ_ONLY},
    client::{self, Answer},
    daemon::Daemon,
    scene::Scene,
};

#[test]
fn each_cgroup_is_decided_by_its_own_policy_and_others_are_not_touched() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = Daemon::new(&scene)?
        .policy("look", READ_ONLY)?
        .policy("nothing", "allow = []\n")?
        .workload("ci", "look", r#"[{ cgroup = "CGROUP/ci/**" }]"#)?
        .workload("bots", "nothing", r#"[{ cgroup = "CGROUP/bots" }]"#)?;
    let (ci, bots, other) = (
        scene.world.cgroup().child("ci")?,
        scene.world.cgroup().child("bots")?,
        scene.world.cgroup().child("other")?,
    );
    let job = ci.child("job-1")?;
    let running = daemon.start()?;

    let get = client::curl(&[], &api("/v2/droplets"), "");
    assert_eq!(Answer::of(&daemon.run(&job, &get)?)?.status, 200);
    let refused = Answer::of(&daemon.run(&bots, &get)?)?;
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("workload \\\"bots\\\""), "{refused:?}");
    let direct = scene.world.command_in(&other, &get);
    let mut direct = direct;
    client::trust(&mut direct, &scene.standin.ca_file());
    let finished =
        tidegate_tests::process::Process::run(&mut direct, scene.directory(), tidegate_tests::agent::LIMIT)?;
    assert_eq!(Answer::of(&finished)?.status, 200);
    running.stop()?;

    let records = daemon.records()?;
    let told: Vec<(&str, &str, &str)> = records
        .iter()
        .map(|record| (record.text("tidegate.workload"), record.text("tidegate.policy"), record.reason()))
        .collect();
    assert_eq!(told, [("ci", "look", "scopes_allowed"), ("bots", "nothing", "missing_scope")]);
    let _ = CREATOR;
    Ok(())
}
