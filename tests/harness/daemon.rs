//! `tidegate daemon` in a world, with a service manager of the test's own that keeps its descriptors.

use crate::{
    agent::LIMIT,
    audit::{self, Record},
    cgroup::Cgroup,
    client,
    process::{Finished, Process, wait_until},
    programs,
    scene::Scene,
};
use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::{UnixDatagram, UnixListener},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

/// Takes the kept descriptors from the socket $1 as systemd passes them, and becomes the rest of its arguments.
const PASS: &str = r#"
import array, os, socket, sys
source = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
source.connect(sys.argv[1])
names, ancillary, _, _ = source.recvmsg(4096, socket.CMSG_SPACE(16 * 4))
descriptors = array.array("i")
for _, _, data in ancillary:
    descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
source.close()
# Out of the way first, since one may be in another's place.
descriptors = [os.dup2(descriptor, 100 + index) for index, descriptor in enumerate(descriptors)]
for index, descriptor in enumerate(descriptors):
    os.dup2(descriptor, 3 + index)
    os.close(descriptor)
if descriptors:
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(descriptors)), LISTEN_FDNAMES=names.decode())
os.execvp(sys.argv[2], sys.argv[2:])
"#;

/// What the daemon told and gave.
#[derive(Debug, Default)]
struct Kept {
    keeps: bool,
    states: Vec<String>,
    descriptors: Vec<(String, OwnedFd)>,
}

/// A daemon's configuration, and what outlives the daemon: its policies, its log, its service manager.
#[derive(Debug)]
pub struct Daemon<'s> {
    scene: &'s Scene,
    capture: String,
    rest: String,
    workloads: String,
    config: PathBuf,
    policies: PathBuf,
    audit: PathBuf,
    notify: PathBuf,
    kept: Arc<Mutex<Kept>>,
    privileges: Vec<String>,
}

/// A daemon at work.
#[derive(Debug)]
pub struct Running {
    /// Its process.
    pub process: Process,
}

impl<'s> Daemon<'s> {
    /// With no workload yet, at the world's own cgroup.
    ///
    /// # Errors
    /// When a file or socket cannot be made.
    pub fn new(scene: &'s Scene) -> Result<Self> {
        let directory = scene.directory();
        let policies = directory.join("policy.d");
        fs::create_dir(&policies)?;
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let notify = directory.join("notify");
        let socket = UnixDatagram::bind(&notify)?;
        let keeper = Arc::clone(&kept);
        // Ends with the process: the socket is never closed.
        thread::spawn(move || while keep(&socket, &keeper).is_ok() {});
        let (config, audit) = (directory.join("tidegate.toml"), directory.join("daemon.audit.jsonl"));
        let ca_file = scene.standin.ca_file();
        let rest = format!("[upstream]\nca_file = {ca_file:?}\n[audit]\npath = {audit:?}\n");
        let workloads = String::new();
        let capture = String::new();
        let daemon = Self {
            scene,
            capture,
            rest,
            workloads,
            config,
            policies,
            audit,
            notify,
            kept,
            privileges: Vec::new(),
        };
        Ok(daemon.at(scene.world.cgroup()))
    }

    /// Attached at this cgroup instead of the world's own.
    #[must_use]
    pub fn at(mut self, root: &Cgroup) -> Self {
        self.capture = format!("cgroup_root = {:?}\nsticky_tags = false\n", root.path());
        self
    }

    /// Its configuration's file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Its audit log.
    pub fn audit(&self) -> &Path {
        &self.audit
    }

    /// With this policy.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn policy(self, name: &str, text: &str) -> Result<Self> {
        self.write_policy(name, text)?;
        Ok(self)
    }

    /// Writes a policy's file, as an administrator should: never half.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_policy(&self, name: &str, text: &str) -> Result<()> {
        let path = self.policies.join(format!("{name}.toml"));
        let draft = path.with_extension("draft");
        fs::write(&draft, text)?;
        Ok(fs::rename(draft, path)?)
    }

    /// With this workload; `matches` is the list of tables as TOML, with `CGROUP` for the path of the world's cgroup.
    ///
    /// # Errors
    /// When no cgroup2 is mounted.
    pub fn workload(mut self, name: &str, policy: &str, matches: &str) -> Result<Self> {
        let matches = matches.replace("CGROUP", &self.scene.world.cgroup().name()?);
        writeln!(self.workloads, "[[workload]]\nname = {name:?}\npolicy = {policy:?}\nmatch = {matches}")?;
        Ok(self)
    }

    /// With this exception of the workload that was added last, as for [`Daemon::workload`].
    ///
    /// # Errors
    /// As [`Daemon::workload`].
    pub fn except(mut self, tables: &str) -> Result<Self> {
        let tables = tables.replace("CGROUP", &self.scene.world.cgroup().name()?);
        writeln!(self.workloads, "except = {tables}")?;
        Ok(self)
    }

    /// With this workload of commands alone; `run_by` is the list of those who may, as TOML.
    #[must_use]
    pub fn run_by(mut self, name: &str, policy: &str, run_by: &str) -> Self {
        let table = format!("[[workload]]\nname = {name:?}\npolicy = {policy:?}\nrun_by = {run_by}\n");
        self.workloads.push_str(&table);
        self
    }

    /// Without the workloads so far.
    #[must_use]
    pub fn without_workloads(mut self) -> Self {
        self.workloads.clear();
        self
    }

    /// With one more line of `[capture]`.
    #[must_use]
    pub fn capture(mut self, line: &str) -> Self {
        self.capture.push_str(line);
        self.capture.push('\n');
        self
    }

    /// With these lines behind everything: a table of its own.
    #[must_use]
    pub fn table(mut self, lines: &str) -> Self {
        self.rest.push_str(lines);
        self.rest.push('\n');
        self
    }

    /// With these capabilities of root's and no others, by their names as setpriv(1) has them.
    #[must_use]
    pub fn with_capabilities(mut self, names: &[&str]) -> Self {
        let bounding: String = names.iter().map(|name| format!(",+{name}")).collect();
        let bounding = format!("--bounding-set=-all{bounding}");
        self.privileges = ["setpriv", "--no-new-privs", &bounding, "--"].map(str::to_owned).into();
        self
    }

    /// With a service manager that passes to the next daemon what the one before gave it.
    #[must_use]
    pub fn keeping(self) -> Self {
        self.lock().keeps = true;
        self
    }

    /// The command line.
    ///
    /// # Errors
    /// When tidegate was not built or the configuration cannot be written.
    pub fn command(&self) -> Result<Command> {
        let config = format!(
            "policy_dir = {:?}\n{}[capture]\n{}{}",
            self.policies, self.workloads, self.capture, self.rest
        );
        fs::write(&self.config, config)?;
        let tidegate = programs::built("tidegate")?;
        let mut line: Vec<&OsStr> = self.privileges.iter().map(OsStr::new).collect();
        line.extend([tidegate.as_os_str(), "daemon".as_ref(), "--config".as_ref(), self.config.as_os_str()]);
        let mut command = if self.lock().keeps {
            let pass = self.scene.directory().join("pass");
            self.pass_once(&pass)?;
            let wrapped = [OsStr::new("python3"), OsStr::new("-c"), OsStr::new(PASS), pass.as_os_str()];
            self.scene.world.command(&[wrapped.as_slice(), line.as_slice()].concat())
        } else {
            self.scene.world.command(&line)
        };
        command.env("NOTIFY_SOCKET", &self.notify);
        Ok(command)
    }

    /// Starts it without waiting for anything.
    ///
    /// # Errors
    /// As [`Daemon::command`].
    pub fn begin(&self) -> Result<Running> {
        Ok(Running { process: Process::start(&mut self.command()?, self.scene.directory())? })
    }

    /// Starts it and waits until it says that it is ready.
    ///
    /// # Errors
    /// When it ends instead; shows its log then.
    pub fn start(&self) -> Result<Running> {
        self.lock().states.clear();
        let mut running = self.begin()?;
        let ready = wait_until("READY=1 of the daemon", LIMIT, || {
            Ok(running.process.ended()?.is_some() || self.has_told("READY=1"))
        });
        ready.with_context(|| running.process.stderr().unwrap_or_default())?;
        anyhow::ensure!(self.has_told("READY=1"), "the daemon ended: {}", running.process.stderr()?);
        Ok(running)
    }

    /// Runs it to its end, which it must find by itself.
    ///
    /// # Errors
    /// When it goes on.
    pub fn fail(&self) -> Result<Finished> {
        Process::run(&mut self.command()?, self.scene.directory(), LIMIT)
    }

    /// Whether it has said this since it was started.
    pub fn has_told(&self, state: &str) -> bool {
        self.lock().states.iter().any(|told| told.lines().any(|line| line == state))
    }

    /// The names of the descriptors that are kept.
    pub fn kept(&self) -> Vec<String> {
        self.lock().descriptors.iter().map(|(name, _)| name.clone()).collect()
    }

    /// A command in this cgroup that trusts the daemon's CA.
    ///
    /// # Errors
    /// When the CA's certificate is not there.
    pub fn client<S: AsRef<OsStr>>(&self, cgroup: &Cgroup, line: &[S]) -> Result<Command> {
        let mut command = self.scene.world.command_in(cgroup, line);
        client::trust(&mut command, Path::new("/run/tidegate/ca.pem"));
        Ok(command)
    }

    /// Runs such a command to its end.
    ///
    /// # Errors
    /// When it takes too long.
    pub fn run<S: AsRef<OsStr>>(&self, cgroup: &Cgroup, line: &[S]) -> Result<Finished> {
        Process::run(&mut self.client(cgroup, line)?, self.scene.directory(), LIMIT)
    }

    /// How many listeners `tidegate status` tells of in other network namespaces than the daemon's.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn listeners_elsewhere(&self) -> Result<usize> {
        let tidegate = programs::built("tidegate")?;
        let line = [tidegate.as_os_str(), "status".as_ref(), "--json".as_ref()];
        let told = Process::run(&mut self.scene.world.command(&line), self.scene.directory(), LIMIT)?;
        let status: serde_json::Value = serde_json::from_str(&told.text())?;
        let listeners = status.get("listeners").and_then(serde_json::Value::as_array).context("listeners")?;
        let own = listeners.first().and_then(|first| first.get("netns_cookie"));
        Ok(listeners.iter().filter(|listener| listener.get("netns_cookie") != own).count())
    }

    /// The audit log so far; empty before it is begun.
    ///
    /// # Errors
    /// When it holds something else than records.
    pub fn records(&self) -> Result<Vec<Record>> {
        if self.audit.exists() { audit::read(&self.audit) } else { Ok(Vec::new()) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives all kept descriptors to the first that asks.
    fn pass_once(&self, path: &Path) -> Result<()> {
        let _ = fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        let kept = Arc::clone(&self.kept);
        thread::spawn(move || -> Result<()> {
            let (stream, _) = listener.accept()?;
            let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            let names: Vec<&str> = kept.descriptors.iter().map(|(name, _)| name.as_str()).collect();
            let descriptors: Vec<_> =
                kept.descriptors.iter().map(|(_, descriptor)| descriptor.as_fd()).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(&descriptors));
            }
            // Never nothing, which would be the end of the stream.
            let text = if names.is_empty() { "none".to_owned() } else { names.join(":") };
            sendmsg(&stream, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::empty())?;
            Ok(())
        });
        Ok(())
    }
}

/// Takes one message of the daemon's.
fn keep(socket: &UnixDatagram, kept: &Mutex<Kept>) -> Result<()> {
    let mut text = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let text = String::from_utf8_lossy(text.get(..received.bytes).unwrap_or_default()).into_owned();
    let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored").to_owned();
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message
            && kept.keeps
        {
            kept.descriptors.extend(descriptors.map(|descriptor| (name.clone(), descriptor)));
        }
    }
    kept.states.push(text);
    Ok(())
}

impl Running {
    /// Ends it as a service manager does.
    ///
    /// # Errors
    /// When it does not end, or not well.
    pub fn stop(self) -> Result<Finished> {
        self.process.signal(Signal::SIGTERM)?;
        let finished = self.process.finish(LIMIT)?;
        anyhow::ensure!(finished.status.success(), "{finished:?}");
        Ok(finished)
    }

    /// Kills it.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn kill(self) -> Result<()> {
        self.process.signal(Signal::SIGKILL)?;
        self.process.finish(Duration::from_secs(10))?;
        Ok(())
    }
}
