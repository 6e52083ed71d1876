//! Pods and containers, as far as a connection's identity depends on them: whoever knows them tells it by the cgroup.

use crate::config::{ContainerPattern, PodPattern, Selection};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What a `match` or `except` table says of pods and containers: all of it must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberPattern {
    /// The pods.
    pub pod: Option<PodPattern>,
    /// The containers.
    pub container: Option<ContainerPattern>,
    /// The pods, as a ScopeBinding selects them.
    pub selection: Option<Arc<Selection>>,
}

/// What a cgroup is to the workloads that mean pods and containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A pod's or container's that a workload claims, or below it.
    Claimed,
    /// A pod's or container's that nobody claims.
    Free,
    /// A container's of which nobody has told anything yet.
    Unknown,
    /// A claimed one may appear below it.
    Above,
    /// Nothing to them.
    Elsewhere,
}

impl Standing {
    /// Whether a process there is, or may turn out to be, a claimed container's.
    pub fn may_be_claimed(self) -> bool {
        matches!(self, Self::Claimed | Self::Unknown)
    }
}

/// Whoever knows the pods and containers. Paths of cgroups are from the mount's root.
pub trait Members: fmt::Debug + Send + Sync {
    /// What a cgroup is.
    fn standing(&self, cgroup: &Path) -> Standing;

    /// The cgroup by which the pattern means whoever owns a cgroup. Where something is not known that would narrow the
    /// pattern, that counts as meant unless it must be `certain`.
    fn meant(&self, cgroup: &Path, pattern: &MemberPattern, certain: bool) -> Option<PathBuf>;

    /// Whether something is still to be told of whoever owns a cgroup that workloads are told apart by.
    fn awaits(&self, cgroup: &Path) -> bool;

    /// A number that is another one after every change: two answers at the same number fit each other.
    fn generation(&self) -> u64;

    /// What records tell of the owner of a cgroup.
    fn facts(&self, cgroup: &Path) -> Option<RecordFacts>;
}

/// What records tell of a pod or container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct RecordFacts {
    /// The pod's namespace.
    #[serde(rename = "k8s.namespace.name", skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The pod's name.
    #[serde(rename = "k8s.pod.name", skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The pod's unique id.
    #[serde(rename = "k8s.pod.uid", skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// The container's name in its pod.
    #[serde(rename = "k8s.container.name", skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The container's name where it is in no pod.
    #[serde(rename = "container.name", skip_serializing_if = "Option::is_none")]
    pub container_alone: Option<String>,
    /// The container's id.
    #[serde(rename = "container.id", skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// The container's image.
    #[serde(rename = "container.image.name", skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}
