mod properties;
mod unscoped;

use super::{
    grant::Grant,
    policy::{Constraint, Mode, Rule},
    *,
};
use crate::classify::{
    Filter, Needs, Pointer, Scope,
    condition::{Condition, Place, Test},
    filter,
    needs::Extra,
};
use http::{HeaderMap, Method};
use proptest::prelude::*;
use test_case::test_case;

#[test]
fn an_empty_policy_denies() {
    let decision = ask(&Policy::default(), &Method::GET, Some(&operation(Method::GET, &["droplet:read"])));
    assert_eq!(decision.effect, Effect::Deny);
    assert_eq!(decision.reason, Reason::MissingScope);
    assert_eq!(decision.rule, Entry::Default);
    assert_eq!(decision.missing, [scope("droplet:read")]);
    assert_eq!(ask(&Policy::default(), &Method::GET, None).reason, Reason::Unclassified);
    let unscoped = ask(&Policy::default(), &Method::GET, Some(&operation(Method::GET, &[])));
    assert_eq!(unscoped.reason, Reason::NoScopeDefined);
    assert_eq!(unscoped.effect, Effect::Deny);
}

/// The answer to a request of which only the method and operation matter.
fn ask(policy: &Policy, method: &Method, operation: Option<&Operation>) -> Decision {
    decide(policy, &Request::new(method, &HeaderMap::new(), operation))
}

/// `a:x b:y|c:z` is the set of a:x and b:y, or else c:z.
fn operation(method: Method, sets: &[&str]) -> Operation {
    let set = |words: &&str| words.split(' ').map(scope).collect();
    Operation {
        name: "op".to_owned(),
        method,
        scopes: sets.iter().map(set).collect(),
        ..Operation::default()
    }
}

fn scope(text: &str) -> Scope {
    Scope::parse(text).unwrap()
}

fn grant(text: &str) -> Grant {
    match text.split_once(':') {
        Some(("api", "read")) => Grant::ApiRead,
        Some(("api", "write")) => Grant::ApiWrite,
        Some((resource, "*")) => Grant::Resource(resource.into()),
        _ => Grant::Scope(scope(text)),
    }
}

fn grants(words: &str) -> Vec<Grant> {
    words.split_whitespace().map(grant).collect()
}

fn policy(allow: &str, deny: &str) -> Policy {
    Policy { allow: grants(allow), deny: grants(deny), ..Policy::default() }
}

fn rule(effect: Effect, scopes: &str, operations: Option<&str>) -> Rule {
    let operations = operations.map(|name| vec![name.to_owned()]);
    let constraint = Constraint { operations, ..Constraint::default() };
    Rule { effect, scopes: grants(scopes), constraint, reason: Some("because".to_owned()), mode: None }
}

fn answer(policy: &Policy, operation: &Operation) -> (String, String) {
    let decision = ask(policy, &operation.method, Some(operation));
    let missing: Vec<String> = decision.missing.iter().map(ToString::to_string).collect();
    (format!("{} {}", decision.reason, decision.rule), missing.join(" "))
}

#[test_case("a:x", "", &["a:x"], "scopes_allowed allow[0]", ""; "exact scope")]
#[test_case("b:y a:x", "", &["a:x b:y"], "scopes_allowed allow[1]", ""; "the entry of the first scope is named")]
#[test_case("a:x", "", &["a:x b:y"], "missing_scope default", "b:y"; "one of two")]
#[test_case("a:*", "", &["a:x a:y"], "scopes_allowed allow[0]", ""; "resource wildcard")]
#[test_case("a:*", "", &["ab:x"], "missing_scope default", "ab:x"; "a wildcard is no prefix")]
#[test_case("a:*", "a:y", &["a:x a:y"], "denied_scope deny[0]", "a:y"; "deny beats allow")]
#[test_case("a:x", "a:x", &["a:x"], "denied_scope deny[0]", "a:x"; "the same word on both sides")]
#[test_case("a:x", "b:y a:*", &["a:x"], "denied_scope deny[1]", "a:x"; "the entry that fits is named")]
#[test_case("", "a:x", &["a:x"], "denied_scope deny[0]", "a:x"; "denied and not allowed")]
#[test_case("c:z", "", &["a:x b:y", "c:z"], "scopes_allowed allow[0]", ""; "the second set suffices")]
#[test_case("a:x", "", &["a:x b:y", "c:z d:w"], "missing_scope default", "b:y"; "no mixing of sets")]
#[test_case("c:z", "", &["a:x b:y", "c:z d:w"], "missing_scope default", "d:w"; "the nearest set is named")]
#[test_case("a:x c:z", "a:x", &["a:x", "c:z"], "scopes_allowed allow[1]", ""; "a set without the denied scope may pass")]
#[test_case("a:x", "a:x", &["a:x", "c:z"], "denied_scope deny[0]", "a:x"; "the other set is not allowed")]
#[test_case("a:x c:z", "a:x c:z", &["a:x", "c:z"], "denied_scope deny[0]", "a:x"; "every set is denied")]
#[test_case("api:write", "", &["a:create"], "scopes_allowed allow[0]", ""; "write alias")]
#[test_case("api:write", "", &["a:view_credentials"], "missing_scope default", "a:view_credentials"; "write alias and credentials")]
#[test_case("api:write a:view_credentials", "", &["a:view_credentials"], "scopes_allowed allow[1]", ""; "credentials by name")]
#[test_case("api:read", "", &["a:read"], "missing_scope default", "a:read"; "read alias and a write with a read scope")]
#[test_case("api:write", "api:write", &["a:create"], "denied_scope deny[0]", "a:create"; "write alias on both sides")]
#[test_case("api:write", "", &[], "operation_allowed allow[0]", ""; "write alias and no scope")]
#[test_case("api:read", "", &[], "no_scope_defined default", ""; "read alias and a write without scope")]
#[test_case("a:*", "", &[], "no_scope_defined default", ""; "a wildcard and no scope")]
#[test_case("api:write", "api:write", &[], "denied_scope deny[0]", ""; "denied write without scope")]
fn a_write_is_decided_by_its_scopes(allow: &str, deny: &str, sets: &[&str], expected: &str, missing: &str) {
    let answer = answer(&policy(allow, deny), &operation(Method::POST, sets));
    assert_eq!(answer, (expected.to_owned(), missing.to_owned()));
}

#[test_case("api:read", "", &["a:read"], "scopes_allowed allow[0]"; "read alias")]
#[test_case("api:read", "", &["nfs:list"], "scopes_allowed allow[0]"; "nfs list")]
#[test_case("api:read", "", &["a:access_cluster"], "missing_scope default"; "kubeconfig")]
#[test_case("api:read", "", &["a:read a:update"], "missing_scope default"; "a read that wants a write scope")]
#[test_case("api:read", "a:read", &["a:read"], "denied_scope deny[0]"; "one resource denied")]
#[test_case("api:write", "api:read", &["a:read"], "denied_scope deny[0]"; "reads denied")]
#[test_case("api:write", "api:write", &["a:read"], "scopes_allowed allow[0]"; "denying writes leaves reads")]
#[test_case("a:*", "api:write", &["a:access_cluster"], "denied_scope deny[0]"; "denying writes denies kubeconfig")]
#[test_case("api:read", "", &[], "operation_allowed allow[0]"; "no scope")]
#[test_case("a:*", "api:read", &[], "denied_scope deny[0]"; "no scope denied")]
fn a_read_is_decided_by_its_scopes(allow: &str, deny: &str, sets: &[&str], expected: &str) {
    assert_eq!(answer(&policy(allow, deny), &operation(Method::GET, sets)).0, expected);
}

#[test]
fn head_is_a_read_only_of_what_get_reads() {
    let allow_reads = policy("api:read", "");
    let effect = |method: Method, operation: &Operation| ask(&allow_reads, &method, Some(operation)).effect;
    assert_eq!(effect(Method::HEAD, &operation(Method::GET, &["a:read"])), Effect::Allow);
    assert_eq!(effect(Method::HEAD, &operation(Method::DELETE, &["a:read"])), Effect::Deny);
    // A caller that pairs the wrong operation with a method gets no benefit from it.
    assert_eq!(effect(Method::DELETE, &operation(Method::GET, &["a:read"])), Effect::Deny);
}

#[test]
fn a_read_that_is_spelt_post_is_a_read() {
    let operation = Operation { read_post: true, ..operation(Method::POST, &["app:read"]) };
    assert_eq!(answer(&policy("api:read", ""), &operation).0, "scopes_allowed allow[0]");
    assert_eq!(answer(&policy("app:read", "api:write"), &operation).0, "scopes_allowed allow[0]");
}

#[test]
fn conditional_and_hardened_scopes_are_needed_too() {
    let hardened = Operation { hardened: vec![scope("a:delete")], ..operation(Method::DELETE, &["a:read"]) };
    let condition = condition("tag:create");
    let told = |policy: &Policy| {
        let headers = HeaderMap::new();
        let request = Request {
            needs: needing(&condition),
            ..Request::new(&Method::DELETE, &headers, Some(&hardened))
        };
        let decision = decide(policy, &request);
        let missing: Vec<String> = decision.missing.iter().map(ToString::to_string).collect();
        (format!("{} {}", decision.reason, decision.rule), missing.join(" "))
    };
    assert_eq!(told(&policy("a:read", "")).1, "a:delete tag:create");
    assert_eq!(told(&policy("a:read a:delete tag:create", "")).0, "scopes_allowed allow[1]");
    assert_eq!(told(&policy("a:* tag:*", "tag:create")).0, "denied_scope deny[0]");
    assert_eq!(told(&policy("api:read a:delete tag:create", "")).0, "scopes_allowed allow[1]");
}

fn condition(requires: &str) -> Condition {
    let place = Place::Body(Pointer::parse("/tags").unwrap());
    Condition { place, test: Test::Given, requires: vec![scope(requires)] }
}

fn needing(condition: &Condition) -> Needs<'_, '_> {
    let extras = condition.requires.iter().map(|scope| Extra { scope, condition }).collect();
    Needs { extras, ..Needs::default() }
}

#[test_case("api:read a:create", "scopes_allowed allow[1]"; "the read alias gives what a write reads beside")]
#[test_case("api:read", "missing_scope default"; "and does not give the write")]
#[test_case("a:create", "missing_scope default"; "the write does not give what it reads")]
fn a_read_scope_beside_a_write_scope(allow: &str, expected: &str) {
    let create = operation(Method::POST, &["a:create"]);
    let condition = condition("b:read");
    let headers = HeaderMap::new();
    let request =
        Request { needs: needing(&condition), ..Request::new(&Method::POST, &headers, Some(&create)) };
    let decision = decide(&policy(allow, ""), &request);
    assert_eq!(format!("{} {}", decision.reason, decision.rule), expected);
}

/// Else a client could add what it may do to be given what it may not.
#[test]
fn a_read_scope_that_lets_change_is_none_for_the_read_alias_whatever_is_needed_beside() {
    let change = operation(Method::POST, &["a:read"]);
    let condition = condition("b:create");
    let headers = HeaderMap::new();
    for needs in [Needs::default(), needing(&condition)] {
        let request = Request { needs, ..Request::new(&Method::POST, &headers, Some(&change)) };
        let decision = decide(&policy("api:read b:create", ""), &request);
        assert_eq!((decision.reason, decision.missing), (Reason::MissingScope, vec![scope("a:read")]));
    }
}

#[test_case("a:read", "", &[0, 1]; "nothing more is allowed")]
#[test_case("a:read b:read", "", &[1]; "the field's scope is allowed")]
#[test_case("api:read", "", &[1]; "the read alias shows fields and no credentials")]
#[test_case("a:read api:write", "", &[1]; "the write alias shows what is no secret")]
#[test_case("a:read b:*", "", &[]; "a resource by name shows its credentials too")]
#[test_case("a:read b:*", "b:view", &[1]; "unless they are denied")]
#[test_case("a:read b:read b:view", "api:read", &[]; "a denied read shows nothing, and is refused")]
fn what_the_policy_does_not_show_is_withheld(allow: &str, deny: &str, expected: &[usize]) {
    let filter = |requires: &str, kind| Filter {
        pointer: Pointer::parse("/x").unwrap(),
        requires: scope(requires),
        kind,
    };
    let filters = vec![filter("b:read", filter::Kind::Field), filter("b:view", filter::Kind::Credential)];
    let shown = Operation { filters: filters.into(), ..operation(Method::GET, &["a:read"]) };
    assert_eq!(ask(&policy(allow, deny), &Method::GET, Some(&shown)).withheld, expected);
}

#[test_case(false, "api:write", "", Method::POST, "unclassified default"; "not said")]
#[test_case(true, "api:read", "", Method::GET, "unclassified default"; "said without the write alias")]
#[test_case(true, "api:write", "", Method::POST, "unknown_allowed unknown"; "said with the write alias")]
#[test_case(true, "api:write", "api:write", Method::POST, "denied_scope deny[0]"; "writes denied")]
#[test_case(true, "api:write", "api:write", Method::GET, "unknown_allowed unknown"; "a read while writes are denied")]
#[test_case(true, "api:write", "api:read", Method::HEAD, "denied_scope deny[0]"; "reads denied")]
#[test_case(false, "api:write", "api:write", Method::POST, "unclassified default"; "unknown says more than denied")]
fn an_unclassified_request(unknown: bool, allow: &str, deny: &str, method: Method, expected: &str) {
    let policy = Policy { unknown_allowed: unknown, ..policy(allow, deny) };
    let decision = ask(&policy, &method, None);
    assert_eq!(format!("{} {}", decision.reason, decision.rule), expected);
}

#[test_case("a:*", rule(Effect::Deny, "a:x", None), "denied_by_rule rule[0]"; "by scope")]
#[test_case("a:*", rule(Effect::Deny, "b:x", None), "scopes_allowed allow[0]"; "by another scope")]
#[test_case("a:*", rule(Effect::Deny, "a:x", Some("op")), "denied_by_rule rule[0]"; "narrowed to it")]
#[test_case("a:*", rule(Effect::Deny, "a:x", Some("other")), "scopes_allowed allow[0]"; "narrowed to another")]
#[test_case("a:*", rule(Effect::Deny, "", Some("op")), "denied_by_rule rule[0]"; "by operation alone")]
#[test_case("a:*", rule(Effect::Deny, "api:write", None), "denied_by_rule rule[0]"; "by alias")]
#[test_case("", rule(Effect::Allow, "a:x", None), "scopes_allowed rule[0]"; "allowed")]
#[test_case("", rule(Effect::Allow, "a:x", Some("op")), "scopes_allowed rule[0]"; "allowed for it")]
#[test_case("", rule(Effect::Allow, "a:x", Some("other")), "missing_scope default"; "allowed for another")]
fn a_rule(allow: &str, rule: Rule, expected: &str) {
    let policy = Policy { rules: vec![rule].into(), ..policy(allow, "") };
    assert_eq!(answer(&policy, &operation(Method::POST, &["a:x"])).0, expected);
}

#[test]
fn a_deny_rule_gives_its_reason_and_one_narrowed_to_an_operation_denies_every_way() {
    let two_ways = operation(Method::POST, &["a:x", "c:z"]);
    let denying = |operations| Policy {
        rules: vec![rule(Effect::Deny, "a:x", operations)].into(),
        ..policy("a:x c:z", "")
    };
    assert_eq!(answer(&denying(None), &two_ways).0, "scopes_allowed allow[1]");
    let decision = ask(&denying(Some("op")), &Method::POST, Some(&two_ways));
    assert_eq!(decision.reason, Reason::DeniedByRule);
    assert_eq!(decision.note.as_deref(), Some("because"));
}

#[test]
fn an_allow_rule_never_beats_a_denied_scope() {
    let policy = Policy { rules: vec![rule(Effect::Allow, "a:x", Some("op"))].into(), ..policy("", "a:x") };
    assert_eq!(answer(&policy, &operation(Method::POST, &["a:x"])).0, "denied_scope deny[0]");
}

#[test_case(Mode::Enforce, None, "", true; "enforced by default")]
#[test_case(Mode::DryRun, None, "", false; "policy in dry run")]
#[test_case(Mode::Enforce, Some(Mode::DryRun), "", false; "rule in dry run")]
#[test_case(Mode::DryRun, Some(Mode::Enforce), "", true; "rule enforced in a dry run")]
#[test_case(Mode::Enforce, Some(Mode::DryRun), "a:x", true; "a dry-run rule hides no enforced denial")]
fn a_denial_is_carried_out(mode: Mode, rule_mode: Option<Mode>, deny: &str, expected: bool) {
    let rules = vec![Rule { mode: rule_mode, ..rule(Effect::Deny, "a:x", None) }];
    let policy = Policy { mode, rules: rules.into(), ..policy("a:x", deny) };
    let decision = ask(&policy, &Method::POST, Some(&operation(Method::POST, &["a:x"])));
    assert_eq!(decision.effect, Effect::Deny);
    assert_eq!(!decision.dry_run, expected);
}

#[test]
fn a_missing_scope_is_not_hidden_by_a_dry_run_rule() {
    let rules = vec![Rule { mode: Some(Mode::DryRun), ..rule(Effect::Deny, "a:x", None) }];
    let policy = Policy { rules: rules.into(), ..policy("a:x", "") };
    let decision = ask(&policy, &Method::POST, Some(&operation(Method::POST, &["a:x b:y"])));
    assert_eq!((decision.reason, decision.dry_run), (Reason::MissingScope, false));
}

// Few words, so that policies and operations meet often.
const WORDS: [&str; 9] =
    ["a:read", "a:create", "a:delete", "b:read", "b:view_credentials", "a:*", "b:*", "api:read", "api:write"];

fn any_grant() -> impl Strategy<Value = Grant> {
    prop::sample::select(&WORDS[..]).prop_map(grant)
}

fn any_mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Enforce), Just(Mode::DryRun)]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let operations =
        prop::option::of(prop_oneof![Just(vec!["op".to_owned()]), Just(vec!["other".to_owned()])]);
    let effect = prop_oneof![Just(Effect::Allow), Just(Effect::Deny)];
    let scopes = prop::collection::vec(any_grant(), 0..3);
    (effect, scopes, operations, prop::option::of(any_mode())).prop_map(
        |(effect, scopes, operations, mode)| {
            let constraint = Constraint { operations, ..Constraint::default() };
            Rule { effect, scopes, constraint, reason: None, mode }
        },
    )
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let grants = || prop::collection::vec(any_grant(), 0..4);
    let rules = prop::collection::vec(any_rule(), 0..4);
    (grants(), grants(), any::<bool>(), any::<bool>(), rules, any_mode()).prop_map(
        |(allow, deny, named, unknown_allowed, rules, mode)| Policy {
            allow,
            deny,
            operations: named.then(|| "op".to_owned()).into_iter().collect(),
            unknown_allowed,
            rules: rules.into(),
            mode,
            ..Policy::default()
        },
    )
}

fn any_request() -> impl Strategy<Value = (Method, Option<Operation>)> {
    let method = prop::sample::select(vec![Method::GET, Method::POST, Method::DELETE]);
    let set =
        prop::collection::vec(prop::sample::select(&WORDS[..5]), 1..3).prop_map(|words| words.join(" "));
    let sets = prop::collection::vec(set, 0..3);
    (method, prop::option::of(sets)).prop_map(|(method, sets)| {
        let sets =
            sets.map(|sets| operation(method.clone(), &sets.iter().map(String::as_str).collect::<Vec<_>>()));
        (method, sets)
    })
}

/// Whether the request reaches the upstream.
fn passes(policy: &Policy, (method, operation): &(Method, Option<Operation>)) -> bool {
    let decision = ask(policy, method, operation.as_ref());
    decision.effect == Effect::Allow || decision.dry_run
}

proptest! {
    #[test]
    fn a_further_denial_never_lets_more_pass(policy in any_policy(), request in any_request(), word in any_grant(), mut rule in any_rule()) {
        rule.effect = Effect::Deny;
        let before = ask(&policy, &request.0, request.1.as_ref());
        let mut denying = policy.clone();
        denying.deny.push(word);
        let mut ruling = policy.clone();
        ruling.rules.push(rule);
        for stricter in [denying, ruling] {
            prop_assert!(!passes(&stricter, &request) || passes(&policy, &request));
            let after = ask(&stricter, &request.0, request.1.as_ref());
            prop_assert!(after.effect == Effect::Deny || before.effect == Effect::Allow);
        }
    }

    #[test]
    fn taking_an_allowance_away_never_lets_more_pass(policy in any_policy(), request in any_request(), index in any::<prop::sample::Index>()) {
        let mut fewer = policy.clone();
        if !fewer.allow.is_empty() {
            fewer.allow.remove(index.index(policy.allow.len()));
        }
        prop_assert!(!passes(&fewer, &request) || passes(&policy, &request));
        let mut unruled = policy.clone();
        if let Some(place) = unruled.rules.iter().position(|rule| rule.effect == Effect::Allow) {
            unruled.rules.remove(place);
        }
        prop_assert!(!passes(&unruled, &request) || passes(&policy, &request));
        let unnamed = Policy { operations: Vec::new(), unknown_allowed: false, ..policy.clone() };
        prop_assert!(!passes(&unnamed, &request) || passes(&policy, &request));
    }

    #[test]
    fn an_answer_is_consistent(policy in any_policy(), request in any_request()) {
        let decision = ask(&policy, &request.0, request.1.as_ref());
        let required: Vec<&Scope> = decision.required.iter().collect();
        prop_assert!(decision.missing.iter().all(|scope| required.contains(&scope)));
        if decision.effect == Effect::Allow {
            prop_assert!(decision.missing.is_empty() && !decision.dry_run && decision.rule != Entry::Default);
        }
        if decision.reason == Reason::MissingScope {
            prop_assert!(!decision.missing.is_empty());
        }
    }
}
