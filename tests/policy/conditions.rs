//! Every condition and every filter of the catalogue, asked of policies that lack just its scope.

use super::{here, parse, sample_path};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tidegate::{
    classify::{
        Catalogue, Condition, Operation, Scope,
        condition::{Place, Test},
        pointer::Step,
    },
    decide::{
        Effect, Entry, Policy,
        trial::{Imagined, Trial, try_request},
    },
    reason::Reason,
};

/// A request of an operation.
struct Example {
    operation: &'static Operation,
    query: String,
    body: Value,
}

impl Example {
    /// Each choice is made by the first value.
    fn of(operation: &'static Operation) -> Self {
        Self::choosing(operation, |_, _| true)
    }

    /// Each choice is made by a value for which the condition does not hold.
    fn without(operation: &'static Operation, condition: &Condition) -> Self {
        Self::choosing(operation, |place, known| condition.place != *place || !condition.test.of_text(known))
    }

    fn choosing(operation: &'static Operation, fits: impl Fn(&Place, &str) -> bool) -> Self {
        let mut example = Self { operation, query: String::new(), body: json!({}) };
        for variants in &operation.variants {
            let known = variants.known.iter().find(|known| fits(&variants.place, known)).unwrap();
            let suffix = if variants.by_prefix { "1" } else { "" };
            example.put(&variants.place, format!("{known}{suffix}").into());
        }
        example
    }

    fn with(operation: &'static Operation, condition: &Condition) -> Self {
        let mut example = Self::without(operation, condition);
        let value = match &condition.test {
            Test::Given if example.is_list(&condition.place) => json!(["x"]),
            Test::Given => "x".into(),
            Test::Equals(text) => (**text).into(),
            Test::StartsWith(prefix) => format!("{prefix}1").into(),
        };
        example.put(&condition.place, value);
        example
    }

    /// Whether the operation looks into a list at the place.
    fn is_list(&self, place: &Place) -> bool {
        let Place::Body(pointer) = place else { return false };
        let inner = format!("{pointer}/*");
        let mut targets = self.operation.targets.iter();
        targets.any(|target| matches!(&target.place, Place::Body(own) if own.to_string().starts_with(&inner)))
    }

    fn put(&mut self, place: &Place, value: Value) {
        match place {
            Place::Query(name) => self.query = format!("?{name}={}", value.as_str().unwrap()),
            Place::Body(pointer) => put(&mut self.body, pointer.steps(), &value),
        }
    }

    fn under(&self, policy: &Policy) -> Trial<'static> {
        let url = format!("{}{}", sample_path(self.operation), self.query);
        let body = self.body.to_string();
        let imagined =
            Imagined { body: Some(body.as_bytes()), ..Imagined::new(self.operation.method.as_str(), &url) };
        let trial = try_request(policy, Catalogue::embedded(), imagined).unwrap();
        assert_eq!(
            trial.operation.map(|operation| &operation.name),
            Some(&self.operation.name),
            "{url} {body}"
        );
        trial
    }
}

/// Puts a value at a place of a document, once in each list on the way, and an id beside a type of resource.
fn put(document: &mut Value, steps: &[Step], value: &Value) {
    match steps.split_first() {
        None => document.clone_from(value),
        Some((Step::Field(name), rest)) => {
            if !document.is_object() {
                *document = json!({});
            }
            put(&mut document[&**name], rest, value);
            if **name == *"resource_type" {
                document["resource_id"] = "1".into();
            }
        }
        Some((Step::Each, rest)) => {
            if !document.is_array() {
                *document = json!([null]);
            }
            put(&mut document[0], rest, value);
        }
    }
}

fn allowing<'s>(scopes: impl IntoIterator<Item = &'s Scope>) -> Policy {
    let words: Vec<&str> = scopes.into_iter().map(Scope::as_str).collect();
    parse(&format!("allow = {words:?}"))
}

/// The scopes of an operation's own first set, and all that its conditions ask for.
fn all_scopes(operation: &Operation) -> BTreeSet<Scope> {
    let own = operation.alternatives().into_iter().next().unwrap_or_default();
    let more = operation.conditions.iter().flat_map(|condition| condition.requires.iter().cloned());
    own.into_iter().chain(more).collect()
}

#[test]
fn every_condition_asks_for_its_scopes_and_for_them_alone() {
    let (mut tried, mut operations) = (0, BTreeSet::new());
    for operation in here() {
        for condition in &operation.conditions {
            let what = format!("{} with {condition}", operation.name);
            let all = all_scopes(operation);
            let due: BTreeSet<Scope> = condition.requires.iter().cloned().collect();
            let fewer: BTreeSet<&Scope> = all.difference(&due).collect();
            let with = Example::with(operation, condition);
            let denied = with.under(&allowing(fewer.iter().copied())).decision;
            assert_eq!((denied.effect, denied.reason), (Effect::Deny, Reason::MissingScope), "{what}");
            assert_eq!(denied.missing.into_iter().collect::<BTreeSet<_>>(), due, "{what}");
            assert!(!denied.dry_run && denied.rule == Entry::Default, "{what}");
            let allowed = with.under(&allowing(&all)).decision;
            assert_eq!((allowed.effect, allowed.reason), (Effect::Allow, Reason::ScopesAllowed), "{what}");
            let words: Vec<&str> = due.iter().map(Scope::as_str).collect();
            let denying = Policy { deny: parse(&format!("deny = {words:?}")).deny, ..allowing(&all) };
            assert_eq!(with.under(&denying).decision.reason, Reason::DeniedScope, "{what}");

            let without = Example::without(operation, condition).under(&allowing(fewer.iter().copied()));
            assert_eq!(without.decision.effect, Effect::Allow, "{} without {condition}", operation.name);
            operations.insert(&operation.name);
            tried += 1;
        }
    }
    // Those of the facts, and apps as a project's resources.
    assert_eq!((tried, operations.len()), (88 + 2, 29));
}

#[test]
fn every_filter_withholds_exactly_what_the_policy_lacks_the_scope_for() {
    let (mut tried, mut operations) = (0, 0);
    for operation in here().filter(|operation| !operation.filters.is_empty()) {
        let example = Example::of(operation);
        let own = example.under(&Policy::default()).decision.required;
        let requires: BTreeSet<&Scope> = operation.filters.iter().map(|filter| &filter.requires).collect();
        // All, none, and each by itself left out or put in.
        let mut shown: Vec<BTreeSet<&Scope>> = vec![requires.clone(), BTreeSet::new()];
        for scope in &requires {
            shown.push(requires.iter().copied().filter(|other| other != scope).collect());
            shown.push(BTreeSet::from([*scope]));
        }
        for shown in shown {
            let policy = allowing(own.iter().chain(shown.iter().copied()));
            let named = if own.is_empty() { vec![operation.name.clone()] } else { Vec::new() };
            let policy = Policy { operations: named, ..policy };
            let decision = example.under(&policy).decision;
            assert_eq!(decision.effect, Effect::Allow, "{}: {decision:?}", operation.name);
            let is_hidden = |scope: &Scope| !own.contains(scope) && !shown.contains(scope);
            let filters = operation.filters.iter().enumerate();
            let hidden = filters.filter(|(_, filter)| is_hidden(&filter.requires)).map(|(index, _)| index);
            assert_eq!(decision.withheld, hidden.collect::<Vec<_>>(), "{} under {shown:?}", operation.name);
        }
        tried += operation.filters.len();
        operations += 1;
    }
    assert!(tried >= 376 && operations >= 90, "{tried} filters on {operations} operations");
}
