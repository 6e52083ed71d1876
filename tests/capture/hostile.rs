//! Commands that mean harm, and the agent's bad luck: nothing passes, nothing is flooded, nothing goes unsaid.

use crate::{api, printed};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use std::time::{Duration, Instant};
use test_case::test_case;
use tidegate_tests::{
    agent::LIMIT,
    audit::Record,
    client,
    netns::addresses::API,
    process::{Process, wait_until},
    scene::Scene,
};

/// For how many refusals the records with this reason stand.
fn counted(records: &[Record], reason: &str) -> u64 {
    let fitting = records.iter().filter(|record| record.reason() == reason);
    fitting.map(|record| record.number("tidegate.count").unwrap_or(1)).sum()
}

const DATAGRAMS: &str = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(100_000):
    try: s.sendto(b"quic", ("192.0.2.10", 443)); print("sent")
    except PermissionError: pass
"#;

#[test]
fn a_flood_of_datagrams_is_counted_to_the_last_in_a_few_records() -> Result<()> {
    let scene = Scene::new()?;
    let ran = scene.tidegate("hostile")?.run(&["python3", "-c", DATAGRAMS])?;
    assert_eq!(printed(&ran)?, "");
    assert!(ran.records.len() < 100, "{} records", ran.records.len());
    let counted = counted(&ran.records, "quic_refused") + counted(&ran.records, "refusal_flood");
    assert_eq!(counted, 100_000, "{:#?}", ran.records);
    Ok(())
}

const SCAN: &str = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(20_000):
    try: s.sendto(b"quic", (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 443)); print("sent")
    except PermissionError: pass
"#;

#[test]
fn a_flood_to_ever_new_addresses_is_bounded_too() -> Result<()> {
    let scene = Scene::new()?;
    let ran = scene.tidegate("hostile")?.run(&["python3", "-c", SCAN])?;
    assert_eq!(printed(&ran)?, "");
    assert!(ran.records.len() < 5_000, "{} records", ran.records.len());
    assert_eq!(counted(&ran.records, "quic_refused") + counted(&ran.records, "refusal_flood"), 20_000);
    Ok(())
}

/// Connects 500 times to each listener of the agent, whose ports everybody on the machine can see.
const STRANGER: &str = r#"
import socket
ports = {int(line.split()[1].split(":")[1], 16) for line in open("/proc/net/tcp") if line.split()[3] == "0A"}
ports = [port for port in ports if 600 <= port < 1024]
for port in ports:
    for _ in range(500):
        s = socket.create_connection(("127.0.0.1", port), timeout=20)
        assert s.recv(1) == b""
print(len(ports))
"#;

#[test]
fn connections_of_strangers_are_closed_and_counted() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("hostile")?;
    let mut running = tidegate.start(&["sh", "-c", "echo up; sleep 60"])?;
    running.wait_for_output("up", LIMIT)?;
    let mut stranger = scene.world.command(&["python3", "-c", STRANGER]);
    let finished = Process::run(&mut stranger, scene.directory(), LIMIT)?;
    assert_eq!(finished.text(), "1\n", "{finished:?}");
    running.signal(Signal::SIGTERM)?;
    running.finish(LIMIT)?;
    let records = tidegate.records()?;
    assert_eq!(counted(&records, "no_flow"), 500, "{records:#?}");
    assert!(records.len() < 50, "{} records", records.len());
    Ok(())
}

#[test]
fn the_kernel_sides_lines_are_in_the_agents_own_log() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("hostile")?;
    let script = r#"
import socket
socket.create_connection(("192.0.2.10", 443)).close()
try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"quic", ("192.0.2.10", 443))
except PermissionError: pass
"#;
    let mut command = tidegate.command(&["python3", "-c", script])?;
    let finished = Process::run(command.env("TIDEGATE_LOG", "debug"), scene.directory(), LIMIT)?;
    for line in ["redirected port 443 of process ", "refused port 443 for process "] {
        ensure!(finished.stderr.contains(line), "`{line}` is not in {finished:?}");
    }
    let quiet = tidegate.run(&["python3", "-c", script])?;
    ensure!(quiet.finished.stderr.is_empty(), "{quiet:?}");
    Ok(())
}

#[test]
fn without_any_route_the_user_is_told_why_nothing_connects() -> Result<()> {
    let scene = Scene::new()?;
    let script = "ip route flush table all type local exact default; ip -6 route flush table all type local exact default";
    let unrouted = Process::run(&mut scene.world.command(&["sh", "-ec", script]), scene.directory(), LIMIT)?;
    ensure!(unrouted.status.success(), "{unrouted:?}");
    let connect = "import socket\ntry: socket.create_connection(('127.0.0.1', 443))\nexcept OSError as e: print(e.errno)";
    let ran = scene.tidegate("hostile")?.run(&["python3", "-c", connect])?;
    assert_eq!(printed(&ran)?, "1\n");
    ensure!(ran.finished.stderr.contains("no global route"), "{ran:?}");
    ran.outcome_because("no_listener")?;
    Ok(())
}

const PARALLEL: &str = r#"
import resource, socket, ssl
connections = [ssl.create_default_context().wrap_socket(
    socket.create_connection(("192.0.2.10", 443), timeout=20), server_hostname="api.digitalocean.com") for _ in range(40)]
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"#;

#[test]
fn a_low_limit_on_open_files_is_the_commands_and_not_the_agents() -> Result<()> {
    let scene = Scene::new()?;
    let given = scene.tidegate("hostile")?.command(&["python3", "-c", PARALLEL])?;
    let mut command = std::process::Command::new("prlimit");
    command.arg("--nofile=64:4096").arg(given.get_program()).args(given.get_args());
    tidegate_tests::programs::plain_environment(&mut command, scene.directory());
    let finished = Process::run(&mut command, scene.directory(), LIMIT)?;
    assert_eq!(finished.text(), "64\n", "{finished:?}");
    Ok(())
}

/// Connects for as long as it lives, and says something that the agent never passes on to a protected address.
const HAMMER: &str = r#"
import os, socket, sys
for _ in range(3): os.fork()
print("up", flush=True)
while True:
    s = socket.socket()
    s.settimeout(2)
    try:
        s.connect((sys.argv[1], 443))
        s.send(b"direct")
    except OSError: pass
    s.close()
"#;

#[test_case(false; "tidegate")]
#[test_case(true; "tidegate and its reaper")]
fn no_connection_gets_through_while_a_killed_run_is_taken_down(reaper_too: bool) -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("hostile")?;
    let mut hammer = scene.world.command(&["timeout", "1", "python3", "-c", HAMMER, &API.to_string()]);
    Process::run(&mut hammer, scene.directory(), LIMIT)?;
    let direct = scene.standin.log().connections()?;
    assert!(direct > 0, "the test would not see a direct connection");
    // Its children may outlive the shell's own process.
    let settled = || scene.standin.log().connections();
    let mut last = direct;
    wait_until("the direct connections end", LIMIT, || {
        std::thread::sleep(Duration::from_millis(300));
        let now = settled()?;
        Ok(std::mem::replace(&mut last, now) == now)
    })?;
    let before = settled()?;
    for _ in 0..3 {
        let mut running = tidegate.start(&["python3", "-c", HAMMER, &API.to_string()])?;
        running.wait_for_output("up", LIMIT)?;
        std::thread::sleep(Duration::from_millis(100));
        if reaper_too {
            for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
                for pid in crate::capture::remains::agents(&scene)? {
                    kill(nix::unistd::Pid::from_raw(i32::try_from(pid)?), signal)?;
                }
            }
            std::thread::sleep(Duration::from_millis(300));
            assert!(!tidegate.root().processes()?.is_empty(), "the command lives on");
            // Not `run`, which would refuse the line that the killed one may have torn.
            let swept = tidegate.start(&["true"])?.finish(LIMIT)?;
            assert!(swept.status.success(), "{swept:?}");
        } else {
            running.signal(Signal::SIGKILL)?;
        }
        wait_until("nothing is left", LIMIT, || Ok(tidegate.root().children()?.is_empty()))?;
        assert_eq!(settled()?, before, "connections past the agent");
    }
    Ok(())
}

#[test]
fn a_stopped_agent_lets_nothing_through() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("hostile")?;
    let line = client::curl(&["--max-time", "2"], &api("/v2/account"), "");
    let mut arguments =
        vec!["sh".to_owned(), "-c".to_owned(), "echo up; sleep 1; exec \"$@\"".to_owned(), "x".to_owned()];
    arguments.extend(line);
    let mut running = tidegate.start(&arguments)?;
    running.wait_for_output("up", LIMIT)?;
    running.signal(Signal::SIGSTOP)?;
    let stopped = Instant::now();
    std::thread::sleep(Duration::from_secs(4).saturating_sub(stopped.elapsed()));
    assert!(scene.requests()?.is_empty());
    running.signal(Signal::SIGCONT)?;
    let finished = running.finish(LIMIT).context("after the stop")?;
    assert!(!finished.status.success(), "{finished:?}");
    assert!(scene.requests()?.is_empty());
    Ok(())
}
