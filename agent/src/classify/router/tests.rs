use super::*;
use crate::classify::Catalogue;
use proptest::prelude::*;
use std::{collections::BTreeSet, sync::LazyLock};
use test_case::test_case;

const UUID: &str = "4de7ac8b-495b-4884-9a69-1050c6793cd6";

fn path(text: &str) -> CanonicalPath<'_> {
    CanonicalPath::parse(text).unwrap()
}

fn routed(method: &str, target: &str) -> Option<&'static str> {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    Catalogue::embedded().route(None, &method, path(target)).map(|route| route.operation.name.as_str())
}

fn sample(form: Form) -> &'static str {
    match form {
        Form::Integer => "3164444",
        Form::Uuid => UUID,
        Form::Text => "some-name",
        Form::TextWithSlashes => "team%2Frepo",
    }
}

/// The operation's template with a sample value in each placeholder.
fn sample_path(operation: &Operation) -> String {
    let mut text = operation.path.clone();
    for parameter in &operation.parameters {
        text = text.replacen(&format!("{{{}}}", parameter.name), sample(parameter.form), 1);
    }
    text
}

fn parts(template: &str) -> Vec<&str> {
    template.split('/').skip(1).collect()
}

/// Whether some path fits both templates, which differ in more than the names of their placeholders.
fn overlap(a: &[&str], b: &[&str]) -> bool {
    let fits = |(a, b): (&&str, &&str)| a == b || is_placeholder(a) || is_placeholder(b);
    let differs = |(a, b): (&&str, &&str)| a != b && !(is_placeholder(a) && is_placeholder(b));
    a.len() == b.len() && a.iter().zip(b).all(fits) && a.iter().zip(b).any(differs)
}

/// A path that fits both: the literal where either has one.
fn shared_path(a: &Operation, b: &Operation) -> String {
    let joined = parts(&a.path).into_iter().zip(parts(&b.path)).map(|(a, b)| {
        match (is_placeholder(a), is_placeholder(b)) {
            (false, _) => a,
            (_, false) => b,
            (true, true) => UUID,
        }
    });
    format!("/{}", joined.collect::<Vec<_>>().join("/"))
}

/// Every pair of operations with overlapping templates on one host, the one that should win first.
fn overlapping() -> &'static [(&'static Operation, &'static Operation)] {
    static PAIRS: LazyLock<Vec<(&Operation, &Operation)>> = LazyLock::new(|| {
        let operations = Catalogue::embedded().operations().iter();
        let operations: Vec<_> = operations.map(|operation| (operation, parts(&operation.path))).collect();
        let mut pairs = Vec::new();
        for (winner, a) in &operations {
            for (loser, b) in operations.iter().filter(|(loser, _)| loser.host == winner.host) {
                let first = a.iter().zip(b).find(|(a, b)| is_placeholder(a) != is_placeholder(b));
                if overlap(a, b) && first.is_some_and(|(a, _)| !is_placeholder(a)) {
                    pairs.push((*winner, *loser));
                }
            }
        }
        pairs
    });
    &PAIRS
}

#[test]
fn every_operation_is_reached_by_its_own_template() {
    let catalogue = Catalogue::embedded();
    for operation in catalogue.operations() {
        if operation.path.contains('<') {
            // A presigned URL, whose path is whatever an earlier answer said.
            assert_eq!(operation.name, "inference_upload_batch_file");
            continue;
        }
        let sample_path = sample_path(operation);
        let request = path(&sample_path);
        let route = catalogue.route(operation.host.as_deref(), &operation.method, request).unwrap();
        assert_eq!(route.operation, operation);
        let values: Vec<(&str, Cow<'_, str>)> = operation
            .parameters
            .iter()
            .map(|parameter| (parameter.name.as_str(), decode(sample(parameter.form))))
            .collect();
        assert_eq!(route.parameters, values, "{}", operation.name);
    }
}

#[test]
fn the_catalogue_has_the_known_overlaps() {
    let paths = |(a, b): &(&'static Operation, &'static Operation)| (a.path.as_str(), b.path.as_str());
    let pairs: BTreeSet<_> = overlapping().iter().map(paths).collect();
    assert_eq!(pairs.len(), 37);
    let crossed = pairs.iter().filter(|(a, b)| {
        parts(a).into_iter().zip(parts(b)).any(|(a, b)| is_placeholder(a) && !is_placeholder(b))
    });
    assert_eq!(crossed.count(), 15);
    let same_method = overlapping().iter().filter(|(a, b)| a.method == b.method).map(paths);
    assert_eq!(same_method.collect::<BTreeSet<_>>().len(), 26);
}

#[test]
fn where_templates_overlap_the_earliest_literal_with_the_method_wins() {
    let catalogue = Catalogue::embedded();
    for &(winner, loser) in overlapping() {
        let host = winner.host.as_deref();
        let shared_path = shared_path(winner, loser);
        let request = path(&shared_path);
        let name = |method| catalogue.route(host, method, request).unwrap().operation.name.as_str();
        assert_eq!(name(&winner.method), winner.name, "{} against {}", winner.method, loser.path);
        let lacks =
            |operation: &&Operation| operation.path == winner.path && operation.method == loser.method;
        if !catalogue.operations().iter().any(|operation| lacks(&operation)) {
            assert_eq!(name(&loser.method), loser.name, "{} lacks the method", winner.path);
        }
    }
}

/// The reason why no scope of the template that is passed over is needed.
#[test]
fn a_crossed_template_that_loses_names_no_possible_resource() {
    let is_crossed = |winner: &Operation, loser: &Operation| {
        parts(&winner.path)
            .into_iter()
            .zip(parts(&loser.path))
            .any(|(a, b)| is_placeholder(a) && !is_placeholder(b))
    };
    let mut count = 0;
    for &(winner, loser) in overlapping() {
        if winner.method != loser.method || !is_crossed(winner, loser) {
            continue;
        }
        count += 1;
        let mut forms = loser.parameters.iter().map(|parameter| parameter.form);
        let literal_for =
            parts(&winner.path).into_iter().zip(parts(&loser.path)).filter(|(_, b)| is_placeholder(b));
        let impossible = literal_for
            .zip(forms.by_ref())
            .any(|((a, _), form)| !is_placeholder(a) && matches!(form, Form::Integer | Form::Uuid));
        assert!(impossible, "{} {} against {}", winner.method, winner.path, loser.path);
    }
    assert_eq!(count, 12);
}

#[test_case("GET", "/v2/droplets/autoscale", Some("autoscalepools_list"))]
#[test_case("GET", "/v2/droplets/3164444", Some("droplets_get"))]
#[test_case("HEAD", "/v2/droplets/3164444", Some("droplets_get"); "the head of a get")]
#[test_case("OPTIONS", "/v2/droplets/3164444", None; "options is no operation")]
#[test_case("DELETE", "/v2/droplets/autoscale", Some("droplets_destroy"); "falls to the placeholder")]
#[test_case("DELETE", "/v2/databases/options", Some("databases_destroy_cluster"); "falls to the placeholder, databases")]
#[test_case("POST", "/v2/droplets/actions", Some("dropletActions_post_byTag"))]
#[test_case("GET", "/v2/droplets/actions", Some("droplets_get"))]
#[test_case("GET", "/v2/droplets/3164444/actions", Some("dropletActions_list"))]
#[test_case("GET", "/v2/droplets/autoscale/actions", Some("autoscalepools_get"); "crossed")]
#[test_case("POST", "/v2/droplets/autoscale/actions", Some("dropletActions_post"); "crossed, other method")]
#[test_case("DELETE", "/v2/droplets/not-a-number", Some("droplets_destroy"); "the form of a value does not matter")]
#[test_case("GET", "/v2/projects/default/resources", Some("projects_list_resources_default"))]
#[test_case("GET", "/", None; "root")]
#[test_case("GET", "/v2", None; "prefix")]
#[test_case("GET", "/v2/droplets/1/actions/2/3", None; "too long")]
#[test_case("PUT", "/v2/droplets", None; "another method")]
#[test_case("POST", "/v1/chat/completions", None; "operation of another host")]
#[test_case("GET", "/v1/models", None; "read of another host")]
#[test_case("GET", "/v2/registry/example/repositories/team%2Frepo/tags", Some("registry_list_repositoryTags"); "escaped slash")]
#[test_case("GET", "/v2/domains/a%2Fb", None; "escaped slash in a name without slashes")]
#[test_case("GET", "/v2%2Fdroplets", None; "escaped slash between literals")]
fn requests_are_routed(method: &str, target: &str, expected: Option<&str>) {
    assert_eq!(routed(method, target), expected);
}

#[test]
fn other_hosts_have_their_own_operations() {
    let catalogue = Catalogue::embedded();
    let hosted: Vec<&Operation> =
        catalogue.operations().iter().filter(|operation| operation.host.is_some()).collect();
    assert_eq!(hosted.len(), 15);
    for operation in hosted {
        if let Ok(request) = CanonicalPath::parse(&sample_path(operation)) {
            assert_eq!(catalogue.route(None, &operation.method, request), None, "{}", operation.name);
        }
    }
    let droplets = path("/v2/droplets");
    assert_eq!(catalogue.route(Some("inference.do-ai.run"), &Method::GET, droplets), None);
    assert_eq!(catalogue.route(Some("api.digitalocean.com"), &Method::GET, droplets), None);
}

/// The slow way to say what the router should find.
fn by_scanning(method: &Method, request: CanonicalPath<'_>) -> Option<&'static Operation> {
    let segments: Vec<&str> = request.segments().collect();
    let fits = |operation: &&Operation| {
        let parts = parts(&operation.path);
        operation.host.is_none()
            && operation.method == method
            && parts.len() == segments.len()
            && parts.iter().zip(&segments).all(|(part, segment)| is_placeholder(part) || part == segment)
    };
    let fitting = Catalogue::embedded().operations().iter().filter(fits);
    fitting.min_by_key(|operation| parts(&operation.path).into_iter().map(is_placeholder).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn the_tree_finds_what_a_scan_finds(
        template in prop::sample::select(Catalogue::embedded().operations()),
        method in prop::sample::select(vec![Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE]),
        words in prop::collection::vec(prop::option::of(prop::sample::select(vec![
            "actions", "autoscale", "snapshots", "default", "dangerous", "history", "config", "options", "7",
        ])), 10),
    ) {
        let segments = parts(&template.path).into_iter().zip(words).map(|(part, word)| {
            word.unwrap_or(if is_placeholder(part) { "x" } else { part })
        });
        let text = format!("/{}", segments.collect::<Vec<_>>().join("/"));
        if let Ok(request) = CanonicalPath::parse(&text) {
            let found = Catalogue::embedded().route(None, &method, request).map(|route| route.operation);
            prop_assert_eq!(found, by_scanning(&method, request));
        }
    }
}
