//! Builds every part, starts them in order, and stops them in order: the only constructor.

mod agent;
pub mod ca;
#[cfg(feature = "kubernetes")]
pub mod cluster;
mod command;
mod counts;
pub mod daemon;
mod door;
mod engine;
mod ground;
mod handover;
pub mod pod;
pub mod proxy;
mod refusals;
mod reload;
mod server;
mod sessions;
pub mod succession;
mod watch;

use self::reload::Bell;
use crate::{
    capture,
    config::{self, Config, RUN_DIR},
    decide::store::{FileError, PolicyFile, PolicySet},
    forward::upstream::{RootsError, SetupError},
    record::{
        fingerprint::RandomUnavailable,
        sink::{self, rotated},
    },
    run::{self, Enclosure, Order, limits::OpenFiles, signals::Forwarder, user::User},
    terminate, toml_file,
};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use signal_hook::{consts::SIGXFSZ, flag};
use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};
use tokio::runtime::Runtime;

/// Under which rules a command runs, loaded and checked.
#[derive(Debug)]
pub struct Job {
    /// The configuration, with what the command line sets.
    pub config: Config,
    /// The workload's name.
    pub workload: String,
    /// Its policy's name.
    pub policy: String,
    /// The policies, with that one.
    pub policies: PolicySet,
    /// The files that they came from, absolute; none where they are built in.
    pub policy_files: Vec<PathBuf>,
}

/// Why a command could not be run as a workload.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command's enclosure failed.
    #[error(transparent)]
    Run(#[from] run::Error),
    /// The user of `--user` is none.
    #[error(transparent)]
    User(#[from] run::user::Error),
    /// The kernel side could not be started.
    #[error(transparent)]
    Capture(#[from] capture::Error),
    /// The audit log cannot be opened.
    #[error(transparent)]
    Sink(#[from] sink::Error),
    /// The policy's file cannot be watched.
    #[error(transparent)]
    Policy(#[from] FileError),
    /// What the API server knows does not go with the policies' files.
    #[error("the ScopePolicies that were known last cannot be loaded")]
    Objects(#[source] toml_file::Error),
    /// There are no certificates to verify the upstream with.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// No upstream can be reached.
    #[error(transparent)]
    Upstream(#[from] SetupError),
    /// TLS with the workload cannot be set up.
    #[error(transparent)]
    Terminate(#[from] terminate::Error),
    /// The local CA cannot be made or used.
    #[error(transparent)]
    Ca(#[from] terminate::store::Error),
    /// The system has no random numbers.
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
    /// Whoever asks the API server is not to have privileges.
    #[error("`tidegate cluster` needs no privilege and is not to have any; run it as another user than root")]
    Root,
    /// Whose pods are meant is not said.
    #[error("this node's name is not known; give --node NAME, or set NODE_NAME")]
    NoNode,
    /// Whether the agent is ready cannot be asked.
    #[error(
        "a taint is taken off once the agent is ready, and that is asked at `[health] listen`, which is not set"
    )]
    NoHealth,
    /// How the API server is reached is not known.
    #[error(
        "it is not known how the Kubernetes API server is reached; run this in a pod with a service account's token, or give --kubeconfig"
    )]
    NoServer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nothing is told any more.
    #[error("the Kubernetes API server is not asked any more, though it should be")]
    ServerLost,
    /// Namespaces, cgroups and BPF need root.
    #[error("`tidegate daemon` needs root")]
    NotRoot,
    /// There is no cgroup2 tree to capture in.
    #[error(transparent)]
    Cgroup(#[from] run::cgroup::Error),
    /// A workload could never be enforced.
    #[error(
        "workload `{workload}` matches `{pattern}`, which lies outside of `capture.cgroup_root` ({}), where nothing is \
         captured", root.display()
    )]
    OutOfReach {
        /// The workload.
        workload: String,
        /// The pattern.
        pattern: String,
        /// The cgroup root.
        root: PathBuf,
    },
    /// No workload says how it is matched.
    #[error("no `[[workload]]` of the configuration has `match`, so there is nothing to enforce")]
    NoWorkloads,
    /// A directory or file of the agent's own cannot be made.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nobody serves connections any more.
    #[error(
        "the process that serves connections has ended; what is attached stays, and shuts the gate until the next start"
    )]
    ServantEnded,
    /// A thread, signal handler or runtime cannot be had.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

impl Error {
    /// The exit status of `tidegate run`, as that of env(1).
    pub fn exit_status(&self) -> u8 {
        if let Self::Run(error) = self { error.exit_status() } else { run::child::FAILED }
    }
}

/// Runs the command as a workload: everything that holds it back stands before it starts, and goes after it
/// and all its descendants are dead. Answers its exit status.
///
/// # Errors
/// Says which part could not be started; nothing has run then, and nothing is left.
pub fn run(job: Job, command: Vec<OsString>, user: Option<&str>) -> Result<u8, Error> {
    let system = |action| move |source| Error::System { action, source };
    let user = user.map(User::lookup).transpose()?;
    // A limit on file sizes then fails a write to the log, instead of killing the agent and so the command.
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map_err(system("handle SIGXFSZ"))?;
    // A dump of its memory would hold the CA's key and what passes through.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|errno| system("forbid dumps of the agent's memory")(errno.into()))?;
    let open_files = OpenFiles::raise().map_err(system("raise the limit on open files"))?;
    let bell = Bell::default();
    let asked = bell.clone();
    let forwarder = Forwarder::start(move || {
        asked.ring();
        true
    })
    .map_err(system("handle signals"))?;
    let runtime = Runtime::new().map_err(system("start the runtime"))?;

    let enclosure = Enclosure::open(Path::new(RUN_DIR), job.config.capture.cgroup_root.as_deref())?;
    let config::Audit { path: audit, key: audit_key, .. } = job.config.audit.clone();
    let earlier_logs = rotated(&audit);
    let ca = job.config.ca.dir.clone();
    let key = job.config.ca.brought.as_ref().and_then(|brought| brought.key.clone());
    let credentials = job.config.upstream.proxy_credentials.clone();
    let headers = job.config.audit.otlp.as_ref().and_then(|otlp| otlp.headers.clone());
    let policy_files = reload::open(&job.policy_files, &places_of(user.as_ref()))?;
    let read_only: BTreeSet<_> = policy_files.iter().filter_map(PolicyFile::kept_directory).collect();
    let read_only = read_only.into_iter().map(Path::to_owned).collect();
    let agent = runtime.block_on(command::start(&enclosure, job, policy_files, bell))?;
    let order = Order {
        command,
        user,
        read_only,
        hidden: [audit, audit_key, ca]
            .into_iter()
            .chain(earlier_logs)
            .chain(key)
            .chain(credentials)
            .chain(headers)
            .filter_map(existing)
            .collect(),
        trust_anchor: agent.trust_anchor().to_owned(),
        open_files,
    };
    let running = enclosure.spawn(order)?;
    forwarder.attach(running.id()).map_err(system("watch the command"))?;
    let status = running.wait();
    // The proxy outlives the command's processes, and its records outlive the agent.
    let closed = enclosure.close();
    runtime.block_on(agent.stop(engine::DRAIN));
    closed?;
    Ok(status?)
}

/// Where a command is to write, whoever it runs as.
fn places_of(user: Option<&User>) -> Vec<PathBuf> {
    let named = ["HOME", "TMPDIR"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let usual = ["/tmp", "/var/tmp", "/dev/shm"].into_iter().map(PathBuf::from);
    let home = user.map(|user| user.home().to_owned());
    named.chain(usual).chain(home).chain(env::current_dir()).collect()
}

/// The absolute path of what is there to be hidden: a regular file or a directory.
fn existing(path: PathBuf) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    (path.is_file() || path.is_dir()).then_some(path)
}
