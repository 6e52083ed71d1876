use super::*;
use crate::decide::{Effect, grant::Access, policy::Constraint};
use proptest::prelude::*;
use test_case::test_case;

const WORDS: [&str; 9] =
    ["a:read", "a:create", "b:read", "b:view_credentials", "ab:read", "a:*", "b:*", "api:read", "api:write"];

fn scope(text: &str) -> Scope {
    Scope::parse(text).unwrap()
}

fn rule(words: &[&str]) -> Rule {
    let grant = |word: &&str| match word.split_once(':') {
        Some(("api", "read")) => Grant::ApiRead,
        Some(("api", "write")) => Grant::ApiWrite,
        Some((resource, "*")) => Grant::Resource(resource.into()),
        _ => Grant::Scope(scope(word)),
    };
    Rule {
        effect: Effect::Deny,
        scopes: words.iter().map(grant).collect(),
        constraint: Constraint::default(),
        reason: None,
        mode: None,
    }
}

fn near(rules: &RuleList, words: &[&str]) -> Vec<usize> {
    let scopes: Vec<Scope> = words.iter().map(|word| scope(word)).collect();
    let mut near = rules.near();
    scopes.iter().for_each(|scope| near.add(scope));
    near.numbers().to_vec()
}

#[test_case(&["a:read"], &[0, 2, 3, 4]; "by its word, its resource, an alias and no word")]
#[test_case(&["b:read"], &[1, 3, 4]; "another")]
#[test_case(&["b:read", "a:read"], &[0, 1, 2, 3, 4]; "two scopes, each rule once and in order")]
#[test_case(&["c:read"], &[3, 4]; "a scope that no rule names")]
#[test_case(&[], &[3, 4]; "no scope at all")]
fn rules_are_found_by_what_they_speak_of(words: &[&str], expected: &[usize]) {
    let rules: RuleList = [
        rule(&["a:read", "a:create"]),
        rule(&["b:read"]),
        rule(&["b:create", "a:*"]),
        rule(&["api:read"]),
        rule(&[]),
    ]
    .into_iter()
    .collect();
    assert_eq!(near(&rules, words), expected);
}

#[test]
fn whoever_changes_the_rules_finds_them_changed() {
    let mut rules = RuleList::from(vec![rule(&["a:read"]), rule(&["b:read"])]);
    assert_eq!(near(&rules, &["a:read"]), [0]);
    rules.push(rule(&["a:read"]));
    assert_eq!(near(&rules, &["a:read"]), [0, 2]);
    rules.swap(0, 1);
    assert_eq!(near(&rules, &["a:read"]), [1, 2]);
    rules[0].scopes = vec![Grant::ApiWrite];
    assert_eq!(near(&rules, &["a:read"]), [0, 1, 2]);
    let mut copy = rules.clone();
    copy.clear();
    assert_eq!((near(&copy, &["a:read"]).len(), near(&rules, &["a:read"]).len()), (0, 3));
}

#[test]
fn lists_are_equal_if_their_rules_are() {
    let indexed = RuleList::from(vec![rule(&["a:read"])]);
    let mut changed = RuleList::default();
    changed.push(rule(&["a:read"]));
    assert_eq!(indexed, changed);
    assert_ne!(indexed, RuleList::default());
}

proptest! {
    #[test]
    fn no_rule_that_speaks_of_a_scope_is_overlooked(
        rules in prop::collection::vec(prop::collection::vec(prop::sample::select(&WORDS[..]), 0..3), 0..8),
        words in prop::collection::vec(prop::sample::select(&WORDS[..5]), 0..3),
    ) {
        let list: RuleList = rules.iter().map(|words| rule(words)).collect();
        let found = near(&list, &words);
        prop_assert!(found.is_sorted_by(|a, b| a < b));
        let speaks = |grant: &Grant| {
            [Access::Read, Access::Write].into_iter().any(|access| {
                let of_scopes = words.iter().map(|word| scope(word)).any(|scope| {
                    grant.gives(&scope, access) || grant.takes(&scope, access) || grant.names(&scope)
                });
                of_scopes || grant.gives_unscoped(access) || grant.takes_unscoped(access)
            })
        };
        for (number, rule) in list.iter().enumerate() {
            if rule.scopes.is_empty() || rule.scopes.iter().any(speaks) {
                prop_assert!(found.contains(&number), "rule {number} of {rules:?}");
            }
        }
    }
}
