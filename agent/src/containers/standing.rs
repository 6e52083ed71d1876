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
        let could_be = rules.mean_containers() || is_below_pods(cgroup);
        let Some(member) = self.find(cgroup) else {
            return match could_be {
                true if is_of_container(cgroup) => Standing::Unknown,
                true => Standing::Above,
                // The pods' own directory can be anywhere but in a service or scope.
                false if is_unit(cgroup) => Standing::Elsewhere,
                false => Standing::Above,
            };
        };
        if !rules.claims(&member).is_empty() {
            Standing::Claimed
        } else if member.container.is_some() || !rules.mean_containers() {
            Standing::Free
        } else if is_of_container(cgroup) && self.find_exactly(cgroup).is_none() {
            Standing::Unknown
        } else {
            Standing::Above
        }
    }

    fn meant(&self, cgroup: &Path, pattern: &MemberPattern, certain: bool) -> Option<PathBuf> {
        Rules::governed(pattern, &self.find(cgroup)?, certain)
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
        // What one knows counts before what another does not, and a claim before all.
        told.sort_by_key(|standing| match standing {
            Standing::Claimed => 0,
            Standing::Free => 1,
            Standing::Unknown => 2,
            Standing::Above => 3,
            Standing::Elsewhere => 4,
        });
        told.first().copied().unwrap_or(Standing::Elsewhere)
    }

    fn meant(&self, cgroup: &Path, pattern: &MemberPattern, certain: bool) -> Option<PathBuf> {
        self.0.iter().find_map(|registry| registry.meant(cgroup, pattern, certain))
    }

    fn facts(&self, cgroup: &Path) -> Option<RecordFacts> {
        self.0.iter().find_map(|registry| registry.facts(cgroup))
    }
}

fn is_below_pods(cgroup: &Path) -> bool {
    cgroup.components().any(|name| name.as_os_str().to_string_lossy().starts_with(PODS))
}

/// Whether the cgroup has a container's name: its id, with the runtime's name before it and `.scope` behind it as systemd
/// wants it.
fn is_of_container(cgroup: &Path) -> bool {
    let name = cgroup.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let name = name.strip_suffix(".scope").unwrap_or(&name);
    let id = name.rsplit(['-', ':']).next().unwrap_or_default();
    id.len() == ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_unit(cgroup: &Path) -> bool {
    let is = |name: &str| name.ends_with(".service") || name.ends_with(".scope");
    cgroup.components().any(|name| is(&name.as_os_str().to_string_lossy()))
}

#[cfg(test)]
mod tests;
