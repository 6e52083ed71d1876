//! `tidegate daemon`: loads what it holds the machine's workloads to.

use super::Error;
use crate::{
    app::{
        self,
        daemon::Charge,
        pod,
        succession::{self, Turn},
    },
    classify::Catalogue,
    config::file,
    decide::store::PolicySet,
    toml_file::{self, Source},
};
use clap::Args;
use std::{collections::BTreeSet, fs, path::PathBuf};

/// `tidegate daemon`.
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = file::DEFAULT_PATH)]
    pub config: PathBuf,
    /// Make subjects of the workloads, and end: what they connect to is refused until the daemon runs
    #[arg(long)]
    pub attach_only: bool,
    /// Where a daemon is at work already, check the files, wait for it to end, and take over its listeners
    #[arg(long, conflicts_with = "attach_only")]
    pub wait: bool,
}

/// Loads the configuration, and every policy of its directory.
///
/// # Errors
/// When a file is wrong, or a workload's policy is missing.
pub fn prepare(args: &DaemonArgs, catalogue: &Catalogue) -> Result<Charge, Error> {
    let config_source = Source::open(&args.config)?;
    let config = file::parse(&config_source)?;
    let policy_dir = &config.policy_dir;
    let entries = fs::read_dir(policy_dir);
    let entries = entries.map_err(|source| toml_file::Error::Open { path: policy_dir.clone(), source })?;
    let there = entries.filter_map(Result::ok).map(|entry| entry.path());
    let mut files: BTreeSet<PathBuf> =
        there.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    let needed = config.workloads.iter().map(|workload| policy_dir.join(format!("{}.toml", workload.policy)));
    files.extend(needed);
    let sources: Result<Vec<Source>, _> = files.iter().map(|path| Source::open(path)).collect();
    let policy_sources = sources?;
    let policies = PolicySet::load(&policy_sources, catalogue)?;
    let config_file = std::path::absolute(&args.config)
        .map_err(|source| toml_file::Error::Open { path: args.config.clone(), source })?;
    let policy_files = files.into_iter().collect();
    Ok(Charge { config, config_file, config_source, policies, policy_sources, policy_files })
}

/// Holds the workloads until it is told to end.
///
/// # Errors
/// When the configuration or a policy is wrong, or tidegate could not begin.
pub fn run(args: &DaemonArgs) -> Result<u8, Error> {
    // Before there is another thread, which would stay where it is.
    pod::enter_first_cgroup_namespace().map_err(Error::Daemon)?;
    if args.attach_only {
        // A policy that is wrong is no reason to let them pass.
        app::daemon::attach(&file::load(&args.config)?).map_err(Error::Daemon)?;
        return Ok(0);
    }
    let mut charge = prepare(args, Catalogue::embedded())?;
    let mut turn = Turn::default();
    if args.wait {
        turn = succession::wait_for(&charge.config).map_err(Error::Daemon)?;
        // What was right when it began to wait may be another by now.
        charge = prepare(args, Catalogue::embedded())?;
    }
    app::daemon::run(charge, turn).map_err(Error::Daemon)?;
    Ok(0)
}
