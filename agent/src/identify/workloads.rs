//! Every workload there is, and whose a connection is by them.
//!
//! A cgroup decides by the outermost one that a table names: below it no other cgroup counts. A user counts beside that.
//! Where several workloads fit, every policy must allow.

mod list;

use super::{
    Principal, Subject, Whose, Workload,
    cgroups::Cgroups,
    members::{Members, Standing},
    process,
    table::{Facts, Table},
};
pub use list::{List, Place};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};
use tidegate_ebpf_common::Flow;

/// A workload, and how it is told from others.
#[derive(Clone, Debug)]
pub struct Matched {
    /// The workload.
    pub workload: Workload,
    /// What it is: one of these.
    pub matches: Vec<Table>,
    /// What it is not, for all that.
    pub except: Vec<Table>,
}

/// How often a connection is looked at while others tell pods apart in ever new ways.
const MOST_LOOKS: u32 = 16;

/// The workloads that connections can be of.
#[derive(Debug)]
pub struct Workloads {
    cgroups: Arc<Cgroups>,
    members: Option<Arc<dyn Members>>,
    known: Known,
}

#[derive(Debug)]
enum Known {
    /// Everything that is captured is this one's.
    Only(Arc<[Workload]>),
    /// The configuration's, and those that come and go.
    Matched(Arc<List>, RwLock<Arc<List>>),
}

impl Workloads {
    /// One workload, in a cgroup of which the kernel side captures everything, and nothing else.
    pub fn only(workload: Workload, cgroups: Arc<Cgroups>) -> Self {
        Self { cgroups, members: None, known: Known::Only([workload].into()) }
    }

    /// Several, to be told from each other and from nobody's; `members` are asked where tables mean pods or containers.
    pub fn matched(list: Arc<List>, cgroups: Arc<Cgroups>, members: Option<Arc<dyn Members>>) -> Self {
        let further = RwLock::new(Arc::new(List::new(Vec::new())));
        Self { cgroups, members, known: Known::Matched(list, further) }
    }

    /// The cgroups that they are looked for in.
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// From now on there are these beside those of the configuration.
    pub fn set_further(&self, further: Vec<Matched>) {
        if let Known::Matched(_, known) = &self.known {
            *known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(List::new(further));
        }
    }

    /// Those that are told apart, as they are now: the configuration's, and the others.
    pub fn matched_now(&self) -> Vec<Arc<List>> {
        match &self.known {
            Known::Only(_) => Vec::new(),
            Known::Matched(list, further) => vec![Arc::clone(list), read(further)],
        }
    }

    /// The one that everything is of, where there is only one.
    pub fn sole(&self) -> Option<&Workload> {
        match &self.known {
            Known::Only(list) => list.first(),
            Known::Matched(..) => None,
        }
    }

    /// A number that is another one whenever more is known of pods and containers; none where nobody knows any.
    pub fn generation(&self) -> Option<u64> {
        self.members.as_ref().map(|members| members.generation())
    }

    /// Whose the connection is. Where pods are told apart in another way before that is found out, it is found out again:
    /// of two workloads, one asked before and one after, neither might fit.
    pub fn identify(&self, flow: &Flow) -> Whose {
        for _ in 0..MOST_LOOKS {
            let before = self.generation();
            let whose = self.identify_once(flow);
            if self.generation() == before {
                return whose;
            }
        }
        Whose::Unknown(Arc::new(self.identify_once(flow).into()))
    }

    fn identify_once(&self, flow: &Flow) -> Whose {
        let cgroup = self.cgroups.find(flow.cgroup_id, flow.tgid);
        let named = cgroup.as_deref().map(|path| self.cgroups.name(path));
        let members = self.members.as_deref();
        let container = members.zip(named.as_deref()).and_then(|(members, named)| members.facts(named));
        let subject = Subject { container, ..process::facts(flow, named.as_deref()) };
        let (list, further) = match &self.known {
            Known::Only(list) => return Whose::Workloads(Principal::new(Arc::clone(list), subject)),
            Known::Matched(list, further) => (list, read(further)),
        };
        let origin_id = flow.origin.cgroup_id;
        let origin = if origin_id == flow.cgroup_id {
            named.clone()
        } else if origin_id == 0 {
            None
        } else {
            self.cgroups.find(origin_id, flow.tgid).map(|path| self.cgroups.name(&path))
        };
        if origin_id != 0 && origin.is_none() {
            return Whose::Unknown(Arc::new(subject));
        }
        let awaits = |cgroup: &PathBuf| members.is_some_and(|members| members.awaits(cgroup));
        if origin.as_ref().is_some_and(awaits) || named.as_ref().is_some_and(awaits) {
            return Whose::Unknown(Arc::new(subject));
        }
        let in_container = cgroup.is_some_and(|path| is_container(self.cgroups.mount(), &path));
        let facts = Facts { flow, origin, cgroup: named, in_container, members };
        // Those beside the configuration count beside it: they lift nothing of what it says, and it nothing of theirs.
        let fitting = [list.outermost(&facts), further.outermost(&facts)].concat();
        if fitting.is_empty() {
            // Nobody has told yet what it is.
            let owner = members.zip(facts.cgroup.as_deref());
            if owner.is_some_and(|(members, cgroup)| members.standing(cgroup) == Standing::Unknown) {
                return Whose::Unknown(Arc::new(subject));
            }
            return Whose::Nobody(Arc::new(subject));
        }
        Whose::Workloads(Principal::new(fitting.into(), subject))
    }
}

fn read(further: &RwLock<Arc<List>>) -> Arc<List> {
    Arc::clone(&further.read().unwrap_or_else(PoisonError::into_inner))
}

/// What the names of containers' cgroups begin with, by the runtimes that make them.
const CONTAINERS: [&str; 8] =
    ["docker", "libpod", "crio", "cri-containerd", "kubepods", "lxc", "machine", "buildkit"];

/// Whether the cgroup is a container's, or below one: root has made it, under the name that a runtime gives. What a
/// user has made, such as the containers that the user runs without root, is the user's own.
fn is_container(mount: &Path, cgroup: &Path) -> bool {
    let Ok(below) = cgroup.strip_prefix(mount) else { return false };
    let mut path = PathBuf::from(mount);
    for name in below.components() {
        path.push(name);
        if fs::metadata(&path).is_ok_and(|metadata| metadata.uid() != 0) {
            return false;
        }
        let name = name.as_os_str().to_string_lossy();
        let is_named = |runtime: &str| {
            let rest = name.strip_prefix(runtime);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.', ':']))
        };
        if CONTAINERS.iter().any(|runtime| is_named(runtime)) && !name.ends_with(".service") {
            return true;
        }
    }
    false
}

/// No workload: for records that are nobody's.
impl From<Whose> for Subject {
    fn from(whose: Whose) -> Self {
        match whose {
            Whose::Workloads(Principal { subject, .. })
            | Whose::Nobody(subject)
            | Whose::Unknown(subject) => Arc::unwrap_or_clone(subject),
        }
    }
}

#[cfg(test)]
mod tests;
