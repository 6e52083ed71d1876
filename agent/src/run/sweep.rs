//! Taking a run down, in the one order that never lets its command through: kill, wait, then unpin.

use crate::run::{
    cgroup::{self, Cgroup},
    directory::{self, RunDirectory},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How long killed processes may take to die. Only a process in an uninterruptible wait takes longer.
const EMPTY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an empty cgroup may still be busy.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why something of a run is left.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command's processes or their cgroup stay; so do the links that hold them back.
    #[error("the command's cgroup stays, with the links that keep it from the API; the next run tries again")]
    Cgroup(#[source] cgroup::Error),
    /// A record names a cgroup that no run can have made.
    #[error("the record names `{}`, which is no cgroup of a run: nothing was touched", path.display())]
    ForeignCgroup {
        /// The path in the record.
        path: PathBuf,
    },
    /// Something in the run's directory stays.
    #[error("the run's directory stays")]
    Directory(#[from] directory::Error),
}

/// Takes the run down. Doing it twice, or after a half-done teardown, is fine.
///
/// # Errors
/// Says what stays.
pub fn teardown(run: &RunDirectory) -> Result<(), Error> {
    let cgroup = match run.record()? {
        Some(record) => Some(Cgroup::at(checked(record.cgroup)?)),
        None => None,
    };
    if let Some(cgroup) = &cgroup {
        cgroup.empty(EMPTY_TIMEOUT).map_err(Error::Cgroup)?;
    }
    run.remove_pins()?;
    if let Some(cgroup) = &cgroup {
        cgroup.remove(REMOVE_TIMEOUT).map_err(Error::Cgroup)?;
    }
    Ok(run.remove()?)
}

/// Takes down every run below `run_dir` whose tidegate and reaper are both dead. What fails is logged and left
/// to the next sweep, since it holds back only its own command.
///
/// # Errors
/// The directory of the runs cannot be read.
pub fn sweep(run_dir: &Path) -> Result<(), directory::Error> {
    for run in RunDirectory::dead(run_dir)? {
        let path = run.path().display();
        match teardown(&run) {
            Ok(()) => tracing::info!(run = %path, "removed what a killed run had left"),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(run = %path, error, "a killed run cannot be removed");
            }
        }
    }
    Ok(())
}

/// A damaged record must not make tidegate kill another cgroup.
fn checked(path: PathBuf) -> Result<PathBuf, Error> {
    let name = path.file_name().and_then(|name| name.to_str());
    if name.is_some_and(|name| name.starts_with(cgroup::NAME_PREFIX)) {
        Ok(path)
    } else {
        Err(Error::ForeignCgroup { path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cgroups_of_runs_are_touched() {
        assert!(checked("/sys/fs/cgroup/tidegate-run-7-ab".into()).is_ok());
        for path in ["/sys/fs/cgroup", "/", "/sys/fs/cgroup/system.slice", "/tidegate-run-7/.."] {
            assert!(matches!(checked(path.into()), Err(Error::ForeignCgroup { .. })), "{path}");
        }
    }

    #[test]
    fn a_half_made_run_is_swept_and_a_live_one_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let live = RunDirectory::create(scratch.path(), Path::new("/nonexistent")).unwrap();
        let dead = RunDirectory::create(scratch.path(), Path::new("/nonexistent")).unwrap();
        let dead_path = dead.path().to_owned();
        drop(dead);
        std::fs::create_dir(scratch.path().join("runs/9-half")).unwrap();
        sweep(scratch.path()).unwrap();
        assert!(live.path().exists());
        assert!(!dead_path.exists() && !scratch.path().join("runs/9-half").exists());
    }
}
