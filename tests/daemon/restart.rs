//! The daemon killed, ended and started again: shut meanwhile, and no refused connection where sockets are kept.

use crate::{ask_directly, look, told};
use anyhow::{Context as _, Result, ensure};
use std::{
    process::Stdio,
    time::{Duration, Instant},
};
use tidegate_tests::{
    agent::{LIMIT, READ_ONLY},
    client::Answer,
    daemon::Daemon,
    process::{Process, wait_until},
    scene::Scene,
};

fn daemon(scene: &Scene) -> Result<Daemon<'_>> {
    Daemon::new(scene)?.policy("look", READ_ONLY)?.workload("ci", "look", r#"[{ cgroup = "CGROUP/ci" }]"#)
}

/// Connects for each line that it reads; prints what came of it and after how many milliseconds.
const CONNECT: &str = r#"
import socket, sys, time
for line in sys.stdin:
    began = time.monotonic()
    try:
        socket.create_connection(("192.0.2.10", 443), timeout=10).close()
        came = "connected"
    except OSError as error:
        came = type(error).__name__
    print(came, int((time.monotonic() - began) * 1000), flush=True)
"#;

#[test]
fn a_killed_daemon_leaves_the_gate_shut_and_the_next_opens_it() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?;
    let ci = scene.world.cgroup().child("ci")?;
    let other = scene.world.cgroup().child("other")?;
    for _ in 0..3 {
        let running = daemon.start()?;
        assert_eq!(Answer::of(&daemon.run(&ci, &look())?)?.status, 200);
        running.kill()?;
        let requests = scene.requests()?.len();
        let mut command = scene.world.command_in(&ci, &["python3", "-c", CONNECT]);
        command.stdin(Stdio::piped());
        let mut process = Process::start(&mut command, scene.directory())?;
        let mut stdin = process.take_stdin().context("standard input")?;
        std::io::Write::write_all(&mut stdin, b"\n")?;
        drop(stdin);
        let text = process.finish(LIMIT)?.text();
        let (came, milliseconds) = text.trim().split_once(' ').context("a line")?;
        assert_eq!(came, "ConnectionRefusedError");
        assert!(milliseconds.parse::<u64>()? < 100, "{text}");
        assert_eq!(scene.requests()?.len(), requests);
        assert_eq!(ask_directly(&scene, &other)?.status, 200, "nobody else is held");
    }
    let running = daemon.start()?;
    assert_eq!(Answer::of(&daemon.run(&ci, &look())?)?.status, 200);
    running.stop()?;
    Ok(())
}

/// Asks the API again and again on new connections until its standard input ends; prints what was not a 200.
const LOOP: &str = r#"
import http.client, select, ssl, sys
context, count = ssl.create_default_context(), 0
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        connection = http.client.HTTPSConnection("api.digitalocean.com", timeout=20, context=context)
        connection.connect()
    except ConnectionRefusedError as error:
        print("refused", error, flush=True)
        continue
    except (ssl.SSLError, OSError) as error:
        # The one that was being served, or the CA of the next daemon.
        context = ssl.create_default_context()
        continue
    try:
        connection.request("GET", "/v2/droplets", headers={"Authorization": "Bearer t"})
        count += connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        pass
    connection.close()
print("served", count, flush=True)
"#;

#[test]
fn with_kept_listeners_no_connection_is_refused_across_restarts() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?.keeping();
    let ci = scene.world.cgroup().child("ci")?;
    let mut running = daemon.start()?;
    assert_eq!(daemon.kept(), ["tidegate-listener-4", "tidegate-listener-6"]);
    let mut command = daemon.client(&ci, &["python3", "-c", LOOP])?;
    let mut process = Process::start(command.stdin(Stdio::piped()), scene.directory())?;
    let stdin = process.take_stdin().context("standard input")?;
    for is_killed in [false, true, false] {
        let before = daemon.records()?.len();
        wait_until("requests", LIMIT, || Ok(daemon.records()?.len() > before + 3))?;
        if is_killed {
            running.kill()?
        } else {
            _ = running.stop()?
        }
        std::thread::sleep(Duration::from_millis(300));
        running = daemon.start()?;
        let log = running.process.stderr()?;
        ensure!(log.matches("took over a listener").count() == 2, "{log}");
    }
    let before = daemon.records()?.len();
    wait_until("requests", LIMIT, || Ok(daemon.records()?.len() > before + 3))?;
    drop(stdin);
    let text = process.finish(LIMIT)?.text();
    running.stop()?;
    ensure!(text.starts_with("served ") && text.lines().count() == 1, "{text}");
    assert_eq!(daemon.kept().len(), 2, "a listener is kept once");
    Ok(())
}

#[test]
fn what_waits_while_no_daemon_is_there_is_served_by_the_next() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?.keeping();
    let ci = scene.world.cgroup().child("ci")?;
    let running = daemon.start()?;
    running.kill()?;
    let mut command = scene.world.command_in(&ci, &["python3", "-c", CONNECT]);
    let mut process = Process::start(command.stdin(Stdio::piped()), scene.directory())?;
    let mut stdin = process.take_stdin().context("standard input")?;
    std::io::Write::write_all(&mut stdin, b"\n")?;
    process.wait_for_output("connected", LIMIT)?;
    drop((stdin, process));
    let began = Instant::now();
    let running = daemon.start()?;
    wait_until("a record of what had waited", LIMIT, || Ok(!daemon.records()?.is_empty()))?;
    running.stop()?;
    let records = daemon.records()?;
    assert!(
        told(&records).iter().all(|(workload, ..)| *workload == "ci"),
        "{records:?} after {:?}",
        began.elapsed()
    );
    Ok(())
}

#[test]
fn a_workload_that_the_next_configuration_does_not_have_is_free() -> Result<()> {
    let scene = Scene::new()?;
    let with = daemon(&scene)?.workload("user", "look", r#"[{ user = "4242" }]"#)?;
    let (ci, kept) = (scene.world.cgroup().child("ci")?, scene.world.cgroup().child("kept")?);
    with.start()?.stop()?;
    assert!(ask_directly(&scene, &ci).is_err(), "held while no daemon is there");
    let without = with.without_workloads().workload("kept", "look", r#"[{ cgroup = "CGROUP/kept" }]"#)?;
    let running = without.start()?;
    assert_eq!(ask_directly(&scene, &ci)?.status, 200);
    assert_eq!(Answer::of(&without.run(&kept, &look())?)?.status, 200);
    running.stop()?;
    Ok(())
}
