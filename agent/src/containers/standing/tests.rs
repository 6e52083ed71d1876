use super::*;
use crate::{
    config::file,
    containers::{Container, Pod},
    toml_file::Source,
};
use test_case::test_case;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const PODS_ONLY: &str = r#"match = [{ pod = { namespace = "ci" } }]"#;
const CONTAINERS: &str = r#"match = [{ container = { name = "main" } }]"#;

/// One pod of the namespace, with a container `main`; and what is there besides is told by nobody.
async fn registry(matches: &str, namespace: &str) -> Registry {
    let text = format!("[[workload]]\nname = \"w\"\npolicy = \"p\"\n{matches}\n");
    let source = Source::from_bytes(Path::new("tidegate.toml"), text.into_bytes()).unwrap();
    let registry = Registry::new(Rules::of(&file::parse(&source).unwrap().workloads));
    let cgroup = Some("/kubepods.slice/pod1".into());
    registry.enter_pod(Pod { id: "p".into(), namespace: namespace.into(), cgroup, ..Pod::default() }).await;
    let cgroup = Some(format!("/kubepods.slice/pod1/{ID}").into());
    let container = Container {
        id: ID.into(),
        pod: Some("p".into()),
        name: "main".into(),
        cgroup,
        ..Container::default()
    };
    registry.enter_container(container, true).await;
    registry
}

#[test_case(PODS_ONLY, "ci", "/", Standing::Above; "the root")]
#[test_case(PODS_ONLY, "ci", "/system.slice/a.service", Standing::Elsewhere; "a service")]
#[test_case(PODS_ONLY, "ci", "/kubepods.slice", Standing::Above; "where pods are")]
#[test_case(PODS_ONLY, "ci", "/kubepods.slice/pod1", Standing::Claimed; "a pod")]
#[test_case(PODS_ONLY, "ci", "/kubepods.slice/pod1/CONTAINER/below", Standing::Claimed; "below a claimed container")]
#[test_case(PODS_ONLY, "web", "/kubepods.slice/pod1", Standing::Free; "another's pod")]
#[test_case(PODS_ONLY, "web", "/kubepods.slice/pod1/CONTAINER", Standing::Free; "another's container")]
#[test_case(PODS_ONLY, "ci", "/kubepods.slice/pod2", Standing::Above; "a pod that nobody has told of")]
#[test_case(PODS_ONLY, "ci", "/kubepods.slice/pod2/cri-containerd-CONTAINER.scope", Standing::Unknown; "its container")]
#[test_case(PODS_ONLY, "ci", "/kubepods.slice/pod2/CONTAINER/made/by/itself", Standing::Unknown; "below a container that nobody has told of")]
#[test_case(PODS_ONLY, "ci", "/kubepods.slice/pod2/CONTAINER/pod3", Standing::Unknown; "below it, named as a pod")]
#[test_case(PODS_ONLY, "ci", "/kubepods.slice/pod2/kata_overhead", Standing::Unknown; "what has no id")]
#[test_case(PODS_ONLY, "ci", "/kubepods/besteffort/pod2", Standing::Above; "a pod in a class of pods")]
#[test_case(PODS_ONLY, "ci", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod2.slice", Standing::Above; "the same by systemd's driver")]
#[test_case(CONTAINERS, "ci", "/kubepods.slice/pod1/CONTAINER2/below", Standing::Unknown; "below one beside it")]
#[test_case(CONTAINERS, "ci", "/system.slice/docker-CONTAINER2.scope/init.scope", Standing::Unknown; "below one of Docker's")]
#[test_case(PODS_ONLY, "ci", "/system.slice/docker-CONTAINER.scope", Standing::Elsewhere; "a container in no pod")]
#[test_case(CONTAINERS, "ci", "/kubepods.slice/pod1/CONTAINER", Standing::Claimed; "a container by its name")]
#[test_case(CONTAINERS, "ci", "/kubepods.slice/pod1", Standing::Above; "the pod that it is in")]
#[test_case(CONTAINERS, "ci", "/kubepods.slice/pod1/crio-CONTAINER2", Standing::Unknown; "one beside it")]
#[test_case(CONTAINERS, "ci", "/system.slice/docker-CONTAINER2.scope", Standing::Unknown; "one of Docker's")]
#[test_case(CONTAINERS, "ci", "/system.slice/a.service", Standing::Above; "where one may be")]
#[tokio::test]
async fn a_cgroup_stands(matches: &str, namespace: &str, path: &str, expected: Standing) {
    let other = ID.replace('0', "f");
    let path = path.replace("CONTAINER2", &other).replace("CONTAINER", ID);
    assert_eq!(registry(matches, namespace).await.standing(Path::new(&path)), expected, "{path}");
}
