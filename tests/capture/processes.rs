//! Who is captured: the command, whatever it starts, wherever that goes; and nobody else.

use crate::{api, expect, printed};
use anyhow::{Context as _, Result};
use std::{collections::BTreeMap, fs, time::Duration};
use tidegate_tests::{
    audit, client,
    process::{Process, wait_until},
    scene::Scene,
};

const LIMIT: Duration = Duration::from_secs(30);

/// Says its process id, waits for the file $1, and becomes the rest of its arguments.
const WHEN_TOLD: &str = r#"echo "pid $$."; while [ ! -e "$1" ]; do sleep 0.02; done; shift; exec "$@""#;

#[test]
fn a_neighbour_is_not_touched() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("processes")?;
    let mut running = tidegate.start(&["sh", "-c", "echo up; sleep 60"])?;
    running.wait_for_output("up", LIMIT)?;
    let line = client::curl(&["--request", "DELETE"], &api("/v2/droplets/3164444"), "");
    assert_eq!(scene.ask_directly(&line)?.status, 204);
    assert_eq!(scene.requests()?.len(), 1);
    assert!(tidegate.records()?.is_empty());
    Ok(())
}

#[test]
fn a_grandchild_in_a_session_of_its_own_is_captured() -> Result<()> {
    let scene = Scene::new()?;
    let script = r#"setsid sh -c '"$@"; true' inner "$@"; echo "shell $$.""#;
    let line = client::curl(&["--request", "DELETE"], &api("/v2/droplets/3164444"), "");
    let mut arguments = vec!["sh".to_owned(), "-c".to_owned(), script.to_owned(), "outer".to_owned()];
    arguments.extend(line);
    let ran = scene.tidegate("processes")?.run(&arguments)?;
    assert!(ran.finished.text().contains("\"forbidden\""), "{ran:?}");
    let record = ran.outcome("DELETE /v2/droplets/3164444")?;
    assert_eq!(
        record.text("process.executable.path"),
        fs::canonicalize("/usr/bin/curl")?.display().to_string()
    );
    let shell = format!("shell {}.", record.number("process.pid").unwrap_or_default());
    assert!(!ran.finished.text().contains(&shell), "the grandchild's own pid is recorded");
    assert!(scene.requests()?.is_empty());
    Ok(())
}

#[test]
fn a_program_in_a_cgroup_below_is_captured() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("processes")?;
    let go = scene.directory().join("go");
    let mut arguments = vec!["sh".to_owned(), "-c".to_owned(), WHEN_TOLD.to_owned(), "waiting".to_owned()];
    arguments.push(go.display().to_string());
    arguments.extend(client::curl(&["--request", "DELETE"], &api("/v2/droplets/3164444"), ""));
    let mut running = tidegate.start(&arguments)?;
    running.wait_for_output(".", LIMIT)?;
    let said = running.stdout()?;
    let pid =
        said.strip_prefix("pid ").and_then(|rest| rest.split('.').next()).context("the pid")?.to_owned();

    let runs = tidegate.root().children()?;
    let [run] = runs.as_slice() else { panic!("{runs:?}") };
    let below = tidegate.root().path().join(run).join("below");
    fs::create_dir(&below)?;
    fs::create_dir(below.join("deeper"))?;
    fs::write(below.join("deeper/cgroup.procs"), &pid)?;
    fs::write(&go, "")?;

    let finished = running.finish(LIMIT)?;
    assert!(finished.text().contains("\"forbidden\""), "{finished:?}");
    let records = tidegate.records()?;
    let record = audit::only(&records, "the deletion", |record| record.request().starts_with("DELETE"))?;
    expect(record, "deny", "refused", "missing_scope", Some(403))?;
    assert!(record.text("tidegate.cgroup").ends_with("/below/deeper"), "{record:?}");
    assert!(tidegate.root().children()?.is_empty(), "cgroups are left behind");
    Ok(())
}

#[test]
fn the_agents_own_connections_are_not_captured() -> Result<()> {
    let scene = Scene::new()?;
    let before = scene.standin.log().connections()?;
    let tidegate = scene.tidegate("processes")?;
    let running = tidegate.start(&client::curl(&[], &api("/v2/account"), ""))?;
    let agent = u64::from(running.id());
    let finished = running.finish(LIMIT)?;
    assert!(finished.text().contains("sammy@example.com"), "{finished:?}");
    let records = tidegate.records()?;
    assert_eq!(audit::outcomes(&records).len(), 1, "{records:#?}");
    assert!(records.iter().all(|record| record.number("process.pid") != Some(agent)), "{records:#?}");
    assert_eq!(scene.standin.log().connections()?, before + 1);
    Ok(())
}

/// Twenty processes of ten threads: all connections are open before the first request goes out. Each asks for a
/// Droplet whose number is its own process and thread, and every third is to delete it.
const CROWD: &str = r#"
import os, socket, ssl, sys, threading
def crowd():
    barrier = threading.Barrier(10)
    def member(number):
        address = "192.0.2.10" if number % 2 else "2001:db8::10"
        connection = ssl.create_default_context().wrap_socket(
            socket.create_connection((address, 443), timeout=50), server_hostname="api.digitalocean.com")
        barrier.wait()
        method = "DELETE" if number % 3 == 0 else "GET"
        connection.sendall(f"{method} /v2/droplets/{os.getpid()}{number} HTTP/1.1\r\nHost: api.digitalocean.com\r\n"
                           "Authorization: Bearer some-token\r\nConnection: close\r\n\r\n".encode())
        status = connection.recv(65536).split(b" ")[1].decode()
        os.write(1, f"{method} {os.getpid()} {number} {status}\n".encode())
    threads = [threading.Thread(target=member, args=(number,)) for number in range(10)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
children = []
for _ in range(20):
    child = os.fork()
    if child == 0:
        crowd()
        os._exit(0)
    children.append(child)
for child in children: os.waitpid(child, 0)
"#;

#[test]
fn two_hundred_connections_at_once_each_get_the_right_record() -> Result<()> {
    let scene = Scene::new()?;
    // More than there may be handshakes at once: the others wait for their turn.
    let tidegate = scene.tidegate("processes")?;
    let ran = tidegate.run(&["python3", "-c", CROWD])?;
    let text = printed(&ran)?;
    let mut expected = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [method, pid, number, status] = words.as_slice() else { panic!("{line}") };
        assert_eq!(*status, if *method == "GET" { "404" } else { "403" }, "{line}");
        expected.insert(format!("{method} /v2/droplets/{pid}{number}"), (*pid, *number));
    }
    assert_eq!(expected.len(), 200, "{text}{}", ran.finished.stderr);
    for (request, (pid, number)) in &expected {
        let record = ran.outcome(request)?;
        assert_eq!(
            record.number("process.pid").map(|pid| pid.to_string()).as_deref(),
            Some(*pid),
            "{record:?}"
        );
        let address = if number.parse::<u32>()? % 2 == 1 { "192.0.2.10" } else { "2001:db8::10" };
        assert_eq!(record.text("destination.address"), address, "{record:?}");
        assert_eq!(record.decision(), if request.starts_with("GET") { "allow" } else { "deny" });
    }
    assert_eq!(scene.requests()?.len(), 120);
    Ok(())
}

#[test]
fn two_runs_side_by_side_keep_to_their_own_policies() -> Result<()> {
    let scene = Scene::new()?;
    let go = scene.directory().join("go");
    let mut arguments = vec!["sh".to_owned(), "-c".to_owned(), WHEN_TOLD.to_owned(), "waiting".to_owned()];
    arguments.push(go.display().to_string());
    arguments.extend(client::curl(&["--request", "DELETE"], &api("/v2/droplets/3164444"), ""));
    let reader = scene.tidegate("reader")?;
    let writer = scene.tidegate("writer")?.policy("deleter", "allow = [\"droplet:delete\"]\n")?;
    let mut running: Vec<Process> = vec![reader.start(&arguments)?, writer.start(&arguments)?];
    for process in &mut running {
        process.wait_for_output(".", LIMIT)?;
    }
    fs::write(&go, "")?;
    let mut answers = Vec::new();
    for process in running {
        answers.push(client::Answer::of(&process.finish(LIMIT)?)?.status);
    }
    assert_eq!(answers, [403, 204]);
    wait_until("both records", LIMIT, || Ok(reader.records()?.len() == 1 && writer.records()?.len() == 2))?;
    Ok(())
}
