//! What the runtimes tell beyond the CRI, as JSON of their own kinds: containerd and CRI-O both show the OCI spec.

use crate::containers::{cgroup_path, member::Network};
use serde::Deserialize;
use std::{collections::BTreeMap, path::PathBuf};

/// What is found in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Details {
    pub(super) pid: Option<u32>,
    pub(super) cgroup: Option<PathBuf>,
    pub(super) parent: Option<PathBuf>,
    pub(super) network: Network,
    pub(super) image: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Info {
    pid: u32,
    runtime_spec: Option<Spec>,
    config: Option<Config>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    linux: Option<Linux>,
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Linux {
    cgroups_path: String,
    namespaces: Option<Vec<Namespace>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    path: String,
}

/// The sandbox's, of containerd.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    linux: Option<ConfigLinux>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConfigLinux {
    cgroup_parent: String,
}

impl Details {
    /// Of what a status has under `info`. What is not as expected is not known.
    pub(super) fn of(info: &BTreeMap<String, String>) -> Self {
        let text = info.get("info").map(String::as_str).unwrap_or_default();
        let Info { pid, runtime_spec, config } = serde_json::from_str(text).unwrap_or_default();
        let Spec { linux, annotations } = runtime_spec.unwrap_or_default();
        let linux_is_known = linux.is_some();
        let Linux { cgroups_path, namespaces } = linux.unwrap_or_default();
        let network =
            namespaces.unwrap_or_default().into_iter().find(|namespace| namespace.kind == "network");
        let parent = config.and_then(|config| config.linux).map(|linux| linux.cgroup_parent);
        let parent = parent.or_else(|| annotations.get("io.kubernetes.cri-o.CgroupParent").cloned());
        Self {
            pid: Some(pid).filter(|pid| *pid != 0),
            cgroup: cgroup_path::of_container(&cgroups_path),
            parent: parent.as_deref().and_then(cgroup_path::of_pod),
            network: match network {
                Some(namespace) if namespace.path.is_empty() => Network::Unknown,
                Some(namespace) => Network::Own(namespace.path.into()),
                None if linux_is_known => Network::Host,
                None => Network::Unknown,
            },
            image: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use test_case::test_case;

    fn of(text: &str) -> Details {
        Details::of(&[("info".to_owned(), text.to_owned())].into())
    }

    #[test]
    fn containerd_shows_the_spec_and_what_it_was_asked_for() {
        let details = of(
            r#"{"pid": 7, "config": {"linux": {"cgroup_parent": "/kubepods/podu"}}, "runtimeSpec": {"linux": {
            "cgroupsPath": "/kubepods/podu/s", "namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/a"}]}}}"#,
        );
        let expected = Details {
            pid: Some(7),
            cgroup: Some("/kubepods/podu/s".into()),
            parent: Some("/kubepods/podu".into()),
            network: Network::Own("/run/netns/a".into()),
            image: None,
        };
        assert_eq!(details, expected);
    }

    #[test]
    fn crio_notes_the_parent_in_an_annotation() {
        let details = of(
            r#"{"pid": 7, "runtimeSpec": {"annotations": {"io.kubernetes.cri-o.CgroupParent": "kubepods-podu.slice"},
            "linux": {"cgroupsPath": "kubepods-podu.slice:crio:s", "namespaces": [{"type": "pid"}]}}}"#,
        );
        assert_eq!(details.parent.as_deref(), Some(Path::new("/kubepods.slice/kubepods-podu.slice")));
        assert_eq!(
            details.cgroup.as_deref(),
            Some(Path::new("/kubepods.slice/kubepods-podu.slice/crio-s.scope"))
        );
        assert_eq!(details.network, Network::Host);
    }

    #[test_case(""; "nothing")]
    #[test_case("{}"; "no keys")]
    #[test_case("\"text\""; "another shape")]
    #[test_case(r#"{"pid": -1, "runtimeSpec": 3}"#; "other types")]
    #[test_case(r#"{"runtimeSpec": {"linux": null}}"#; "null")]
    fn what_is_not_as_expected_is_not_known(text: &str) {
        assert_eq!(of(text), Details::default());
    }
}
