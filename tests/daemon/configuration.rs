//! What the daemon is told: policies that change, files that are wrong, modes.

use crate::{api, ask_directly, look, told};
use anyhow::Result;
use nix::sys::signal::Signal;
use tidegate_tests::{
    agent::{LIMIT, READ_ONLY},
    client::{self, Answer},
    daemon::Daemon,
    process::wait_until,
    scene::Scene,
};

fn daemon(scene: &Scene) -> Result<Daemon<'_>> {
    Daemon::new(scene)?.policy("look", READ_ONLY)?.workload("ci", "look", r#"[{ cgroup = "CGROUP/ci" }]"#)
}

#[test]
fn a_hangup_reloads_the_policies() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?;
    let ci = scene.world.cgroup().child("ci")?;
    let running = daemon.start()?;
    assert_eq!(Answer::of(&daemon.run(&ci, &look())?)?.status, 200);
    for (policy, logged) in
        [("allow = []\n", "reloaded the policies"), ("allow = [\n", "the policies stay as they are")]
    {
        daemon.write_policy("look", policy)?;
        running.process.signal(Signal::SIGHUP)?;
        wait_until(logged, LIMIT, || Ok(running.process.stderr()?.contains(logged)))?;
        assert_eq!(Answer::of(&daemon.run(&ci, &look())?)?.status, 403, "after {logged}");
    }
    running.stop()?;
    Ok(())
}

#[test]
fn what_is_wrong_is_told_with_status_2_and_nothing_is_attached() -> Result<()> {
    let scene = Scene::new()?;
    let pins = || -> Result<bool> {
        let line = ["sh", "-c", "! [ -e /sys/fs/bpf/tidegate ]"];
        let mut command = scene.world.command(&line);
        Ok(command.status()?.success())
    };
    let cases: [(&str, &str, &str); 6] = [
        ("nowhere", r#"[{ cgroup = "CGROUP/x" }]"#, "nowhere.toml"),
        ("look", r#"[{ group = "no-such-group" }]"#, "no group `no-such-group`"),
        ("look", r#"[{ cgroup = "CGROUP/ci" }]"#, "`ci` and `more` match the same"),
        ("look", r#"[{ user = "no-such-user" }]"#, "no user `no-such-user`"),
        ("look", r#"[{ cgroup = "/elsewhere" }]"#, "lies outside of `capture.cgroup_root`"),
        ("look", r#"[{ exe = "/bin/x" }]"#, "`exe` alone is no identity"),
    ];
    let mut daemon = daemon(&scene)?;
    for (policy, matches, expected) in cases {
        daemon = daemon.without_workloads().workload("ci", "look", r#"[{ cgroup = "CGROUP/ci" }]"#)?;
        daemon = daemon.workload("more", policy, matches)?;
        let finished = daemon.fail()?;
        assert_eq!(finished.status.code(), Some(2), "{finished:?}");
        assert!(finished.stderr.contains(expected), "{finished:?}");
        assert!(pins()?, "{expected}");
    }
    Ok(())
}

#[test]
fn in_targeted_mode_only_protected_addresses_are_captured() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?.capture("mode = \"targeted\"");
    let ci = scene.world.cgroup().child("ci")?;
    let running = daemon.start()?;
    assert_eq!(Answer::of(&daemon.run(&ci, &look())?)?.status, 200);
    let other = client::curl(&[], "https://other.example/v2/droplets", "");
    let mut command = scene.world.command_in(&ci, &other);
    client::trust(&mut command, &scene.standin.ca_file());
    let elsewhere = tidegate_tests::process::Process::run(&mut command, scene.directory(), LIMIT)?;
    assert_eq!(Answer::of(&elsewhere)?.status, 200);
    assert_eq!(told(&daemon.records()?), [("ci", "look", "scopes_allowed")], "the other was never captured");
    running.kill()?;
    let mut command = scene.world.command_in(&ci, &other);
    client::trust(&mut command, &scene.standin.ca_file());
    let elsewhere = tidegate_tests::process::Process::run(&mut command, scene.directory(), LIMIT)?;
    assert_eq!(Answer::of(&elsewhere)?.status, 200, "without a daemon, too");
    assert!(ask_directly(&scene, &ci).is_err(), "the API is shut");
    Ok(())
}

#[test]
fn the_daemons_own_user_can_be_a_workload() -> Result<()> {
    let scene = Scene::new()?;
    let daemon =
        Daemon::new(&scene)?.policy("look", READ_ONLY)?.workload("root", "look", r#"[{ user = "root" }]"#)?;
    let anywhere = scene.world.cgroup().child("anywhere")?;
    let running = daemon.start()?;
    assert_eq!(Answer::of(&daemon.run(&anywhere, &look())?)?.status, 200);
    let refused = client::curl(&["--request", "DELETE"], &api("/v2/droplets/3164444"), "");
    assert_eq!(Answer::of(&daemon.run(&anywhere, &refused)?)?.status, 403);
    running.stop()?;
    Ok(())
}

#[test]
fn a_daemon_tells_how_it_is_and_what_it_holds() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?
        .workload("bots", "look", r#"[{ user = "4242" }, { cgroup = "CGROUP/bots/*" }]"#)?
        .table("[health]\nlisten = \"127.0.0.1:9090\"");
    let ci = scene.world.cgroup().child("ci")?;
    let bot = scene.world.cgroup().child("bots")?.child("1")?;
    let running = daemon.start()?;
    assert_eq!(Answer::of(&daemon.run(&ci, &look())?)?.status, 200);
    let tidegate = tidegate_tests::programs::built("tidegate")?.display().to_string();
    let ask = [tidegate.as_str(), "status", "--json"];
    let outside = scene.world.cgroup().child("outside")?;
    let finished = daemon.run(&outside, &ask)?;
    assert!(finished.status.success(), "{finished:?}");
    let status: serde_json::Value = serde_json::from_slice(&finished.stdout)?;
    let at = |pointer: &str| status.pointer(pointer).cloned().unwrap_or_default();
    assert_eq!((at("/healthy"), at("/counters/redirected")), (true.into(), 1.into()), "{status:#}");
    assert_eq!(at("/workloads/0/cgroups"), serde_json::json!([ci.name()?]));
    assert_eq!(at("/workloads/1/cgroups"), serde_json::json!([bot.name()?]));
    assert_eq!(at("/workloads/1/users"), serde_json::json!([4242]));
    assert!(at("/programs").as_array().is_some_and(|programs| programs.len() == 12), "{status:#}");
    // A subject gets no answer, though it is root.
    let refused = daemon.run(&ci, &ask)?;
    assert!(refused.stderr.contains("a subject gets no answer"), "{refused:?}");
    let ready = ["curl", "--silent", "--fail", "http://127.0.0.1:9090/readyz"];
    assert!(daemon.run(&outside, &ready)?.status.success());
    running.kill()?;
    let gone = daemon.run(&outside, &ask)?;
    assert_eq!(gone.status.code(), Some(1), "{gone:?}");
    Ok(())
}
