use super::{super::filter, *};
use std::collections::BTreeSet;
use test_case::test_case;

fn names(fits: impl Fn(&Operation) -> bool) -> Vec<&'static str> {
    let operations = Catalogue::embedded().operations().iter();
    operations.filter(|operation| fits(operation)).map(|operation| operation.name.as_str()).collect()
}

#[test]
fn the_embedded_catalogue_is_whole() {
    let catalogue = Catalogue::embedded();
    assert_eq!(catalogue.operations().len(), 659);
    let paths: BTreeSet<&str> =
        catalogue.operations().iter().map(|operation| operation.path.as_str()).collect();
    assert_eq!(paths.len(), 445);
    for (method, count) in [
        (Method::GET, 340),
        (Method::POST, 142),
        (Method::DELETE, 97),
        (Method::PUT, 65),
        (Method::PATCH, 15),
    ] {
        assert_eq!(names(|operation| operation.method == method).len(), count, "{method}");
    }
    let parameters = catalogue.operations().iter().map(|operation| operation.parameters.len());
    assert_eq!(parameters.sum::<usize>(), 525);
    assert_eq!(catalogue.scopes().count(), 157);
    assert!(catalogue.scopes().is_sorted_by_key(|entry| &entry.scope));
    assert!(catalogue.scopes().all(|entry| !entry.description.is_empty()));
    assert_eq!(names(|operation| operation.scopes.is_empty()).len(), 18);
    assert_eq!(names(|operation| operation.host.is_some()).len(), 15);
    assert_eq!(names(|operation| !operation.conditions.is_empty()).len(), 29);
    assert_eq!(names(|operation| operation.destructive.is_some()).len(), 107);
}

#[test]
fn exceptions_are_the_known_ones() {
    assert_eq!(
        names(|operation| operation.read_post),
        ["apps_validate_appSpec", "apps_list_metrics_bandwidth_daily"]
    );
    assert_eq!(
        names(|operation| operation.scopes.len() > 1),
        [
            "domains_create_record",
            "domains_delete_record",
            "projects_assign_resources",
            "projects_assign_resources_default",
        ]
    );
    assert_eq!(
        names(|operation| !operation.hardened.is_empty()),
        ["partnerAttachments_patch", "partnerAttachments_delete"]
    );
}

#[test]
fn what_single_requests_tell_is_whole() {
    let operations = Catalogue::embedded().operations();
    let count = |of: fn(&Operation) -> usize| operations.iter().map(of).sum::<usize>();
    assert_eq!(count(|operation| operation.conditions.len()), 88 + 2);
    assert_eq!(count(|operation| operation.variants.len()), 13);
    let filters = |fits: fn(&filter::Kind) -> bool| {
        let filters = operations.iter().flat_map(|operation| operation.filters.iter());
        filters.filter(|filter| fits(&filter.kind)).count()
    };
    // The spec's 376, three of them also in the spelling that it presumably means, and the secrets that it leaves
    // ungated.
    assert_eq!(filters(|kind| *kind == filter::Kind::Field), 256 + 3);
    assert_eq!(filters(|kind| matches!(kind, filter::Kind::Items { .. })), 40);
    assert_eq!(filters(|kind| *kind == filter::Kind::Credential), 80 + 1001);
}

#[test]
fn an_operation_filters_no_part_twice() {
    for operation in Catalogue::embedded().operations() {
        let mut seen = BTreeSet::new();
        for filter in operation.filters.iter() {
            let part = format!("{} {:?}", filter.pointer, filter.kind);
            assert!(seen.insert(part), "{}: {}", operation.name, filter.pointer);
        }
    }
}

#[test]
fn a_secret_is_shown_by_no_alias() {
    let operations = Catalogue::embedded().operations().iter();
    let filters =
        operations.flat_map(|operation| operation.filters.iter().map(move |filter| (operation, filter)));
    for (operation, filter) in filters.filter(|(_, filter)| filter.kind == filter::Kind::Credential) {
        assert_ne!(filter.requires.resource(), "api", "{}", operation.name);
    }
}

#[test_case("databases_get_cluster", "/database/connection/uri", "database:view_credentials")]
#[test_case("databases_create_replica", "/replica/private_connection/password", "database:view_credentials")]
#[test_case("databases_get_connectionPool", "/pool/standby_connection/uri", "database:view_credentials")]
#[test_case("databases_list_users", "/users/*/access_key", "database:view_credentials")]
#[test_case("databases_create_logsink", "/sink/config/url", "database:view_credentials")]
#[test_case(
    "partnerAttachments_get_service_key",
    "/service_key/value",
    "partner_network_connect:view_credentials"
)]
#[test_case("functions_list_namespaces", "/namespaces/*/key", "function:admin")]
#[test_case("functionsAccessKey_create", "/access_key/secret", "function:admin")]
#[test_case("addons_list", "/resources/*/sso_url", "addon:read")]
#[test_case("dedicatedInferences_list_tokens", "/tokens/*/value", "dedicated_inference_tokens:read")]
#[test_case("genai_create_oauth2_dropbox_tokens", "/refresh_token", "genai:create")]
#[test_case("genai_get_agent", "/agent/child_agents/*/api_key_infos/*/secret_key", "genai:read"; "inside another agent")]
#[test_case("genai_list_agents", "/agents/*/mcp_servers/*/authorization", "genai:read")]
#[test_case("monitoring_get_sink", "/sink/destination/config/credentials/password", "monitoring:read")]
#[test_case(
    "apps_get",
    "/app/active_deployment/spec/services/*/log_destinations/*/datadog/api_key",
    "app:read"
)]
fn an_ungated_secret_takes_a_scope(name: &str, pointer: &str, expected: &str) {
    let operation = Catalogue::embedded().operation(name).unwrap();
    let filter = operation.filters.iter().find(|filter| filter.pointer.to_string() == pointer).unwrap();
    assert_eq!((filter.kind.clone(), filter.requires.as_str()), (filter::Kind::Credential, expected));
}

/// Operations, with where and why the catalogue differs from the reference table.
const DIFFERENCES: [(&str, &[&[&str]], &str); 5] = [
    ("domains_create_record", &[&["domain:create"], &["domain:update"]], "the spec lists either as enough"),
    ("domains_delete_record", &[&["domain:delete"], &["domain:update"]], "the spec lists either as enough"),
    (
        "snapshots_get",
        &[&["block_storage_snapshot:read", "snapshot:read"]],
        "the spec lists both: the stricter reading",
    ),
    (
        "snapshots_delete",
        &[&["image:delete", "snapshot:delete"]],
        "the spec lists both: the stricter reading",
    ),
    ("spacesKey_create", &[&["spaces_key:create_credentials"]], "the table's scope is in no security block"),
];

#[test]
fn the_reference_table_agrees_or_the_difference_is_known() {
    let rows = include_str!("reference-table.tsv").lines().filter(|line| !line.starts_with('#'));
    let mut differing = Vec::new();
    let mut count = 0;
    for row in rows {
        count += 1;
        let [name, method, path, scope] = row.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let operation = Catalogue::embedded().operation(name).unwrap();
        assert_eq!((operation.method.as_str(), operation.path.as_str()), (method, path), "{name}");
        let sets = operation.alternatives();
        let words: Vec<Vec<&str>> = sets.iter().map(|set| set.iter().map(Scope::as_str).collect()).collect();
        let known = DIFFERENCES.iter().find(|(known, ..)| *known == name);
        let agreed = [vec![scope]];
        assert_eq!(
            words,
            known.map_or(agreed.to_vec(), |(_, sets, _)| sets.iter().map(|set| set.to_vec()).collect())
        );
        differing.extend((words != agreed).then_some(name));
    }
    assert_eq!(count, 48);
    assert_eq!(differing.len(), DIFFERENCES.len(), "{differing:?}");
}

#[test]
fn every_answer_with_a_databases_password_says_so() {
    let names = names(|operation| {
        let shows = ["/replicas", "/users", "/pools", "/logsink", "/v2/databases"];
        let is_shown = shows.iter().any(|end| operation.path.ends_with(end))
            || operation.path == "/v2/databases/{database_cluster_uuid}";
        operation.method == Method::GET
            && operation.path.starts_with("/v2/databases")
            && is_shown
            && !operation.filters.iter().any(|filter| filter.requires.as_str() == "database:view_credentials")
    });
    assert_eq!(names, [""; 0]);
}

#[test]
fn no_write_passes_with_read_scopes_alone() {
    let weak = |scope: &Scope| scope.action() == "read" || scope.action() == "list";
    let passes = |operation: &Operation| operation.alternatives().iter().any(|set| set.iter().all(weak));
    assert_eq!(names(|operation| !operation.is_read() && passes(operation)), [""; 0]);
}

#[test]
fn aliases_are_needed_by_no_operation() {
    let alias = |scope: &Scope| scope.resource() == "api";
    assert_eq!(names(|operation| operation.alternatives().iter().flatten().any(alias)), [""; 0]);
}

#[test_case("droplets_list", &[&["droplet:read"]]; "conditional scopes are not common to all requests")]
#[test_case("oneClicks_list", &[]; "none")]
#[test_case("domains_delete_record", &[&["domain:delete"], &["domain:update"]]; "alternatives")]
#[test_case("volumes_list", &[&["block_storage:read"]]; "aliases dropped")]
#[test_case("snapshots_delete", &[&["image:delete", "snapshot:delete"]]; "an unclear pair is needed in full")]
#[test_case("functions_list_triggers", &[&["function:admin", "function:read"]]; "an unclear list is needed in full")]
#[test_case("partnerAttachments_delete", &[&["partner_network_connect:delete", "partner_network_connect:read"]]; "hardened")]
fn operations_need_what_they_should(name: &str, expected: &[&[&str]]) {
    let alternatives = Catalogue::embedded().operation(name).unwrap().alternatives();
    let words: Vec<Vec<&str>> =
        alternatives.iter().map(|set| set.iter().map(Scope::as_str).collect()).collect();
    assert_eq!(words, expected);
}

#[test]
fn a_wider_scope_also_assigns_resources() {
    let alternatives = Catalogue::embedded().operation("projects_assign_resources").unwrap().alternatives();
    let has = |set: &Vec<Scope>, word| set.iter().any(|scope| scope.as_str() == word);
    assert_eq!(alternatives.len(), 2);
    assert!(has(&alternatives[0], "project:assign_resource") && has(&alternatives[1], "project:update"));
    assert!(alternatives.iter().all(|set| set.len() == 1));
}

#[test]
fn things_are_found_by_name() {
    let catalogue = Catalogue::embedded();
    assert_eq!(catalogue.operation("droplets_get").unwrap().path, "/v2/droplets/{droplet_id}");
    assert!(catalogue.operation("droplets").is_none());
    assert_eq!(catalogue.scope("droplet:read").unwrap().description, "read Droplets");
    assert!(catalogue.scope("droplet:fly").is_none());
}

fn document(operations: &str) -> String {
    format!(
        "source = \"a\"\ncommit = \"b\"\noperations = [{operations}]\n\
         [resources]\nthing = \"integer\"\n[scopes]\n\"a:read\" = \"read\"\n"
    )
}

#[test]
fn a_small_catalogue_is_read() {
    let text = document(
        r#"{ name = "a", method = "GET", path = "/a/{id}", resources = ["thing"], scopes = ["a:read"] },
           { name = "b", method = "POST", path = "/a/{id}", resources = ["thing"], scopes = [], host = "h", read = true }"#,
    );
    let catalogue = Catalogue::parse(&text).unwrap();
    let parameter = Parameter { name: "id".into(), resource: "thing".into(), form: Form::Integer };
    assert_eq!(catalogue.operation("a").unwrap().parameters, [parameter]);
    assert!(catalogue.operation("b").unwrap().is_read());
}

#[test]
fn braces_stand_for_several_places() {
    let text = document(
        r#"{ name = "a", method = "GET", path = "/a", scopes = ["a:read"], targets = [
               { kind = "thing", at = ["?q", "/{b,c/d}/*/{e,f}"] },
             ], filters = [
               { credentials = ["/x/{y,z}"], needs = "a:read" },
               { items = "/x/*", where = "urn", begins = "do:a:", needs = "a:read" },
             ] }"#,
    );
    let catalogue = Catalogue::parse(&text).unwrap();
    let operation = catalogue.operation("a").unwrap();
    let places: Vec<String> = operation.targets.iter().map(|target| target.place.to_string()).collect();
    assert_eq!(places, ["query q", "body /b/*/e", "body /b/*/f", "body /c/d/*/e", "body /c/d/*/f"]);
    let pointers: Vec<String> = operation.filters.iter().map(|filter| filter.pointer.to_string()).collect();
    assert_eq!(pointers, ["/x/y", "/x/z", "/x/*"]);
}

#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], color = 1 }"#, "expected shape"; "unknown key")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a" }"#, "must have `scopes`"; "no scopes key")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], any_of = [["a:read"]] }"#, "must have `scopes`"; "both keys")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", any_of = [["a:read"]] }"#, "must have `scopes`"; "one alternative")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", any_of = [["a:read"], []] }"#, "must have `scopes`"; "empty alternative")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = ["a:write"] }"#, "`a:write`"; "unlisted scope")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], hardened = ["b:x"] }"#, "`b:x`"; "unlisted hardened scope")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], conditions = [{ at = "?b", needs = ["b:x"] }] }"#, "`b:x`"; "unlisted conditional scope")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], conditions = [{ at = "?b", needs = [] }] }"#, "needs nothing"; "condition without a scope")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], conditions = [{ at = "b", needs = ["a:read"] }] }"#, "no pointer"; "condition nowhere")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], conditions = [{ at = "?", needs = ["a:read"] }] }"#, "without a name"; "condition on no parameter")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], conditions = [{ at = "/b", is = "c", begins = "d", needs = ["a:read"] }] }"#, "two tests"; "two tests")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], conditions = [{ at = "/b", equals = "c", needs = ["a:read"] }] }"#, "expected shape"; "unknown test")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], variants = [{ at = "/b" }] }"#, "either `is` or `begins`"; "variants without values")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], variants = [{ at = "/b", is = [] }] }"#, "without a value"; "no variant")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], variants = [{ at = "/b", begins = [""] }] }"#, "without a value"; "empty prefix")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], targets = [{ kind = "b", at = ["/b"] }] }"#, "unknown resource `b`"; "target of an unknown kind")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], targets = [{ at = ["/b"] }] }"#, "either `kind` or `kind_by`"; "target without a kind")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], targets = [{ kind_by = "c", at = ["?b"] }] }"#, "no field beside"; "kind beside a parameter")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], targets = [{ kind = "thing", at = ["/{b,c"] }] }"#, "broken braces"; "open braces")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], targets = [{ kind = "thing", at = ["/b}"] }] }"#, "broken braces"; "unopened braces")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], targets = [{ kind = "thing", at = ["/{b,{c,d}}"] }] }"#, "broken braces"; "nested braces")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], filters = [{ needs = "a:read" }] }"#, "must have `fields`"; "filter of nothing")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], filters = [{ fields = ["/b"], credentials = ["/c"], needs = "a:read" }] }"#, "must have `fields`"; "filter of two kinds")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], filters = [{ items = "/b", where = "c", begins = "d", needs = "a:read" }] }"#, "must have `fields`"; "items of no array")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], filters = [{ fields = ["/b"], needs = "b:x" }] }"#, "`b:x`"; "filter by an unlisted scope")]
#[test_case(r#"{ name = "a", method = "get", path = "/a", scopes = [] }"#, "unknown method"; "method in lower case")]
#[test_case(r#"{ name = "a", method = "HEAD", path = "/a", scopes = [] }"#, "unknown method"; "method that is derived")]
#[test_case(r#"{ name = "a", method = "GET", path = "a", scopes = [] }"#, "begin with `/`"; "relative path")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a/", scopes = [] }"#, "empty part"; "trailing slash")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a{b}", scopes = [] }"#, "broken placeholder"; "half a placeholder")]
#[test_case(r#"{ name = "a", method = "GET", path = "/{b", scopes = [] }"#, "broken placeholder"; "open placeholder")]
#[test_case(r#"{ name = "a", method = "GET", path = "/{b}", scopes = [] }"#, "1 placeholders and 0 resources"; "no resource")]
#[test_case(r#"{ name = "a", method = "GET", path = "/{b}", resources = ["c"], scopes = [] }"#, "unknown resource"; "unknown resource")]
#[test_case(
    r#"{ name = "a", method = "GET", path = "/a", scopes = [] }, { name = "a", method = "PUT", path = "/a", scopes = [] }"#,
    "twice"; "name twice")]
#[test_case(
    r#"{ name = "a", method = "GET", path = "/{b}", resources = ["thing"], scopes = [] },
       { name = "c", method = "GET", path = "/{d}", resources = ["thing"], scopes = [] }"#,
    "earlier one"; "the same template by another placeholder")]
fn a_broken_catalogue_is_refused(operations: &str, expected: &str) {
    let error = Catalogue::parse(&document(operations)).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn an_unreadable_scope_is_refused() {
    let text = document("").replace("a:read", "a read");
    let error = Catalogue::parse(&text).unwrap_err();
    assert!(matches!(&error, Error::Scope { place, .. } if place == "scopes"), "{error}");
}
