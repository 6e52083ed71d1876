//! How a run ends and what it leaves: the command's status, and nothing else.

use crate::place::{BINARY, Place, is_alive, is_gone, send, stderr, stdout};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use test_case::test_case;

#[test_case(&["true"], 0, ""; "success")]
#[test_case(&["sh", "-c", "exit 7"], 7, ""; "failure")]
#[test_case(&["sh", "-c", "kill -TERM $$"], 143, ""; "killed by a signal")]
#[test_case(&["no-such-program"], 127, "tidegate: cannot execute `no-such-program`"; "not found")]
#[test_case(&["/etc/passwd"], 126, "tidegate: cannot execute `/etc/passwd`"; "not executable")]
#[test_case(&[], 125, "tidegate: no command was given"; "no command")]
fn the_exit_status_is_that_of_the_command(command: &[&str], status: i32, message: &str) {
    let place = Place::new();
    let output = place.command(command).output().unwrap();
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    assert!(stderr(&output).starts_with(message), "{output:?}");
    assert_eq!(message.is_empty(), output.stderr.is_empty(), "{output:?}");
    place.expect_nothing_left(Duration::ZERO);
}

#[test]
fn what_the_command_leaves_behind_is_killed() {
    let place = Place::new();
    let output = place.shell("setsid sh -c 'setsid sleep 1000 & echo $!' ");
    let pid = stdout(&output).to_owned();
    assert!(output.status.success() && !pid.is_empty(), "{output:?}");
    assert!(is_gone(&pid));
    place.expect_nothing_left(Duration::ZERO);
}

#[test]
fn a_killed_tidegate_takes_its_command_along() {
    let place = Place::new();
    let (mut tidegate, pid) = place.start("setsid sleep 1000 & echo $!; wait");
    assert!(is_alive(&pid));
    send(&tidegate, Signal::SIGKILL);
    place.expect_nothing_left(Duration::from_secs(2));
    assert!(is_gone(&pid));
    tidegate.wait().unwrap();
}

#[test]
fn a_killed_reaper_is_replaced() {
    let place = Place::new();
    let (mut tidegate, pid) = place.start("sleep 1000 & echo $!; wait");
    let first = place.reaper_of(&tidegate).unwrap();
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    let end = Instant::now() + Duration::from_secs(2);
    while place.reaper_of(&tidegate).is_none_or(|reaper| reaper == first) {
        assert!(Instant::now() < end, "no second reaper");
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(100));
    send(&tidegate, Signal::SIGKILL);
    place.expect_nothing_left(Duration::from_secs(2));
    assert!(is_gone(&pid));
    tidegate.wait().unwrap();
}

#[test]
fn the_next_run_takes_down_one_whose_tidegate_and_reaper_were_killed() {
    let place = Place::new();
    let (mut tidegate, pid) = place.start("sleep 1000 & echo $!; wait");
    let reaper = Pid::from_raw(place.reaper_of(&tidegate).unwrap());
    // Stopped first: a reaper may be faster than the second signal.
    kill(reaper, Signal::SIGSTOP).unwrap();
    send(&tidegate, Signal::SIGKILL);
    kill(reaper, Signal::SIGKILL).unwrap();
    tidegate.wait().unwrap();
    assert!(is_alive(&pid) && place.leftovers().len() >= 3, "{:?}", place.leftovers());
    assert!(place.shell("true").status.success());
    assert!(is_gone(&pid));
    place.expect_nothing_left(Duration::ZERO);
}

#[test_case(Signal::SIGUSR1)]
#[test_case(Signal::SIGUSR2)]
#[test_case(Signal::SIGTERM)]
#[test_case(Signal::SIGINT)]
#[test_case(Signal::SIGQUIT)]
fn signals_reach_the_command(signal: Signal) {
    let place = Place::new();
    let name = signal.as_str().trim_start_matches("SIG");
    let script = format!("trap 'exit 9' {name}; echo ready; while :; do sleep 0.02; done");
    let (mut tidegate, _) = place.start(&script);
    send(&tidegate, signal);
    assert_eq!(tidegate.wait().unwrap().code(), Some(9));
    place.expect_nothing_left(Duration::ZERO);
}

#[test]
fn a_hangup_that_a_process_sends_is_for_tidegate_alone() {
    let place = Place::new();
    let script = "trap 'exit 9' HUP; trap 'exit 8' TERM; echo ready; while :; do sleep 0.02; done";
    let mut tidegate = place.command(&["sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(tidegate.stdout.take().unwrap());
    for (line, signal) in [("ready\n", Signal::SIGHUP), ("asked to reload\n", Signal::SIGTERM)] {
        let mut read = String::new();
        output.read_line(&mut read).unwrap();
        assert_eq!(read, line);
        send(&tidegate, signal);
    }
    assert_eq!(tidegate.wait().unwrap().code(), Some(8));
    place.expect_nothing_left(Duration::ZERO);
}

#[test]
fn a_signal_that_the_caller_ignores_stays_ignored() {
    let place = Place::new();
    let mut run = Command::new("nohup");
    run.arg(BINARY).arg("run").args([&place.run_dir, &place.cgroup, &place.scratch.join("ca.pem")]);
    run.args(["-", "--", "sh", "-c", "echo ready; sleep 0.3; exit 4"])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let mut tidegate = run.stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(tidegate.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    send(&tidegate, Signal::SIGHUP);
    assert_eq!(tidegate.wait().unwrap().code(), Some(4));
}

#[test]
fn the_default_parent_is_the_callers_own_cgroup() {
    let place = Place::new();
    let given =
        place.command(&["sh", "-c", "awk '/ - cgroup2 /{p=$5} END{print p}' /proc/self/mountinfo; cat"]);
    let arguments: Vec<_> = given.get_args().collect();
    let within = |before: &str| {
        let script = format!("echo 0 > '{}/cgroup.procs' && {before} \"$@\"", place.cgroup.display());
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "sh", BINARY, "run"]).arg(&place.run_dir).arg("-").args(&arguments[3..]);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut tidegate = within("exec");
    BufReader::new(tidegate.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    let below = fs::read_dir(&place.cgroup).unwrap().flatten().map(|entry| entry.file_name());
    assert_eq!(below.filter(|name| name.to_str().unwrap().starts_with("tidegate-run-")).count(), 1);
    drop(tidegate.stdin.take());
    assert!(tidegate.wait().unwrap().success());

    let root = place.cgroup.parent().unwrap().display();
    let container =
        format!("exec unshare -Cm sh -c 'mount --bind {} {root} && exec \"$@\"' sh", place.cgroup.display());
    let refused = within(&container).wait_with_output().unwrap();
    assert_eq!(refused.status.code(), Some(125), "{refused:?}");
    assert!(
        stderr(&refused).contains("root of a container, not of the machine: set capture.cgroup_root"),
        "{refused:?}"
    );
    let out_of_sight = within("exec unshare -C").wait_with_output().unwrap();
    assert!(stderr(&out_of_sight).contains("is not visible below"), "{out_of_sight:?}");
}

#[test]
fn the_host_sees_none_of_the_commands_mounts() {
    let place = Place::new();
    let (mut tidegate, _) = place.start("echo ready; sleep 0.2");
    let during = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let own: Vec<_> = during.lines().filter(|line| line.contains(place.run_dir.to_str().unwrap())).collect();
    assert_eq!(own.len(), 1, "only the bpffs: {own:?}");
    assert!(!during.contains(" - tmpfs tidegate "), "{during}");
    assert!(tidegate.wait().unwrap().success());
    place.expect_nothing_left(Duration::ZERO);
}
