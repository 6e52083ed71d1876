//! What holds of every policy and request, tried on the catalogue's operations with policies and needs at random.

mod cases;

use super::*;
use crate::{
    classify::{Catalogue, needs::Named},
    decide::{
        grant::Access,
        limit::{Limit, Quota, Rate},
        resources::Resources,
        when::When,
    },
};
use cases::{any_case, any_extra, any_named};
use std::collections::BTreeSet;

fn withheld(decision: &Decision) -> BTreeSet<usize> {
    decision.withheld.iter().copied().collect()
}

/// At least so many cases, more if the environment says so.
fn at_least(count: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(count), ..default }
}

proptest! {
    #![proptest_config(at_least(512))]

    #[test]
    fn a_further_allowance_denies_nothing_and_hides_nothing(case in any_case()) {
        let before = case.asked.under(&case.policy);
        let mut wider = case.with_more(Effect::Allow);
        wider.push(Policy { unknown_allowed: true, ..case.policy.clone() });
        let named = case.asked.operation.map(|operation| operation.name.clone());
        wider.push(Policy { operations: named.into_iter().collect(), ..case.policy.clone() });
        for wider in wider {
            let after = case.asked.under(&wider);
            prop_assert!(before.effect == Effect::Deny || after.effect == Effect::Allow);
            prop_assert!(!case.asked.passes(&case.policy) || case.asked.passes(&wider));
            if before.effect == Effect::Allow {
                prop_assert!(withheld(&after).is_subset(&withheld(&before)));
            }
        }
    }

    #[test]
    fn a_further_denial_allows_nothing_and_shows_nothing(case in any_case()) {
        let before = case.asked.under(&case.policy);
        for stricter in case.with_more(Effect::Deny) {
            let after = case.asked.under(&stricter);
            prop_assert!(after.effect == Effect::Deny || before.effect == Effect::Allow);
            prop_assert!(!case.asked.passes(&stricter) || case.asked.passes(&case.policy));
            if after.effect == Effect::Allow {
                prop_assert!(withheld(&after).is_superset(&withheld(&before)));
            }
        }
    }

    /// It is the session that counts. A condition without an answer denies, in a limit as in a rule.
    #[test]
    fn a_limit_allows_nothing_and_denies_only_what_it_has_no_answer_for(case in any_case()) {
        let before = case.asked.under(&case.policy);
        let mut limited = case.policy.clone();
        limited.limits.insert(0, case.limit);
        let after = case.asked.under(&limited);
        prop_assert!(before.effect == Effect::Allow || after.effect == Effect::Deny);
        prop_assert!(case.asked.passes(&case.policy) || !case.asked.passes(&limited));
        prop_assert!(after.effect == before.effect || after.reason == Reason::ConditionFailed);
        if after.effect == Effect::Allow {
            prop_assert_eq!(withheld(&before), withheld(&after));
        }
    }

    #[test]
    fn no_order_changes_an_answer(
        (case, shuffled) in any_case().prop_flat_map(|case| {
            let Policy { allow, deny, rules, limits, .. } = case.policy.clone();
            let lists = (
                Just(allow).prop_shuffle(), Just(deny).prop_shuffle(), Just(rules.to_vec()).prop_shuffle(), Just(limits).prop_shuffle(),
            );
            (Just(case), lists)
        })
    ) {
        let (allow, deny, rules, limits) = shuffled;
        let shuffled = Policy { allow, deny, rules: rules.into(), limits, ..case.policy.clone() };
        let counted = |policy: &Policy, decision: &Decision| {
            let limits = decision.limits.iter().map(|index| format!("{:?}", policy.limits[*index]));
            limits.collect::<BTreeSet<String>>()
        };
        let (before, after) = (case.asked.under(&case.policy), case.asked.under(&shuffled));
        prop_assert_eq!(counted(&case.policy, &before), counted(&shuffled, &after));
        // A rule's number and its own words are all that may differ.
        let numberless = |decision: Decision| Decision {
            rule: match decision.rule {
                Entry::Allow(_) => Entry::Allow(0),
                Entry::Deny(_) => Entry::Deny(0),
                Entry::Operation(_) => Entry::Operation(0),
                Entry::Rule(_) => Entry::Rule(0),
                Entry::Limit(_) => Entry::Limit(0),
                other @ (Entry::Unknown | Entry::Default) => other,
            },
            limits: Vec::new(),
            note: None,
            ..decision
        };
        // Which of several that allow it comes first is a matter of order.
        let strip = |decision: Decision| match decision.effect {
            Effect::Allow => Decision { rule: Entry::Default, ..numberless(decision) },
            Effect::Deny => numberless(decision),
        };
        prop_assert_eq!(strip(before), strip(after));
    }

    #[test]
    fn what_needs_more_passes_no_sooner(
        (case, extra) in any_case().prop_flat_map(|case| {
            let extra = any_extra(case.asked.operation);
            (Just(case), extra)
        })
    ) {
        let mut needy = case.asked.clone();
        needy.extras.push(extra);
        prop_assert!(!needy.passes(&case.policy) || case.asked.passes(&case.policy));
        let (less, more) = (case.asked.under(&case.policy), needy.under(&case.policy));
        prop_assert!(less.effect == Effect::Allow || more.effect == Effect::Deny);
    }

    #[test]
    fn what_names_more_of_the_same_kinds_passes_no_sooner(
        (mut case, more) in any_case().prop_flat_map(|case| {
            let more = any_named(case.asked.operation);
            (Just(case), more)
        })
    ) {
        // A condition may ask that something is named at all, and is then the sooner true the more there is.
        for rule in case.policy.rules.iter_mut() {
            rule.constraint.when.take_if(|when| when.text().contains("resource."));
        }
        // Of every kind that a rule asks for, there is one already.
        for kind in case.policy.rules.iter().filter_map(|rule| rule.constraint.resources.as_ref()).flat_map(Resources::kinds) {
            let place = more.place.clone();
            case.asked.named.push(Named { kind: kind.to_owned().into(), value: "1".into(), place });
        }
        let mut greedy = case.asked.clone();
        greedy.named.push(more);
        prop_assert!(!greedy.passes(&case.policy) || case.asked.passes(&case.policy));
        for resources in case.policy.rules.iter().filter_map(|rule| rule.constraint.resources.as_ref()) {
            prop_assert!(!resources.cover(&greedy.named) || resources.cover(&case.asked.named));
            prop_assert!(resources.touch(&greedy.named, Access::Write) || !resources.touch(&case.asked.named, Access::Write));
        }
    }

    #[test]
    fn what_the_head_decides_no_body_changes(case in any_case()) {
        if case.asked.operation.is_some() && case.asked.by_head(&case.policy).is_some() {
            let whole = case.asked.under(&case.policy);
            prop_assert!(whole.effect == Effect::Deny && !whole.dry_run, "{whole:?}");
        }
    }

    #[test]
    fn a_dry_run_lets_pass_all_that_an_enforced_policy_does(case in any_case()) {
        let [enforced, tried] = [Mode::Enforce, Mode::DryRun].map(|mode| Policy { mode, ..case.policy.clone() });
        prop_assert!(!case.asked.passes(&enforced) || case.asked.passes(&tried));
        prop_assert_eq!(case.asked.under(&enforced).effect, case.asked.under(&tried).effect);
    }

    #[test]
    fn a_rule_for_fewer_resources_concerns_no_more(case in any_case()) {
        for index in 0..case.policy.rules.len() {
            let mut wider = case.policy.clone();
            wider.rules[index].constraint.resources = None;
            let (narrow, wide) = (case.asked.passes(&case.policy), case.asked.passes(&wider));
            match case.policy.rules[index].effect {
                Effect::Allow => prop_assert!(wide || !narrow),
                Effect::Deny => prop_assert!(narrow || !wide),
            }
        }
    }

    #[test]
    fn an_allowed_request_has_every_scope_that_it_needs(case in any_case()) {
        let decision = case.asked.under(&case.policy);
        let extras = case.asked.extras.iter().all(|extra| decision.required.contains(extra.scope));
        prop_assert!(extras, "{:?}", decision.required);
        if decision.effect == Effect::Allow {
            prop_assert!(decision.missing.is_empty() && !decision.dry_run && decision.rule != Entry::Default);
            let sets = case.asked.operation.map(Operation::alternatives).unwrap_or_default();
            let is_whole = |set: &Vec<Scope>| set.iter().all(|scope| decision.required.contains(scope));
            prop_assert!(sets.is_empty() || sets.iter().any(is_whole));
        }
    }
}

fn unanswered() -> Constraint {
    let operation = Catalogue::embedded().operation("domains_create").unwrap();
    let when = When::compile("process.uid == 0", Catalogue::embedded(), &[operation]).unwrap();
    Constraint { when: Some(when), ..Constraint::default() }
}

fn told(policy: &Policy) -> (Reason, String, Vec<usize>, bool) {
    let decision = answer_to_creation(policy);
    (decision.reason, decision.rule.to_string(), decision.limits, decision.dry_run)
}

fn answer_to_creation(policy: &Policy) -> Decision {
    ask(policy, &Method::POST, Catalogue::embedded().operation("domains_create"))
}

#[test]
fn a_limit_without_an_answer_has_its_own_mode_and_hides_no_other_limit() {
    let quota = Quota::Rate(Rate::parse("1/day").unwrap());
    let limit = |constraint, mode| Limit::new(Vec::new(), constraint, quota).with(mode, None);
    let limited = |limits| Policy { limits, ..policy("domain:create", "") };
    let counting = limit(Constraint::default(), None);
    let tried = limited(vec![limit(unanswered(), Some(Mode::DryRun)), counting.clone()]);
    assert_eq!(told(&tried), (Reason::ConditionFailed, "limit[0]".into(), vec![1], true));
    let enforced =
        limited(vec![limit(unanswered(), Some(Mode::DryRun)), counting, limit(unanswered(), None)]);
    assert_eq!(told(&enforced), (Reason::ConditionFailed, "limit[2]".into(), vec![], false));
}

#[test]
fn of_several_rules_the_surest_is_named_whatever_their_order() {
    let deny = |constraint| Rule { constraint, ..rule(Effect::Deny, "domain:create", None) };
    let mut policy = Policy {
        rules: vec![deny(unanswered()), deny(Constraint::default())].into(),
        ..policy("domain:create", "")
    };
    assert_eq!(answer_to_creation(&policy).reason, Reason::DeniedByRule);
    policy.rules.reverse();
    assert_eq!(answer_to_creation(&policy).reason, Reason::DeniedByRule);
}
