//! The command line: what can be asked for, and how failure is told.

pub mod audit;
pub mod ca;
pub mod check;
pub mod cluster;
pub mod completions;
pub mod daemon;
pub mod doctor;
pub mod explain;
pub mod protect;
pub mod release;
pub mod reload;
pub mod run;
pub mod scopes;
pub mod status;
pub mod suggest;
pub mod top;

use crate::{
    app, capture::pins, control, decide::trial, doctor::command::words::OpenQuote, host_trust,
    protect as protection, record::signer, run::admitted, terminate::store, toml_file,
};
use clap::{Args, Parser, Subcommand};
use std::{
    error::Error as StdError,
    io::{self, Write},
    path::PathBuf,
};

/// Gives every program on this host exactly the DigitalOcean API access it was granted.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Hold the workloads of the configuration to their policies, until told to end
    Daemon(daemon::DaemonArgs),
    /// Serve connections for the daemon, which starts this
    #[command(hide = true)]
    Proxy,
    /// Ask the Kubernetes API server for the daemon, without any privilege
    Cluster(cluster::ClusterArgs),
    /// Run a command whose requests to the API are decided by a policy
    Run(run::RunArgs),
    /// Validate configuration and policies, and run the policies' case tables
    Check(check::CheckArgs),
    /// Say which operation a request is, which scopes it needs, and what a policy answers
    Explain(explain::ExplainArgs),
    /// Write the least policy that the recorded calls need
    Suggest(suggest::SuggestArgs),
    /// Show what was decided, or check that no record of it was altered or removed
    Audit(audit::AuditArgs),
    /// Search the catalogue of operations and scopes
    Scopes(ScopesArgs),
    /// Say what the daemon captures, and whether it is well
    Status(status::StatusArgs),
    /// Watch the workloads and their decisions in the terminal
    Top(top::TopArgs),
    /// Say whether this machine can do it, and if not, why
    Doctor(doctor::DoctorArgs),
    /// Make the daemon read its policies again, and say what came of it
    Reload(reload::ReloadArgs),
    /// Take away what the daemon enforces, once it has ended
    Release(release::ReleaseArgs),
    /// Show, renew, install or take away the local CA
    Ca(ca::CaArgs),
    /// Make a systemd unit's programs trust the local CA, and start only with the daemon
    Protect(protect::ProtectArgs),
    /// Take away what `protect` has written for a unit
    Unprotect(protect::UnprotectArgs),
    /// Write the script by which a shell completes these commands
    Completions(completions::CompletionsArgs),
}

/// `tidegate scopes`.
#[derive(Debug, Args)]
pub struct ScopesArgs {
    /// A part of a scope, its description, an operation or its path
    pub word: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A policy or configuration is wrong.
    #[error(transparent)]
    File(#[from] toml_file::Error),
    /// A method and URL are no request to the protected host.
    #[error(transparent)]
    Request(#[from] trial::Error),
    /// `explain --body` cannot be used.
    #[error("cannot read the body `{}`; name a readable file of at most {} bytes", .path.display(), explain::MAX_BODY_BYTES)]
    Body {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The audit log cannot be used.
    #[error("cannot read the audit log `{}`", .path.display())]
    Audit {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The audit log's key cannot be used.
    #[error(transparent)]
    AuditKey(#[from] signer::Error),
    /// The audit log has no calls to suggest a policy for.
    #[error("no calls of that workload in `{}`; it has calls of: {}", .path.display(), names(.workloads))]
    NoCalls {
        /// The log.
        path: PathBuf,
        /// The workloads that it has calls of.
        workloads: Vec<String>,
    },
    /// The audit log has calls of several workloads.
    #[error("`{}` has calls of several workloads; choose one of {} with --workload", .path.display(), names(.workloads))]
    SeveralWorkloads {
        /// The log.
        path: PathBuf,
        /// The workloads.
        workloads: Vec<String>,
    },
    /// `run --workload` names none of the configuration.
    #[error("no workload `{name}` in `{}`; it has: {known}", .config.display())]
    UnknownWorkload {
        /// The name.
        name: String,
        /// The configuration.
        config: PathBuf,
        /// The names that it has.
        known: String,
    },
    /// `run` without root decides nothing itself.
    #[error(
        "`{option}` needs root; without, `tidegate run --workload NAME -- CMD` asks the daemon, whose configuration says \
         what the workload is"
    )]
    NeedsRoot {
        /// The option.
        option: &'static str,
    },
    /// `run` without root and workload.
    #[error(
        "without root, name a workload that the daemon's `run_by` lets you take: `tidegate run --workload NAME -- CMD`; \
         or use sudo"
    )]
    NoWorkload,
    /// `run` without root failed.
    #[error(transparent)]
    Admitted(#[from] admitted::Error),
    /// `check` found something; it has been told already.
    #[error("{bad} of {checked} files have problems; see above")]
    Checked {
        /// Files with problems.
        bad: usize,
        /// Files in all.
        checked: usize,
    },
    /// `run` could not run the command.
    #[error(transparent)]
    App(#[from] app::Error),
    /// `release` could not remove everything, or must not.
    #[error(transparent)]
    Pins(#[from] pins::Error),
    /// `daemon` could not begin.
    #[error(transparent)]
    Daemon(app::Error),
    /// The local CA cannot be used.
    #[error(transparent)]
    Ca(#[from] store::Error),
    /// A trust store cannot be read or changed.
    #[error(transparent)]
    HostTrust(#[from] host_trust::Error),
    /// A unit cannot be protected, or its protection not be taken away.
    #[error(transparent)]
    Protect(#[from] protection::Error),
    /// The daemon cannot be asked.
    #[error(transparent)]
    Control(#[from] control::Error),
    /// `doctor --command` is not whole.
    #[error(transparent)]
    OpenQuote(#[from] OpenQuote),
    /// `top` has nothing to draw on.
    #[error("standard output is no terminal; `tidegate top --once` prints a single picture as plain text")]
    NoTerminal,
    /// The terminal does not do what `top` needs.
    #[error("cannot use the terminal")]
    Terminal(#[source] io::Error),
    /// `top` is not in this program.
    #[error("this tidegate was built without `top`; build it with `cargo build --release --features tui`")]
    NoTop,
    /// This build cannot ask an API server.
    #[error(
        "this tidegate was built without `cluster`; build it with `cargo build --release --features kubernetes`"
    )]
    NoCluster,
    /// Standard output cannot be written.
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
}

impl Error {
    /// The exit status: 2 for usage and configuration, 1 for the rest. `run` turns what fails after its
    /// arguments were understood into 125.
    pub fn status(&self) -> u8 {
        match self {
            Self::File(_) | Self::Request(_) | Self::Body { .. } | Self::UnknownWorkload { .. } => 2,
            Self::OpenQuote(_) | Self::NoTerminal => 2,
            Self::Terminal(_) | Self::NoTop | Self::NoCluster => 1,
            Self::Checked { .. } | Self::NoCalls { .. } | Self::SeveralWorkloads { .. } => 2,
            Self::Audit { .. } | Self::AuditKey(_) | Self::Control(_) | Self::Ca(_) | Self::HostTrust(_) => 1,
            Self::Daemon(app::Error::NoWorkloads | app::Error::OutOfReach { .. } | app::Error::User(_)) => 2,
            Self::Daemon(app::Error::Root | app::Error::NoNode | app::Error::NoServer(_)) => 2,
            Self::Daemon(_) => 1,
            Self::Protect(error) if error.is_of_configuration() => 2,
            Self::Protect(_) => 1,
            Self::App(error) => error.exit_status(),
            Self::NeedsRoot { .. } | Self::NoWorkload => 2,
            Self::Admitted(error) => error.exit_status(),
            Self::Pins(_) | Self::Output(_) => 1,
        }
    }
}

fn names(workloads: &[String]) -> String {
    if workloads.is_empty() { "none".to_owned() } else { workloads.join(", ") }
}

/// Runs a command and answers with the exit status.
///
/// # Errors
/// When the command failed; [`Error::status`] says with which exit status.
pub fn dispatch(cli: Cli, out: &mut impl Write) -> Result<u8, Error> {
    match cli.command {
        Command::Daemon(args) => return daemon::run(&args),
        Command::Proxy => return app::proxy::child::main().map_err(Error::Daemon),
        Command::Cluster(args) => return cluster::run(&args),
        Command::Run(args) => return run::run(&args),
        Command::Check(args) => check::check(&args, out)?,
        Command::Explain(args) => explain::explain(&args, out)?,
        Command::Suggest(args) => suggest::suggest(&args, out)?,
        Command::Scopes(args) => scopes::run(args.word.as_deref(), args.json, out)?,
        Command::Status(args) => return status::run(&args, out),
        Command::Top(args) => return top::run(&args, out),
        Command::Doctor(args) => return doctor::run(&args, out),
        Command::Reload(args) => return reload::run(&args, out),
        Command::Release(args) => return release::run(&args, out),
        Command::Ca(args) => return ca::run(&args, out),
        Command::Audit(args) => return audit::run(&args, out),
        Command::Protect(args) => return protect::protect(&args, out),
        Command::Unprotect(args) => return protect::unprotect(&args, out),
        Command::Completions(args) => completions::run(&args, out)?,
    }
    out.flush()?;
    Ok(0)
}

/// The error with its causes, as `tidegate: what: why`; each line of a list of problems by itself.
pub fn told(error: &dyn StdError) -> String {
    let causes = std::iter::successors(error.source(), |cause: &&dyn StdError| (*cause).source());
    let chain: Vec<String> =
        std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect();
    let lines: Vec<String> = chain.join(": ").lines().map(|line| format!("tidegate: {line}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use test_case::test_case;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test_case("run -- true", true; "run")]
    #[test_case("run curl -s --policy x", true; "options after the command are the command's")]
    #[test_case("run --policy p --user u --audit a --config c -- true -x", true; "all of run")]
    #[test_case("run --policy p --workload w -- true", false; "policy and workload")]
    #[test_case("daemon --config c", true; "daemon")]
    #[test_case("daemon --attach-only", true; "daemon that only attaches")]
    #[test_case("cluster --config c --node n --kubeconfig k", true; "cluster")]
    #[test_case("daemon c", false; "daemon with a file")]
    #[test_case("run", false; "run nothing")]
    #[test_case("check", true; "check the installed")]
    #[test_case("check a b --json", true; "check some")]
    #[test_case("explain GET /v2/droplets --policy p --body b --json", true; "explain")]
    #[test_case("explain GET", false; "explain half a request")]
    #[test_case("scopes droplet --json", true; "scopes")]
    #[test_case("doctor --json", true; "doctor")]
    #[test_case("doctor --json --command node -- app.js", true; "doctor of a command")]
    #[test_case("doctor -- node app.js", true; "doctor of a command in words")]
    #[test_case("doctor node", false; "doctor of a word")]
    #[test_case("doctor --config c --command node", false; "doctor of a machine and a command")]
    #[test_case("release --config c --force", true; "release")]
    #[test_case("status --json --socket s", true; "status")]
    #[test_case("reload --socket s", true; "reload")]
    #[test_case("top --audit a --socket s --config c --once", true; "top")]
    #[test_case("ca show --json --config c --root r", true; "ca show")]
    #[test_case("ca --root r rotate --now", true; "ca rotate")]
    #[test_case("ca bundle --anchors --output f", true; "ca bundle")]
    #[test_case("ca", false; "ca nothing")]
    #[test_case("audit --follow --denied --workload w --json --config c", true; "audit")]
    #[test_case("audit verify a b --key k --json", true; "audit verify")]
    #[test_case("protect web --workload w --config c --root r --dry-run", true; "protect")]
    #[test_case("protect", false; "protect nothing")]
    #[test_case("unprotect web --root r", true; "unprotect")]
    #[test_case("completions bash", true; "completions")]
    #[test_case("completions tcsh", false; "completions of another shell")]
    #[test_case("suggest --audit a --workload w --passed", true; "suggest")]
    #[test_case("suggest", false; "suggest without a log")]
    #[test_case("", false; "nothing")]
    #[test_case("explian GET /", false; "misspelt")]
    fn arguments_are_understood(line: &str, expected: bool) {
        let arguments = std::iter::once("tidegate").chain(line.split_whitespace());
        assert_eq!(Cli::try_parse_from(arguments).is_ok(), expected);
    }

    #[test]
    fn an_error_is_told_once_with_its_causes() {
        let error = Error::Body { path: "b".into(), source: io::Error::other("broken") };
        assert_eq!(
            told(&error),
            "tidegate: cannot read the body `b`; name a readable file of at most 16777216 bytes: broken"
        );
    }

    #[test]
    fn each_problem_of_a_file_has_its_line() {
        let source = toml_file::Source { path: "p.toml".into(), text: String::new() };
        let mut findings = toml_file::Findings::new(&source);
        findings.add(0..0, "a");
        findings.add(0..0, "b");
        let error = Error::from(findings.finish(()).unwrap_err());
        assert_eq!(told(&error), "tidegate: p.toml:1: a\ntidegate: p.toml:1: b");
        assert_eq!(error.status(), 2);
    }
}
