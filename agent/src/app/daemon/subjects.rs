//! The configuration's workloads, as they are matched: users looked up, programs numbered.

use super::{super::Error, commands::Commands};
use crate::{
    capture::{
        self,
        maps::{Sticky, Subjects},
    },
    config::{CgroupPattern, Config, Match},
    identify::{
        Workload,
        cgroups::Cgroups,
        members::MemberPattern,
        table::{Program, Table},
        workloads::{List, Matched},
    },
    run::subordinate,
};
use std::{
    fs,
    ops::RangeInclusive,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tidegate_ebpf_common::{Executable, NO_UID};

/// As many programs are told apart by the kernel side; further ones are told by what `/proc` says at a connect.
const MAX_PROGRAMS: usize = 32;

/// How the workloads are matched.
#[derive(Debug)]
pub(super) struct Matching {
    pub(super) list: Arc<List>,
    programs: Vec<PathBuf>,
}

impl Matching {
    /// Those of the configuration that have `match` or `run_by`.
    pub(super) fn of(config: &Config, cgroups: &Cgroups, commands: &Commands) -> Result<Self, Error> {
        let (mut list, mut programs) = (Vec::new(), Programs::default());
        for workload in &config.workloads {
            let commands = commands.pattern(&workload.name);
            if workload.matches.is_empty() && commands.is_none() {
                tracing::info!(workload = workload.name, "has no `match`; only `tidegate run` uses it");
                continue;
            }
            check_reach(&workload.name, &workload.matches, cgroups)?;
            warn_of_gaps(&workload.name, &workload.matches, cgroups);
            let (mut matches, except) =
                (programs.tables(&workload.matches)?, programs.tables(&workload.except)?);
            matches.extend(commands.map(|cgroup| Table { cgroup: Some(cgroup), ..Table::default() }));
            let workload =
                Workload { name: workload.name.as_str().into(), policy: workload.policy.as_str().into() };
            list.push(Matched { workload, matches, except });
        }
        if list.is_empty() && !config.kubernetes.watch {
            Err(Error::NoWorkloads)
        } else {
            Ok(Self { list: Arc::new(List::new(list)), programs: programs.0 })
        }
    }

    /// Whether the cgroup is neither a subject nor one below which a subject can be.
    pub(super) fn is_nobodys(&self, cgroup: &Path) -> bool {
        let patterns = self.list.patterns();
        !patterns.means(cgroup) && !patterns.may_mean_below(cgroup)
    }

    /// The users that are subjects by themselves.
    pub(super) fn users(&self) -> Vec<RangeInclusive<u32>> {
        let tables = self.list.all().iter().flat_map(|matched| &matched.matches);
        let alone = tables.filter(|table| !table.is_of_cgroups());
        let everybody = || vec![0..=NO_UID - 1];
        let users = alone.filter_map(|table| if table.any { Some(everybody()) } else { table.users.clone() });
        users.flatten().collect()
    }

    /// Lets the kernel side note who runs the programs, where it follows threads.
    pub(super) fn follow_programs(&self, sticky: &mut Sticky, is_sticky: bool) -> Result<(), capture::Error> {
        if !is_sticky && !self.programs.is_empty() {
            tracing::warn!(
                "threads are not followed (see `capture.sticky_tags`), so that `exe` is told by what /proc says: a \
                 process that runs another program right after its connect counts as that one"
            );
        }
        let mut files = Vec::new();
        for (number, path) in (0..).zip(&self.programs) {
            match fs::metadata(path) {
                Ok(metadata) => {
                    let (major, minor) =
                        (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
                    let file = Executable { inode: metadata.ino(), device: major << 20 | minor, reserved: 0 };
                    files.push((file, number));
                }
                Err(error) => tracing::warn!(
                    program = %path.display(), %error, "told by what /proc says at a connect alone"
                ),
            }
        }
        sticky.follow_executables(&files)
    }
}

/// The programs that tables name, each once.
#[derive(Default)]
struct Programs(Vec<PathBuf>);

impl Programs {
    fn tables(&mut self, matches: &[Match]) -> Result<Vec<Table>, Error> {
        matches.iter().map(|one| self.table(one)).collect()
    }

    fn table(&mut self, one: &Match) -> Result<Table, Error> {
        let user = one.user.as_deref().map(subordinate::ids_of).transpose()?;
        let group = one.group.as_deref().map(subordinate::ids_of_group).transpose()?;
        if let (Some(name), Some([])) = (&one.group, group.as_deref()) {
            tracing::warn!(group = name, "has no members; who becomes one is matched after a reload");
        }
        let users = match (user, group) {
            (Some(user), Some(group)) => Some(subordinate::both(&user, &group)),
            (user, group) => user.or(group),
        };
        let program = one.exe.as_ref().map(|path| Program { path: path.clone(), bit: self.bit(path) });
        let (pod, container) = (one.pod.clone(), one.container.clone());
        let is_member = pod.is_some() || container.is_some();
        let member = is_member.then_some(MemberPattern { pod, container, selection: None });
        Ok(Table { cgroup: one.cgroup.clone(), member, users, program, any: one.any })
    }

    fn bit(&mut self, path: &PathBuf) -> u32 {
        let known = self.0.iter().position(|other| other == path);
        let number = known.unwrap_or_else(|| {
            if self.0.len() < MAX_PROGRAMS {
                self.0.push(path.clone());
            }
            self.0.len() - 1
        });
        let is_numbered = self.0.get(number) == Some(path);
        u32::try_from(number)
            .ok()
            .filter(|_| is_numbered)
            .and_then(|number| 1_u32.checked_shl(number))
            .unwrap_or(0)
    }
}

/// A pattern that means nothing at or below the cgroup root would never be enforced.
fn check_reach(workload: &str, matches: &[Match], cgroups: &Cgroups) -> Result<(), Error> {
    let root = cgroups.name(cgroups.top());
    for pattern in matches.iter().filter_map(|one| one.cgroup.as_ref()) {
        if pattern.outermost(&root).is_none() && !pattern.may_mean_below(&root) {
            return Err(Error::OutOfReach {
                workload: workload.to_owned(),
                pattern: pattern.to_string(),
                root: cgroups.top().to_owned(),
            });
        }
    }
    Ok(())
}

/// Whoever is left out though the configuration reads as if they were meant.
fn warn_of_gaps(workload: &str, matches: &[Match], cgroups: &Cgroups) {
    for spared in matches.iter().filter_map(|one| one.cgroup.as_ref()).filter_map(CgroupPattern::spared) {
        let below_mount = spared.strip_prefix("/").unwrap_or(spared);
        let processes = fs::read(cgroups.mount().join(below_mount).join("cgroup.procs"));
        if processes.is_ok_and(|processes| !processes.is_empty()) {
            tracing::warn!(
                workload, cgroup = %spared.display(),
                "processes are in the cgroup itself, and `/**` means those below it: without `/**` both are meant"
            );
        }
    }
    let is_of_users = |one: &Match| one.cgroup.is_none() && one.pod.is_none() && one.container.is_none();
    let has_users = matches.iter().any(is_of_users);
    if has_users && cgroups.top() != cgroups.mount() {
        tracing::warn!(
            workload, cgroup_root = %cgroups.top().display(),
            "`user`, `group` and `any` reach only processes below `capture.cgroup_root`"
        );
    }
}

/// Makes these users subjects and no others. Whoever stays one is one throughout.
pub(super) fn enter_users(
    users: &[RangeInclusive<u32>],
    subjects: &mut Subjects,
) -> Result<(), capture::Error> {
    let before = subjects.users()?;
    for range in users {
        subjects.add_users(range)?;
    }
    // A listed range that lies in none of these is an earlier agent's.
    let is_wanted = |listed: &RangeInclusive<u32>| {
        users.iter().any(|range| range.contains(listed.start()) && range.contains(listed.end()))
    };
    before.iter().filter(|listed| !is_wanted(listed)).try_for_each(|listed| subjects.forget_users(listed))
}
