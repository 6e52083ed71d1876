use super::*;
use crate::{
    config::{Selection, file},
    containers::Container,
    identify::members::{Members as _, Standing},
    toml_file::Source,
};
use std::path::Path;
use test_case::test_case;

fn rules(pattern: &str) -> Rules {
    let text =
        format!("[[workload]]\nname = \"ci\"\npolicy = \"p\"\nmatch = [{{ pod = {{ {pattern} }} }}]\n");
    let source = Source::from_bytes(Path::new("t.toml"), text.into_bytes()).unwrap();
    Rules::of(&file::parse(&source).unwrap().workloads)
}

fn pod(id: &str, namespace: &str) -> Pod {
    Pod {
        id: id.into(),
        namespace: namespace.into(),
        name: id.into(),
        uid: format!("uid-{id}"),
        labels: [("app", "bot"), ("io.kubernetes.pod.name", "x")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        cgroup: Some(format!("/kubepods/pod{id}").into()),
        ..Pod::default()
    }
}

fn told(pods: &[(&str, &str, &str)]) -> Option<Told> {
    let pod = |(id, app, account): &(&str, &str, &str)| {
        let labels = [("app".to_owned(), (*app).to_owned())].into();
        let uids = vec![format!("uid-{id}")];
        (
            ("ci".to_owned(), (*id).to_owned()),
            ToldPod { uids, labels, service_account: (*account).to_owned() },
        )
    };
    Some(Told { is_known: true, pods: pods.iter().map(pod).collect(), ..Told::default() })
}

fn standing(registry: &Registry, id: &str) -> Standing {
    registry.standing(Path::new(&format!("/kubepods/pod{id}")))
}

#[tokio::test]
async fn a_service_account_is_waited_for_and_then_decides() {
    let registry = Registry::default();
    for id in ["a", "b"] {
        registry.enter_pod(pod(id, "ci")).await;
    }
    let account = || rules("namespace = \"ci\", service_account = \"runner\"");
    registry.govern(account(), None, || ()).await;
    assert_eq!(standing(&registry, "a"), Standing::Claimed, "nobody will ever tell");
    let changed = registry.govern(account(), told(&[("a", "bot", "runner")]), || ()).await;
    assert_eq!(changed.iter().map(|pod| &*pod.id).collect::<Vec<_>>(), ["b"]);
    assert_eq!((standing(&registry, "a"), standing(&registry, "b")), (Standing::Claimed, Standing::Unknown));
    assert!(registry.awaits(Path::new("/kubepods/podb/container")));
    registry.govern(account(), told(&[("a", "bot", "runner"), ("b", "bot", "default")]), || ()).await;
    assert_eq!((standing(&registry, "a"), standing(&registry, "b")), (Standing::Claimed, Standing::Free));
    // What needs no account is not waited for.
    registry.govern(rules("namespace = \"ci\""), told(&[]), || ()).await;
    registry.enter_pod(pod("c", "ci")).await;
    assert_eq!(standing(&registry, "c"), Standing::Claimed);
}

#[tokio::test]
async fn labels_that_change_count_and_the_runtimes_own_stay() {
    let registry = Registry::default();
    registry.govern(rules("labels = { app = \"bot\" }"), told(&[]), || ()).await;
    registry.enter_pod(pod("a", "ci")).await;
    assert_eq!(standing(&registry, "a"), Standing::Claimed);
    let bot = || rules("labels = { app = \"bot\" }");
    assert_eq!(registry.govern(bot(), told(&[("a", "web", "x")]), || ()).await.len(), 1);
    assert_eq!(standing(&registry, "a"), Standing::Free);
    // The runtime tells again what it knew at the start.
    registry.enter_pod(pod("a", "ci")).await;
    assert_eq!(standing(&registry, "a"), Standing::Free);
    let labels = registry.pod("a").unwrap().labels.clone();
    assert_eq!(labels.keys().collect::<Vec<_>>(), ["app", "io.kubernetes.pod.name"]);
    assert_eq!(registry.govern(bot(), told(&[("a", "bot", "x")]), || ()).await.len(), 1);
    assert_eq!(standing(&registry, "a"), Standing::Claimed);
    assert!(
        registry.govern(bot(), told(&[("a", "bot", "x")]), || ()).await.is_empty(),
        "nothing has changed"
    );
}

#[test_case("ci", Standing::Unknown; "anybody's")]
#[test_case("kube-system", Standing::Free; "one of a spared namespace")]
#[test_case("tidegate-system", Standing::Free; "one beside the agent's own")]
#[tokio::test]
async fn as_long_as_nothing_is_known_pods_are_held(namespace: &str, expected: Standing) {
    let registry = Registry::default();
    registry.enter_pod(pod("own", "tidegate-system")).await;
    registry.enter_pod(pod("a", namespace)).await;
    let unknown = Told {
        spared: vec!["kube-system".to_owned()],
        own: Some("/kubepods/podown/agent".into()),
        ..Told::default()
    };
    registry.govern(Rules::default(), Some(unknown), || ()).await;
    assert_eq!(standing(&registry, "a"), expected);
    assert_eq!(standing(&registry, "own"), Standing::Free);
    registry.govern(Rules::default(), told(&[]), || ()).await;
    assert_eq!(standing(&registry, "a"), Standing::Free);
}

#[tokio::test]
async fn a_selected_pod_is_claimed_with_all_of_its_containers() {
    let registry = Registry::default();
    let without_cgroup = Pod { cgroup: None, ..pod("a", "ci") };
    registry.enter_pod(without_cgroup).await;
    let container = Container {
        id: "c".into(),
        pod: Some("a".into()),
        cgroup: Some("/kubepods/besteffort/c".into()),
        ..Container::default()
    };
    registry.enter_container(container, true).await;
    let selection = Selection { service_accounts: vec!["runner".to_owned()], ..Selection::default() };
    let selected = Rules::default().with([("bound".into(), Arc::new(selection))]);
    let mut notices = registry.subscribe();
    while notices.try_recv().is_ok() {}
    let governing = registry.govern(selected, told(&[("a", "bot", "runner")]), || ());
    let (changed, news) = tokio::join!(governing, async {
        let mut news = Vec::new();
        for _ in 0..2 {
            let notice = notices.recv().await.unwrap();
            news.push(notice.news.clone());
            notice.done();
        }
        news
    });
    assert_eq!(changed.len(), 1);
    assert!(matches!(&news[..], [News::Pod(_), News::Container(_)]), "{news:?}");
    let claims = registry.claims(Path::new("/kubepods/besteffort/c"));
    assert_eq!(claims.iter().map(|claim| &*claim.workload).collect::<Vec<_>>(), ["bound"]);
}

#[tokio::test]
async fn what_is_told_of_one_pod_is_not_anothers_whatever_ids_it_claims() {
    let registry = Registry::default();
    registry.enter_pod(pod("a", "ci")).await;
    let claiming = |namespace: &str, name: &str, uid: &str| {
        let labels = [("app".to_owned(), "web".to_owned())].into();
        let pod = ToldPod { uids: vec![uid.to_owned()], labels, service_account: "x".to_owned() };
        let pods = [((namespace.to_owned(), name.to_owned()), pod)].into();
        Some(Told { is_known: true, pods, ..Told::default() })
    };
    let bots = || rules("labels = { app = \"bot\" }");
    for (namespace, name, uid) in
        [("ci", "b", "uid-a"), ("web", "a", "uid-a"), ("ci", "a", "uid-of-the-next")]
    {
        registry.govern(bots(), claiming(namespace, name, uid), || ()).await;
        assert_eq!(standing(&registry, "a"), Standing::Claimed, "{namespace}/{name} {uid}");
    }
    registry.govern(bots(), claiming("ci", "a", "uid-a"), || ()).await;
    assert_eq!(standing(&registry, "a"), Standing::Free);
}

#[tokio::test]
async fn a_pod_whose_object_is_gone_stays_what_it_was_as_long_as_its_runtime_has_it() {
    let registry = Registry::default();
    registry.enter_pod(pod("a", "ci")).await;
    let web = || rules("labels = { app = \"web\" }");
    registry.govern(web(), told(&[("a", "web", "x")]), || ()).await;
    assert_eq!(standing(&registry, "a"), Standing::Claimed);
    assert!(registry.govern(web(), told(&[]), || ()).await.is_empty());
    registry.enter_pod(pod("a", "ci")).await;
    assert_eq!(standing(&registry, "a"), Standing::Claimed, "its runtime says what it was at its start");
    registry.remove_pod("a").await;
    registry.govern(web(), told(&[]), || ()).await;
    registry.enter_pod(pod("a", "ci")).await;
    assert_eq!(standing(&registry, "a"), Standing::Free, "another pod of that name");
}
