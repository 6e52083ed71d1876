//! What the agent needs each of the capabilities of the DaemonSet for: without any one of them something fails, and says so.

use super::{
    cover::look_by,
    daemon::{LOOK, Node, PROGRAMS},
};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tidegate_tests::{
    agent::LIMIT,
    certificates,
    containerd::{Pod, Running},
    daemon::Daemon,
    process::{Process, wait_until},
    programs,
    scene::Scene,
};

/// What does not work.
enum Fails {
    /// The agent ends with this.
    Start(&'static str),
    /// The log says this once, and so does the status; pods are not served.
    Pods(&'static str),
    /// The log says this, and a connection from before the agent goes on.
    Earlier(&'static str),
    /// The log says this, and programs of a pod do not trust what their own variables name.
    Trust(&'static str),
    /// The log says this, and all else works: what an image brings with it is not covered.
    Cover(&'static str),
}

/// SYS_RESOURCE is for kernels before 5.11 alone.
const NEEDED: [(&str, Fails); 9] = [
    ("CHOWN", Fails::Start("cannot hand over a file of the configuration: Operation not permitted")),
    ("DAC_READ_SEARCH", Fails::Trust("SSL_CERT_FILE=`/etc/corp/corp.pem` is the pod's own")),
    ("NET_ADMIN", Fails::Earlier("cannot end a connection to 192.0.2.10:443")),
    (
        "NET_BIND_SERVICE",
        Fails::Start("cannot listen on 127.0.0.1 with a port of 600 to 1023: Permission denied"),
    ),
    ("SETGID", Fails::Start("cannot give away the privileges of the process that serves")),
    ("SETUID", Fails::Start("cannot give away the privileges of the process that serves")),
    ("SYS_ADMIN", Fails::Start("cannot load the eBPF object")),
    (
        "SYS_CHROOT",
        Fails::Cover(
            "cannot enter the container's mount namespace (CAP_SYS_ADMIN and CAP_SYS_CHROOT are needed): \
             Operation not permitted",
        ),
    ),
    (
        "SYS_PTRACE",
        Fails::Pods("network namespaces of subjects cannot be entered; their connects are refused"),
    ),
];
const FOR_OLD_KERNELS: &str = "SYS_RESOURCE";

/// Holds a connection to the API for as long as it may.
const HOLD: &str = "python3 -c 'import socket; connection = socket.create_connection((\"api.digitalocean.com\", 443)); \
    open(\"/tmp/connected\", \"w\"); connection.recv(1); open(\"/tmp/ended\", \"w\")' >/dev/null 2>&1 </dev/null &";

/// Those of the manifest, as the kernel calls them.
fn of_manifest() -> Result<Vec<String>> {
    let manifest: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "../deploy/kubernetes/base/daemonset.yaml"].iter().collect();
    let text = fs::read_to_string(manifest)?;
    let list = text.split_once("            add:\n").context("no capabilities")?.1;
    let lines = list.lines().take_while(|line| line.starts_with("            "));
    Ok(lines.filter_map(|line| line.trim().strip_prefix("- ")).map(str::to_owned).collect())
}

/// What happened to two pods: one from before the agent, and one from after.
struct Seen {
    status: String,
    /// By a program that goes by what the pod's own variable names, and by nothing else.
    by_variable: String,
    ended: u64,
    /// Whether the agent finds that pods' networks are served.
    networks: bool,
    log: String,
}

struct Trial<'s> {
    scene: &'s Scene,
    node: Node<'s>,
    /// Somebody else's certificates, which nobody else may read.
    volume: PathBuf,
}

impl<'s> Trial<'s> {
    fn new(scene: &'s Scene) -> Result<Self> {
        let volume = scene.directory().join("volume");
        fs::create_dir(&volume)?;
        fs::write(volume.join("corp.pem"), certificates::Authority::new("corporate")?.pem())?;
        let shown = volume.display();
        let script = format!("chown -R 1000:1000 {shown}; chmod -R go= {shown}");
        Process::run(&mut scene.world.command(&["sh", "-c", &script]), scene.directory(), LIMIT)?;
        let headers = scene.world.write("headers", "api-key: secret\n")?;
        fs::set_permissions(headers, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(Self { scene, node: Node::new(scene)?, volume })
    }

    fn daemon(&self) -> Result<Daemon<'s>> {
        let headers = self.scene.directory().join("headers");
        let export = format!("[audit.otlp]\nendpoint = \"http://127.0.0.1:4318\"\nheaders = {headers:?}\n");
        Ok(self.node.daemon()?.table(&export))
    }

    fn pod(&self, name: &str) -> Result<Running> {
        let labels = &[("app", "bot")];
        self.node.containerd.run_pod(&Pod { namespace: "ci-1", name, labels, is_host_network: false })
    }

    /// With an agent that has these, from its start to its end; the error is what it said when it did not start.
    fn try_with(&self, daemon: Daemon<'s>, kept: &[String]) -> Result<(Daemon<'s>, Result<Seen>)> {
        let kept: Vec<String> = kept.iter().map(|name| name.to_lowercase()).collect();
        let daemon = daemon.with_capabilities(&kept.iter().map(String::as_str).collect::<Vec<_>>());
        let pod = self.pod("early")?;
        let early = self.node.start(&pod)?;
        self.node.said(&early, HOLD)?;
        let is_there =
            |file: &str| Ok(self.node.said(&early, &format!("ls /tmp/{file}"))?.starts_with("/tmp"));
        wait_until("a connection", LIMIT, || is_there("connected"))?;
        let seen = match daemon.start() {
            Err(error) => Err(error),
            Ok(running) => {
                self.node.follows(&running)?;
                let late_pod = self.pod("late")?;
                let mut mounts: Vec<(&str, &Path)> =
                    PROGRAMS.iter().map(|path| (*path, Path::new(*path))).collect();
                mounts.extend([("/etc/hosts", self.node.hosts.as_path()), ("/etc/corp", &self.volume)]);
                let variables = [("PATH", "/usr/bin:/bin"), ("SSL_CERT_FILE", "/etc/corp/corp.pem")];
                let late = self.node.containerd.run_container(&late_pod, "main", &variables, &mounts)?;
                let status = self.node.said(&late, LOOK)?;
                let by_variable = self.node.said(&late, &look_by("/etc/corp/corp.pem"))?;
                let told = self.told()?;
                let ended = told.pointer("/counters/ended").and_then(Value::as_u64).context("no count")?;
                let networks = told.pointer("/parts/networks").and_then(Value::as_bool).context("no part")?;
                let log = running.process.stderr()?;
                running.stop()?;
                self.node.containerd.remove_pod(&late_pod)?;
                Ok(Seen { status, by_variable, ended, networks, log })
            }
        };
        self.node.containerd.remove_pod(&pod)?;
        let tidegate = programs::built("tidegate")?;
        let config = daemon.config().as_os_str();
        let line =
            [tidegate.as_os_str(), "release".as_ref(), "--force".as_ref(), "--config".as_ref(), config];
        self.run(&mut self.scene.world.command(&line))?;
        Ok((daemon, seen))
    }

    /// What `tidegate status` tells.
    fn told(&self) -> Result<Value> {
        let tidegate = programs::built("tidegate")?;
        let line = [tidegate.as_os_str(), "status".as_ref(), "--json".as_ref()];
        // Its exit status is that of the agent's health.
        let told = Process::run(&mut self.scene.world.command(&line), self.scene.directory(), LIMIT)?;
        Ok(serde_json::from_str(&told.text())?)
    }

    fn run(&self, command: &mut Command) -> Result<String> {
        let finished = Process::run(command, self.scene.directory(), LIMIT)?;
        ensure!(finished.status.success(), "{finished:?}");
        Ok(finished.text())
    }
}

#[test]
fn each_capability_is_needed_and_no_other() -> Result<()> {
    let all = of_manifest()?;
    let mut named: Vec<&str> = NEEDED.iter().map(|(name, _)| *name).chain([FOR_OLD_KERNELS]).collect();
    let mut listed: Vec<&str> = all.iter().map(String::as_str).collect();
    named.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, named, "what the manifest lists has a line here");

    let scene = Scene::new()?;
    let trial = Trial::new(&scene)?;
    let needed: Vec<String> = all.into_iter().filter(|name| name != FOR_OLD_KERNELS).collect();
    let (mut daemon, seen) = trial.try_with(trial.daemon()?, &needed)?;
    let Seen { status, by_variable, ended, networks, log } = seen?;
    let seen = (status.as_str(), by_variable.as_str(), ended, networks);
    assert_eq!(seen, ("200", "200", 1, true), "{log}");
    for (_, fails) in &NEEDED {
        let (Fails::Start(line)
        | Fails::Pods(line)
        | Fails::Earlier(line)
        | Fails::Trust(line)
        | Fails::Cover(line)) = fails;
        ensure!(!log.contains(line), "with all of them: {log}");
    }
    for (dropped, fails) in &NEEDED {
        let kept: Vec<String> = needed.iter().filter(|name| name != dropped).cloned().collect();
        let (same, seen) = trial.try_with(daemon, &kept)?;
        daemon = same;
        let seen = match (fails, seen) {
            (Fails::Start(line), Err(error)) => {
                ensure!(format!("{error:#}").contains(line), "without {dropped}: {error:#}");
                continue;
            }
            (_, seen) => seen.with_context(|| format!("without {dropped}"))?,
        };
        let Seen { status, by_variable, ended, networks, log } = seen;
        let (line, is_so) = match fails {
            Fails::Start(_) => bail!("without {dropped} the agent starts"),
            Fails::Pods(line) => {
                (line, status.ends_with("000") && !networks && log.matches(line).count() == 1)
            }
            Fails::Earlier(line) => (line, status == "200" && ended == 0),
            Fails::Cover(line) => (line, status == "200" && by_variable == "200" && ended == 1 && networks),
            Fails::Trust(line) => {
                (line, status == "200" && by_variable.contains("CERTIFICATE_VERIFY_FAILED"))
            }
        };
        ensure!(is_so && log.contains(line), "without {dropped}: {status}, {by_variable}, {ended}, {log}");
    }
    Ok(())
}
