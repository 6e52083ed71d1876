//! Cgroups that come and go while the daemon works.

use crate::{ask_directly, look, pinned::entries, told};
use anyhow::Result;
use tidegate_tests::{
    agent::{LIMIT, READ_ONLY},
    client::Answer,
    daemon::Daemon,
    process::{Process, wait_until},
    scene::Scene,
};

/// Makes the cgroup $1, enters it, and asks at once; then leaves and removes it.
const JOB: &str = r#"mkdir "$1" && echo 0 >"$1/cgroup.procs" && shift && "$@""#;

/// With one workload, which may look.
fn daemon<'s>(scene: &'s Scene, workload: &str, matches: &str) -> Result<Daemon<'s>> {
    Daemon::new(scene)?.policy("look", READ_ONLY)?.workload(workload, "look", matches)
}

#[test]
fn a_cgroup_that_is_made_later_is_a_subject_before_its_first_connect() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene, "ci", r#"[{ cgroup = "CGROUP/ci/*/job-*" }]"#)?;
    let world = scene.world.cgroup();
    let starter = world.child("starter")?;
    let running = daemon.start()?;
    // All of the way is made later, too.
    let ci = world.child("ci")?;
    for number in 0..20 {
        let slice = ci.child(&format!("slice-{number}"))?;
        let job = slice.path().join("job-1").display().to_string();
        let job = ["sh", "-c", JOB, "job", &job].map(str::to_owned);
        let finished = daemon.run(&starter, &[job.as_slice(), &look()].concat())?;
        assert_eq!(Answer::of(&finished)?.status, 200, "{finished:?}");
    }
    running.stop()?;
    let records = daemon.records()?;
    assert_eq!(told(&records), vec![("ci", "look", "scopes_allowed"); 20]);
    let first = records.first().map(|record| record.text("tidegate.cgroup").to_owned());
    assert_eq!(first, Some(format!("{}/ci/slice-0/job-1", world.name()?)));
    Ok(())
}

#[test]
fn a_new_cgroup_of_nobodys_passes_untouched_also_at_once() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene, "ci", r#"[{ cgroup = "CGROUP/ci/*/job" }]"#)?;
    let world = scene.world.cgroup();
    let running = daemon.start()?;
    let ci = world.child("ci")?;
    for number in 0..20 {
        let new = ci.child(&format!("slice-{number}"))?.child("other")?;
        assert_eq!(ask_directly(&scene, &new)?.status, 200);
    }
    running.stop()?;
    assert_eq!(told(&daemon.records()?), []);
    Ok(())
}

#[test]
fn a_cgroup_of_the_same_name_as_one_that_was_removed_is_a_subject_again() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene, "job", r#"[{ cgroup = "CGROUP/job" }]"#)?;
    let running = daemon.start()?;
    for _ in 0..10 {
        let job = scene.world.cgroup().child("job")?;
        assert_eq!(Answer::of(&daemon.run(&job, &look())?)?.status, 200);
        wait_until("the cgroup to be empty", LIMIT, || Ok(std::fs::remove_dir(job.path()).is_ok()))?;
    }
    running.stop()?;
    assert_eq!(told(&daemon.records()?), vec![("job", "look", "scopes_allowed"); 10]);
    Ok(())
}

#[test]
fn an_agent_outside_of_what_it_captures_lists_no_socket_of_its_own() -> Result<()> {
    // No hook would see the socket closed there, and the list would fill up.
    let scene = Scene::new()?;
    let ci = scene.world.cgroup().child("ci")?;
    let daemon = daemon(&scene, "ci", r#"[{ cgroup = "CGROUP/ci/**" }]"#)?.at(&ci);
    let job = ci.child("job")?;
    let running = daemon.start()?;
    assert_eq!(Answer::of(&daemon.run(&job, &look())?)?.status, 200);
    assert_eq!(entries(running.process.id(), "EXEMPT")?, 0);
    running.stop()?;
    Ok(())
}

/// Sends a million bytes that nobody reads yet, and ends.
const SENDER: &str = "
import socket
peer = socket.socket()
peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_000_000)
peer.connect(('127.0.0.1', 8443))
peer.sendall(b'x' * 1_000_000)
";

/// Reads once the file $1 is there, and tells how much there was.
const READER: &str = "
import os, socket, sys, time
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
listener.bind(('127.0.0.1', 8443))
listener.listen()
print('listening', flush=True)
peer, _ = listener.accept()
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
total = 0
while data := peer.recv(65536):
    total += len(data)
print(total, flush=True)
";

#[test]
fn what_a_bystander_has_sent_arrives_when_its_cgroup_is_gone() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene, "ci", r#"[{ cgroup = "CGROUP/ci/*/job" }]"#)?;
    let world = scene.world.cgroup();
    let (readers, senders) = (world.child("readers")?, world.child("ci")?.child("senders")?);
    let running = daemon.start()?;
    let go = scene.directory().join("go");
    let line = ["/usr/bin/python3", "-c", READER, &go.display().to_string()];
    let mut reader = Process::start(&mut scene.world.command_in(&readers, &line), scene.directory())?;
    reader.wait_for_output("listening", LIMIT)?;
    let sender = senders.child("other")?;
    let line = ["/usr/bin/python3", "-c", SENDER];
    let sent = Process::run(&mut scene.world.command_in(&sender, &line), scene.directory(), LIMIT)?;
    assert!(sent.status.success(), "{sent:?}");
    wait_until("the cgroup to be empty", LIMIT, || Ok(std::fs::remove_dir(sender.path()).is_ok()))?;
    // The daemon sees it within the first half of this; then it is told of no one more.
    std::thread::sleep(std::time::Duration::from_secs(1));
    std::fs::write(&go, "")?;
    let read = reader.finish(LIMIT)?;
    assert_eq!(String::from_utf8_lossy(&read.stdout).lines().last(), Some("1000000"), "{read:?}");
    running.stop()?;
    assert_eq!(told(&daemon.records()?), []);
    Ok(())
}
