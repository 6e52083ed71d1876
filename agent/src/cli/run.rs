//! `tidegate run`: which command, under which policy and configuration.

use super::Error;
use crate::{
    app::{self, Job},
    classify::Catalogue,
    config::{Config, RUN_DIR, file},
    control,
    decide::store::PolicySet,
    run::admitted,
    toml_file::{self, Source},
};
use clap::Args;
use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

/// The workload's name where the command line gives the policy.
const UNNAMED_WORKLOAD: &str = "run";

/// `tidegate run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The policy; without it and `--workload`, the built-in one that reads and changes nothing. It is loaded again
    /// when it changes, and on SIGHUP, which the command does not get
    #[arg(long, value_name = "FILE", conflicts_with = "workload")]
    pub policy: Option<PathBuf>,
    /// A workload of the configuration, whose name and policy to use. Without root: one that the daemon lets the user
    /// take (`run_by`)
    #[arg(long, value_name = "NAME")]
    pub workload: Option<String>,
    /// The configuration [default: /etc/tidegate/tidegate.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to write the audit records, `-` for standard error [default: the configuration's]
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
    /// The user to run the command as
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Loads what the arguments name.
///
/// # Errors
/// When a file is wrong or missing, or the workload is not in the configuration.
pub fn prepare(args: &RunArgs, catalogue: &Catalogue) -> Result<Job, Error> {
    let (mut config, config_path) = configuration(args.config.as_ref())?;
    if let Some(audit) = &args.audit {
        config.audit.path.clone_from(audit);
    }
    let (workload, policy_file) = match (&args.workload, &args.policy) {
        (Some(name), _) => {
            let entry = config.workloads.iter().find(|workload| workload.name == *name).ok_or_else(|| {
                let known: Vec<&str> =
                    config.workloads.iter().map(|workload| workload.name.as_str()).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                Error::UnknownWorkload { name: name.clone(), config: config_path, known }
            })?;
            (name.clone(), Some(config.policy_dir.join(format!("{}.toml", entry.policy))))
        }
        (None, Some(path)) => (UNNAMED_WORKLOAD.to_owned(), Some(path.clone())),
        (None, None) => (UNNAMED_WORKLOAD.to_owned(), None),
    };
    let policies = match &policy_file {
        Some(path) => PolicySet::load(&[Source::open(path)?], catalogue)?,
        None => PolicySet::built_in(catalogue)?,
    };
    let policy = policies.names().next().unwrap_or_default().to_owned();
    // A reload must find the same file, wherever the process is then.
    let policy_files = policy_file.map(absolute).transpose()?;
    Ok(Job { config, workload, policy, policies, policy_files: policy_files.into_iter().collect() })
}

fn absolute(path: PathBuf) -> Result<PathBuf, toml_file::Error> {
    std::path::absolute(&path).map_err(|source| toml_file::Error::Open { path, source })
}

/// The configuration that is named, or the installed one, or the default where none is installed.
pub(super) fn configuration(named: Option<&PathBuf>) -> Result<(Config, PathBuf), Error> {
    let path = named.cloned().unwrap_or_else(|| file::DEFAULT_PATH.into());
    match file::load(&path) {
        Err(toml_file::Error::Open { source, .. })
            if named.is_none() && source.kind() == io::ErrorKind::NotFound =>
        {
            Ok((Config::default(), path))
        }
        loaded => Ok((loaded?, path)),
    }
}

/// Runs the command as a workload and answers with its exit status: alone as root, else by the daemon's leave.
///
/// # Errors
/// When the arguments are wrong, or tidegate could not run the command.
pub fn run(args: &RunArgs) -> Result<u8, Error> {
    if !rustix::process::geteuid().is_root() {
        return by_leave(args);
    }
    let job = prepare(args, Catalogue::embedded())?;
    Ok(app::run(job, args.command.clone(), args.user.as_deref())?)
}

/// Without root it is the daemon that knows the workload and its policy.
fn by_leave(args: &RunArgs) -> Result<u8, Error> {
    let options = [
        ("--policy", args.policy.is_some()),
        ("--config", args.config.is_some()),
        ("--audit", args.audit.is_some()),
        ("--user", args.user.is_some()),
    ];
    if let Some((option, _)) = options.into_iter().find(|(_, is_given)| *is_given) {
        return Err(Error::NeedsRoot { option });
    }
    let workload = args.workload.as_deref().ok_or(Error::NoWorkload)?;
    let socket = Path::new(RUN_DIR).join(control::FILE_NAME);
    Ok(admitted::run(&socket, workload, &args.command)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn args(dir: &Path) -> RunArgs {
        let config = Some(dir.join("tidegate.toml"));
        RunArgs {
            policy: None,
            workload: None,
            config,
            audit: None,
            user: None,
            command: vec!["true".into()],
        }
    }

    fn installed() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "policy_dir = \"{}\"\n[[workload]]\nname = \"w\"\npolicy = \"p\"\n[[workload]]\nname = \"lost\"\npolicy = \"none\"\n",
            dir.path().display()
        );
        std::fs::write(dir.path().join("tidegate.toml"), config).unwrap();
        std::fs::write(dir.path().join("p.toml"), "allow = [\"droplet:read\"]").unwrap();
        dir
    }

    #[test]
    fn a_workload_has_the_policy_of_the_configuration() {
        let dir = installed();
        let args = RunArgs { workload: Some("w".to_owned()), audit: Some("-".into()), ..args(dir.path()) };
        let job = prepare(&args, Catalogue::embedded()).unwrap();
        assert_eq!((job.workload.as_str(), job.policy.as_str()), ("w", "p"));
        assert_eq!(job.config.audit.path, Path::new("-"));
    }

    #[test]
    fn a_command_without_a_policy_may_only_read() {
        let dir = installed();
        let job = prepare(&args(dir.path()), Catalogue::embedded()).unwrap();
        assert_eq!((job.workload.as_str(), job.policy.as_str()), ("run", "read-only"));
    }

    #[test_case(Some("other"), None, "no workload `other`"; "unknown workload")]
    #[test_case(Some("lost"), None, "cannot open"; "workload whose policy is missing")]
    #[test_case(None, Some("nowhere.toml"), "cannot open"; "missing policy")]
    fn what_is_missing_is_never_replaced(workload: Option<&str>, policy: Option<&str>, expected: &str) {
        let dir = installed();
        let policy = policy.map(|name| dir.path().join(name));
        let args = RunArgs { workload: workload.map(str::to_owned), policy, ..args(dir.path()) };
        let error = prepare(&args, Catalogue::embedded()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.status(), 2);
    }

    #[test]
    fn a_configuration_that_is_named_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        assert!(prepare(&args(dir.path()), Catalogue::embedded()).is_err());
    }
}
