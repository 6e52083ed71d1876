//! What the runtime tells, in the terms of the registry.

use super::Plugin;
use crate::containers::{
    cgroup_path,
    injection::{Adjustment, Mount, Spec},
    member::{Container, MadeWith, Member, Network, Pod},
    messages::nri::{self, Event},
};
use std::{path::PathBuf, sync::Arc};

/// What the plugin wants to be told. Of an update it wants nothing: what identifies a container does not change.
const WANTED: [Event; 9] = [
    Event::RunPodSandbox,
    Event::StopPodSandbox,
    Event::RemovePodSandbox,
    Event::CreateContainer,
    Event::PostCreateContainer,
    Event::StartContainer,
    // By when the process is known.
    Event::PostStartContainer,
    Event::StopContainer,
    Event::RemoveContainer,
];

/// Under which containerd and CRI-O note the image of a container.
const IMAGES: [&str; 3] =
    ["io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName", "io.kubernetes.cri-o.Image"];

/// The wanted events, a bit each.
pub(super) fn mask() -> i32 {
    WANTED.into_iter().fold(0, |mask, event| mask | 1 << (event as i32 - 1))
}

impl Plugin {
    /// A container is about to be made: it has no cgroup yet.
    pub(super) async fn container_is_made(&self, request: nri::CreateContainerRequest) -> Member {
        if let Some(pod) = request.pod {
            self.registry.enter_pod(pod.into()).await;
        }
        let container = request.container.unwrap_or_default();
        self.registry.enter_container(container.into(), false).await
    }

    /// Something has happened to a pod or a container.
    pub(super) async fn state_changed(&self, event: nri::StateChangeEvent) {
        let happened = event.event();
        let nri::StateChangeEvent { pod, container, .. } = event;
        let id = |id: Option<&String>| id.cloned().unwrap_or_default();
        let pod_id = id(pod.as_ref().map(|pod| &pod.id));
        let container_id = id(container.as_ref().map(|container| &container.id));
        match happened {
            Event::RunPodSandbox => {
                if let Some(pod) = pod {
                    self.registry.enter_pod(pod.into()).await;
                }
            }
            Event::StopPodSandbox => self.registry.pod_stopped(&pod_id).await,
            Event::RemovePodSandbox => self.registry.remove_pod(&pod_id).await,
            Event::PostCreateContainer | Event::StartContainer | Event::PostStartContainer => {
                if let Some(container) = container {
                    let member = self.registry.enter_container(container.into(), false).await;
                    if happened == Event::StartContainer {
                        self.registry.starts(member).await;
                    }
                }
            }
            Event::StopContainer => self.registry.container_stopped(&container_id).await,
            Event::RemoveContainer => self.registry.remove_container(&container_id).await,
            Event::CreateContainer | Event::UpdateContainer | Event::PostUpdateContainer | Event::Unknown => {
            }
        }
    }
}

impl From<nri::PodSandbox> for Pod {
    fn from(pod: nri::PodSandbox) -> Self {
        let linux = pod.linux.unwrap_or_default();
        let network = linux.namespaces.into_iter().find(|namespace| namespace.r#type == "network");
        Self {
            id: pod.id,
            namespace: pod.namespace,
            name: pod.name,
            uid: pod.uid,
            labels: pod.labels,
            annotations: pod.annotations,
            service_account: None,
            cgroup: cgroup_path::of_pod(&linux.cgroup_parent),
            sandbox_cgroup: cgroup_path::of_container(&linux.cgroups_path),
            network: match network {
                // A pod without a namespace of its own is in the machine's.
                None => Network::Host,
                Some(namespace) if namespace.path.is_empty() => Network::Unknown,
                Some(namespace) => Network::Own(namespace.path.into()),
            },
            pid: Some(pod.pid).filter(|pid| *pid != 0),
        }
    }
}

impl From<nri::Container> for Container {
    fn from(container: nri::Container) -> Self {
        let made_with = Spec { mounts: Vec::new(), ..spec(Some(&container)) };
        let image = IMAGES.iter().find_map(|key| container.annotations.get(*key)).cloned();
        let cgroups_path = container.linux.unwrap_or_default().cgroups_path;
        Self {
            id: container.id,
            pod: Some(container.pod_sandbox_id).filter(|id| !id.is_empty()),
            name: container.name,
            image,
            labels: container.labels,
            annotations: container.annotations,
            cgroup: cgroup_path::of_container(&cgroups_path),
            pid: Some(container.pid).filter(|pid| *pid != 0),
            network: Network::Unknown,
            made_with: Some(MadeWith(Arc::new(made_with))),
        }
    }
}

/// What a container is to be made with.
pub(super) fn spec(container: Option<&nri::Container>) -> Spec {
    let Some(container) = container else { return Spec::default() };
    let environment = container.env.iter().map(|word| {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        (name.to_owned(), value.to_owned())
    });
    let mount = |mount: &nri::Mount| Mount {
        destination: PathBuf::from(&mount.destination),
        source: PathBuf::from(&mount.source),
        is_bind: mount.r#type == "bind"
            || mount.options.iter().any(|option| option == "bind" || option == "rbind"),
    };
    Spec {
        environment: environment.collect(),
        arguments: container.args.clone(),
        mounts: container.mounts.iter().map(mount).collect(),
    }
}

/// What it is given, all of it read-only and unable to do more than to be read.
pub(super) fn adjustment(adjustment: Adjustment) -> nri::ContainerAdjustment {
    let options = ["bind", "ro", "nosuid", "nodev", "noexec", "rprivate"];
    let mounts = adjustment.mounts.into_iter().map(|mount| nri::Mount {
        destination: mount.destination.to_string_lossy().into_owned(),
        r#type: "bind".into(),
        source: mount.source.to_string_lossy().into_owned(),
        options: options.map(str::to_owned).into(),
    });
    let variables = adjustment.environment.into_iter().map(|(key, value)| nri::KeyValue { key, value });
    nri::ContainerAdjustment { mounts: mounts.collect(), env: variables.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn namespace(kind: &str, path: &str) -> nri::LinuxNamespace {
        nri::LinuxNamespace { r#type: kind.into(), path: path.into() }
    }

    #[test_case(&[("network", "/run/netns/a"), ("ipc", "")], Network::Own("/run/netns/a".into()); "its own")]
    #[test_case(&[("ipc", "")], Network::Host; "the machine's")]
    #[test_case(&[("network", "")], Network::Unknown; "not told where")]
    fn a_pods_network_is_told_by_its_namespaces(namespaces: &[(&str, &str)], expected: Network) {
        let namespaces = namespaces.iter().map(|(kind, path)| namespace(kind, path)).collect();
        let linux = nri::LinuxPodSandbox { namespaces, ..nri::LinuxPodSandbox::default() };
        let pod = Pod::from(nri::PodSandbox { linux: Some(linux), ..nri::PodSandbox::default() });
        assert_eq!(pod.network, expected);
        assert_eq!(pod.pid, None);
    }

    #[test]
    fn the_mask_has_a_bit_for_each_event() {
        assert_eq!(mask(), 0b110_0111_1111);
    }

    #[test]
    fn variables_and_mounts_are_read_from_the_spec() {
        let container = nri::Container {
            env: vec!["A=b=c".into(), "EMPTY=".into(), "NONE".into()],
            mounts: vec![
                nri::Mount {
                    destination: "/d".into(),
                    source: "/s".into(),
                    options: vec!["rbind".into()],
                    ..Default::default()
                },
                nri::Mount { destination: "/proc".into(), r#type: "proc".into(), ..Default::default() },
            ],
            ..Default::default()
        };
        let spec = spec(Some(&container));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(spec.environment, [pair("A", "b=c"), pair("EMPTY", ""), pair("NONE", "")]);
        assert_eq!(spec.mounts.iter().map(|mount| mount.is_bind).collect::<Vec<_>>(), [true, false]);
    }
}
