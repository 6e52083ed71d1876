//! Whose a connection is: of a cgroup's workload, of a user's, of several, or of nobody.

use crate::{api, ask_directly, look, told};
use anyhow::Result;
use tidegate_tests::{
    agent::READ_ONLY,
    client::{self, Answer},
    daemon::Daemon,
    scene::Scene,
};

/// A policy that allows nothing.
const NOTHING: &str = "allow = []\n";

#[test]
fn each_cgroup_is_decided_by_its_own_policy_and_others_are_not_touched() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = Daemon::new(&scene)?
        .policy("look", READ_ONLY)?
        .policy("nothing", NOTHING)?
        .workload("ci", "look", r#"[{ cgroup = "CGROUP/ci/**" }]"#)?
        .workload("bots", "nothing", r#"[{ cgroup = "CGROUP/bots" }]"#)?;
    let world = scene.world.cgroup();
    let (ci, bots, other) = (world.child("ci")?, world.child("bots")?, world.child("other")?);
    let job = ci.child("job-1")?.child("step")?;
    let running = daemon.start()?;

    assert_eq!(Answer::of(&daemon.run(&job, &look())?)?.status, 200);
    let refused = Answer::of(&daemon.run(&bots, &look())?)?;
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("workload \\\"bots\\\""), "{refused:?}");
    assert_eq!(ask_directly(&scene, &other)?.status, 200);
    // The cgroup itself is not below itself.
    assert_eq!(ask_directly(&scene, &ci)?.status, 200);
    running.stop()?;

    let records = daemon.records()?;
    assert_eq!(told(&records), [("ci", "look", "scopes_allowed"), ("bots", "nothing", "missing_scope")]);
    Ok(())
}

#[test]
fn a_user_is_held_in_every_cgroup_and_with_its_subordinate_ids() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = Daemon::new(&scene)?.policy("nothing", NOTHING)?.workload(
        "build",
        "nothing",
        r#"[{ user = "4242" }]"#,
    )?;
    let anywhere = scene.world.cgroup().child("anywhere")?;
    let running = daemon.start()?;
    let of_user = |uid: &str| {
        let user = [format!("--reuid={uid}"), "--regid=65534".to_owned(), "--clear-groups".to_owned()];
        let words = std::iter::once("setpriv".to_owned()).chain(user).chain(look());
        daemon.run(&anywhere, &words.collect::<Vec<_>>())
    };
    assert_eq!(Answer::of(&of_user("4242")?)?.status, 403);
    let other = of_user("4243")?;
    assert!(
        Answer::of(&other).is_err(),
        "it trusts the daemon alone, and speaks with the stand-in: {other:?}"
    );
    assert_eq!(scene.requests()?.len(), 0);
    running.stop()?;
    assert_eq!(told(&daemon.records()?), [("build", "nothing", "missing_scope")]);
    Ok(())
}

#[test]
fn where_several_workloads_match_every_policy_must_allow() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = Daemon::new(&scene)?
        .policy("look", READ_ONLY)?
        .policy("droplets", "allow = [\"droplet:read\", \"droplet:delete\"]\n")?
        .workload("agents", "look", r#"[{ user = "4242" }]"#)?
        .workload("ci", "droplets", r#"[{ cgroup = "CGROUP/ci" }]"#)?;
    let ci = scene.world.cgroup().child("ci")?;
    let running = daemon.start()?;
    let ask = |method: &str, path: &str| {
        let user = ["setpriv", "--reuid=4242", "--regid=65534", "--clear-groups"].map(str::to_owned);
        let line = client::curl(&["--request", method], &api(path), "");
        Answer::of(&daemon.run(&ci, &[user.as_slice(), &line].concat())?)
    };
    assert_eq!(ask("GET", "/v2/droplets")?.status, 200);
    let not_of_ci = ask("GET", "/v2/regions")?;
    assert!(not_of_ci.text().contains("workload \\\"ci\\\" may not call"), "{not_of_ci:?}");
    let not_of_agents = ask("DELETE", "/v2/droplets/3164444")?;
    assert!(not_of_agents.text().contains("workload \\\"agents\\\" may not call"), "{not_of_agents:?}");
    running.stop()?;
    let records = daemon.records()?;
    let expected = [
        ("agents+ci", "look+droplets", "scopes_allowed"),
        ("agents+ci", "droplets", "missing_scope"),
        ("agents+ci", "look", "missing_scope"),
    ];
    assert_eq!(told(&records), expected);
    assert_eq!(scene.requests()?.len(), 1);
    Ok(())
}

#[test]
fn a_program_narrows_a_cgroup_and_exceptions_are_taken_out() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = Daemon::new(&scene)?
        .policy("nothing", NOTHING)?
        .workload("curls", "nothing", r#"[{ cgroup = "CGROUP/ci/**", exe = "/usr/bin/curl" }]"#)?
        .except(r#"[{ cgroup = "CGROUP/ci/free" }]"#)?;
    let ci = scene.world.cgroup().child("ci")?;
    let (job, free) = (ci.child("job")?, ci.child("free")?);
    let running = daemon.start()?;
    assert_eq!(Answer::of(&daemon.run(&job, &look())?)?.status, 403);
    assert_eq!(ask_directly(&scene, &free)?.status, 200);
    let node = client::Client::NodeFetch.request("GET", &api("/v2/droplets"), "")?;
    let mut command = scene.world.command_in(&job, &node);
    client::trust(&mut command, &scene.standin.ca_file());
    let finished =
        tidegate_tests::process::Process::run(&mut command, scene.directory(), tidegate_tests::agent::LIMIT)?;
    assert_eq!(Answer::of(&finished)?.status, 200);
    running.stop()?;
    assert_eq!(told(&daemon.records()?), [("curls", "nothing", "missing_scope")]);
    Ok(())
}

#[test]
fn a_unit_is_held_in_whatever_slice_and_only_where_the_systems_manager_put_it() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = Daemon::new(&scene)?.policy("nothing", NOTHING)?.workload(
        "runner",
        "nothing",
        r#"[{ unit = "runner@.service" }]"#,
    )?;
    let world = scene.world.cgroup();
    let running = daemon.start()?;
    // Made while the daemon runs, as systemd does it: a unit's first process must be held already.
    let slice = world.child("ci.slice")?.child("ci-runner.slice")?;
    let unit = slice.child("runner@7.service")?;
    assert_eq!(Answer::of(&daemon.run(&unit, &look())?)?.status, 403);
    assert_eq!(Answer::of(&daemon.run(&unit.child("job")?, &look())?)?.status, 403);
    let others = [slice.child("runner.service")?, slice.child("other.service")?.child("runner@8.service")?];
    for other in others {
        assert_eq!(ask_directly(&scene, &other)?.status, 200, "{other:?}");
    }
    running.stop()?;
    assert_eq!(told(&daemon.records()?), [("runner", "nothing", "missing_scope"); 2]);
    Ok(())
}

#[test]
fn everybody_is_held_who_is_no_exception() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = Daemon::new(&scene)?.policy("nothing", NOTHING)?.workload(
        "rest",
        "nothing",
        "[{ any = true }]\nexcept = [{ cgroup = \"CGROUP/free\" }]",
    )?;
    let world = scene.world.cgroup();
    let (free, other) = (world.child("free")?, world.child("other")?);
    let running = daemon.start()?;
    assert_eq!(Answer::of(&daemon.run(&other, &look())?)?.status, 403);
    assert_eq!(ask_directly(&scene, &free)?.status, 200);
    running.stop()?;
    assert_eq!(told(&daemon.records()?), [("rest", "nothing", "missing_scope")]);
    Ok(())
}
