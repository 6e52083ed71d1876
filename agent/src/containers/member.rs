//! What is known of a pod and of a container, whoever tells it.

use super::injection::Spec;
use crate::{
    config::pods::{ContainerFacts, Labels, PodFacts},
    identify::members::RecordFacts,
};
use std::{fmt, path::PathBuf, sync::Arc};

/// A pod: its sandbox, as runtimes call it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// The sandbox's id, which the runtime gives.
    pub id: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its unique id, which Kubernetes gives.
    pub uid: String,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: Labels,
    /// Its service account, where somebody tells it: runtimes do not know it.
    pub service_account: Option<String>,
    /// The cgroup that all of its containers are in, from the mount's root. None where it has none of its own.
    pub cgroup: Option<PathBuf>,
    /// The cgroup of the process that keeps its namespaces, from the mount's root.
    pub sandbox_cgroup: Option<PathBuf>,
    /// Its network.
    pub network: Network,
    /// The process that keeps its namespaces.
    pub pid: Option<u32>,
}

/// The network that a pod or a container is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Nobody has told.
    #[default]
    Unknown,
    /// The machine's own.
    Host,
    /// A namespace of its own, at this path.
    Own(PathBuf),
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its id, which the runtime gives.
    pub id: String,
    /// The id of its pod's sandbox; none where it is in no pod.
    pub pod: Option<String>,
    /// Its name.
    pub name: String,
    /// Its image, as it was asked for, where that is known.
    pub image: Option<String>,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: Labels,
    /// Its cgroup, from the mount's root.
    pub cgroup: Option<PathBuf>,
    /// Its first process, once that is there.
    pub pid: Option<u32>,
    /// Its network, where it is in no pod.
    pub network: Network,
    /// With what its first program is made, where the runtime tells.
    pub made_with: Option<MadeWith>,
}

/// Variables and arguments of a container's first program. They may be secret, and are not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct MadeWith(pub Arc<Spec>);

impl fmt::Debug for MadeWith {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MadeWith")
    }
}

/// Whose a cgroup is: a pod's, or a container's, which has a pod in Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The pod.
    pub pod: Option<Arc<Pod>>,
    /// The container.
    pub container: Option<Arc<Container>>,
}

impl Pod {
    /// What tells whether a pattern means it.
    pub fn facts(&self) -> PodFacts<'_> {
        PodFacts {
            namespace: &self.namespace,
            name: &self.name,
            labels: &self.labels,
            service_account: self.service_account.as_deref(),
        }
    }

    /// Takes over what another source has told of the same pod, where this one does not know it.
    pub(super) fn complete(&mut self, known: &Self) {
        take(&mut self.service_account, &known.service_account);
        take(&mut self.cgroup, &known.cgroup);
        take(&mut self.sandbox_cgroup, &known.sandbox_cgroup);
        take(&mut self.pid, &known.pid);
        if self.network == Network::Unknown {
            self.network.clone_from(&known.network);
        }
    }
}

impl Container {
    /// Takes over what another source has told of the same container, where this one does not know it.
    pub(super) fn complete(&mut self, known: &Self) {
        take(&mut self.image, &known.image);
        take(&mut self.made_with, &known.made_with);
        take(&mut self.cgroup, &known.cgroup);
        take(&mut self.pid, &known.pid);
        if self.network == Network::Unknown {
            self.network.clone_from(&known.network);
        }
    }

    /// What tells whether a pattern means it.
    pub fn facts(&self) -> ContainerFacts<'_> {
        ContainerFacts { name: &self.name, image: self.image.as_deref(), labels: &self.labels }
    }
}

fn take<T: Clone>(own: &mut Option<T>, known: &Option<T>) {
    if own.is_none() {
        own.clone_from(known);
    }
}

impl Member {
    /// Its network.
    pub fn network(&self) -> &Network {
        match (&self.pod, &self.container) {
            (Some(pod), _) => &pod.network,
            (None, Some(container)) => &container.network,
            (None, None) => &Network::Unknown,
        }
    }

    /// What records tell of it.
    pub fn record_facts(&self) -> RecordFacts {
        let (pod, container) = (self.pod.as_ref(), self.container.as_ref());
        let name = container.map(|container| container.name.clone());
        let (in_pod, alone) = if pod.is_some() { (name, None) } else { (None, name) };
        let known = |word: &String| (!word.is_empty()).then(|| word.clone());
        RecordFacts {
            namespace: pod.and_then(|pod| known(&pod.namespace)),
            pod: pod.and_then(|pod| known(&pod.name)),
            pod_uid: pod.and_then(|pod| known(&pod.uid)),
            container: in_pod,
            container_alone: alone,
            container_id: container.map(|container| container.id.clone()),
            image: container.and_then(|container| container.image.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_name_pod_and_container() {
        let pod = Pod { namespace: "ci".into(), name: "job-1".into(), uid: "u".into(), ..Pod::default() };
        let container = Container {
            id: "c1".into(),
            name: "main".into(),
            image: Some("localhost/bb:1".into()),
            ..Container::default()
        };
        let mut member = Member { pod: Some(pod.into()), container: Some(container.into()) };
        let expected = serde_json::json!({
            "k8s.namespace.name": "ci", "k8s.pod.name": "job-1", "k8s.pod.uid": "u", "k8s.container.name": "main",
            "container.id": "c1", "container.image.name": "localhost/bb:1",
        });
        assert_eq!(serde_json::to_value(member.record_facts()).unwrap(), expected);
        member.pod = None;
        let expected = serde_json::json!({
            "container.name": "main", "container.id": "c1", "container.image.name": "localhost/bb:1",
        });
        assert_eq!(serde_json::to_value(member.record_facts()).unwrap(), expected);
    }
}
