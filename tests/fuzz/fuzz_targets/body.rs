//! Any bytes as a body that decides: what is accepted says the same to every reader, and its scopes are all
//! demanded.

#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::sync::LazyLock;
use tidegate::classify::{
    Needs, Operation, Route, Scope, body,
    condition::{Place, Test},
    needs::Naming,
};
use tidegate_fuzz::{Choice, Tree, folded};

static CHOICE: LazyLock<Choice> =
    LazyLock::new(|| Choice::of(|operation| operation.has_telling_body() || !operation.targets.is_empty()));

fuzz_target!(|input: &[u8]| {
    let (operation, bytes) = CHOICE.split(input);
    let Ok(document) = body::parse(bytes, Some(operation), &[]) else { return };
    let Some(document) = document else {
        assert!(bytes.is_empty());
        return;
    };
    let plain: Value = serde_json::from_slice(bytes).expect("what is accepted is JSON");
    assert_eq!(document, plain);
    let tree: Tree = serde_json::from_slice(bytes).expect("what is accepted is JSON");
    assert!(matches!(tree, Tree::Object(_)) && !tree.has_twins() && tree.depth() <= body::MAX_DEPTH);

    let parameters = operation.parameters.iter().map(|parameter| (parameter.name.as_str(), "1".into()));
    let route = Route { operation, parameters: parameters.collect() };
    let Ok(needs) = Needs::of(&route, None, Some(&document)) else { return };
    let sets = operation.alternatives();
    for scope in wanted(operation, &plain) {
        let is_demanded = needs.extras.iter().any(|extra| extra.scope == scope);
        assert!(
            is_demanded || sets.iter().all(|set| set.contains(scope)),
            "{} needs {scope}",
            operation.name
        );
    }
    for (kind, value) in named(operation, &plain) {
        let is_named = needs.resources.iter().any(|named| named.kind == kind && named.value == value);
        assert!(is_named, "{kind} {value} is not named");
    }
});

/// The scopes that a document makes necessary, as a reader sees it that ignores the case of names.
fn wanted<'o>(operation: &'o Operation, document: &Value) -> Vec<&'o Scope> {
    let mut scopes = Vec::new();
    for condition in &operation.conditions {
        let Place::Body(pointer) = &condition.place else { continue };
        let says = |value: &&Value| match &condition.test {
            Test::Given if operation.method == Method::PUT || operation.method == Method::PATCH => true,
            Test::Given => {
                !(value.is_null() || **value == Value::from("") || **value == Value::Array(Vec::new()))
            }
            Test::Equals(text) => value.as_str() == Some(text),
            Test::StartsWith(prefix) => value.as_str().is_some_and(|value| value.starts_with(&**prefix)),
        };
        if values(document, &pointer.to_string()).iter().any(says) {
            scopes.extend(&condition.requires);
        }
    }
    scopes
}

/// The resources of one kind that a document names, as such a reader sees it.
fn named<'o>(operation: &'o Operation, document: &Value) -> Vec<(&'o str, String)> {
    let mut named = Vec::new();
    for target in &operation.targets {
        let (Place::Body(pointer), Naming::Kind(kind)) = (&target.place, &target.naming) else { continue };
        for value in values(document, &pointer.to_string()) {
            match value {
                Value::String(text) if !text.is_empty() => named.push((&**kind, text.clone())),
                Value::Number(number) => named.push((&**kind, number.to_string())),
                _ => {}
            }
        }
    }
    named
}

/// All that stands at a place for a reader that ignores the case of names, `_` and `-`.
fn values<'v>(document: &'v Value, pointer: &str) -> Vec<&'v Value> {
    pointer.split('/').skip(1).fold(vec![document], |found, part| {
        let inside = found.into_iter().flat_map(|value| -> Vec<&Value> {
            match (part, value) {
                ("*", Value::Array(items)) => items.iter().collect(),
                (name, Value::Object(fields)) => {
                    let same = fields.iter().filter(|(key, _)| folded(key) == folded(name));
                    same.map(|(_, value)| value).collect()
                }
                _ => Vec::new(),
            }
        });
        inside.collect()
    })
}
