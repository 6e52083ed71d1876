//! Requests and policies at random, which have to do with each other.

use super::super::*;
use crate::{
    classify::{
        Catalogue,
        needs::{Named, Naming, Where},
    },
    decide::{
        limit::{Limit, Quota, Rate},
        resources::Resources,
        when::When,
    },
};
use serde_json::{Value, json};
use std::{borrow::Cow, collections::BTreeSet};

/// Ids and names, and patterns that fit some of them.
const VALUES: [&str; 5] = ["1", "2", "a", "A", "10.0.0.1"];
const PATTERNS: [&str; 5] = ["1", "2", "a", "?", "*"];

/// Conditions that are true, false or without an answer, some by the body or the resources.
const CONDITIONS: [&str; 7] = [
    "true || process.uid == 0",
    "request.method == 'POST'",
    "token.type == 'dop'",
    "process.uid == 0",
    "request.body.name == 'x'",
    "has(request.body.tags)",
    "resource.droplet.exists(id, id == '1')",
];

/// A request, with what its query and body would make of it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) operation: Option<&'static Operation>,
    pub(super) extras: Vec<Extra<'static>>,
    pub(super) named: Vec<Named<'static, 'static>>,
    pub(super) body: Option<Value>,
}

impl Asked {
    fn with<D>(
        &self,
        needs: Needs<'static, 'static>,
        body: Option<&Value>,
        engine: impl FnOnce(&Request<'_>) -> D,
    ) -> D {
        let headers = HeaderMap::new();
        engine(&Request { needs, body, ..Request::new(&self.method, &headers, self.operation) })
    }

    pub(super) fn under(&self, policy: &Policy) -> Decision {
        let needs = Needs { extras: self.extras.clone(), resources: self.named.iter().cloned().collect() };
        self.with(needs, self.body.as_ref(), |request| decide(policy, request))
    }

    /// As long as the body is not read.
    pub(super) fn by_head(&self, policy: &Policy) -> Option<Decision> {
        let in_body = |place: &Place| matches!(place, Place::Body(_));
        let extras = self.extras.iter().filter(|extra| !in_body(&extra.condition.place)).copied();
        let named = self.named.iter().filter(|named| match named.place {
            Where::Path(_) => true,
            Where::At(place) => !in_body(place),
        });
        let needs = Needs { extras: extras.collect(), resources: named.cloned().collect() };
        self.with(needs, None, |request| decide_by_head(policy, request))
    }

    pub(super) fn passes(&self, policy: &Policy) -> bool {
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
pub(super) fn any_extra(operation: Option<&'static Operation>) -> impl Strategy<Value = Extra<'static>> {
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

pub(super) fn any_named(
    operation: Option<&'static Operation>,
) -> impl Strategy<Value = Named<'static, 'static>> {
    let elsewhere = ["droplet", "tag"].map(|kind| (Cow::from(kind), Where::Path("elsewhere")));
    let places: Vec<_> = operation.into_iter().flat_map(places).chain(elsewhere).collect();
    (prop::sample::select(places), prop::sample::select(&VALUES[..]))
        .prop_map(|((kind, place), value)| Named { kind, value: value.to_owned().into(), place })
}

pub(super) fn any_asked() -> impl Strategy<Value = Asked> {
    any_operation().prop_flat_map(|operation| {
        let own = operation.map(|operation| operation.method.clone());
        let method = prop_oneof![
            9 => Just(own.unwrap_or(Method::PUT)),
            1 => prop::sample::select(vec![Method::GET, Method::HEAD, Method::DELETE]),
        ];
        let extras = prop::collection::vec(any_extra(operation), 0..3);
        let named = prop::collection::vec(any_named(operation), 0..4);
        let bodies = [None, Some(json!({"name": "x"})), Some(json!({"name": "y", "tags": []}))];
        (method, extras, named, prop::sample::select(bodies.to_vec()))
            .prop_map(move |(method, extras, named, body)| Asked { method, operation, extras, named, body })
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
    // Not every operation has what they speak of.
    let catalogue = Catalogue::embedded();
    let known: Vec<&Operation> = asked.operation.into_iter().collect();
    let compiled = CONDITIONS.iter().filter_map(|text| When::compile(text, catalogue, &known).ok());
    let when = prop::option::weighted(0.3, prop::sample::select(compiled.collect::<Vec<When>>()));
    (operations, resources, when).prop_map(|(operations, resources, when)| Constraint {
        operations,
        resources,
        when,
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
            Policy {
                allow,
                deny,
                rules: rules.into(),
                limits,
                operations,
                mode,
                unknown_allowed,
                ..Policy::default()
            }
        },
    )
}

/// A request and a policy that has to do with it, with one entry, rule and limit more.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) asked: Asked,
    pub(super) policy: Policy,
    pub(super) word: Grant,
    pub(super) rule: Rule,
    pub(super) limit: Limit,
}

pub(super) fn any_case() -> impl Strategy<Value = Case> {
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
    pub(super) fn with_more(&self, effect: Effect) -> Vec<Policy> {
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
