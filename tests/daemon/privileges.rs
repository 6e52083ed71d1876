//! The process that reads what workloads and upstreams send: what it has, and what becomes of the rest without it.

use crate::{look, told};
use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::{collections::BTreeSet, fs, path::PathBuf};
use tidegate_tests::{
    agent::{LIMIT, READ_ONLY},
    client::Answer,
    daemon::{Daemon, Running},
    process::wait_until,
    scene::Scene,
};

pub(super) fn daemon(scene: &Scene) -> Result<Daemon<'_>> {
    Daemon::new(scene)?.policy("look", READ_ONLY)?.workload("ci", "look", r#"[{ cgroup = "CGROUP/ci" }]"#)
}

/// The daemon's one child that goes on.
fn proxy_of(running: &Running) -> Result<u32> {
    let is_proxy = |pid: &&str| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(b"proxy")
    };
    let mut all = String::new();
    // Whichever thread has started it.
    for thread in fs::read_dir(format!("/proc/{}/task", running.process.id()))? {
        all.push_str(&fs::read_to_string(thread?.path().join("children"))?);
    }
    let pid = all.split_whitespace().find(is_proxy).context("no process serves")?;
    Ok(pid.parse()?)
}

fn process(pid: u32) -> Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process id")
}

fn field(status: &str, name: &str) -> String {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn whoever_reads_requests_has_no_privilege_and_no_file_of_the_agents() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?;
    let ci = scene.world.cgroup().child("ci")?;
    let running = daemon.start()?;
    assert_eq!(Answer::of(&daemon.run(&ci, &look())?)?.status, 200);
    let pid = proxy_of(&running)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    for (name, expected) in [
        ("Uid", "65431 65431 65431 65431"),
        ("Gid", "65431 65431 65431 65431"),
        ("Groups", ""),
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
    ] {
        assert_eq!(field(&status, name), expected, "{name}");
    }
    // What it has open: sockets, the log, and nothing that leads to a file of the agent's, a namespace or BPF.
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        // Maps and programs are `anon_inode:bpf-map` and the like, namespaces `net:[…]`.
        ensure!(!target.to_string_lossy().contains("bpf"), "{target:?}");
        let kind = target.to_string_lossy().split([':', '[']).next().unwrap_or_default().to_owned();
        if !["socket", "anon_inode", "pipe"].contains(&&*kind) {
            files.insert(target);
        }
    }
    let standard_error = fs::read_link(format!("/proc/{pid}/fd/2"))?;
    let expected = [
        daemon.audit().to_owned(),
        PathBuf::from("/run/tidegate/unfinished"),
        "/dev/null".into(),
        standard_error,
    ];
    ensure!(files == BTreeSet::from(expected), "{files:?}");
    running.stop()?;
    Ok(())
}

#[test]
fn without_it_the_gate_is_shut_until_the_next_daemon() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?;
    let ci = scene.world.cgroup().child("ci")?;
    let mut running = daemon.start()?;
    assert_eq!(Answer::of(&daemon.run(&ci, &look())?)?.status, 200);
    // A read's record is written right behind its answer.
    wait_until("its record", LIMIT, || Ok(told(&daemon.records()?).iter().any(|(name, ..)| *name == "ci")))?;
    let pid = proxy_of(&running)?;
    kill_process(process(pid)?, Signal::KILL)?;
    wait_until("the daemon's end", LIMIT, || Ok(running.process.ended()?.is_some()))?;
    let error = running.process.stderr()?;
    ensure!(error.contains("the process that serves connections has ended"), "{error}");
    let requests = scene.requests()?.len();
    assert_ne!(Answer::of(&daemon.run(&ci, &look())?).map_or(0, |answer| answer.status), 200);
    assert_eq!(scene.requests()?.len(), requests);
    let next = daemon.start()?;
    assert_eq!(Answer::of(&daemon.run(&ci, &look())?)?.status, 200);
    next.stop()?;
    let records = daemon.records()?;
    ensure!(told(&records).iter().filter(|(name, ..)| *name == "ci").count() >= 2, "{records:?}");
    Ok(())
}

#[test]
fn it_does_not_outlive_a_daemon_that_is_killed() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?;
    let running = daemon.start()?;
    let pid = proxy_of(&running)?;
    running.kill()?;
    wait_until("its end", LIMIT, || Ok(!PathBuf::from(format!("/proc/{pid}/fd")).exists()))
}

#[test]
fn one_that_hangs_is_given_up() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?;
    let mut running = daemon.start()?;
    let pid = process(proxy_of(&running)?)?;
    kill_process(pid, Signal::STOP)?;
    wait_until("the daemon's end", 4 * LIMIT, || Ok(running.process.ended()?.is_some()))?;
    let error = running.process.stderr()?;
    ensure!(error.contains("the process that serves connections has ended"), "{error}");
    wait_until("its end", LIMIT, || Ok(test_kill_process(pid).is_err()))
}
