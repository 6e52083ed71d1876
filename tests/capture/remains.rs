//! Nothing is left behind, however a run ends; and while its remains are there, they refuse.

use crate::api;
use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{fs, time::Duration};
use tidegate_tests::{
    agent::Tidegate,
    client,
    process::{Process, wait_until},
    programs,
    scene::Scene,
};

const LIMIT: Duration = Duration::from_secs(30);

/// What of a run is there: cgroups, processes in them, tidegate's own processes, its mounts, its run directories.
fn remains(scene: &Scene, tidegate: &Tidegate<'_>) -> Result<Vec<String>> {
    let mut found = tidegate.root().children()?;
    found.extend(tidegate.root().processes()?.iter().map(|pid| format!("process {pid}")));
    found.extend(agents(scene)?.iter().map(|pid| format!("tidegate {pid}")));
    let script = r#"
grep -F ' /run/tidegate/' /proc/self/mountinfo
find /run/tidegate -mindepth 2 ! -path /run/tidegate/runs/lock 2>/dev/null
find /sys/fs/bpf -mindepth 1 ! -name '*.debug'"#;
    let mut command = scene.world.command(&["sh", "-c", script]);
    let listed = Process::run(&mut command, scene.directory(), LIMIT)?;
    found.extend(listed.text().lines().map(str::to_owned));
    Ok(found)
}

/// The processes of this world that run tidegate itself.
pub(super) fn agents(scene: &Scene) -> Result<Vec<u32>> {
    let program = programs::built("tidegate")?;
    let mut found = scene.world.cgroup().processes()?;
    found.retain(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program));
    Ok(found)
}

#[test]
fn a_run_that_ends_leaves_nothing_behind() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("remains")?;
    let ran = tidegate.run(&["sh", "-c", "setsid sleep 1000 & exit 3"])?;
    assert_eq!(ran.finished.status.code(), Some(3));
    wait_until("nothing is left", LIMIT, || Ok(remains(&scene, &tidegate)?.is_empty()))
        .with_context(|| format!("{:?}", remains(&scene, &tidegate)))
}

#[test]
fn a_killed_run_takes_its_command_along_and_leaves_nothing_behind() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("remains")?;
    let mut running = tidegate.start(&["sh", "-c", "echo up; sleep 1000"])?;
    running.wait_for_output("up", LIMIT)?;
    assert!(!remains(&scene, &tidegate)?.is_empty(), "the test looks in the wrong places");
    running.signal(Signal::SIGKILL)?;
    wait_until("nothing is left", LIMIT, || Ok(remains(&scene, &tidegate)?.is_empty()))
        .with_context(|| format!("{:?}", remains(&scene, &tidegate)))
}

/// Says that it is up; once $1 is there, calls the API and a host beside it, and writes what came of it to $2.
const ORPHAN: &str = r#"
echo up
while [ ! -e "$1" ]; do sleep 0.02; done
for url in https://api.digitalocean.com/v2/account https://other.example/; do
    curl --silent --insecure --max-time 5 --output /dev/null --write-out '%{exitcode} %{time_total}\n' "$url" >>"$2.part"
done
mv "$2.part" "$2"
sleep 1000
"#;

#[test]
fn a_command_whose_agent_and_reaper_are_gone_stays_refused_until_the_next_run_sweeps() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("remains")?;
    let (go, told) = (scene.directory().join("go"), scene.directory().join("told"));
    let (go_text, told_text) = (go.display().to_string(), told.display().to_string());
    let mut running = tidegate.start(&["sh", "-c", ORPHAN, "orphan", &go_text, &told_text])?;
    running.wait_for_output("up", LIMIT)?;
    let agents = agents(&scene)?;
    assert!(agents.len() >= 2, "an agent and its reaper: {agents:?}");
    // The reaper first stands still, or it would do its work between the two kills.
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        for &pid in &agents {
            kill(Pid::from_raw(i32::try_from(pid)?), signal)?;
        }
    }
    // Until they are gone, the kernel lets the listener take what it then resets.
    wait_until("the agents are gone", LIMIT, || Ok(self::agents(&scene)?.is_empty()))?;
    fs::write(&go, "")?;
    wait_until("the orphan's calls", LIMIT, || Ok(told.exists()))?;
    for line in fs::read_to_string(&told)?.lines() {
        let (code, seconds) = line.split_once(' ').context("two words")?;
        assert_eq!(code, "7", "connecting must fail: {line}");
        assert!(seconds.parse::<f64>()? < 1.0, "failing must not take long: {line}");
    }
    assert!(scene.requests()?.is_empty());

    let ran = tidegate.run(&client::curl(&[], &api("/v2/account"), ""))?;
    assert_eq!(ran.answer()?.status, 200);
    wait_until("nothing is left", LIMIT, || Ok(remains(&scene, &tidegate)?.is_empty()))
        .with_context(|| format!("{:?}", remains(&scene, &tidegate)))
}
