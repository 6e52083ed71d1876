//! What holds of every policy and request, tried on the catalogue's operations with policies and needs at random.

use super::*;
use crate::{
    classify::{
        Catalogue,
        needs::{Named, Naming, Where},
    },
    decide::{
        limit::{Limit, Quota, Rate},
        resources::Resources,
    },
};
use std::{borrow::Cow, collections::BTreeSet};

/// Ids and names, and patterns that fit some of them.
const VALUES: [&str; 5] = ["1", "2", "a", "A", "10.0.0.1"];
const PATTERNS: [&str; 5] = ["1", "2", "a", "?", "*"];

/// A request, with what its query and body would make of it.
#[derive(Clone, Debug)]
struct Asked {
    method: Method,
    operation: Option<&'static Operation>,
    extras: Vec<Extra<'static>>,
    named: Vec<Named<'static>>,
}

impl Asked {
    fn with<D>(&self, needs: Needs<'static>, engine: impl FnOnce(&Request<'_>) -> D) -> D {
        let headers = HeaderMap::new();
        engine(&Request { needs, ..Request::new(&self.method, &headers, self.operation) })
    }

    fn under(&self, policy: &Policy) -> Decision {
        let needs = Needs { extras: self.extras.clone(), resources: self.named.clone() };
        self.with(needs, |request| decide(policy, request))
    }

    /// As long as the body is not read.
    fn by_head(&self, policy: &Policy) -> Option<Decision> {
        let in_body = |place: &Place| matches!(place, Place::Body(_));
        let extras = self.extras.iter().filter(|extra| !in_body(&extra.condition.place)).copied();
        let named = self.named.iter().filter(|named| match named.place {
            Where::Path(_) => true,
            Where::At(place) => !in_body(place),
        });
        let needs = Needs { extras: extras.collect(), resources: named.cloned().collect() };
        self.with(needs, |request| decide_by_head(policy, request))
    }

    fn passes(&self, policy: &Policy) -> bool {
        let decision = self.under(policy);
        decision.effect == Effect::Allow || decision.dry_run
    }

    /// The words that mean something to it, and one that does not.
    fn words(&self) -> Vec<Grant> {
        let operation = self.operation.into_iter();
        let sets = operation.clone().flat_map(Operation::alternatives).flatten();
        let filters =
            operation.flat_map(|operation| operation.filters.iter().map(|filter| filter.requires.clone()));
        let extras = self.extras.iter().map(|extra| extra.scope.clone());
        let scopes: BTreeSet<Scope> = sets.chain(filters.take(4)).chain(extras).collect();
        let resources: BTreeSet<&str> = scopes.iter().map(Scope::resource).collect();
        let mut words: Vec<Grant> =
            resources.into_iter().map(|resource| Grant::Resource(resource.into())).collect();
        words.extend(scopes.into_iter().map(Grant::Scope));
        words.extend(grants("api:read api:write domain:read"));
        words
    }

    /// The kinds of resources that it names or could.
    fn kinds(&self) -> Vec<String> {
        let named = self.named.iter().map(|named| named.kind.to_string());
        named.chain(self.operation.into_iter().flat_map(kinds)).chain(["tag".to_owned()]).collect()
    }
}

fn kinds(operation: &'static Operation) -> impl Iterator<Item = String> {
    places(operation).map(|(kind, _)| kind.into_owned())
}

/// Where an operation's requests name resources, each with a kind.
fn places(operation: &'static Operation) -> impl Iterator<Item = (Cow<'static, str>, Where<'static>)> {
    let in_path = operation.parameters.iter();
    let in_path = in_path.map(|parameter| (Cow::from(&*parameter.resource), Where::Path(&parameter.name)));
    let elsewhere = operation.targets.iter().map(|target| {
        let kind = match &target.naming {
            Naming::Kind(kind) => Cow::from(&**kind),
            Naming::Urn | Naming::Beside(_) => Cow::from("droplet"),
        };
        (kind, Where::At(&target.place))
    });
    in_path.chain(elsewhere)
}

fn any_operation() -> impl Strategy<Value = Option<&'static Operation>> {
    let operations = || Catalogue::embedded().operations().iter();
    let telling: Vec<&Operation> = operations()
        .filter(|operation| !operation.conditions.is_empty() || operation.alternatives().len() > 1)
        .collect();
    let named: Vec<&Operation> = operations()
        .filter(|operation| !operation.targets.is_empty() || !operation.filters.is_empty())
        .collect();
    prop_oneof![
        4 => prop::sample::select(telling).prop_map(Some),
        2 => prop::sample::select(named).prop_map(Some),
        2 => prop::sample::select(operations().collect::<Vec<_>>()).prop_map(Some),
        1 => Just(None),
    ]
}

/// What it needs more: by conditions of its own, or of others.
fn any_extra(operation: Option<&'static Operation>) -> impl Strategy<Value = Extra<'static>> {
    let others = ["droplets_create", "droplets_destroy_byTag", "projects_assign_resources"];
    let others = others.map(|name| Catalogue::embedded().operation(name).unwrap());
    let conditions = operation.into_iter().chain(others).flat_map(|operation| &operation.conditions);
    let extras: Vec<Extra<'_>> = conditions
        .flat_map(|condition| condition.requires.iter().map(move |scope| Extra { scope, condition }))
        .collect();
    let own = operation.map_or(0, |operation| operation.conditions.len());
    // Its own come first, and matter most.
    prop_oneof![prop::sample::select(extras[..own.max(1)].to_vec()), prop::sample::select(extras.clone()),]
}

fn any_named(operation: Option<&'static Operation>) -> impl Strategy<Value = Named<'static>> {
    let droplets = Catalogue::embedded().operation("tags_assign_resources").unwrap();
    let places: Vec<_> = operation.into_iter().chain([droplets]).flat_map(places).collect();
    (prop::sample::select(places), prop::sample::select(&VALUES[..]))
        .prop_map(|((kind, place), value)| Named { kind, value: value.to_owned(), place })
}

fn any_asked() -> impl Strategy<Value = Asked> {
    any_operation().prop_flat_map(|operation| {
        let own = operation.map(|operation| operation.method.clone());
        let method = prop_oneof![
            9 => Just(own.unwrap_or(Method::PUT)),
            1 => prop::sample::select(vec![Method::GET, Method::HEAD, Method::DELETE]),
        ];
        let extras = prop::collection::vec(any_extra(operation), 0..3);
        let named = prop::collection::vec(any_named(operation), 0..4);
        (method, extras, named).prop_map(move |(method, extras, named)| Asked {
            method,
            operation,
            extras,
            named,
        })
    })
}

fn any_resources(asked: &Asked) -> impl Strategy<Value = Resources> + use<> {
    let patterns = prop::collection::vec(prop::sample::select(&PATTERNS[..]), 1..3);
    let entry = (prop::sample::select(asked.kinds()), patterns);
    prop::collection::vec(entry, 1..3).prop_map(|entries| {
        let mut resources = Resources::default();
        for (kind, patterns) in entries {
            resources.insert(&kind, patterns.into_iter().map(str::to_owned).collect(), Catalogue::embedded());
        }
        resources
    })
}

fn any_constraint(asked: &Asked) -> impl Strategy<Value = Constraint> + use<> {
    let own = asked.operation.map_or("unheard_of", |operation| &operation.name).to_owned();
    let operations = prop_oneof![
        3 => Just(None),
        2 => Just(Some(vec!["droplets_list".to_owned(), own])),
        1 => Just(Some(vec!["droplets_list".to_owned()])),
    ];
    let resources = prop::option::of(any_resources(asked));
    (operations, resources).prop_map(|(operations, resources)| Constraint {
        operations,
        resources,
        when: None,
    })
}

fn any_rule_for(asked: &Asked) -> impl Strategy<Value = Rule> + use<> {
    let effect = prop_oneof![Just(Effect::Allow), Just(Effect::Deny)];
    let scopes = prop::collection::vec(prop::sample::select(asked.words()), 0..4);
    (effect, scopes, any_constraint(asked), prop::option::of(any_mode())).prop_map(
        |(effect, scopes, constraint, mode)| Rule { effect, scopes, constraint, reason: None, mode },
    )
}

fn any_limit_for(asked: &Asked) -> impl Strategy<Value = Limit> + use<> {
    let scopes = prop::collection::vec(prop::sample::select(asked.words()), 0..2);
    let quota = Quota::Rate(Rate::parse("20/hour").unwrap());
    (scopes, any_constraint(asked))
        .prop_map(move |(scopes, constraint)| Limit::new(scopes, constraint, quota))
}

fn any_policy_for(asked: &Asked) -> impl Strategy<Value = Policy> + use<> {
    let words = asked.words();
    let allow = prop::collection::vec(prop::sample::select(words.clone()), 0..6);
    let deny = prop::collection::vec(prop::sample::select(words), 0..2);
    let rules = prop::collection::vec(any_rule_for(asked), 0..5);
    let limits = prop::collection::vec(any_limit_for(asked), 0..3);
    let name = asked.operation.map(|operation| operation.name.clone());
    let operations = prop::option::of(Just(name));
    // Whatever is needed, so that much is allowed, and what denies it counts.
    let whole = prop::bool::weighted(0.4);
    let all = asked.under(&Policy::default()).required.into_iter().map(Grant::Scope);
    let all: Vec<Grant> = all.collect();
    (allow, deny, rules, limits, operations, any_mode(), whole, any::<bool>()).prop_map(
        move |(mut allow, deny, rules, limits, operations, mode, whole, unknown_allowed)| {
            if whole {
                allow.extend(all.clone());
            }
            let operations = operations.flatten().into_iter().collect();
            let rules = rules.into();
            Policy { allow, deny, rules, limits, operations, mode, unknown_allowed, ..Policy::default() }
        },
    )
}

/// A request and a policy that has to do with it, with one entry, rule and limit more.
#[derive(Clone, Debug)]
struct Case {
    asked: Asked,
    policy: Policy,
    word: Grant,
    rule: Rule,
    limit: Limit,
}

fn any_case() -> impl Strategy<Value = Case> {
    any_asked().prop_flat_map(|asked| {
        let word = prop::sample::select(asked.words());
        let more = (word, any_rule_for(&asked), any_limit_for(&asked));
        (any_policy_for(&asked), more, Just(asked)).prop_map(|(policy, (word, rule, limit), asked)| Case {
            asked,
            policy,
            word,
            rule,
            limit,
        })
    })
}

impl Case {
    /// The policy with one thing more on a side, in front or behind.
    fn with_more(&self, effect: Effect) -> Vec<Policy> {
        let mut listed = [self.policy.clone(), self.policy.clone()];
        for (index, policy) in listed.iter_mut().enumerate() {
            let list = if effect == Effect::Allow { &mut policy.allow } else { &mut policy.deny };
            list.insert(if index == 0 { 0 } else { list.len() }, self.word.clone());
        }
        let mut ruled = [self.policy.clone(), self.policy.clone()];
        for (index, policy) in ruled.iter_mut().enumerate() {
            let place = if index == 0 { 0 } else { policy.rules.len() };
            policy.rules.insert(place, Rule { effect, ..self.rule.clone() });
        }
        listed.into_iter().chain(ruled).collect()
    }
}

fn withheld(decision: &Decision) -> BTreeSet<usize> {
    decision.withheld.iter().copied().collect()
}

/// At least so many cases, more if the environment says so.
fn cases(count: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(count), ..default }
}

proptest! {
    #![proptest_config(cases(512))]

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

    #[test]
    fn a_limit_changes_no_answer(case in any_case()) {
        let mut limited = case.policy.clone();
        limited.limits.insert(0, case.limit);
        let (before, after) = (case.asked.under(&case.policy), case.asked.under(&limited));
        prop_assert_eq!(Decision { limits: Vec::new(), ..before }, Decision { limits: Vec::new(), ..after });
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
        let numberless = |decision: Decision| Decision {
            rule: decision.rule.split('[').next().unwrap_or_default().to_owned(),
            limits: Vec::new(),
            instead: None,
            ..decision
        };
        // Which of several that allow it comes first is a matter of order.
        let strip = |decision: Decision| match decision.effect {
            Effect::Allow => Decision { rule: String::new(), ..numberless(decision) },
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
        // Of every kind that a rule asks for, there is one already.
        for kind in case.policy.rules.iter().filter_map(|rule| rule.constraint.resources.as_ref()).flat_map(Resources::kinds) {
            let place = more.place.clone();
            case.asked.named.push(Named { kind: kind.to_owned().into(), value: "1".to_owned(), place });
        }
        let mut greedy = case.asked.clone();
        greedy.named.push(more);
        prop_assert!(!greedy.passes(&case.policy) || case.asked.passes(&case.policy));
        for resources in case.policy.rules.iter().filter_map(|rule| rule.constraint.resources.as_ref()) {
            prop_assert!(!resources.cover(&greedy.named) || resources.cover(&case.asked.named));
            prop_assert!(resources.touch(&greedy.named) || !resources.touch(&case.asked.named));
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
            prop_assert!(decision.missing.is_empty() && !decision.dry_run && decision.rule != "default");
            let sets = case.asked.operation.map(Operation::alternatives).unwrap_or_default();
            let is_whole = |set: &Vec<Scope>| set.iter().all(|scope| decision.required.contains(scope));
            prop_assert!(sets.is_empty() || sets.iter().any(is_whole));
        }
    }
}
