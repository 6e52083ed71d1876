//! Agents that are killed, at work and while they start.

use crate::world::{Agent, World, running, wait_until};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use tidegate::capture::listener::SharedFlows;

const BPFFS: &str = "TIDEGATE_TEST_BPFFS";
const CGROUP: &str = "TIDEGATE_TEST_CGROUP";

/// What an agent makes when it is at work.
fn at_work(bpffs: &Path) -> PathBuf {
    bpffs.join("at-work")
}

#[test]
#[ignore = "the process of an agent, which the tests below start and kill"]
fn agent() {
    let (Some(bpffs), Some(cgroup)) = (env::var_os(BPFFS), env::var_os(CGROUP)) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let mut agent = Agent::listening(Path::new(&bpffs), Path::new(&cgroup));
    agent.capture.subjects.add(Path::new(&cgroup)).unwrap();
    fs::create_dir(at_work(Path::new(&bpffs))).unwrap();
    loop {
        thread::park();
    }
}

fn spawn(world: &World) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "killed::agent", "--ignored"])
        .env(BPFFS, world.bpffs())
        .env(CGROUP, world.cgroup())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Starts an agent and waits until it is at work.
fn spawn_to_work(world: &World) -> Child {
    let child = spawn(world);
    wait_until(|| at_work(world.bpffs()).exists());
    fs::remove_dir(at_work(world.bpffs())).unwrap();
    child
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_killed_agent_leaves_the_gate_shut_and_the_place_free() {
    let world = World::new();
    kill(spawn_to_work(&world));
    assert_eq!(world.connect().output(), "error 111");
    world.assert_the_server_saw_nothing();
    let next = world.successor();
    let program = world.connect();
    world.accept(&next.listeners, &SharedFlows::new(next.capture.flows));
    assert_eq!(program.output(), "peer 192.0.2.7 443");
}

#[test]
fn whenever_a_starting_agent_is_killed_the_next_one_takes_over() {
    let world = World::new();
    kill(spawn_to_work(&world));
    let mut seen = 0;
    for step in 0..24 {
        let child = spawn(&world);
        thread::sleep(Duration::from_millis(15 * step));
        kill(child);
        seen += usize::from(at_work(world.bpffs()).exists());
        let _ = fs::remove_dir(at_work(world.bpffs()));
        let running = running(world.cgroup());
        assert!(running.iter().all(|programs| !programs.is_empty()), "{step}: {running:?}");
    }
    assert!(seen < 24, "none was killed before it was at work");
    assert_eq!(world.connect().output(), "error 111");
    world.assert_the_server_saw_nothing();

    let next = world.adopt();
    next.attached.verify().unwrap();
    next.attached.retire_others().unwrap();
    wait_until(|| running(world.cgroup()).iter().all(|programs| programs.len() == 1));
}

#[test]
fn an_agent_that_is_killed_at_its_first_start_leaves_what_the_next_one_can_use() {
    for step in 0..12 {
        let world = World::new();
        let child = spawn(&world);
        thread::sleep(Duration::from_millis(20 * step));
        kill(child);
        let next = world.adopt();
        next.attached.verify().unwrap();
        wait_until(|| running(world.cgroup()).iter().all(|programs| programs.len() == 1));
    }
}
