use super::*;
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

#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], color = 1 }"#, "expected shape"; "unknown key")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a" }"#, "must have `scopes`"; "no scopes key")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], any_of = [["a:read"]] }"#, "must have `scopes`"; "both keys")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", any_of = [["a:read"]] }"#, "must have `scopes`"; "one alternative")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", any_of = [["a:read"], []] }"#, "must have `scopes`"; "empty alternative")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = ["a:write"] }"#, "`a:write`"; "unlisted scope")]
#[test_case(r#"{ name = "a", method = "GET", path = "/a", scopes = [], hardened = ["b:x"] }"#, "`b:x`"; "unlisted hardened scope")]
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
