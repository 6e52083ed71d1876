//! tidegate as it works: the daemon, with capture, identity, a policy and the audit log.

use super::{Running, STARTS, Target};
use crate::{
    place::{Place, Role},
    policies,
};
use anyhow::{Context as _, Result, ensure};
use std::{
    fmt::Write as _,
    fs, io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::Duration,
};
use tidegate_tests::{
    process::{Process, wait_until},
    programs,
};

/// Where the daemon's CA is, in the world.
const CA_FILE: &str = "/run/tidegate/ca.pem";

/// What is different from the usual.
#[derive(Default)]
pub(crate) struct Setup {
    /// How many policies of 50 rules there are; the workload has the first of them, or a small one where there are none.
    pub(crate) policies: usize,
    /// Where the audit log is written to instead.
    pub(crate) audit: Option<PathBuf>,
    /// How many other cgroups there are that are workloads, each with a table of its own.
    pub(crate) workloads: usize,
}

/// Starts the daemon, and waits until it says that it is ready.
pub(crate) fn start(place: &Place, setup: &Setup) -> Result<Running> {
    let audit = setup.audit.clone().unwrap_or_else(|| place.directory().join("audit.jsonl"));
    let config = place.write("tidegate.toml", config(place, setup, &audit)?)?;
    let socket = place.directory().join("notify");
    let _ = fs::remove_file(&socket);
    let notify = UnixDatagram::bind(&socket)?;
    notify.set_read_timeout(Some(Duration::from_millis(100)))?;
    let tidegate = programs::built("tidegate")?;
    let line = [tidegate.as_os_str(), "daemon".as_ref(), "--config".as_ref(), config.as_os_str()];
    let mut command = place.command(Role::Proxy, &line);
    command.env("NOTIFY_SOCKET", &socket);
    let mut process = Process::start(&mut command, place.directory())?;
    wait_until("tidegate is ready", STARTS, || {
        ensure!(process.ended()?.is_none(), "tidegate ended: {}", process.stderr()?);
        told(&notify)
    })?;
    let ca_file = PathBuf::from(CA_FILE);
    let target = Target { address: None, role: Role::Workload, ca_file };
    Ok(Running { target, processes: vec![process], audit: Some(audit), _notify: Some(notify) })
}

/// Whether it has said so by now.
fn told(notify: &UnixDatagram) -> Result<bool> {
    let mut message = [0; 4096];
    match notify.recv(&mut message) {
        Ok(length) => {
            let text = String::from_utf8_lossy(message.get(..length).unwrap_or_default()).into_owned();
            Ok(text.lines().any(|line| line == "READY=1"))
        }
        Err(problem) if matches!(problem.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Ok(false)
        }
        Err(problem) => Err(problem).context("what tidegate tells"),
    }
}

fn config(place: &Place, setup: &Setup, audit: &Path) -> Result<String> {
    let directory = policies::write(place, setup.policies)?;
    let (root, ca_file) = (place.gate().path(), place.directory().join("ca.pem"));
    let mut text = format!("policy_dir = {directory:?}\n");
    // Among the others there are some that refuse what is asked for here.
    let policy = if setup.policies > 0 { "many-0" } else { "small" };
    let mut workload = |name: &str, policy: &str, cgroup: &str| {
        writeln!(
            text,
            "[[workload]]\nname = {name:?}\npolicy = {policy:?}\nmatch = [{{ cgroup = {cgroup:?} }}]"
        )
    };
    let own = place.workload().name()?;
    workload("bench", policy, &own)?;
    let gate = place.gate().name()?;
    for number in 0..setup.workloads {
        workload(&format!("other-{number}"), "small", &format!("{gate}/others/{number}"))?;
    }
    writeln!(text, "[capture]\ncgroup_root = {root:?}\nsticky_tags = false")?;
    writeln!(text, "[upstream]\nca_file = {ca_file:?}")?;
    writeln!(text, "[audit]\npath = {audit:?}\nmax_size_mib = 100000")?;
    // One workload has all the connections here, of which most do nothing.
    writeln!(text, "[limits]\nconnections = 100000\nhandshakes = 1000\nhead_timeout = \"10m\"")?;
    Ok(text)
}
