use super::*;
use serde_json::json;
use time::OffsetDateTime;

fn seen(generation: i64, spec: Value) -> Seen {
    let resource_version = generation.to_string();
    Seen { uid: "u".into(), generation, resource_version, spec, ..Seen::default() }
}

fn apply(view: &mut View, kind: Kind, name: &str, seen: Seen) {
    view.apply(kind, name.to_owned(), seen, Catalogue::embedded());
}

/// What is to be said, in short.
fn unsaid(view: &View) -> Vec<(String, bool, &'static str)> {
    let names = Names { policies: ["file".to_owned()].into(), workloads: ["own".to_owned()].into() };
    let told = |(_, name, _, condition): (Kind, &str, &Entry, Condition)| {
        (name.to_owned(), condition.is_accepted, condition.reason)
    };
    view.unsaid(&names).into_iter().map(told).collect()
}

fn reads() -> Value {
    json!({ "allow": ["droplet:read"] })
}

fn binds(policy: &str) -> Value {
    json!({ "policy": policy, "namespaces": ["n"] })
}

#[test]
fn each_object_is_told_what_became_of_it() {
    let mut view = View::default();
    for (name, spec) in [("file", reads()), ("good", reads()), ("wrong", json!({ "allow": ["x"] }))] {
        apply(&mut view, Kind::Policy, name, seen(1, spec));
    }
    for (name, policy) in [("a", "good"), ("b", "wrong"), ("c", "nowhere"), ("d", "file"), ("own", "good")] {
        apply(&mut view, Kind::Binding, name, seen(1, binds(policy)));
    }
    let expected = [
        ("file", false, "NameConflict"),
        ("good", true, "Accepted"),
        ("wrong", false, "Invalid"),
        ("a", true, "Accepted"),
        ("b", false, "PolicyRefused"),
        ("c", false, "PolicyNotFound"),
        ("d", true, "Accepted"),
        ("own", false, "NameConflict"),
    ];
    let expected: Vec<_> = expected.into_iter().map(|(name, is, why)| (name.to_owned(), is, why)).collect();
    assert_eq!(unsaid(&view), expected);
    view.remove(Kind::Policy, "good");
    assert!(unsaid(&view).contains(&("a".to_owned(), false, "PolicyNotFound")));
}

#[test]
fn what_is_said_already_is_not_said_again() {
    let mut view = View::default();
    apply(&mut view, Kind::Policy, "p", seen(1, reads()));
    let names = Names::default();
    let condition = view.unsaid(&names).remove(0).3;
    let status = condition.put_into(&Value::Null, OffsetDateTime::UNIX_EPOCH);
    apply(&mut view, Kind::Policy, "p", Seen { status: status.clone(), ..seen(1, reads()) });
    assert!(view.unsaid(&names).is_empty());
    apply(&mut view, Kind::Policy, "p", Seen { status, ..seen(2, reads()) });
    assert_eq!(view.unsaid(&names).len(), 1, "it is about the generation before");
}

#[test]
fn the_last_content_in_order_is_told_and_survives_a_start() {
    let mut view = View::default();
    apply(&mut view, Kind::Policy, "p", seen(1, reads()));
    apply(&mut view, Kind::Policy, "p", seen(2, json!({ "allow": ["x"] })));
    let state = view.state(&Names::default(), None);
    let [object] = &state.policies[..] else { panic!("{state:?}") };
    assert_eq!((&object.spec, object.generation), (&Some(reads()), 2));
    assert!(object.problem.as_ref().unwrap().starts_with("spec.allow[0]: `x`"));
    let mut later = View::after(&state);
    later.replace(
        Kind::Policy,
        [
            ("p".to_owned(), seen(3, json!({ "allow": ["y"] }))),
            ("q".to_owned(), seen(1, json!({ "allow": ["z"] }))),
        ]
        .into(),
        Catalogue::embedded(),
    );
    let state = later.state(&Names::default(), None);
    let specs: Vec<_> = state.policies.iter().map(|object| object.spec.clone()).collect();
    assert_eq!(specs, [Some(reads()), None], "an object that never was in order is there all the same");
    later.replace(Kind::Policy, BTreeMap::new(), Catalogue::embedded());
    assert!(later.state(&Names::default(), None).policies.is_empty());
}

#[test]
fn contradictions_are_counted() {
    let mut view = View::default();
    let said = |is_accepted: bool, generation: i64| {
        let condition = match is_accepted {
            true => Condition::accepted(1, "m"),
            false => Condition::refused(1, "NameConflict", "n".into()),
        };
        Seen {
            status: condition.put_into(&Value::Null, OffsetDateTime::UNIX_EPOCH),
            ..seen(generation, reads())
        }
    };
    let changes = |view: &View| view.policies["p"].changes;
    apply(&mut view, Kind::Policy, "p", seen(1, reads()));
    apply(&mut view, Kind::Policy, "p", said(true, 1));
    assert_eq!(changes(&view), 0, "the first to say anything contradicts nobody");
    apply(&mut view, Kind::Policy, "p", said(false, 1));
    apply(&mut view, Kind::Policy, "p", said(false, 1));
    apply(&mut view, Kind::Policy, "p", said(true, 1));
    assert_eq!(changes(&view), 2);
    apply(&mut view, Kind::Policy, "p", said(true, 2));
    assert_eq!(changes(&view), 0, "another generation");
}

#[test]
fn too_many_are_told_so() {
    let mut view = View::default();
    for number in 0..=MAX_OBJECTS {
        apply(&mut view, Kind::Binding, &format!("b{number:04}"), seen(1, binds("file")));
    }
    let told = unsaid(&view);
    let refused: Vec<_> = told.iter().filter(|(_, is_accepted, _)| !is_accepted).collect();
    assert_eq!(refused, [&(format!("b{MAX_OBJECTS}"), false, "TooMany")]);
    assert_eq!(view.state(&Names::default(), None).bindings.len(), MAX_OBJECTS);
}

#[test]
fn what_is_new_pushes_nothing_out_whatever_its_name() {
    let mut view = View::default();
    let made = |created: &str| Seen { created: created.into(), ..seen(1, binds("file")) };
    for number in 0..MAX_OBJECTS {
        apply(&mut view, Kind::Binding, &format!("b{number:04}"), made("2026-11-02T03:04:05Z"));
    }
    let before = view.state(&Names::default(), None).bindings;
    apply(&mut view, Kind::Binding, "a", made("2026-11-02T03:04:06Z"));
    assert_eq!(view.state(&Names::default(), None).bindings, before);
    let told = unsaid(&view);
    assert!(told.contains(&("a".to_owned(), false, "TooMany")));
    view.remove(Kind::Binding, "b0000");
    let after = view.state(&Names::default(), None).bindings;
    assert!(after.len() == MAX_OBJECTS && after.iter().any(|object| object.name == "a"));
}
