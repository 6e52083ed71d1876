use super::*;
use crate::decide::document;
use std::path::Path;

fn call(operation: &str, scopes: &str, resources: &[(&str, &str)]) -> Call {
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (kind, value) in resources {
        named.entry((*kind).to_owned()).or_default().insert((*value).to_owned());
    }
    Call {
        operation: operation.to_owned(),
        scopes: scopes.split_whitespace().map(str::to_owned).collect(),
        resources: named,
        refused: false,
    }
}

fn suggested(calls: &[Call]) -> String {
    let catalogue = Catalogue::embedded();
    let text = policy(calls, catalogue, "of a test");
    document::parse("p", &text, Path::new("p.toml"), catalogue)
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    text
}

/// The rules alone, without comments.
fn rules_of(calls: &[Call]) -> Vec<String> {
    let text = suggested(calls);
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let joined = lines.collect::<Vec<_>>().join("\n");
    joined.split("[[rule]]\neffect = \"allow\"\n").skip(1).map(|rule| rule.trim_end().to_owned()).collect()
}

#[test]
fn calls_of_the_same_need_are_one_rule() {
    let calls = [
        call("domains_list", "domain:read", &[]),
        call("domains_list", "domain:read", &[]),
        call("certificates_list", "certificate:read", &[]),
    ];
    assert_eq!(
        rules_of(&calls),
        [
            "scopes = [\"certificate:read\"]\noperations = [\"certificates_list\"]",
            "scopes = [\"domain:read\"]\noperations = [\"domains_list\"]",
        ]
    );
}

#[test]
fn few_resources_narrow_a_rule_and_many_do_not() {
    let some: Vec<Call> =
        ["1", "2"].map(|id| call("droplets_destroy", "droplet:delete", &[("droplet", id)])).to_vec();
    let expected = "scopes = [\"droplet:delete\"]\noperations = [\"droplets_destroy\"]\nresources = { droplet = [\"1\", \"2\"] }";
    assert_eq!(rules_of(&some), [expected]);
    let ids: Vec<String> = (0..=FEW).map(|id| id.to_string()).collect();
    let many: Vec<Call> =
        ids.iter().map(|id| call("droplets_destroy", "droplet:delete", &[("droplet", id)])).collect();
    assert_eq!(rules_of(&many), ["scopes = [\"droplet:delete\"]\noperations = [\"droplets_destroy\"]"]);
    assert!(suggested(&many).contains("of 11 different values of `droplet`"));
}

#[test]
fn a_kind_that_some_calls_do_not_name_narrows_nothing() {
    let calls =
        [call("droplets_list", "droplet:read", &[("tag", "ci")]), call("droplets_list", "droplet:read", &[])];
    assert_eq!(rules_of(&calls), ["scopes = [\"droplet:read\"]\noperations = [\"droplets_list\"]"]);
}

#[test]
fn operations_without_a_scope_are_listed_by_name() {
    assert!(suggested(&[call("oneClicks_list", "", &[])]).contains("operations = [\"oneClicks_list\"]\n"));
}

#[test]
fn what_was_refused_is_said() {
    let refused = Call { refused: true, ..call("domains_list", "domain:read", &[]) };
    let text = suggested(&[refused.clone(), call("domains_list", "domain:read", &[])]);
    assert!(text.contains("# domains_list: 2 calls, 1 refused when they were recorded\n"), "{text}");
    assert!(suggested(&[refused]).contains("# domains_list: 1 call, refused when they were recorded\n"));
}

#[test]
fn odd_characters_stay_in_their_string() {
    let text = suggested(&[call("domains_get", "domain:read", &[("domain", "a\"b\\c")])]);
    assert!(text.contains(r#"domain = ["a\"b\\c"]"#), "{text}");
}

#[test_case::test_case("droplet = [\"1\"] }\n[[rule]]\neffect = \"allow\"\nscopes = [\"api\\u003awrite\"]\n#"; "toml")]
#[test_case::test_case("gadget"; "a word")]
fn a_kind_that_the_catalogue_does_not_have_narrows_nothing(kind: &str) {
    let calls = [call("security_create_scan_rule", "security:create", &[(kind, "1")])];
    let expected = "scopes = [\"security:create\"]\noperations = [\"security_create_scan_rule\"]";
    assert_eq!(rules_of(&calls), [expected]);
}

#[test]
fn an_operation_that_the_catalogue_does_not_have_is_left_out() {
    let odd = "a\nallow = [\"api:write\"]\n#";
    assert_eq!(rules_of(&[call(odd, "droplet:read", &[]), call(odd, "", &[])]), Vec::<String>::new());
}

#[test]
fn where_the_calls_come_from_is_one_line() {
    let text = policy(&[], Catalogue::embedded(), "of a\nallow = [\"api:write\"]");
    assert!(text.starts_with("# The least policy for the 0 calls of a\\nallow = "), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn nothing_recorded_is_nothing_allowed() {
    assert_eq!(rules_of(&[]), Vec::<String>::new());
}
