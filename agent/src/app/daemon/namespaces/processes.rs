//! Which processes live in which network namespace.

use super::super::subjects::Matching;
use crate::{
    capture::netns::{
        Namespace,
        namespace::{Identity, identity_of},
    },
    config::CgroupPatternSet,
    identify::{
        cgroups::Cgroups,
        members::{Members, Standing},
    },
};
use std::{
    collections::HashSet,
    fs, io,
    ops::RangeInclusive,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What tells a subject, as far as the directory of a process in `/proc` does.
pub(super) struct Subjects {
    patterns: Arc<CgroupPatternSet>,
    users: Vec<RangeInclusive<u32>>,
    members: Option<Arc<dyn Members>>,
    /// Outside of it nobody is a subject.
    root: PathBuf,
}

/// Who lives where.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The namespaces that have a process.
    pub(super) inhabited: HashSet<Identity>,
    /// Those of them that were not known, and have a subject's.
    pub(super) new: Vec<Namespace>,
    /// Why a subject's process could not be looked at.
    pub(super) forbidden: Option<io::Error>,
}

impl Subjects {
    pub(super) fn of(matching: &Matching, cgroups: &Cgroups, members: Option<Arc<dyn Members>>) -> Self {
        let (patterns, users) = (Arc::clone(matching.list.patterns()), matching.users());
        Self { patterns, users, members, root: cgroups.name(cgroups.top()) }
    }

    fn include(&self, process: &Path) -> bool {
        let cgroups = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
        let Some(cgroup) = cgroups.lines().find_map(|line| line.strip_prefix("0::")).map(Path::new) else {
            return false;
        };
        let is_user = || {
            let user = fs::metadata(process).map(|facts| facts.uid());
            user.is_ok_and(|user| self.users.iter().any(|users| users.contains(&user)))
        };
        let is_member =
            || self.members.as_ref().is_some_and(|members| members.standing(cgroup) == Standing::Claimed);
        cgroup.starts_with(&self.root) && (self.patterns.means(cgroup) || is_member() || is_user())
    }
}

/// Looks at all processes. Of `home` and what is `known`, no other process is asked whether it is a subject's.
pub(super) fn look(subjects: &Subjects, home: Identity, known: &HashSet<Identity>) -> io::Result<Seen> {
    let mut seen = Seen::default();
    let mut new = HashSet::new();
    for entry in fs::read_dir("/proc")?.filter_map(Result::ok) {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(pid) = pid else { continue };
        let identity = match identity_of(pid) {
            Ok(identity) => identity,
            Err(error) => {
                let is_forbidden = error.kind() == io::ErrorKind::PermissionDenied;
                if is_forbidden && seen.forbidden.is_none() && subjects.include(&entry.path()) {
                    seen.forbidden = Some(error);
                }
                // One that has ended, or is of the kernel, lives nowhere.
                continue;
            }
        };
        seen.inhabited.insert(identity);
        let is_told = identity == home || known.contains(&identity) || new.contains(&identity);
        if is_told || !subjects.include(&entry.path()) {
            continue;
        }
        if let Ok(namespace) = Namespace::of_process(pid)
            && namespace.identity() == identity
        {
            new.insert(identity);
            seen.new.push(namespace);
        }
    }
    Ok(seen)
}
