//! Starting `tidegate run` in a world.

use crate::{
    audit::{self, Record},
    cgroup::Cgroup,
    client::Answer,
    netns::World,
    process::{Finished, Process},
    programs,
    standin::Served,
};
use anyhow::{Context as _, Result};
use std::{
    ffi::OsStr,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// A policy that allows every read.
pub const READ_ONLY: &str = "description = \"Look at everything, change nothing\"\nallow = [\"api:read\"]\n";

/// A policy that allows every read, and to create Droplets of everything that they can be made of.
pub const CREATOR: &str = r#"
allow = [
    "api:read", "droplet:create", "tag:create",
    "block_storage:read", "image:read", "ssh_key:read", "vpc:read",
]
"#;

/// How long `tidegate run` may take, with its command; generous, since machines that test are busy.
pub const LIMIT: Duration = Duration::from_secs(60);

/// `tidegate run`, attached below a cgroup of its own and trusting the stand-in as upstream.
#[derive(Debug)]
pub struct Tidegate<'w> {
    world: &'w World,
    root: Cgroup,
    settings: String,
    policy: PathBuf,
    audit: PathBuf,
    environment: Vec<(String, String)>,
}

/// What a run left.
#[derive(Debug)]
pub struct Ran {
    /// The command's status and output (and tidegate's own log on standard error).
    pub finished: Finished,
    /// The audit log.
    pub records: Vec<Record>,
}

impl<'w> Tidegate<'w> {
    /// With the policy [`READ_ONLY`], at a cgroup of the world with this name.
    ///
    /// # Errors
    /// When the name is taken or a file cannot be written.
    pub fn new(world: &'w World, standin: &Served, name: &str) -> Result<Self> {
        let mut tidegate = Self {
            world,
            root: world.cgroup().child(name)?,
            settings: String::new(),
            policy: PathBuf::new(),
            audit: world.directory().join(format!("{name}.audit.jsonl")),
            environment: Vec::new(),
        }
        .policy("test-read-only", READ_ONLY)?;
        let (root, ca_file) = (tidegate.root.path().to_owned(), standin.ca_file());
        tidegate.settings.clear();
        writeln!(tidegate.settings, "capture.cgroup_root = {root:?}\nupstream.ca_file = {ca_file:?}")?;
        Ok(tidegate)
    }

    /// With this policy instead.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn policy(mut self, name: &str, text: &str) -> Result<Self> {
        // In a directory of their own, which the command sees read-only.
        let directory = self.world.directory().join("policies");
        std::fs::create_dir_all(&directory)?;
        self.policy = self.world.write(&format!("policies/{name}.toml"), text)?;
        Ok(self)
    }

    /// With the policy in this file instead.
    #[must_use]
    pub fn policy_file(mut self, path: &Path) -> Self {
        self.policy = path.to_owned();
        self
    }

    /// With one more setting: a dotted key such as `upstream.response_timeout` and its value as TOML.
    ///
    /// # Errors
    /// Never, as long as there is memory.
    pub fn set(mut self, key: &str, value: &str) -> Result<Self> {
        writeln!(self.settings, "{key} = {value}")?;
        Ok(self)
    }

    /// With this variable in the environment of tidegate, and so of the command.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The policy's file.
    pub fn policy_path(&self) -> &Path {
        &self.policy
    }

    /// The cgroup that `run` attaches at and makes its own below.
    pub fn root(&self) -> &Cgroup {
        &self.root
    }

    /// The command line that runs this command as a workload.
    ///
    /// # Errors
    /// When tidegate was not built or the configuration cannot be written.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Command> {
        let config = self.audit.with_extension("config.toml");
        std::fs::write(&config, &self.settings).context("writing tidegate's configuration")?;
        let program = programs::built("tidegate")?;
        let mut command = self.world.command(&[program.as_os_str(), OsStr::new("run")]);
        command.args(["--config".as_ref(), config.as_os_str(), "--policy".as_ref(), self.policy.as_os_str()]);
        command.args(["--audit".as_ref(), self.audit.as_os_str(), "--".as_ref()]).args(arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// Starts a command as a workload.
    ///
    /// # Errors
    /// As [`Tidegate::command`].
    pub fn start<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Process> {
        Process::start(&mut self.command(arguments)?, self.world.directory())
    }

    /// Runs a command as a workload to its end.
    ///
    /// # Errors
    /// When it takes longer than [`LIMIT`] or the audit log cannot be read.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Ran> {
        let finished = Process::run(&mut self.command(arguments)?, self.world.directory(), LIMIT)?;
        let records = self.records().with_context(|| format!("after {finished:?}"))?;
        Ok(Ran { finished, records })
    }

    /// The audit log's file.
    pub fn audit(&self) -> &Path {
        &self.audit
    }

    /// The audit log so far.
    ///
    /// # Errors
    /// When it cannot be read or holds something else than records.
    pub fn records(&self) -> Result<Vec<Record>> {
        audit::read(&self.audit)
    }
}

impl Ran {
    /// What the client that ran got.
    ///
    /// # Errors
    /// When it got no answer; shows the audit log then.
    pub fn answer(&self) -> Result<Answer> {
        Answer::of(&self.finished).with_context(|| format!("audit log: {:#?}", self.records))
    }

    /// The one outcome of this request, such as `GET /v2/droplets`.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn outcome(&self, request: &str) -> Result<&Record> {
        audit::only(&self.records, request, |record| record.request() == request)
            .with_context(|| format!("{:?}", self.finished))
    }

    /// The one outcome with this reason.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn outcome_because(&self, reason: &str) -> Result<&Record> {
        audit::only(&self.records, reason, |record| record.reason() == reason)
            .with_context(|| format!("{:?}", self.finished))
    }
}
