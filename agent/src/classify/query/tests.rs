use super::{super::Catalogue, *};
use crate::reason::Reason;
use proptest::prelude::*;
use test_case::test_case;

fn outcome(name: &str, query: &str) -> Result<(), Error> {
    check(query, Some(Catalogue::embedded().operation(name).unwrap()))
}

#[test_case("", &[]; "nothing")]
#[test_case("a=1&b", &[("a", "1"), ("b", "")]; "with and without a value")]
#[test_case("a=b=c", &[("a", "b=c")]; "another equals sign")]
#[test_case("&&a=1&", &[("a", "1")]; "empty pairs")]
#[test_case("a+b=c%20d%2B+", &[("a b", "c d+ ")]; "blanks")]
#[test_case("%61=%E2%82%AC", &[("a", "€")]; "escapes")]
#[test_case("a=%FF", &[("a", "%FF")]; "no utf-8 stays as it is")]
fn a_query_is_taken_apart(query: &str, expected: &[(&str, &str)]) {
    let found: Vec<(Cow<'_, str>, Cow<'_, str>)> =
        pairs(query).map(|pair| (pair.name(), pair.value())).collect();
    let found: Vec<(&str, &str)> = found.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(found, expected);
}

#[test_case("droplets_list", "page=1&page=2"; "twice")]
#[test_case("droplets_list", "page=1&p%61ge=1"; "twice, once escaped")]
#[test_case("droplets_list", "page&page"; "twice without values")]
#[test_case("droplets_destroy_byTag", "tag_name=a&tag_name=b"; "a deciding one twice")]
#[test_case("apps_list_deployments", "deployment_types[]=A&deployment_types[]=B"; "a list in another spelling")]
#[test_case("apps_list_deployments", "page=1&page=2"; "another parameter beside a list")]
#[test_case("droplets_destroy_byTag", "TAG_NAME=a"; "case")]
#[test_case("droplets_destroy_byTag", "tagName=a"; "camel case")]
#[test_case("droplets_destroy_byTag", "tag-name=a"; "hyphen")]
#[test_case("droplets_destroy_byTag", "tag.name=a"; "dot")]
#[test_case("droplets_destroy_byTag", "tag_name[]=a"; "brackets")]
#[test_case("droplets_destroy_byTag", "tag_name%5B0%5D=a"; "escaped brackets")]
#[test_case("droplets_destroy_byTag", "[tag_name]=a"; "in brackets")]
#[test_case("droplets_destroy_byTag", "+tag_name=a"; "blank")]
#[test_case("droplets_destroy_byTag", "tag_name%20=a"; "escaped blank")]
#[test_case("droplets_destroy_byTag", "tag_name%00=a"; "nul")]
#[test_case("droplets_destroy_byTag", "tag_name%00x=a"; "cut at nul")]
#[test_case("droplets_destroy_byTag", "%74ag_name=a"; "an escaped letter")]
#[test_case("droplets_destroy_byTag", "%2574ag_name=a"; "escaped twice")]
#[test_case("droplets_destroy_byTag", "tag_name[%FF]=a"; "no utf-8 in brackets")]
#[test_case("droplets_destroy_byTag", "tag_%C5%BFname=a&x=1&tag_name=a;b"; "a semicolon in its value")]
#[test_case("droplets_destroy_byTag", "a=b;tag_name=c"; "behind a semicolon")]
#[test_case("droplets_destroy_byTag", "a=b;TAG_NAME=c"; "in capitals behind a semicolon")]
#[test_case("droplets_destroy_byTag", "tag_name=a%83b"; "a value that is no utf-8")]
#[test_case("droplets_destroy_byTag", "tag_name=a%00b"; "nul in a value")]
#[test_case("droplets_list", "x=%C0%AF"; "an overlong slash in another value")]
#[test_case("droplets_list", "%FF=1"; "another name that is no utf-8")]
#[test_case("spacesKey_list", "%E2%84%AAey=1&Bucket=a"; "a resource")]
#[test_case("dropletActions_post", "type=snapshot"; "what the body decides")]
#[test_case("dropletActions_post", "Type=snapshot"; "another spelling of it")]
#[test_case("droplets_create", "tags[]=a"; "a list that the body decides")]
#[test_case("firewalls_create", "inbound_rules[0][sources][tags][]=a"; "a tree that the body decides")]
#[test_case("projects_assign_resources", "resources[]=do:droplet:1"; "the body's resources")]
fn a_query_that_only_some_servers_read_is_refused(name: &str, query: &str) {
    let error = outcome(name, query).unwrap_err();
    assert!(matches!(error, Error::QueryAmbiguous(_)), "{error}");
    assert_eq!(error.reason(), Reason::QueryAmbiguous);
}

#[test_case("apps_list_deployments", "deployment_types=A&deployment_types=B"; "a list")]
#[test_case("apps_list_job_invocations", "job_names=A&job_names=B"; "a list of resources")]
#[test_case("droplets_destroy_byTag", "tag_name=a%3Bb&x=c;d"; "an escaped semicolon, and one elsewhere")]
#[test_case("droplets_list", "tag_name=a&page=1&per_page=200"; "ordinary")]
#[test_case("droplets_list", "tag=a&tags=b&names=c"; "other names")]
#[test_case("volumes_delete_byName", "name=a&region=nyc3"; "two that decide")]
fn a_query_with_one_reading_passes(name: &str, query: &str) {
    assert_eq!(outcome(name, query), Ok(()));
}

#[test]
fn an_unknown_request_may_have_no_parameter_twice_either() {
    assert!(matches!(check("a=1&a=2", None), Err(Error::QueryAmbiguous(_))));
    assert_eq!(check("a=1&A=2", None), Ok(()));
}

#[test]
fn the_lists_are_the_six_of_the_spec() {
    let operations = Catalogue::embedded().operations().iter();
    let mut lists: Vec<&str> =
        operations.flat_map(|operation| &operation.lists).map(String::as_str).collect();
    lists.sort_unstable();
    assert_eq!(
        lists,
        ["candidate_types", "deployment_types", "event_types", "job_names", "statuses", "usecases"]
    );
}

proptest! {
    #[test]
    fn a_query_that_passes_at_once_passes_a_close_look(
        operation in prop::option::of(prop::sample::select(Catalogue::embedded().operations())),
        pairs in prop::collection::vec((word(), "=?", "[a-z0-9.;%+&=_-]{0,3}"), 0..5),
    ) {
        let pairs: Vec<String> = pairs.into_iter().map(|(name, sign, value)| format!("{name}{sign}{value}")).collect();
        let query = pairs.join("&");
        if is_ordinary(&query, operation.as_ref()) {
            prop_assert_eq!(check_closely(&query, operation.as_ref()), Ok(()));
        }
    }
}

/// Names of parameters and fields that count, in one spelling or another, and others.
fn word() -> impl Strategy<Value = String> {
    let operations = Catalogue::embedded().operations().iter();
    let mut names: Vec<String> = operations
        .flat_map(|operation| operation.query_names().chain(operation.body_names()))
        .map(str::to_owned)
        .collect();
    names.extend(["_method", "page", "per_page", "method", ""].map(str::to_owned));
    names.sort();
    names.dedup();
    (prop::sample::select(names), 0..5_u8).prop_map(|(name, how)| match how {
        0 => name.replace('_', ""),
        1 => format!("_{name}"),
        2 => name.to_uppercase(),
        _ => name,
    })
}
