//! `tidegate run` is as good as the command itself: status, signals, streams, environment.

use anyhow::Result;
use nix::sys::signal::Signal;
use std::{
    process::Stdio,
    time::{Duration, Instant},
};
use test_case::test_case;
use tidegate_tests::{agent::LIMIT, process::Process, scene::Scene};

#[test_case(&["true"], 0; "success")]
#[test_case(&["sh", "-c", "exit 7"], 7; "failure")]
#[test_case(&["/no/such/program"], 127; "not found")]
#[test_case(&["/etc/hosts"], 126; "not executable")]
#[test_case(&["sh", "-c", "kill -TERM $$"], 143; "killed by a signal")]
fn the_exit_status_is_the_commands(command: &[&str], expected: i32) -> Result<()> {
    let scene = Scene::new()?;
    let ran = scene.tidegate("lifecycle")?.run(command)?;
    assert_eq!(ran.finished.status.code(), Some(expected), "{ran:?}");
    Ok(())
}

#[test_case("allow = [\"no_such:scope\"]\n", "no_such:scope"; "an unknown scope")]
#[test_case("alow = [\"api:read\"]\n", "alow"; "an unknown key")]
fn a_policy_that_does_not_load_starts_nothing(policy: &str, named: &str) -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("lifecycle")?.policy("broken", policy)?;
    let ran = Process::run(&mut tidegate.command(&["echo", "started"])?, scene.directory(), LIMIT)?;
    assert!(matches!(ran.status.code(), Some(2 | 125)), "{ran:?}");
    assert!(ran.stderr.contains(named) && ran.stderr.contains("broken.toml"), "{ran:?}");
    assert_eq!(ran.text(), "");
    assert!(tidegate.root().children()?.is_empty());
    Ok(())
}

#[test_case(Signal::SIGTERM, "TERM"; "terminate")]
#[test_case(Signal::SIGINT, "INT"; "interrupt")]
#[test_case(Signal::SIGUSR1, "USR1"; "user defined")]
fn signals_are_passed_on(signal: Signal, name: &str) -> Result<()> {
    let scene = Scene::new()?;
    let script = format!("trap 'echo got {name}; exit 9' {name}; echo up; while :; do sleep 0.05; done");
    let mut running = scene.tidegate("lifecycle")?.start(&["sh", "-c", &script])?;
    running.wait_for_output("up", LIMIT)?;
    running.signal(signal)?;
    let finished = running.finish(LIMIT)?;
    assert_eq!(finished.status.code(), Some(9), "{finished:?}");
    assert_eq!(finished.text(), format!("up\ngot {name}\n"));
    Ok(())
}

#[test]
fn streams_directory_and_environment_are_the_callers() -> Result<()> {
    let scene = Scene::new()?;
    let input = scene.world.write("input", "from standard input\n")?;
    let tidegate = scene.tidegate("lifecycle")?;
    let mut command = tidegate.command(&["sh", "-c", "cat; echo $MARK; pwd; echo err >&2; id -u"])?;
    command.stdin(Stdio::from(std::fs::File::open(input)?)).env("MARK", "a mark");
    let finished = Process::start(&mut command, scene.directory())?.finish(LIMIT)?;
    assert_eq!(finished.text(), "from standard input\na mark\n/\n0\n", "{finished:?}");
    assert!(finished.stderr.lines().any(|line| line == "err"), "{finished:?}");
    Ok(())
}

#[test]
fn a_command_cannot_undo_its_capture() -> Result<()> {
    const SCRIPT: &str = r#"
for directory in $(awk '$3 == "cgroup2" { print $2 }' /proc/mounts); do
    if echo 0 2>/dev/null >"$directory/cgroup.procs"; then echo "left by $directory"; fi
    if mkdir "$directory/mine" 2>/dev/null; then echo "made $directory/mine"; fi
done
if [ ! -e /var/lib/tidegate/audit.key ]; then echo "there is no key that it could have"; fi
if [ -n "$(cat /var/lib/tidegate/audit.key 2>/dev/null)" ]; then echo "has the audit log's key"; fi
if unshare --mount true 2>/dev/null; then echo "has SYS_ADMIN"; fi
if ip link set lo mtu 1400 2>/dev/null; then echo "has NET_ADMIN"; fi
if python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 6)' 2>/dev/null; then echo "has raw"; fi
cat /proc/self/cgroup | grep ^0::
"#;
    let scene = Scene::new()?;
    let ran = scene.tidegate("lifecycle")?.run(&["sh", "-c", SCRIPT])?;
    assert_eq!(ran.finished.text(), "0::/\n", "{ran:?}");
    Ok(())
}

#[test]
fn a_short_command_takes_no_time_to_clean_up_after() -> Result<()> {
    let scene = Scene::new()?;
    let tidegate = scene.tidegate("lifecycle")?;
    let started = Instant::now();
    tidegate.run(&["true"])?;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    Ok(())
}
