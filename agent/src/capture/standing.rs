//! Whether whoever should be a subject is listed as one: the kernel's lists against the cgroup tree.

use super::{Error, maps::Subjects};
use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use tidegate_ebpf_common::SUBJECT;

/// Why subjects may go uncaptured.
#[derive(Debug, thiserror::Error)]
pub enum Mismatch {
    /// The kernel's lists cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Error),
    /// A cgroup cannot be examined.
    #[error("cannot examine the cgroup `{}`", path.display())]
    Cgroup {
        /// Its directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Some are not listed.
    #[error("{} of {} subjects are not listed with the kernel, first {first}", .missing, .wanted)]
    Unlisted {
        /// How many.
        missing: usize,
        /// How many should be.
        wanted: usize,
        /// One of them.
        first: String,
    },
}

/// Compares those that should be subjects with the kernel's lists. A cgroup that is gone meanwhile needs no place.
///
/// # Errors
/// Says who is not listed.
pub fn compare(cgroups: &[PathBuf], users: &[u32], subjects: &Subjects) -> Result<(), Mismatch> {
    let listed: HashMap<u64, u32> = subjects.cgroups()?.into_iter().collect();
    let listed_users = subjects.users()?;
    let mut missing = Vec::new();
    for path in cgroups {
        let id = id(path).map_err(|source| Mismatch::Cgroup { path: path.clone(), source })?;
        if id.is_some_and(|id| listed.get(&id).is_none_or(|standing| standing & SUBJECT == 0)) {
            missing.push(format!("the cgroup `{}`", path.display()));
        }
    }
    let unlisted = users.iter().filter(|uid| !listed_users.iter().any(|range| range.contains(uid)));
    missing.extend(unlisted.map(|uid| format!("the user {uid}")));
    let number = missing.len();
    match missing.into_iter().next() {
        None => Ok(()),
        Some(first) => {
            Err(Mismatch::Unlisted { missing: number, wanted: cgroups.len() + users.len(), first })
        }
    }
}

fn id(cgroup: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(cgroup) {
        Ok(facts) => Ok(Some(facts.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
