//! `tidegate doctor` on this machine, with and without what it needs. Needs root.

#![expect(clippy::indexing_slicing, clippy::panic, reason = "the helpers of tests fail as tests do")]

use anyhow::{Context as _, Result};
use serde_json::Value;
use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use test_case::test_case;
use tidegate_tests::{
    netns::World,
    process::{Finished, Process},
    programs,
};

const LIMIT: Duration = Duration::from_secs(60);

const PROGRAMS: [&str; 9] = [
    "release",
    "join",
    "getpeername4",
    "getpeername6",
    "egress",
    "sendmsg4",
    "sendmsg6",
    "connect4",
    "connect6",
];

/// The checks by name.
struct Report(Value);

impl Report {
    fn of(finished: &Finished) -> Result<Self> {
        let report: Value =
            serde_json::from_slice(&finished.stdout).with_context(|| format!("{finished:?}"))?;
        let is_ok = report["ok"].as_bool().with_context(|| format!("{report:#}"))?;
        assert_eq!(finished.status.code(), Some(if is_ok { 0 } else { 1 }), "{report:#}");
        Ok(Self(report))
    }

    fn check(&self, name: &str) -> &Value {
        let mut checks = self.0["checks"].as_array().into_iter().flatten();
        checks.find(|check| check["name"] == name).unwrap_or_else(|| panic!("no `{name}` in {:#}", self.0))
    }

    #[track_caller]
    fn assert(&self, name: &str, status: &str, seen: &str) {
        let check = self.check(name);
        assert_eq!(check["status"], status, "{check:#}");
        assert!(check["seen"].as_str().is_some_and(|text| text.contains(seen)), "{check:#}");
        assert_eq!(check["advice"].is_null(), status == "ok", "{check:#}");
    }
}

/// A world with the program in it, where everybody may run it.
struct Bench {
    world: World,
    program: PathBuf,
    config: PathBuf,
}

impl Bench {
    fn new() -> Result<Self> {
        Self::in_world(World::new()?)
    }

    fn in_world(world: World) -> Result<Self> {
        let program = world.directory().join("tidegate");
        fs::copy(programs::built("tidegate")?, &program)?;
        let audit = world.directory().join("audit.jsonl");
        let config = world.write("tidegate.toml", format!("audit.path = {audit:?}\n"))?;
        for path in [world.directory(), &config] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { world, program, config })
    }

    fn run(&self, command: &mut Command) -> Result<Finished> {
        Process::run(command, self.world.directory(), LIMIT)
    }

    /// `tidegate doctor --json`, started by these words.
    fn report(&self, prefix: &[&str]) -> Result<Report> {
        Report::of(&self.run(self.command(prefix, &self.config).arg("--json"))?)
    }

    fn command(&self, prefix: &[&str], config: &Path) -> Command {
        let mut words: Vec<&OsStr> = prefix.iter().map(OsStr::new).collect();
        words.extend([self.program.as_os_str(), "doctor".as_ref(), "--config".as_ref(), config.as_os_str()]);
        self.world.command(&words)
    }
}

#[test]
fn root_can_load_every_program_and_leaves_nothing() -> Result<()> {
    let bench = Bench::new()?;
    let (cgroups, files) = (bench.world.cgroup().children()?, entries(bench.world.directory())?);
    let report = bench.report(&[])?;
    for program in PROGRAMS {
        report.assert(&format!("program_{program}"), "ok", "loads");
    }
    for (name, seen) in [
        ("root", "user id 0"),
        ("capabilities", "all that are needed"),
        ("netns_cookie", "the kernel tells"),
        ("cgroup", bench.world.cgroup().path().to_str().context("a cgroup's path")?),
        ("cgroup_creation", "made and removed one"),
        ("bpffs", "mounted one"),
        ("bpf_maps", "ring buffers"),
        ("program_connect4", "IPv4 connections are redirected"),
        ("sticky_tags", "stays one"),
        ("earlier_connections", "the kernel ends"),
        ("pins", "outlives the daemon"),
        ("route_ipv4", "leads out"),
        ("route_ipv6", "leads out"),
        ("listener_port", "[::1]:1023"),
        ("private_mounts", "certificates of their own"),
        ("configuration", "is valid"),
        ("audit_log", "audit.jsonl"),
    ] {
        report.assert(name, "ok", seen);
    }
    assert_eq!(bench.world.cgroup().children()?, cgroups);
    // The doctor's own two outputs are all that is new: no audit log above all.
    assert_eq!(entries(bench.world.directory())?, files + 2);
    bench.world.close()
}

#[test]
fn what_a_workload_could_ask_past_its_policy_is_told() -> Result<()> {
    let bench = Bench::new()?;
    // In the world's own /run. A plain file does: it is judged by its mode.
    let script = "mkdir -p /run/podman && touch /run/docker.sock /run/podman/podman.sock
        chmod 666 /run/docker.sock && chmod 600 /run/podman/podman.sock && exec \"$0\" \"$@\"";
    let config = bench.world.write(
        "deputies.toml",
        r#"
        audit.path = "-"
        [[workload]]
        name = "root-of-a-cgroup"
        policy = "p"
        match = [{ cgroup = "/ci.slice" }]
        [[workload]]
        name = "a-user"
        policy = "p"
        match = [{ user = "nobody" }]
        [[workload]]
        name = "run-alone"
        policy = "p"
        "#,
    )?;
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644))?;
    let report = Report::of(&bench.run(bench.command(&["sh", "-ec", script], &config).arg("--json"))?)?;
    report.assert(
        "deputies_root-of-a-cgroup",
        "warning",
        "Docker (/run/docker.sock), Podman (/run/podman/podman.sock)",
    );
    report.assert("deputies_a-user", "warning", "it could ask Docker (/run/docker.sock) to act");
    let checks = report.0["checks"].as_array().into_iter().flatten();
    let named =
        checks.filter(|check| check["name"].as_str().is_some_and(|name| name.starts_with("deputies_")));
    assert_eq!(named.count(), 2, "{:#}", report.0);
    bench.world.close()
}

#[test_case(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], "root", "user id 65534"; "nobody")]
#[test_case(&["setpriv", "--bounding-set=-all", "--inh-caps=-all"], "capabilities", "without CAP_SYS_ADMIN"; "root without capabilities")]
fn without_privileges_it_fails_and_says_so(prefix: &[&str], name: &str, seen: &str) -> Result<()> {
    let bench = Bench::new()?;
    let report = bench.report(prefix)?;
    assert_eq!(report.0["ok"], false);
    report.assert(name, "failed", seen);
    for name in ["capabilities", "bpffs", "bpf_maps", "private_mounts"] {
        let check = report.check(name);
        let advice = check["advice"].as_str().unwrap_or_default();
        assert!(check["status"] == "failed" && advice.contains("as root with CAP_"), "{check:#}");
    }
    report.assert("program_connect4", "failed", "not tried");
    report.assert("listener_port", "failed", "Permission denied");

    let finished = bench.run(&mut bench.command(prefix, &bench.config))?;
    assert_eq!(finished.status.code(), Some(1));
    let text = finished.text();
    assert!(text.contains(&format!("FAIL  {name} ")), "{text}");
    assert!(text.trim_end().ends_with(&format!("begin with `{name}`.")), "{text}");
    bench.world.close()
}

#[test]
fn a_broken_configuration_fails() -> Result<()> {
    let bench = Bench::new()?;
    let config = bench.world.write("broken.toml", "hots = []\n")?;
    let finished = bench.run(bench.command(&[], &config).arg("--json"))?;
    let report = Report::of(&finished)?;
    assert_eq!(finished.status.code(), Some(1));
    report.assert("configuration", "failed", "broken.toml:1");
    bench.world.close()
}

#[test]
fn a_family_without_a_route_is_told_and_is_no_failure() -> Result<()> {
    let bench = Bench::in_world(World::ipv4_only()?)?;
    let report = bench.report(&[])?;
    report.assert("route_ipv6", "ok", "fail at once");
    report.assert("listener_port", "ok", "free: 127.0.0.1:");
    bench.world.close()
}

fn entries(directory: &Path) -> Result<usize> {
    Ok(fs::read_dir(directory)?.count())
}
