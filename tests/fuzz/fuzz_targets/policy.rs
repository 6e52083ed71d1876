//! Any text as a policy: what loads decides without a panic, and allows nothing that it does not speak of.

#![no_main]

use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use tidegate::{
    classify::{Catalogue, Operation},
    decide::{
        Effect, Policy, Request, decide, decide_by_head, depends_on_body, document, grant::Grant,
        policy::Mode,
    },
};

/// Operations of each kind: by placeholder, with a telling query, with a telling body, with parts to withhold,
/// and without a scope.
const NAMES: [&str; 5] = [
    "sshKeys_create",
    "droplets_destroy_byTag",
    "droplets_create",
    "databases_list_clusters",
    "oneClicks_list",
];

fuzz_target!(|text: &str| {
    let catalogue = Catalogue::embedded();
    let Ok(policy) = document::parse("p", text, Path::new("p.toml"), catalogue) else { return };
    for operation in NAMES.map(|name| catalogue.operation(name).expect("the catalogue has it")) {
        try_operation(&policy, operation);
    }
    for method in [Method::GET, Method::POST] {
        let headers = HeaderMap::new();
        let decision = decide(&policy, &Request::new(&method, &headers, None));
        let may = policy.unknown_allowed && policy.allow.contains(&Grant::ApiWrite);
        assert!(may || decision.effect == Effect::Deny);
        assert!(!decision.dry_run || policy_may_try(&policy));
    }
});

fn try_operation(policy: &Policy, operation: &Operation) {
    let headers = HeaderMap::new();
    let request = Request::new(&operation.method, &headers, Some(operation));
    let decision = decide(policy, &request);
    if decide_by_head(policy, &request).is_some() {
        assert!(decision.effect == Effect::Deny && !decision.dry_run);
    }
    let _ = depends_on_body(policy, Some(operation));
    assert!(!decision.dry_run || policy_may_try(policy));
    if decision.effect == Effect::Allow {
        let ruled = policy.rules.iter().filter(|rule| rule.effect == Effect::Allow);
        let mut grants = policy.allow.iter().chain(ruled.flat_map(|rule| &rule.scopes));
        let is_alias = |grant: &Grant| matches!(grant, Grant::ApiRead | Grant::ApiWrite);
        let is_named = policy.operations.contains(&operation.name);
        let speaks =
            grants.any(|grant| is_alias(grant) || decision.required.iter().any(|scope| grant.names(scope)));
        assert!(speaks || (is_named && decision.required.is_empty()), "{} is allowed", operation.name);
    }
}

/// Whether anything in the policy is in dry run.
fn policy_may_try(policy: &Policy) -> bool {
    let rules = policy.rules.iter().map(|rule| rule.mode);
    let limits = policy.limits.iter().map(|limit| limit.mode);
    policy.mode == Mode::DryRun || rules.chain(limits).any(|mode| mode == Some(Mode::DryRun))
}
