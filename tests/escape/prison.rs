//! A world with `tidegate daemon`, one workload that may only read, a friend outside of it, and a witness at every
//! place of the API where nobody may come.

use crate::pinned::entries;
use anyhow::{Result, bail};
use nix::sys::signal::Signal;
use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    net::SocketAddr,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tidegate_tests::{
    agent::READ_ONLY,
    audit::{self, Record},
    cgroup::Cgroup,
    netns::{World, addresses},
    process::{Finished, Process, patience},
    programs,
    standin::{Request, Served, Service, Tls},
};

/// Generous, since machines that test are busy, and some are emulated.
const LIMIT: Duration = Duration::from_secs(120);

const PROGRAM: &str = include_str!("../programs/escape.py");
const LOAD: &str = include_str!("../programs/load.py");

/// What every attempt's request carries.
const MARK: &str = "escape-attempt";

/// As whom an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Nobody in particular.
    User,
    /// Root without the capabilities of an administrator.
    Root,
}

/// Fields drop in this order.
pub(crate) struct Prison {
    agent: Option<Process>,
    early: Option<Process>,
    _friend: Process,
    witness: Process,
    standin: Served,
    inside: Cgroup,
    outside: Cgroup,
    settings: String,
    policy: &'static str,
    world: World,
}

impl Prison {
    pub(crate) fn new() -> Result<Self> {
        Self::with_policy(READ_ONLY)
    }

    /// With this policy instead.
    pub(crate) fn with_policy(policy: &'static str) -> Result<Self> {
        let mut prison = Self::without_agent()?;
        prison.policy = policy;
        prison.add_workload("sticky_tags = false\n")?;
        prison.start_agent()?;
        Ok(prison)
    }

    /// With what must never be attached to a machine that is not the test's own.
    pub(crate) fn with_sticky_tags() -> Result<Self> {
        if std::env::var_os("TIDEGATE_VM").is_none() {
            bail!("this test attaches to the whole machine; `cargo xtask vm` runs it");
        }
        let mut prison = Self::without_agent()?;
        prison.add_workload("sticky_tags = true\n")?;
        prison.start_agent()?;
        Ok(prison)
    }

    /// With a process of the workload that has connected before there was an agent.
    pub(crate) fn with_early_connection() -> Result<Self> {
        let mut prison = Self::without_agent()?;
        let mut command = prison.attempting(Who::User, "by-address", &["pause=1"]);
        let mut early = Process::start(command.stdin(Stdio::piped()), prison.world.directory())?;
        early.wait_for_output("paused", LIMIT)?;
        prison.early = Some(early);
        prison.add_workload("sticky_tags = false\n")?;
        prison.start_agent()?;
        Ok(prison)
    }

    /// With nobody who is held back.
    pub(crate) fn without_workload() -> Result<Self> {
        Self::without_agent()
    }

    fn without_agent() -> Result<Self> {
        let world = World::new()?;
        let tls = || Service::Https(Tls::of(&[addresses::API_NAME]));
        let mut config = addresses::everybody(world.directory(), true);
        for port in [2083, 2087, 2096] {
            config = config.listen(SocketAddr::new(addresses::API, port), tls());
        }
        for port in [8080, 8880, 2052, 2082, 2086, 2095] {
            config = config.listen(SocketAddr::new(addresses::API, port), Service::Http);
        }
        let standin = Served::start(&world, config)?;
        let (inside, outside) = (world.cgroup().child("inside")?, world.cgroup().child("outside")?);
        let meeting = format!("friend={}", world.directory().join("friend").display());
        let program = world.write("escape.py", PROGRAM)?.display().to_string();
        let helper = |name: &str, setting: &str| -> Result<Process> {
            let line = ["python3", &program, "as-is", name, setting].map(str::to_owned);
            let mut process = Process::start(&mut world.command(&line), world.directory())?;
            process.wait_for_output("ready", LIMIT)?;
            Ok(process)
        };
        // Everybody may come to the meeting.
        make_passable(&world)?;
        let (friend, witness) = (helper("friend", &meeting)?, helper("witness", &meeting)?);
        let settings = String::new();
        Ok(Self {
            agent: None,
            early: None,
            _friend: friend,
            witness,
            standin,
            inside,
            outside,
            settings,
            policy: READ_ONLY,
            world,
        })
    }

    fn add_workload(&mut self, capture: &str) -> Result<()> {
        let policies = self.world.directory().join("policies");
        fs::create_dir_all(&policies)?;
        fs::write(policies.join("only.toml"), self.policy)?;
        let (root, ca, audit) = (self.world.cgroup().path(), self.standin.ca_file(), self.audit());
        write!(
            self.settings,
            "policy_dir = {policies:?}\n\
             [[workload]]\nname = \"prisoner\"\npolicy = \"only\"\nmatch = [{{ cgroup = {:?} }}]\n\
             [capture]\ncgroup_root = {root:?}\nforward_proxies = [\"http://{}:3128\"]\n{capture}\
             [upstream]\nca_file = {ca:?}\n[audit]\npath = {audit:?}\n",
            self.inside.name()?,
            addresses::PROXY,
        )?;
        Ok(())
    }

    fn audit(&self) -> PathBuf {
        self.world.directory().join("audit.jsonl")
    }

    /// Starts the agent and waits until it is ready.
    pub(crate) fn start_agent(&mut self) -> Result<()> {
        let config = self.world.write("tidegate.toml", &self.settings)?;
        let notify = self.world.directory().join("notify");
        let _absent = fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let agent = programs::built("tidegate")?;
        let mut command = self.world.command(&[
            agent.as_os_str(),
            "daemon".as_ref(),
            "--config".as_ref(),
            config.as_os_str(),
        ]);
        command.env("NOTIFY_SOCKET", &notify);
        let agent = self.agent.insert(Process::start(&mut command, self.world.directory())?);
        let deadline = Instant::now() + LIMIT;
        let mut message = [0; 4096];
        loop {
            if let Ok(length) = socket.recv(&mut message)
                && String::from_utf8_lossy(&message[..length]).lines().any(|line| line == "READY=1")
            {
                return Ok(());
            }
            if let Some(finished) = agent.ended()? {
                bail!("the agent ended before it was ready ({finished}): {}", agent.stderr()?);
            }
            if Instant::now() > deadline {
                bail!("the agent is not ready: {}", agent.stderr()?);
            }
        }
    }

    pub(crate) fn kill_agent(&mut self) {
        let Some(agent) = self.agent.take() else { return };
        agent.signal(Signal::SIGKILL).unwrap();
        agent.finish(LIMIT).unwrap();
    }

    /// What the agent has said.
    pub(crate) fn log(&self) -> String {
        self.agent.as_ref().map(|agent| agent.stderr().unwrap()).unwrap_or_default()
    }

    /// The last line of an attempt.
    pub(crate) fn attempt(&self, who: Who, name: &str, settings: &[&str]) -> String {
        // An emulated machine answers late, and ten thousand connects would take it minutes.
        let emulated = settings.is_empty() && patience() > 1;
        let settings = if emulated { &["patience=20", "burst=1000"] } else { settings };
        let mut command = self.attempting(who, name, settings);
        let finished = Process::run(&mut command, self.world.directory(), LIMIT).unwrap();
        outcome(&finished)
    }

    /// The same, where the agent is killed in its middle.
    pub(crate) fn attempt_across_a_kill(&mut self, who: Who, name: &str) -> String {
        let mut command = self.attempting(who, name, &["pause=1", "patience=1"]);
        let mut process = Process::start(command.stdin(Stdio::piped()), self.world.directory()).unwrap();
        // An attempt that is refused before its middle has ended.
        let _ended = process.wait_for_output("paused", LIMIT);
        self.kill_agent();
        go_on(&mut process);
        let finished = process.finish(LIMIT).unwrap();
        outcome(&finished)
    }

    /// Lets the early process go on; its last line.
    pub(crate) fn finish_early_connection(&mut self) -> String {
        let mut early = self.early.take().expect("there is one");
        go_on(&mut early);
        let finished = early.finish(LIMIT).unwrap();
        outcome(&finished)
    }

    fn attempting(&self, who: Who, name: &str, settings: &[&str]) -> Command {
        let who = match who {
            Who::User => "user",
            Who::Root => "root",
        };
        let listener = self.listener_port().map_or_else(String::new, |port| format!("listener={port}"));
        let friend = format!("friend={}", self.world.directory().join("friend").display());
        let outside = format!("outside={}", self.outside.path().display());
        let program = self.world.directory().join("escape.py").display().to_string();
        let line = ["python3", &program, who, name, &listener, &friend, &outside];
        let line: Vec<&str> = line.into_iter().chain(settings.iter().copied()).collect();
        let line: Vec<&str> = line.into_iter().filter(|word| !word.is_empty()).collect();
        self.world.command_in(&self.inside, &line)
    }

    /// The agent's port on 127.0.0.1, by the kernel's own list.
    fn listener_port(&self) -> Option<u16> {
        let mut list = self.world.command(&["cat", "/proc/net/tcp"]);
        let text = Process::run(&mut list, self.world.directory(), LIMIT).unwrap().text();
        let mut ports = text.lines().skip(1).filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (local, state) = (fields.nth(1)?, fields.nth(1)?);
            let port = u16::from_str_radix(local.strip_prefix("0100007F:")?, 16).ok()?;
            (state == "0A" && (600..1024).contains(&port)).then_some(port)
        });
        ports.next()
    }

    /// Starts programs of the workload that read and delete without end.
    pub(crate) fn start_load(&self, workers: usize) -> Result<Vec<Process>> {
        let program = self.world.write("load.py", LOAD)?.display().to_string();
        let start = |number: usize| {
            let line = ["python3", &program, &number.to_string()].map(str::to_owned);
            let mut command = self.world.command_in(&self.inside, &line);
            let mut worker = Process::start(command.stdin(Stdio::piped()), self.world.directory())?;
            worker.wait_for_output("ready", LIMIT)?;
            Ok(worker)
        };
        (1..=workers).map(start).collect()
    }

    /// Ends one of them; how many answers it got.
    pub(crate) fn finish_load(&self, worker: &mut Process) -> u64 {
        drop(worker.take_stdin());
        worker.wait_for_output("done", LIMIT).unwrap();
        let text = worker.stdout().unwrap();
        let line = text.lines().last().unwrap_or_default();
        line.split(' ').nth(1).and_then(|answered| answered.parse().ok()).expect("a number")
    }

    /// The requests that reached the API.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.standin.log().requests().unwrap()
    }

    /// How many entries a map has that is pinned in this world.
    pub(crate) fn entries(&self, map: &str) -> usize {
        entries(self.agent.as_ref().expect("an agent").id(), map).unwrap()
    }

    /// How long a subject's connect takes to fail, as it measures itself.
    pub(crate) fn milliseconds_to_fail(&self, port: u16) -> f64 {
        let script = format!(
            "import socket, time\ns = socket.socket()\nt = time.monotonic()\n\
             try: s.connect(('{}', {port})); print('connected')\n\
             except OSError: print((time.monotonic() - t) * 1000)",
            addresses::API
        );
        let mut command = self.world.command_in(&self.inside, &["python3", "-c", &script]);
        let finished = Process::run(&mut command, self.world.directory(), LIMIT).unwrap();
        finished.text().trim().parse().expect("it fails")
    }

    /// The audit log so far.
    pub(crate) fn records(&self) -> Vec<Record> {
        if self.audit().exists() { audit::read_past_torn(&self.audit()).unwrap() } else { Vec::new() }
    }

    /// Whether a record behind the first `before` gives this reason, soon.
    pub(crate) fn comes_to_record(&self, before: usize, reason: &str) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10) * patience();
        while Instant::now() < deadline {
            if self.records().iter().skip(before).any(|record| record.reason() == reason) {
                return true;
            }
            thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// What came to the API past the proxy, or through it and against the policy.
    pub(crate) fn leaks(&self) -> Vec<String> {
        let requests = self.standin.log().requests().unwrap();
        let asked = requests.iter().filter(|request| request.target.contains(MARK));
        let asked = asked.map(|request| format!("the API got {} {}", request.method, request.target));
        let seen = self.witness.stdout().unwrap();
        let seen = seen.lines().filter(|line| *line != "ready").map(|line| format!("the witness saw {line}"));
        asked.chain(seen.collect::<Vec<_>>()).collect()
    }
}

fn go_on(process: &mut Process) {
    if let Some(mut stdin) = process.take_stdin() {
        // It may have ended.
        let _ = writeln!(stdin, "go");
    }
}

fn outcome(finished: &Finished) -> String {
    let text = finished.text();
    let last = text.lines().rfind(|line| *line != "paused");
    last.map_or_else(|| format!("no outcome: {}", finished.stderr), str::to_owned)
}

/// The world's directory is its maker's alone, and an unprivileged attempt meets its friend there.
fn make_passable(world: &World) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(world.directory(), fs::Permissions::from_mode(0o711))?)
}
