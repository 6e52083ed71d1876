use super::*;
use crate::toml_file::Source;
use test_case::test_case;

fn rules(tables: &str) -> Rules {
    let source = Source::from_bytes(Path::new("t.toml"), tables.as_bytes().to_vec()).unwrap();
    Rules::of(&config::file::parse(&source).unwrap().workloads)
}

fn workload(name: &str, rest: &str) -> String {
    format!("[[workload]]\nname = \"{name}\"\npolicy = \"p\"\n{rest}\n")
}

fn pod() -> Pod {
    Pod {
        namespace: "ci-1".into(),
        name: "job-7".into(),
        labels: [("app".to_owned(), "bot".to_owned())].into(),
        cgroup: Some("/kubepods/podu".into()),
        sandbox_cgroup: Some("/kubepods/podu/s".into()),
        ..Pod::default()
    }
}

fn container() -> Container {
    Container {
        name: "main".into(),
        image: Some("r.example/a:1".into()),
        cgroup: Some("/kubepods/podu/c".into()),
        ..Container::default()
    }
}

fn named(claims: &[Claim]) -> Vec<(&str, &str)> {
    claims.iter().map(|claim| (&*claim.workload, claim.cgroup.to_str().unwrap())).collect()
}

fn in_pod() -> Member {
    Member { pod: Some(pod().into()), container: Some(container().into()) }
}

#[test_case("match = [{ pod = { namespace = \"ci-*\" } }]", &["/kubepods/podu"]; "by its pod")]
#[test_case("match = [{ container = { name = \"main\" } }]", &["/kubepods/podu/c"]; "by itself")]
#[test_case("match = [{ container = { name = \"x\" } }, { pod = { name = \"job-*\" } }]", &["/kubepods/podu"]; "one of two")]
#[test_case("match = [{ pod = { name = \"job-*\" }, container = { name = \"main\" } }]", &["/kubepods/podu/c"]; "by both")]
#[test_case("match = [{ pod = { name = \"job-*\" }, container = { name = \"x\" } }]", &[]; "not by both")]
#[test_case("match = [{ pod = { name = \"x\" }, container = { name = \"main\" } }]", &[]; "in another pod")]
#[test_case("match = [{ pod = { service_account = \"ci\" } }]", &["/kubepods/podu"]; "perhaps")]
#[test_case("match = [{ pod = { namespace = \"ci-*\" } }]\nexcept = [{ container = { name = \"main\" } }]", &[]; "excepted")]
#[test_case(
    "match = [{ pod = { namespace = \"ci-*\" } }]\nexcept = [{ pod = { service_account = \"ci\" } }]", &["/kubepods/podu"];
    "perhaps excepted"
)]
#[test_case(
    "match = [{ pod = { namespace = \"ci-*\" } }]\nexcept = [{ container = { name = \"main\" }, user = \"root\" }]",
    &["/kubepods/podu"];
    "excepted for a user only"
)]
#[test_case("match = [{ user = \"bot\" }]", &[]; "no table of pods")]
fn a_container_is_claimed_by_every_key(tables: &str, expected: &[&str]) {
    let claims = rules(&workload("w", tables)).claims(&in_pod());
    let cgroups: Vec<&str> = named(&claims).into_iter().map(|(_, cgroup)| cgroup).collect();
    assert_eq!(cgroups, expected);
}

#[test]
fn a_pod_is_claimed_before_it_has_containers() {
    let rules = rules(&workload("w", "match = [{ pod = { namespace = \"ci-*\" } }]"));
    let mut member = Member { pod: Some(pod().into()), container: None };
    assert_eq!(named(&rules.claims(&member)), [("w", "/kubepods/podu")]);
    member.pod = Some(Pod { cgroup: None, ..pod() }.into());
    assert_eq!(named(&rules.claims(&member)), [("w", "/kubepods/podu/s")]);
    member.container = Some(container().into());
    assert_eq!(named(&rules.claims(&member)), [("w", "/kubepods/podu/c")], "no cgroup of the pod's own");
}

#[test]
fn a_container_without_a_pod_is_claimed_by_its_own_keys_alone() {
    let tables = workload("a", "match = [{ pod = { name = \"*\" } }]")
        + &workload("b", "match = [{ container = { image = \"r.example/*\" } }]");
    let member = Member { pod: None, container: Some(container().into()) };
    assert_eq!(named(&rules(&tables).claims(&member)), [("b", "/kubepods/podu/c")]);
}

#[test]
fn the_outermost_cgroup_decides_and_equals_count_together() {
    let tables = workload("a", "match = [{ container = { name = \"main\" } }]")
        + &workload("b", "match = [{ pod = { name = \"job-7\" } }]")
        + &workload("c", "match = [{ pod = { labels = { app = \"bot\" } } }]");
    let rules = rules(&tables);
    assert_eq!(named(&rules.claims(&in_pod())), [("b", "/kubepods/podu"), ("c", "/kubepods/podu")]);
    let other = Member { pod: Some(Pod { name: "x".into(), labels: [].into(), ..pod() }.into()), ..in_pod() };
    assert_eq!(named(&rules.claims(&other)), [("a", "/kubepods/podu/c")]);
}

#[test]
fn what_is_selected_lifts_nothing_of_the_configurations_and_the_other_way_round() {
    let selection = Selection { namespaces: vec![pod().namespace], ..Selection::default() };
    let selected = || [(Arc::from("bound"), Arc::new(selection.clone()))];
    for (tables, of_configuration) in [
        ("match = [{ container = { name = \"main\" } }]", ("w", "/kubepods/podu/c")),
        ("match = [{ pod = { name = \"job-7\" } }]", ("w", "/kubepods/podu")),
    ] {
        let rules = rules(&workload("w", tables)).with(selected());
        assert_eq!(named(&rules.claims(&in_pod())), [of_configuration, ("bound", "/kubepods/podu")]);
    }
}
