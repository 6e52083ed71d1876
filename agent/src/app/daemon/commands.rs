//! `tidegate run` without root: who may run commands as which workload, and the cgroups that they then are in.

use super::super::Error;
use crate::{
    app::ca::{ANCHORS, BUNDLE},
    config::{CgroupPattern, Config, RUN_DIR, RunBy},
    control::{Admission, peer::Peer},
    identify::cgroups::Cgroups,
    run::user::{self, User},
};
use rustix::process::geteuid;
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The cgroup that the workloads' own are in, below the one that the programs are attached to.
const CGROUP: &str = "tidegate-commands";

/// What the name of a workload's own begins with, since a workload may be called `..`.
const PREFIX: &str = "workload-";

/// The workloads that others may run commands as.
#[derive(Debug, Default)]
pub(super) struct Commands(Vec<Place>);

#[derive(Debug)]
struct Place {
    workload: String,
    policy: String,
    directory: PathBuf,
    /// The directory's path below the cgroup2 mount.
    name: PathBuf,
    pattern: CgroupPattern,
    users: Vec<u32>,
    groups: Vec<u32>,
}

impl Commands {
    /// Makes their cgroups, where they are not there yet.
    pub(super) fn of(config: &Config, cgroups: &Cgroups) -> Result<Self, Error> {
        let mut places = Vec::new();
        for workload in config.workloads.iter().filter(|workload| !workload.run_by.is_empty()) {
            let parent = cgroups.top().join(CGROUP);
            let directory = parent.join(format!("{PREFIX}{}", workload.name));
            [&parent, &directory].into_iter().try_for_each(|path| made(path))?;
            let name = cgroups.name(&directory);
            let pattern = CgroupPattern::literal(&name);
            let (mut users, mut groups) = (Vec::new(), Vec::new());
            for one in &workload.run_by {
                match one {
                    RunBy::User(name) => users.push(User::id_of(name)?),
                    RunBy::Group(name) => groups.push(user::group_id(name)?),
                }
            }
            let (workload, policy) = (workload.name.clone(), workload.policy.clone());
            places.push(Place { workload, policy, directory, name, pattern, users, groups });
        }
        Ok(Self(places))
    }

    /// Whether nobody may run commands as any.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The cgroup of those who run commands as this workload.
    pub(super) fn pattern(&self, workload: &str) -> Option<CgroupPattern> {
        self.0.iter().find(|place| place.workload == workload).map(|place| place.pattern.clone())
    }

    /// Moves the process into the workload's cgroup, if it may go there.
    pub(super) fn admit(&self, peer: &Peer, workload: &str) -> Result<Admission, String> {
        let place = self.0.iter().find(|place| place.workload == workload && place.is_open_to(peer));
        let place = place.ok_or_else(|| {
            tracing::warn!(pid = peer.pid, uid = peer.uid, workload, "may not run commands as this workload");
            self.refusal(peer, workload)
        })?;
        place.enter(peer).map_err(|error| {
            let (cgroup, error) = (place.name.display(), &error as &dyn std::error::Error);
            tracing::error!(pid = peer.pid, %cgroup, error, "cannot move a process into its workload's cgroup");
            format!("it cannot move the process into the cgroup `{cgroup}`: {error}")
        })?;
        tracing::info!(pid = peer.pid, uid = peer.uid, workload, "runs a command as a workload");
        Ok(Admission {
            policy: place.policy.clone(),
            anchors: Path::new(RUN_DIR).join(ANCHORS),
            bundle: Path::new(RUN_DIR).join(BUNDLE),
        })
    }

    /// Whoever asks is told of no workload that is not for them.
    fn refusal(&self, peer: &Peer, workload: &str) -> String {
        let open = self.0.iter().filter(|place| place.is_open_to(peer));
        let open: Vec<_> = open.map(|place| format!("`{}`", place.workload)).collect();
        let others = match open.as_slice() {
            [] => "no workload's `run_by` names you".to_owned(),
            open => format!("you may take {}", open.join(", ")),
        };
        format!("you may not run commands as `{}`: {others}", workload.escape_debug())
    }
}

impl Place {
    fn is_open_to(&self, peer: &Peer) -> bool {
        peer.uid == 0 || self.users.contains(&peer.uid) || self.groups.iter().any(|group| peer.is_in(*group))
    }

    fn enter(&self, peer: &Peer) -> io::Result<()> {
        peer.enter(&self.directory, &self.name)
    }
}

/// Removes the cgroups that a daemon has made below `root` for commands, and answers those that still have processes.
///
/// # Errors
/// When they cannot be listed or removed.
pub fn remove(root: &Path) -> io::Result<Vec<PathBuf>> {
    let parent = root.join(CGROUP);
    let entries = match fs::read_dir(&parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut left = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            match fs::remove_dir(entry.path()) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => left.push(entry.path()),
                removed => removed?,
            }
        }
    }
    if left.is_empty() {
        fs::remove_dir(parent)?;
    }
    Ok(left)
}

/// Whoever owns a cgroup moves processes out of it, so that one of somebody else's is not taken.
fn made(path: &Path) -> Result<(), Error> {
    let is_own = || fs::symlink_metadata(path).is_ok_and(|facts| facts.uid() == geteuid().as_raw());
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_own() => Ok(()),
        made => {
            made.map_err(|source| Error::File { action: "make the cgroup", path: path.to_owned(), source })
        }
    }
}
