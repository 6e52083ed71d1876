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
        ("look", r#"[{ unit = "x.service" }]"#, "`unit` is not supported by this version yet"),
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
