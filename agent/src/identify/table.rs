//! One `match` or `except` table, asked of one connection.

use super::members::{MemberPattern, Members};
use crate::config::CgroupPattern;
use std::{
    fs,
    ops::RangeInclusive,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use tidegate_ebpf_common::{Flow, NO_UID};

/// What a table asks for: all of it must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// In or below these cgroups.
    pub cgroup: Option<CgroupPattern>,
    /// In these pods or containers.
    pub member: Option<MemberPattern>,
    /// As one of these users.
    pub users: Option<Vec<RangeInclusive<u32>>>,
    /// With this program.
    pub program: Option<Program>,
    /// Whoever it is; the other keys are none then.
    pub any: bool,
}

/// A program's file, and its bit where the kernel side follows who has run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its path.
    pub path: PathBuf,
    /// `1 << number`; 0 where nobody follows it.
    pub bit: u32,
}

/// What is known of a connection.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) flow: &'a Flow,
    /// The cgroup by which it is a subject, from the mount's root; none where it is one by its user alone.
    pub(super) origin: Option<PathBuf>,
    /// The cgroup of the process, from the mount's root, as far as it is known.
    pub(super) cgroup: Option<PathBuf>,
    pub(super) in_container: bool,
    /// Whoever knows pods and containers, where workloads mean any.
    pub(super) members: Option<&'a dyn Members>,
}

/// How a table fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// By a cgroup so many names below the mount.
    Cgroup(usize),
    /// By the user alone.
    User,
}

impl Table {
    /// Whether it means cgroups, rather than users wherever they are.
    pub fn is_of_cgroups(&self) -> bool {
        self.cgroup.is_some() || self.member.is_some()
    }

    /// Whether a `match` table fits, whose pattern means the origin, or one above it, so many names below the mount. Where a
    /// fact is missing that would narrow it, it does.
    pub(super) fn fits(&self, facts: &Facts<'_>, depth: Option<usize>) -> Option<Fit> {
        let fit = self.fits_by_place_and_user(facts, depth)?;
        self.program.as_ref().is_none_or(|program| program.may_have_run(facts.flow)).then_some(fit)
    }

    fn fits_by_place_and_user(&self, facts: &Facts<'_>, depth: Option<usize>) -> Option<Fit> {
        let is_user = || self.users.as_ref().is_none_or(|users| contains(users, facts.flow.uid));
        if let Some(pattern) = &self.member {
            let cgroup = facts.members?.meant(facts.origin.as_deref()?, pattern, false)?;
            return is_user().then(|| Fit::Cgroup(cgroup.components().count().saturating_sub(1)));
        }
        match (&self.cgroup, &self.users) {
            (Some(_), _) => is_user().then_some(Fit::Cgroup(depth?)),
            (None, Some(users)) => {
                let uid = facts.flow.origin.uid;
                (uid != NO_UID && contains(users, uid) && !facts.in_container).then_some(Fit::User)
            }
            (None, None) => self.any.then_some(Fit::User),
        }
    }

    /// Whether an `except` table fits. Where a fact is missing, it does not.
    pub(super) fn excepts(&self, facts: &Facts<'_>) -> bool {
        let cgroup = self.cgroup.as_ref().is_none_or(|pattern| {
            facts.cgroup.as_deref().is_some_and(|path| pattern.outermost(path).is_some())
        });
        let member = self.member.as_ref().is_none_or(|pattern| {
            let meant = facts.members.zip(facts.cgroup.as_deref());
            meant.is_some_and(|(members, cgroup)| members.meant(cgroup, pattern, true).is_some())
        });
        let user = self.users.as_ref().is_none_or(|users| contains(users, facts.flow.uid));
        let program = self.program.as_ref().is_none_or(|program| program.runs(facts.flow) == Some(true));
        cgroup && member && user && program
    }
}

fn contains(users: &[RangeInclusive<u32>], uid: u32) -> bool {
    users.iter().any(|range| range.contains(&uid))
}

impl Program {
    /// Whether the process, or one above it, has run the program, as far as anybody knows.
    fn may_have_run(&self, flow: &Flow) -> bool {
        flow.origin.executables & self.bit != 0 || self.runs(flow) != Some(false)
    }

    /// Whether the process runs the program now; none where that cannot be told. A file that was replaced while its
    /// program runs is told by its name.
    fn runs(&self, flow: &Flow) -> Option<bool> {
        if flow.tgid == 0 {
            return None;
        }
        let own = format!("/proc/{}/exe", flow.tgid);
        let name = fs::read_link(&own).ok()?;
        let named = name.to_string_lossy();
        if Path::new(named.strip_suffix(" (deleted)").unwrap_or(&named)) == self.path {
            return Some(true);
        }
        let running = fs::metadata(&own).ok()?;
        let Ok(wanted) = fs::metadata(&self.path) else { return Some(false) };
        Some((running.dev(), running.ino()) == (wanted.dev(), wanted.ino()))
    }
}
