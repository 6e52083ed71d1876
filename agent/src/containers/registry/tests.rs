use super::*;
use crate::{config::file, containers::member::Network, toml_file::Source};
use proptest::prelude::*;

const RULES: &str =
    "[[workload]]\nname = \"ci\"\npolicy = \"p\"\nmatch = [{ pod = { namespace = \"ci\" } }]\n";

fn registry() -> Registry {
    let source = Source::from_bytes(Path::new("t.toml"), RULES.as_bytes().to_vec()).unwrap();
    Registry::new(Rules::of(&file::parse(&source).unwrap().workloads))
}

fn pod(id: &str, namespace: &str) -> Pod {
    Pod {
        id: id.into(),
        namespace: namespace.into(),
        name: format!("pod-{id}"),
        cgroup: Some(format!("/kubepods/pod{id}").into()),
        sandbox_cgroup: Some(format!("/kubepods/pod{id}/{id}").into()),
        ..Pod::default()
    }
}

fn container(id: &str, pod: &str) -> Container {
    Container {
        id: id.into(),
        pod: Some(pod.into()),
        name: "main".into(),
        cgroup: Some(format!("/kubepods/pod{pod}/{id}").into()),
        ..Container::default()
    }
}

/// What was told since, with nobody left to wait.
fn told(receiver: &mut mpsc::UnboundedReceiver<Notice>) -> Vec<String> {
    let mut told = Vec::new();
    while let Ok(notice) = receiver.try_recv() {
        told.push(match &notice.news {
            News::Pod(pod) => format!("pod {}", pod.id),
            News::Container(member) => format!("container {}", member.container.as_ref().unwrap().id),
            News::PodStopped(pod) => format!("stopped pod {}", pod.id),
            News::ContainerStopped(member) => format!("stopped {}", member.container.as_ref().unwrap().id),
            News::PodGone(pod) => format!("gone pod {}", pod.id),
            News::ContainerGone(member) => format!("gone {}", member.container.as_ref().unwrap().id),
        });
        notice.done();
    }
    told
}

fn is_empty(registry: &Registry) -> bool {
    let known = registry.read();
    known.pods.is_empty() && known.containers.is_empty() && known.cgroups.is_empty()
}

#[tokio::test]
async fn a_cgroup_is_its_nearest_owners() {
    let registry = registry();
    registry.enter_pod(pod("p", "ci")).await;
    registry.enter_container(container("c", "p"), true).await;
    let name = |path: &str| {
        let member = registry.find(Path::new(path))?;
        Some((member.pod?.name.clone(), member.container.map(|container| container.id.clone())))
    };
    let expected = |container: Option<&str>| Some(("pod-p".to_owned(), container.map(str::to_owned)));
    assert_eq!(name("/kubepods/podp"), expected(None));
    assert_eq!(name("/kubepods/podp/p"), expected(None));
    assert_eq!(name("/kubepods/podp/c"), expected(Some("c")));
    assert_eq!(name("/kubepods/podp/c/init.scope"), expected(Some("c")));
    assert_eq!(name("/kubepods/podp2"), None);
    assert_eq!(name("/"), None);
    let claims = registry.claims(Path::new("/kubepods/podp/c/below"));
    assert_eq!(claims, [Claim { workload: "ci".into(), cgroup: "/kubepods/podp".into() }]);
    assert!(!registry.govern(Rules::default(), None, || ()).await.is_empty());
    assert!(registry.claims(Path::new("/kubepods/podp/c")).is_empty());
}

#[tokio::test]
async fn whoever_enters_waits_for_the_subscriber() {
    let registry = Arc::new(registry());
    let mut notices = registry.subscribe();
    let entering = tokio::spawn({
        let registry = Arc::clone(&registry);
        async move { registry.enter_pod(pod("p", "ci")).await }
    });
    let notice = notices.recv().await.unwrap();
    tokio::task::yield_now().await;
    assert!(!entering.is_finished(), "nobody has seen to it yet");
    notice.done();
    entering.await.unwrap();
    drop(notices);
    registry.enter_pod(pod("q", "ci")).await;
    assert_eq!(registry.pods().len(), 2, "without a subscriber nobody waits");
}

#[tokio::test]
async fn a_late_subscriber_is_told_of_what_is_there() {
    let registry = registry();
    registry.enter_pod(pod("p", "ci")).await;
    registry.enter_container(container("c", "p"), true).await;
    assert_eq!(told(&mut registry.subscribe()), ["pod p", "container c"]);
}

#[tokio::test]
async fn a_replacement_tells_of_the_difference_alone() {
    let registry = registry();
    registry
        .replace(vec![pod("p", "ci"), pod("q", "ci")], vec![container("c", "p"), container("d", "q")])
        .await;
    let mut notices = registry.subscribe();
    told(&mut notices);
    let replace = |pods: Vec<Pod>, containers: Vec<Container>| {
        // The subscriber of this test answers only afterwards.
        let registry = &registry;
        let (pods, containers) = (pods, containers);
        async move {
            let replaced = registry.replace(pods, containers);
            let _ = tokio::time::timeout(std::time::Duration::from_millis(50), replaced).await;
        }
    };
    replace(vec![pod("p", "ci"), pod("q", "ci")], vec![container("c", "p"), container("d", "q")]).await;
    assert!(told(&mut notices).is_empty(), "the same as before");
    replace(vec![pod("p", "ci"), pod("r", "ci")], vec![container("c", "p"), container("e", "r")]).await;
    assert_eq!(told(&mut notices), ["gone d", "gone pod q", "pod r", "container e"]);
    let running = Container { pid: Some(7), ..container("c", "p") };
    replace(vec![pod("p", "ci"), pod("r", "ci")], vec![running, container("e", "r")]).await;
    assert_eq!(told(&mut notices), ["container c"]);
    replace(Vec::new(), Vec::new()).await;
    assert_eq!(told(&mut notices), ["gone c", "gone e", "gone pod p", "gone pod r"]);
    assert!(is_empty(&registry));
}

#[tokio::test]
async fn what_one_source_knows_another_does_not_take_away() {
    let registry = registry();
    let full = Pod {
        network: Network::Own("/run/netns/a".into()),
        service_account: Some("s".into()),
        ..pod("p", "ci")
    };
    registry.enter_pod(full.clone()).await;
    registry.enter_pod(Pod { cgroup: None, sandbox_cgroup: None, ..pod("p", "ci") }).await;
    assert_eq!(*registry.pod("p").unwrap(), full);
    registry.enter_container(Container { image: Some("i".into()), ..container("c", "p") }, true).await;
    registry.enter_container(container("c", "p"), true).await;
    assert_eq!(registry.container("c").unwrap().container.unwrap().image.as_deref(), Some("i"));
}

#[tokio::test]
async fn a_pod_goes_when_nothing_of_it_is_left_in_the_kernel() {
    let registry = registry();
    let started = |id: &str| Pod { pid: Some(7), ..pod(id, "ci") };
    registry.replace(vec![started("p"), pod("new", "ci"), started("q"), started("r")], Vec::new()).await;
    let running = |id: &str, pod: &str| Container { pid: Some(8), ..container(id, pod) };
    registry.enter_container(running("c", "p"), true).await;
    registry.enter_container(running("d", "q"), true).await;
    registry.enter_container(container("e", "r"), false).await;
    // The sandbox of `q` has died, and its container has not.
    let is_there = |path: &Path| path == Path::new("/kubepods/podq/d");
    registry.sweep(is_there).await;
    assert_eq!(registry.pods().len(), 4, "the runtime may yet tell");
    registry.sweep(|_| true).await;
    registry.sweep(is_there).await;
    assert_eq!(registry.pods().len(), 4, "not the last time");
    registry.sweep(is_there).await;
    let left: Vec<String> = registry.pods().iter().map(|pod| pod.id.clone()).collect();
    assert_eq!(
        left,
        ["new", "q", "r"],
        "one is about to start, one runs, one has a container that is about to start"
    );
    registry.sweep(|_| true).await;
    assert_eq!(registry.pods().len(), 3);
}

proptest! {
    #[test]
    fn nothing_is_left_of_what_has_come_and_gone(steps in prop::collection::vec((0_u8..6, 0_u8..4, 0_u8..4), 0..60)) {
        let registry = registry();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for (step, one, other) in steps {
                let (id, pod_id) = (format!("c{one}"), format!("p{other}"));
                match step {
                    0 => registry.enter_pod(pod(&pod_id, "ci")).await,
                    1 => drop(registry.enter_container(container(&id, &pod_id), true).await),
                    2 => registry.remove_container(&id).await,
                    3 => registry.remove_pod(&pod_id).await,
                    4 => registry.pod_stopped(&pod_id).await,
                    _ => registry.replace(vec![pod(&pod_id, "ci")], vec![container(&id, &pod_id)]).await,
                }
            }
            for number in 0..4 {
                registry.remove_pod(&format!("p{number}")).await;
                registry.remove_container(&format!("c{number}")).await;
            }
        });
        prop_assert!(is_empty(&registry));
    }
}
