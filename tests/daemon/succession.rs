//! One daemon follows another on the same machine, as in a rolling update: who connects meanwhile is not refused.

use crate::{
    api,
    daemon::namespaces::{Container, daemon},
    look, told,
};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use std::{collections::BTreeSet, fs, process::Stdio};
use tidegate_tests::{
    agent::LIMIT,
    cgroup::Cgroup,
    client::{self, Answer},
    daemon::{Daemon, Running},
    process::{Process, wait_until},
    programs,
    scene::Scene,
};

/// Asks the API again and again, each time on a new connection, until its standard input ends; prints what was not a 200.
const LOOP: &str = r#"
import http.client, select, ssl, sys
context, count = ssl.create_default_context(), 0
while not select.select([sys.stdin], [], [], 0.005)[0]:
    try:
        connection = http.client.HTTPSConnection("api.digitalocean.com", timeout=20, context=context)
        connection.request("GET", "/v2/droplets", headers={"Authorization": "Bearer t"})
        answer = connection.getresponse()
        answer.read()
        count += answer.status == 200
        if answer.status != 200:
            print("answer", answer.status, flush=True)
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        print("failed", repr(error), flush=True)
print("served", count, flush=True)
"#;

/// Programs that never stop asking.
#[derive(Debug)]
struct Clients(Vec<Process>);

impl Clients {
    /// So many in the world's own network namespace, and as many in the container's.
    fn start(scene: &Scene, container: &Container<'_>, cgroup: &Cgroup, number: usize) -> Result<Self> {
        let line = ["python3", "-c", LOOP].map(str::to_owned);
        let begin = |within: &[String]| {
            let mut command = scene.world.command_in(cgroup, &[within, &line].concat());
            client::trust(&mut command, "/run/tidegate/ca.pem".as_ref());
            Process::start(command.stdin(Stdio::piped()), scene.directory())
        };
        let within = [Vec::new(), container.within().to_vec()];
        let all: Result<Vec<Process>> =
            within.iter().cycle().take(2 * number).map(|within| begin(within)).collect();
        all.map(Self)
    }

    /// Lets them end. How many requests were served, and what was said of the others.
    fn finish(self) -> Result<(usize, String)> {
        let (mut served, mut failed) = (0, String::new());
        for mut process in self.0 {
            drop(process.take_stdin());
            for line in process.finish(LIMIT)?.text().lines() {
                match line.strip_prefix("served ") {
                    Some(count) => served += count.parse::<usize>()?,
                    None => failed.push_str(&format!("{line}\n")),
                }
            }
        }
        Ok((served, failed))
    }
}

/// Whether a connect was refused; the container has no way out by IPv6, which is tried last.
fn is_refused(line: &str) -> bool {
    line.contains("ConnectionRefusedError") || line.contains("PermissionError")
}

/// Starts the next daemon beside the one that works, and waits until that one knows of it.
fn begin_next(daemon: &Daemon<'_>, scene: &Scene, now: &Running) -> Result<Running> {
    let known = |running: &Running| -> Result<usize> {
        Ok(running.process.stderr()?.matches("another agent waits to follow this one").count())
    };
    let before = known(now)?;
    let process = Process::start(daemon.command()?.arg("--wait"), scene.directory())?;
    wait_until("the daemon to know of the next", LIMIT, || Ok(known(now)? > before))?;
    Ok(Running { process })
}

/// Waits until this daemon says that it is ready.
fn ready(running: &Running) -> Result<()> {
    wait_until("the next daemon to be ready", LIMIT, || Ok(running.process.stderr()?.contains(": ready")))
        .with_context(|| running.process.stderr().unwrap_or_default())
}

/// Waits for sixty more records, of which the last may be half there yet.
fn more_records(daemon: &Daemon<'_>) -> Result<()> {
    let lines = || -> Result<usize> { Ok(fs::read_to_string(daemon.audit())?.lines().count()) };
    let before = lines()?;
    wait_until("records", LIMIT, || Ok(lines()? > before + 60))
}

/// The chains of records: each daemon's are one.
fn chains(daemon: &Daemon<'_>) -> Result<BTreeSet<String>> {
    let id = |record: &tidegate_tests::audit::Record| record.text("tidegate.chain.id").to_owned();
    Ok(daemon.records()?.iter().map(id).collect())
}

#[test]
fn no_request_fails_while_one_daemon_follows_another() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?;
    let ci = scene.world.cgroup().child("ci")?;
    let mut running = daemon.start()?;
    let job = ci.child("job")?;
    let container = Container::linked(&scene, &job)?;
    assert_eq!(container.ask(&job, &look())?.status, 200);
    let clients = Clients::start(&scene, &container, &job, 3)?;
    let mut logs = Vec::new();
    for _ in 0..3 {
        let next = begin_next(&daemon, &scene, &running)?;
        more_records(&daemon)?;
        logs.push(running.stop()?.stderr);
        ready(&next)?;
        running = next;
        more_records(&daemon)?;
    }
    let (served, failed) = clients.finish()?;
    logs.push(running.stop()?.stderr);
    ensure!(failed.is_empty() && served > 360, "{served} served; {failed}{}", logs.concat());
    let outcomes = daemon.records()?;
    let outcomes = outcomes.iter().filter(|record| record.reason() == "scopes_allowed");
    assert_eq!(outcomes.count(), served + 1, "each is decided, and by one");
    for (number, log) in logs.iter().enumerate() {
        let handed_over = log.matches("the agent that waited has the listeners").count();
        let taken = log.matches("took over a listener").count();
        let expected = (usize::from(number < 3), if number > 0 { 3 } else { 0 });
        ensure!((handed_over, taken) == expected, "{log}");
        ensure!(!log.contains("killed before it recorded") && !log.contains("ERROR"), "{log}");
    }
    let tidegate = programs::built("tidegate")?;
    let verify = [
        tidegate.as_os_str(),
        "audit".as_ref(),
        "verify".as_ref(),
        "--config".as_ref(),
        daemon.config().as_os_str(),
    ];
    let verified = Process::run(&mut scene.world.command(&verify), scene.directory(), LIMIT)?;
    ensure!(verified.status.success(), "{verified:?}");
    assert_eq!(chains(&daemon)?.len(), 4);
    Ok(())
}

#[test]
fn requests_under_way_are_answered_while_the_next_daemon_accepts() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?;
    let ci = scene.world.cgroup().child("ci")?;
    let running = daemon.start()?;
    let job = ci.child("job")?;
    let next = begin_next(&daemon, &scene, &running)?;
    // Longer than connections get that nobody else could have.
    let slow = client::curl(&[], &api("/v2/droplets?standin_delay_ms=8000"), "");
    let slow = Process::start(&mut daemon.client(&job, &slow)?, scene.directory())?;
    wait_until("the request to be under way", LIMIT, || Ok(scene.requests()?.len() == 1))?;
    running.process.signal(Signal::SIGTERM)?;
    ready(&next)?;
    assert_eq!(Answer::of(&daemon.run(&job, &look())?)?.status, 200);
    let mut running = running;
    ensure!(running.process.ended()?.is_none(), "the one before has not ended yet");
    assert_eq!(Answer::of(&slow.finish(LIMIT)?)?.status, 200);
    ensure!(running.process.finish(LIMIT)?.status.success());
    next.stop()?;
    let records = daemon.records()?;
    assert_eq!(told(&records), [("ci", "look", "scopes_allowed"); 2]);
    Ok(())
}

#[test]
fn where_nothing_is_handed_over_connects_are_refused_until_the_next_daemon_listens() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?;
    let ci = scene.world.cgroup().child("ci")?;
    let running = daemon.start()?;
    let job = ci.child("job")?;
    let container = Container::linked(&scene, &job)?;
    assert_eq!(container.ask(&job, &look())?.status, 200);
    let next = begin_next(&daemon, &scene, &running)?;
    // It cannot say any more what it has.
    next.process.signal(Signal::SIGSTOP)?;
    running.kill()?;
    let clients = Clients::start(&scene, &container, &job, 1)?;
    let refused = |clients: &Clients| -> Result<bool> {
        let told: Result<Vec<String>> = clients.0.iter().map(Process::stdout).collect();
        Ok(told?.iter().all(|told| is_refused(told)))
    };
    wait_until("refused connects", LIMIT, || refused(&clients)).with_context(|| format!("{clients:?}"))?;
    next.process.signal(Signal::SIGCONT)?;
    ready(&next)?;
    let log = next.process.stderr()?;
    ensure!(log.contains("has handed nothing over") && !log.contains("took over"), "{log}");
    assert_eq!(container.ask(&job, &look())?.status, 200);
    let (served, failed) = clients.finish()?;
    ensure!(failed.lines().all(is_refused), "{served} served; {failed}");
    assert_eq!(scene.requests()?.len(), served + 2, "nothing got past");
    next.stop()?;
    Ok(())
}

#[test]
fn a_network_namespace_goes_though_a_daemon_waits() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?;
    let ci = scene.world.cgroup().child("ci")?;
    let running = daemon.start()?;
    let job = ci.child("job")?;
    let mut container = Container::linked(&scene, &job)?;
    assert_eq!(container.ask(&job, &look())?.status, 200);
    let next = begin_next(&daemon, &scene, &running)?;
    container.end()?;
    running.stop()?;
    ready(&next)?;
    wait_until("the namespace to go", LIMIT, || Ok(!container.is_there()?))?;
    assert_eq!(daemon.listeners_elsewhere()?, 0);
    assert_eq!(Answer::of(&daemon.run(&job, &look())?)?.status, 200);
    next.stop()?;
    Ok(())
}

#[test]
fn of_two_daemons_that_wait_one_follows_the_other() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = daemon(&scene)?;
    let job = scene.world.cgroup().child("ci")?.child("job")?;
    let running = daemon.start()?;
    let second = begin_next(&daemon, &scene, &running)?;
    let third = Running { process: Process::start(daemon.command()?.arg("--wait"), scene.directory())? };
    wait_until("it to wait behind the other", LIMIT, || {
        Ok(third.process.stderr()?.contains("waiting behind it"))
    })?;
    let follow = |ended: Running, next: &Running| -> Result<()> {
        wait_until("the daemon to know of the next", LIMIT, || {
            Ok(ended.process.stderr()?.contains("another agent waits to follow this one"))
        })?;
        ended.stop()?;
        ready(next)?;
        let log = next.process.stderr()?;
        ensure!(log.contains("took over a listener"), "{log}");
        assert_eq!(Answer::of(&daemon.run(&job, &look())?)?.status, 200);
        Ok(())
    };
    follow(running, &second)?;
    follow(second, &third)?;
    third.stop()?;
    Ok(())
}
