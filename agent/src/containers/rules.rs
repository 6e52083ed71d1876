//! Which workloads a pod or a container is of, by the tables that have `pod` or `container`.

use super::member::{Container, Member, Pod};
use crate::{
    config::{self, ContainerPattern, PodPattern, Selection, pods::Meant},
    identify::members::MemberPattern,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// What tells the workloads' pods and containers from others.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    workload: Arc<str>,
    matches: Vec<Table>,
    except: Vec<Table>,
}

#[derive(Clone, Debug)]
struct Table {
    pod: Option<PodPattern>,
    container: Option<ContainerPattern>,
    selection: Option<Arc<Selection>>,
}

/// A workload that may govern a member, and the cgroup by which it does. Other keys of the same table, such as `user`,
/// are still to be asked of each connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The workload's name.
    pub workload: Arc<str>,
    /// The pod's cgroup or the container's, from the mount's root.
    pub cgroup: PathBuf,
}

impl Rules {
    /// Those of the configuration's workloads.
    pub fn of(workloads: &[config::Workload]) -> Self {
        let rules = workloads.iter().map(|workload| Rule {
            workload: workload.name.as_str().into(),
            matches: workload.matches.iter().filter_map(Table::of).collect(),
            // One with other keys may spare some connections and not others.
            except: workload.except.iter().filter(|one| is_alone(one)).filter_map(Table::of).collect(),
        });
        Self(rules.filter(|rule| !rule.matches.is_empty()).collect())
    }

    /// These, and those of workloads whose pods are selected.
    #[must_use]
    pub fn with(mut self, selected: impl IntoIterator<Item = (Arc<str>, Arc<Selection>)>) -> Self {
        self.0.extend(selected.into_iter().map(|(workload, selection)| Rule {
            workload,
            matches: vec![Table { pod: None, container: None, selection: Some(selection) }],
            except: Vec::new(),
        }));
        self
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any is about single containers.
    pub(super) fn mean_containers(&self) -> bool {
        self.0.iter().flat_map(|rule| &rule.matches).any(|table| table.container.is_some())
    }

    /// The cgroup by which a pattern means the member. What is not known counts as meant unless it must be `certain`.
    pub(super) fn governed(pattern: &MemberPattern, member: &Member, certain: bool) -> Option<PathBuf> {
        let MemberPattern { pod, container, selection } = pattern;
        let table = Table { pod: pod.clone(), container: container.clone(), selection: selection.clone() };
        let (pod, container) = (member.pod.as_deref(), member.container.as_deref());
        let least = if certain { Meant::Yes } else { Meant::Perhaps };
        (table.means(pod, container) >= least).then(|| table.cgroup(pod, container)).flatten()
    }

    /// Whether more than is known of the pod would tell which workloads claim the member.
    pub(super) fn are_unsure_of(&self, member: &Member) -> bool {
        let (pod, container) = (member.pod.as_deref(), member.container.as_deref());
        let mut tables = self.0.iter().flat_map(|rule| rule.matches.iter().chain(&rule.except));
        tables.any(|table| {
            table.means_pod(pod) == Meant::Perhaps && table.means_container(container) != Meant::No
        })
    }

    /// The workloads that claim the member, in the order of the configuration. Below an outer cgroup that the configuration
    /// claims, no other claim of its counts.
    pub fn claims(&self, member: &Member) -> Vec<Claim> {
        let (pod, container) = (member.pod.as_deref(), member.container.as_deref());
        let (mut claims, mut selected): (Vec<Claim>, Vec<Claim>) = Default::default();
        for rule in &self.0 {
            if rule.except.iter().any(|table| table.means(pod, container) == Meant::Yes) {
                continue;
            }
            let tables = rule.matches.iter().filter(|table| table.means(pod, container) != Meant::No);
            let outermost =
                tables.filter_map(|table| table.cgroup(pod, container)).min_by_key(|path| depth(path));
            let is_selected = rule.matches.iter().any(|table| table.selection.is_some());
            let among = if is_selected { &mut selected } else { &mut claims };
            among.extend(outermost.map(|cgroup| Claim { workload: Arc::clone(&rule.workload), cgroup }));
        }
        let outermost = claims.iter().map(|claim| depth(&claim.cgroup)).min();
        claims.retain(|claim| Some(depth(&claim.cgroup)) == outermost);
        claims.extend(selected);
        claims
    }
}

impl Table {
    fn of(table: &config::Match) -> Option<Self> {
        let config::Match { pod, container, .. } = table;
        let is_one = pod.is_some() || container.is_some();
        is_one.then(|| Self { pod: pod.clone(), container: container.clone(), selection: None })
    }

    fn means(&self, pod: Option<&Pod>, container: Option<&Container>) -> Meant {
        self.means_pod(pod).min(self.means_container(container))
    }

    fn means_pod(&self, pod: Option<&Pod>) -> Meant {
        let by_pattern = self
            .pod
            .as_ref()
            .map_or(Meant::Yes, |pattern| pod.map_or(Meant::No, |pod| pattern.means(&pod.facts())));
        let by_selection = self
            .selection
            .as_ref()
            .map_or(Meant::Yes, |selection| pod.map_or(Meant::No, |pod| selection.means(&pod.facts())));
        by_pattern.min(by_selection)
    }

    fn means_container(&self, container: Option<&Container>) -> Meant {
        self.container.as_ref().map_or(Meant::Yes, |pattern| {
            container.map_or(Meant::No, |container| pattern.means(&container.facts()))
        })
    }

    /// The cgroup of what it means: a table with `container` means one container's, and a pod's own may be none.
    fn cgroup(&self, pod: Option<&Pod>, container: Option<&Container>) -> Option<PathBuf> {
        let of_pod = pod.and_then(|pod| pod.cgroup.as_ref()).filter(|_| self.container.is_none());
        let of_sandbox = || pod.and_then(|pod| pod.sandbox_cgroup.clone());
        let of_container = || match container {
            Some(container) => container.cgroup.clone(),
            None => of_sandbox(),
        };
        of_pod.cloned().or_else(of_container)
    }
}

fn is_alone(table: &config::Match) -> bool {
    let config::Match { cgroup, user, group, any, exe, pod: _, container: _ } = table;
    cgroup.is_none() && user.is_none() && group.is_none() && !any && exe.is_none()
}

fn depth(path: &Path) -> usize {
    path.components().count()
}

#[cfg(test)]
mod tests;
