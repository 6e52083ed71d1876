//! Any bytes as an answer: what is shown is JSON, holds nothing that is to be withheld, and all the rest as it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::{borrow::Cow, sync::LazyLock};
use tidegate::{
    classify::{Filter, filter::Kind},
    forward::filter::apply,
};
use tidegate_fuzz::{Choice, Tree};

static CHOICE: LazyLock<Choice> = LazyLock::new(|| Choice::of(|operation| !operation.filters.is_empty()));

fuzz_target!(|input: &[u8]| {
    let (operation, body) = CHOICE.split(input);
    let filters: Vec<&Filter> = operation.filters.iter().collect();
    let Ok(filtered) = apply(&filters, body) else { return };
    let is_same = filtered.removed.iter().all(|count| *count == 0);
    assert_eq!(matches!(filtered.bytes, Cow::Borrowed(_)), is_same);
    assert!(!is_same || *filtered.bytes == *body);
    let again = apply(&filters, &filtered.bytes).expect("what is shown is JSON");
    assert!(again.removed.iter().all(|count| *count == 0), "nothing is left to take out");

    // Some of the grammar's texts are too deep or have numbers too large for this reader.
    let Ok(before) = serde_json::from_slice::<Tree>(body) else { return };
    let after: Tree = serde_json::from_slice(&filtered.bytes).expect("what is shown is JSON");
    for filter in &filters {
        let steps = steps(filter);
        assert!(!holds(&after, &steps, filter), "{} is shown", filter.pointer);
    }
    let expected = filters.iter().try_fold(before, |tree, filter| without(tree, &steps(filter), filter));
    if let Some(expected) = expected {
        assert_eq!(after, expected);
    }
});

fn steps(filter: &Filter) -> Vec<String> {
    let mut steps: Vec<String> = filter.pointer.to_string().split('/').skip(1).map(str::to_owned).collect();
    if matches!(filter.kind, Kind::Items { .. }) && steps.last().is_some_and(|step| step != "*") {
        steps.push("*".to_owned());
    }
    steps
}

/// Whether a value at the end of a filter's way is what is withheld.
fn is_hit(value: &Tree, filter: &Filter) -> bool {
    let Kind::Items { field, prefix } = &filter.kind else { return true };
    let Tree::Object(members) = value else { return true };
    let mut telling = members.iter().filter(|(name, _)| is_same(name, field)).peekable();
    telling.peek().is_none()
        || telling.any(|(_, value)| match value {
            Tree::Text(text) => text.to_ascii_lowercase().starts_with(&prefix.to_ascii_lowercase()),
            Tree::Object(_) | Tree::Array(_) | Tree::Other(_) => true,
        })
}

fn is_same(left: &str, right: &str) -> bool {
    left.to_lowercase() == right.to_lowercase() || left.to_uppercase() == right.to_uppercase()
}

/// Whether the way leads to something that is to be withheld.
fn holds(tree: &Tree, steps: &[String], filter: &Filter) -> bool {
    let Some((step, rest)) = steps.split_first() else { return is_hit(tree, filter) };
    match (tree, &**step) {
        (Tree::Array(items), "*") => items.iter().any(|item| holds(item, rest, filter)),
        (Tree::Object(members), name) if name != "*" => {
            members.iter().any(|(own, value)| is_same(own, name) && holds(value, rest, filter))
        }
        _ => false,
    }
}

/// The document without what is to be withheld; none where it is of another form than the filter's.
fn without(tree: Tree, steps: &[String], filter: &Filter) -> Option<Tree> {
    let (step, rest) = steps.split_first()?;
    let is_last = rest.is_empty();
    match (tree, &**step) {
        (Tree::Array(items), "*") => {
            let kept = items.into_iter().filter(|item| !(is_last && is_hit(item, filter)));
            let kept = kept.map(|item| if is_last { Some(item) } else { without(item, rest, filter) });
            Some(Tree::Array(kept.collect::<Option<_>>()?))
        }
        (Tree::Object(members), name) if name != "*" => {
            let kept = members.into_iter().filter(|(own, _)| !(is_last && is_same(own, name)));
            let kept = kept.map(|(own, value)| {
                let is_way = !is_last && is_same(&own, name);
                Some((own, if is_way { without(value, rest, filter)? } else { value }))
            });
            Some(Tree::Object(kept.collect::<Option<_>>()?))
        }
        (Tree::Object(_) | Tree::Array(_), _) => None,
        (tree @ (Tree::Text(_) | Tree::Other(_)), _) => Some(tree),
    }
}
