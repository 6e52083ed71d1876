use super::*;
use crate::classify::Pointer;
use proptest::prelude::*;
use test_case::test_case;

fn resources(entries: &[(&str, &[&str])]) -> Resources {
    let mut resources = Resources::default();
    for (kind, patterns) in entries {
        let patterns = patterns.iter().map(ToString::to_string).collect();
        resources.insert(kind, patterns, Catalogue::embedded());
    }
    resources
}

fn named<'a>(kind: &'a str, value: &'a str) -> Named<'a, 'a> {
    Named { kind: kind.into(), value: value.into(), place: Where::Path("id") }
}

fn all<'a>(values: &[(&'a str, &'a str)]) -> Vec<Named<'a, 'a>> {
    values.iter().map(|(kind, value)| named(kind, value)).collect()
}

#[test_case(&[("droplet", &["1"])], &[("droplet", "1")], true; "the one")]
#[test_case(&[("droplet", &["1", "2"])], &[("droplet", "2")], true; "one of several")]
#[test_case(&[("droplet", &["1"])], &[("droplet", "1"), ("droplet", "2")], false; "each has to fit")]
#[test_case(&[("droplet", &["1"])], &[], false; "none is named")]
#[test_case(&[("droplet", &["1"])], &[("tag", "1")], false; "another kind is named")]
#[test_case(&[("droplet", &["1"])], &[("droplet", "1"), ("volume", "v")], true; "other kinds are not asked about")]
#[test_case(&[("droplet", &["1"]), ("volume", &["v"])], &[("droplet", "1")], false; "of every kind there is one")]
#[test_case(&[("droplet", &["1"]), ("volume", &["v"])], &[("droplet", "1"), ("volume", "v")], true; "of both kinds")]
#[test_case(&[("droplet", &["17"])], &[("droplet", "0017")], true; "leading zeros")]
#[test_case(&[("droplet", &["17"])], &[("droplet", "+17")], false; "a sign")]
#[test_case(&[("droplet", &["ci-*"])], &[("droplet", "ci-7")], true; "a glob of names")]
#[test_case(&[("domain", &["Example.com"])], &[("domain", "eXample.COM.")], true; "domains have no case and no last dot")]
#[test_case(&[("domain", &["*.example.com"])], &[("domain", "example.com")], false; "a glob needs its dot")]
#[test_case(&[("database_cluster", &["9CC10173-e9ea-4176-9dbc-a4cee4c4ff30"])],
    &[("database_cluster", "9cc10173-E9EA-4176-9dbc-a4cee4c4ff30")], true; "uuids have no case")]
#[test_case(&[("space", &["Logs"])], &[("space", "logs")], false; "buckets have case")]
#[test_case(&[("space", &["logs"])], &[("space", "")], false; "no bucket means all of them")]
#[test_case(&[("space", &["logs", "?"])], &[("space", "logs"), ("space", "*")], false; "all of them are more than one")]
#[test_case(&[("space", &["*"])], &[("space", "*")], true; "all of them where any is allowed")]
#[test_case(&[("reserved_ipv6", &["2604:a880::1"])], &[("reserved_ipv6", "2604:A880:0::1")], true; "addresses as they are meant")]
fn an_allow_rule_covers(entries: &[(&str, &[&str])], values: &[(&str, &str)], expected: bool) {
    assert_eq!(resources(entries).cover(&all(values)), expected);
}

#[test_case(&[("droplet", &["1"])], &[("droplet", "1"), ("droplet", "2")], true; "one of them fits")]
#[test_case(&[("droplet", &["1"])], &[], false; "none is named")]
#[test_case(&[("droplet", &["1"]), ("volume", &["v"])], &[("volume", "v")], true; "one kind suffices")]
#[test_case(&[("droplet", &["17"])], &[("droplet", "017")], true; "leading zeros")]
#[test_case(&[("droplet", &["17"])], &[("droplet", "17.0")], true; "what is no number may be any")]
#[test_case(&[("droplet", &["17"])], &[("droplet", "18")], false; "another number")]
#[test_case(&[("space", &["Logs"])], &[("space", "logs")], true; "whatever the case")]
#[test_case(&[("space", &["logs"])], &[("space", "*")], true; "all of them are also this one")]
#[test_case(&[("reserved_ip", &["192.0.2.1"])], &[("reserved_ip", "192.0.2.001")], true; "what is no address may be any")]
#[test_case(&[("reserved_ip", &["192.0.2.1"])], &[("reserved_ip", "192.0.2.2")], false; "another address")]
fn a_deny_rule_touches(entries: &[(&str, &[&str])], values: &[(&str, &str)], expected: bool) {
    assert_eq!(resources(entries).touch(&all(values), Access::Read), expected);
}

#[test_case(Access::Write, "droplet", true; "a write may be for any Droplet with the tag")]
#[test_case(Access::Read, "droplet", false; "a read changes none")]
#[test_case(Access::Write, "domain", false; "domains have no tags")]
fn a_tag_in_the_query_selects(access: Access, kind: &str, expected: bool) {
    let place = Place::Query("tag_name".into());
    let tagged = [Named { place: Where::At(&place), ..named("tag", "web") }];
    assert_eq!(resources(&[(kind, &["1"])]).touch(&tagged, access), expected);
}

#[test_case("db-7", Where::Path("id"), true; "a name in place of an id may be any")]
#[test_case("4DE7AC8B-495b-4884-9a69-1050c6793cd6", Where::Path("id"), true; "the id in another case")]
#[test_case("00000000-495b-4884-9a69-1050c6793cd6", Where::Path("id"), false; "another id")]
fn a_denied_uuid_touches(value: &str, place: Where<'_>, expected: bool) {
    let rule = resources(&[("volume", &["4de7ac8b-495b-4884-9a69-1050c6793cd6"])]);
    assert_eq!(rule.touch(&[Named { place, ..named("volume", value) }], Access::Write), expected);
}

#[test]
fn a_denied_id_leaves_new_things_alone() {
    let place = Place::Body(Pointer::parse("/name").unwrap());
    let made = [Named { place: Where::At(&place), ..named("droplet", "web") }];
    assert!(!resources(&[("droplet", &["1"])]).touch(&made, Access::Write));
}

#[test]
fn a_new_things_name_is_no_id() {
    let rule = resources(&[("droplet", &["17", "ci-*"])]);
    let place = Place::Body(Pointer::parse("/names/*").unwrap());
    let to_be = |name| [Named { place: Where::At(&place), ..named("droplet", name) }].to_vec();
    assert!(!rule.cover(&to_be("17")));
    assert!(rule.cover(&to_be("ci-17")));
}

#[test_case("", "", true; "nothing")]
#[test_case("*", "", true; "a star and nothing")]
#[test_case("?", "", false; "a mark and nothing")]
#[test_case("a*c", "abbc", true; "in the middle")]
#[test_case("a*c", "abbcd", false; "with a tail")]
#[test_case("*a*b*", "xxaxxbxx", true; "several stars")]
#[test_case("a?c", "aéc", true; "a mark is a character")]
#[test_case("*aab", "aaaab", true; "going back")]
#[test_case("[a]", "a", false; "brackets mean nothing")]
fn globs_fit_whole_values(pattern: &str, value: &str, expected: bool) {
    assert_eq!(fits(pattern, value), expected);
}

proptest! {
    #[test]
    fn globs_agree_with_a_naive_matcher(pattern in "[ab*?]{0,8}", value in "[ab]{0,10}") {
        fn naive(pattern: &str, value: &str) -> bool {
            match (pattern.chars().next(), value.chars().next()) {
                (None, None) => true,
                (Some('*'), _) if naive(&pattern[1..], value) => true,
                (Some('*'), Some(_)) => naive(pattern, &value[1..]),
                (Some(wanted), Some(found)) if wanted == '?' || wanted == found => naive(&pattern[1..], &value[1..]),
                _ => false,
            }
        }
        prop_assert_eq!(fits(&pattern, &value), naive(&pattern, &value));
    }

    #[test]
    fn what_an_allow_rule_covers_a_deny_rule_touches(
        kind in prop::sample::select(vec!["droplet", "domain", "space", "reserved_ip", "database_cluster"]),
        pattern in "[aA0-9.*?:-]{1,6}",
        value in "[aA0-9.:-]{1,6}",
    ) {
        let rule = resources(&[(kind, &[&pattern])]);
        let named = [named(kind, &value)];
        prop_assert!(!rule.cover(&named) || rule.touch(&named, Access::Read));
    }
}
