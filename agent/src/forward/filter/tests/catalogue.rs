//! Every filter of the catalogue: what a policy does not show is taken out, what it shows stays.

use super::*;
use crate::{
    classify::{Catalogue, Operation, pointer::Step},
    decide::{self, Decision, Effect, document},
};
use http::HeaderMap;
use std::{collections::BTreeSet, path::Path};

/// Operations that have each kind of filter, beside those of the catalogue.
fn examples() -> Vec<Operation> {
    let scope = |word: &str| Scope::parse(word).unwrap();
    let database = Operation {
        name: "an_example".to_owned(),
        path: "/v2/example".to_owned(),
        scopes: vec![vec![scope("database:read")]],
        filters: vec![
            filter("/databases/*/connection/password", Kind::Credential),
            Filter { requires: scope("tag:read"), ..field("/databases/*/tags") },
            Filter { requires: scope("database:read"), ..field("/databases/*/name") },
            Filter { requires: scope("droplet:read"), ..items("/resources/*", "do:droplet:") },
            Filter { requires: scope("domain:read"), ..items("/resources", "do:domain:") },
        ]
        .into(),
        ..Operation::default()
    };
    vec![database]
}

fn decided(operation: &Operation, allow: &BTreeSet<&str>) -> Decision {
    // The catalogue knows no example by its name, nor need it: examples have scopes.
    let named = if operation.scopes.is_empty() { vec![operation.name.as_str()] } else { Vec::new() };
    let allow: Vec<&str> = allow.iter().copied().collect();
    let text = format!("allow = {allow:?}\noperations = {named:?}\n");
    let policy = document::parse("test", &text, Path::new("test.toml"), Catalogue::embedded()).unwrap();
    let headers = HeaderMap::new();
    decide::decide(&policy, &decide::Request::new(&operation.method, &headers, Some(operation)))
}

/// A document that has the part, and something beside it.
fn document_of(filter: &Filter) -> Value {
    let mut steps: Vec<Step> = filter.pointer.steps().to_vec();
    let mut value = json!("secret");
    if let Kind::Items { field, prefix } = &filter.kind {
        value = json!({ &**field: format!("{prefix}1") });
        if steps.last() != Some(&Step::Each) {
            steps.push(Step::Each);
        }
    }
    for step in steps.iter().rev() {
        value = match step {
            Step::Field(name) => json!({ &**name: value, "beside": 1 }),
            Step::Each => json!([value]),
        };
    }
    value
}

/// What is left of the document under a decision.
fn left(operation: &Operation, decision: &Decision, document: &Value) -> Value {
    let filters: Vec<&Filter> =
        decision.withheld.iter().map(|index| operation.filters.get(*index).unwrap()).collect();
    let body = serde_json::to_vec_pretty(document).unwrap();
    serde_json::from_slice(&apply(&filters, &body).unwrap().bytes).unwrap()
}

/// Whether a document has the part.
fn has(filter: &Filter, document: &Value) -> bool {
    let is_item = matches!(filter.kind, Kind::Items { .. });
    filter.pointer.select(document).iter().any(|value| !is_item || **value != json!([]))
}

fn check(operation: &Operation, index: usize) {
    let filter = operation.filters.get(index).unwrap();
    let place = format!("{}: {}", operation.name, filter.pointer);
    let own = operation.alternatives().into_iter().next().unwrap_or_default();
    let requires = filter.requires.as_str();
    let others = operation.filters.iter().map(|filter| filter.requires.as_str());
    let all: BTreeSet<&str> = own.iter().map(Scope::as_str).chain(others).collect();
    let document = document_of(filter);
    assert!(has(filter, &document), "{place}");

    let with = decided(operation, &all);
    assert_eq!((with.effect, &with.withheld[..]), (Effect::Allow, &[][..]), "{place}");
    assert_eq!(left(operation, &with, &document), document, "{place}");

    if !own.contains(&filter.requires) {
        let mut fewer = all.clone();
        fewer.remove(requires);
        let without = decided(operation, &fewer);
        assert_eq!(without.effect, Effect::Allow, "{place}");
        assert!(without.withheld.contains(&index), "{place}");
        let left = left(operation, &without, &document);
        assert!(!has(filter, &left), "{place}: {left}");
        assert_eq!(left.get("beside"), document.get("beside"), "{place}");
    }

    for aliases in [&["api:read"][..], &["api:read", "api:write"]] {
        let by_alias = decided(operation, &aliases.iter().copied().collect());
        if by_alias.effect == Effect::Allow && filter.kind == Kind::Credential {
            assert!(by_alias.withheld.contains(&index), "{place}: an alias gives no credentials");
            assert!(!has(filter, &left(operation, &by_alias, &document)), "{place}");
        }
    }
}

#[test]
fn every_filter_takes_its_part_out_unless_the_policy_names_its_scope() {
    let examples = examples();
    for operation in Catalogue::embedded().operations().iter().chain(&examples) {
        (0..operation.filters.len()).for_each(|index| check(operation, index));
    }
}

#[test]
fn no_filter_of_the_catalogue_stands_twice() {
    for operation in Catalogue::embedded().operations() {
        for (index, filter) in operation.filters.iter().enumerate() {
            assert!(!operation.filters[..index].contains(filter), "{}: {}", operation.name, filter.pointer);
        }
    }
}
