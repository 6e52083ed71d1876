//! What the registry tells of cgroups to whoever tags them and identifies connections.

use super::{Registry, rules::Rules};
use crate::identify::members::{MemberPattern, Members, RecordFacts, Standing};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// As long as the ids that runtimes give containers, in hexadecimal.
const ID_LENGTH: usize = 64;

/// What the cgroups of all pods are below, or begin with.
const PODS: &str = "kubepods";

impl Members for Registry {
    fn standing(&self, cgroup: &Path) -> Standing {
        let rules = self.rules();
        let container = container_of(cgroup, rules.mean_containers());
        let Some(member) = self.find(cgroup) else {
            return match container {
                Some(_) => Standing::Unknown,
                None if rules.mean_containers() || is_below_pods(cgroup) => Standing::Above,
                // The pods' own directory can be anywhere but in a service or scope.
                None if is_unit(cgroup) => Standing::Elsewhere,
                None => Standing::Above,
            };
        };
        if self.awaits_of(&member) {
            Standing::Unknown
        } else if !rules.claims(&member).is_empty() {
            Standing::Claimed
        } else if member.container.is_some() || !rules.mean_containers() {
            Standing::Free
        } else if container.is_some_and(|container| self.find_exactly(&container).is_none()) {
            Standing::Unknown
        } else {
            Standing::Above
        }
    }

    fn awaits(&self, cgroup: &Path) -> bool {
        self.find(cgroup).is_some_and(|member| self.awaits_of(&member))
    }

    fn meant(&self, cgroup: &Path, pattern: &MemberPattern, certain: bool) -> Option<PathBuf> {
        Rules::governed(pattern, &self.find(cgroup)?, certain)
    }

    fn generation(&self) -> u64 {
        self.changes()
    }

    fn facts(&self, cgroup: &Path) -> Option<RecordFacts> {
        Some(self.find(cgroup)?.record_facts())
    }
}

/// Several registries, each of which has a source of its own: whichever knows a cgroup tells of it.
#[derive(Debug)]
pub struct Registries(pub Vec<Arc<Registry>>);

impl Members for Registries {
    fn standing(&self, cgroup: &Path) -> Standing {
        let mut told: Vec<Standing> = self.0.iter().map(|registry| registry.standing(cgroup)).collect();
        // What one knows counts before what another does not, and a claim before all; but who is waited for is not free.
        told.sort_by_key(|standing| match standing {
            Standing::Claimed => 0,
            Standing::Unknown if self.awaits(cgroup) => 0,
            Standing::Free => 1,
            Standing::Unknown => 2,
            Standing::Above => 3,
            Standing::Elsewhere => 4,
        });
        told.first().copied().unwrap_or(Standing::Elsewhere)
    }

    fn awaits(&self, cgroup: &Path) -> bool {
        self.0.iter().any(|registry| registry.awaits(cgroup))
    }

    fn meant(&self, cgroup: &Path, pattern: &MemberPattern, certain: bool) -> Option<PathBuf> {
        self.0.iter().find_map(|registry| registry.meant(cgroup, pattern, certain))
    }

    fn generation(&self) -> u64 {
        self.0.iter().map(|registry| registry.generation()).fold(0, u64::wrapping_add)
    }

    fn facts(&self, cgroup: &Path) -> Option<RecordFacts> {
        self.0.iter().find_map(|registry| registry.facts(cgroup))
    }
}

fn is_below_pods(cgroup: &Path) -> bool {
    cgroup.components().any(|name| name.as_os_str().to_string_lossy().starts_with(PODS))
}

/// The container's cgroup that a cgroup is or lies in, told by names alone. A container can make cgroups of any name below
/// its own, so that the outermost counts. Below the pods' directory that is whatever is no pod or class of pods; elsewhere,
/// if `anywhere`, what has a container's id.
fn container_of(cgroup: &Path, anywhere: bool) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    let mut is_below_pods = false;
    for part in cgroup.components() {
        path.push(part);
        let name = part.as_os_str().to_string_lossy();
        let is_container = if is_below_pods { !holds_containers(&name) } else { anywhere && has_id(&name) };
        if is_container {
            return Some(path);
        }
        is_below_pods |= name.starts_with(PODS);
    }
    None
}

/// Whether the kubelet names pods and classes of pods so, with either cgroup driver.
fn holds_containers(name: &str) -> bool {
    name.starts_with(PODS)
        || name.starts_with("pod")
        || ["besteffort", "burstable", "guaranteed"].contains(&name)
}

/// Whether it is a container's id, with the runtime's name before it and `.scope` behind it as systemd wants it.
fn has_id(name: &str) -> bool {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id = name.rsplit(['-', ':']).next().unwrap_or_default();
    id.len() == ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_unit(cgroup: &Path) -> bool {
    let is = |name: &str| name.ends_with(".service") || name.ends_with(".scope");
    cgroup.components().any(|name| is(&name.as_os_str().to_string_lossy()))
}

#[cfg(test)]
mod tests;
