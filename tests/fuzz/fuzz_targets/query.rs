//! Any text as a query: what is accepted says the same to every reader, and its scopes are all demanded.

#![no_main]

use http::{HeaderMap, Uri};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tidegate::classify::{
    Catalogue, Needs, Operation, classify, condition::Place, needs::Naming, operation::Form,
};
use tidegate_fuzz::{Choice, decode, folded};

static CHOICE: LazyLock<Choice> = LazyLock::new(|| {
    Choice::of(|operation| operation.query_names().next().is_some() || !operation.conditions.is_empty())
});

fuzz_target!(|input: &[u8]| {
    let (operation, rest) = CHOICE.split(input);
    let Ok(query) = std::str::from_utf8(rest) else { return };
    let Ok(uri) = format!("{}?{query}", path(operation)).parse::<Uri>() else { return };
    let Ok(head) = classify(Catalogue::embedded(), &operation.method, &uri, &HeaderMap::new()) else {
        return;
    };
    let sent = head.query.as_deref().expect("the query is sent on");
    assert!(query.starts_with(sent), "what is sent came so");
    let route = head.route.expect("the path is the operation's");
    assert_eq!(route.operation.name, operation.name);
    let needs = Needs::of_head(&route, Some(sent));

    let names: Vec<&str> = operation.query_names().collect();
    for piece in sent.split(['&', ';']) {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let twice = decode(&String::from_utf8_lossy(&decode(name)));
        let twice = String::from_utf8_lossy(&twice);
        let careless = twice.split(['[', '\0']).next().unwrap_or_default().trim().to_lowercase();
        assert_ne!(careless, "_method", "{sent}");
        if names.iter().any(|known| folded(known) == folded(&careless)) {
            assert!(names.contains(&name), "{name} is another spelling in {sent}");
            assert_eq!(
                sent.split(['&', ';']).filter(|other| other.split('=').next() == Some(name)).count(),
                1
            );
            let value = String::from_utf8_lossy(&decode(value)).into_owned();
            demands(operation, &needs, name, &value);
        }
    }
});

/// Whether the scopes and the resource of a parameter are in the answer.
fn demands(operation: &Operation, needs: &Needs<'_, '_>, name: &str, value: &str) {
    let is_here = |place: &Place| matches!(place, Place::Query(own) if **own == *name);
    let sets = operation.alternatives();
    for condition in operation.conditions.iter().filter(|condition| is_here(&condition.place)) {
        for scope in condition.requires.iter().filter(|_| condition.test.of_text(value)) {
            let is_demanded = needs.extras.iter().any(|extra| extra.scope == scope);
            assert!(
                is_demanded || sets.iter().all(|set| set.contains(scope)),
                "{name}={value} needs {scope}"
            );
        }
    }
    for target in operation.targets.iter().filter(|target| is_here(&target.place) && !value.is_empty()) {
        let Naming::Kind(kind) = &target.naming else { continue };
        // A request for all that carry a tag is about the tag alone.
        let is_by_tag = needs.resources.iter().any(|named| named.kind == "tag");
        let is_named = needs.resources.iter().any(|named| named.kind == **kind && named.value == value);
        assert!(is_named || (is_by_tag && **kind != *"tag"), "{kind} {value} is not named");
    }
}

fn path(operation: &Operation) -> String {
    operation.parameters.iter().fold(operation.path.clone(), |path, parameter| {
        let value = match parameter.form {
            Form::Integer => "3164444",
            Form::Uuid => "4de7ac8b-495b-4884-9a69-1050c6793cd6",
            Form::Text | Form::TextWithSlashes => "sample-1",
        };
        path.replace(&format!("{{{}}}", parameter.name), value)
    })
}
