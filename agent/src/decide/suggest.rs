//! The least policy that recorded calls need, as a policy file with comments. Pure.

use crate::classify::{Catalogue, Operation, filter};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

/// As many resources of a kind are listed; more, and the rule is not narrowed to them.
const FEW: usize = 10;

/// One recorded call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The catalogue's operation.
    pub operation: String,
    /// The scopes that it needed.
    pub scopes: BTreeSet<String>,
    /// The resources that it named, by kind.
    pub resources: BTreeMap<String, BTreeSet<String>>,
    /// Whether it was refused.
    pub refused: bool,
}

/// What the calls of some operations have in common: a rule in the making.
#[derive(Default)]
struct Group {
    calls: usize,
    refused: usize,
    /// The kinds that every call named, with all that they named.
    resources: BTreeMap<String, BTreeSet<String>>,
}

/// Writes the policy. `origin` says in its first line where the calls come from.
pub fn policy(calls: &[Call], catalogue: &Catalogue, origin: &str) -> String {
    // What the catalogue does not have, no policy can name, and a comment must not end before its line does.
    let calls: Vec<&Call> =
        calls.iter().filter(|call| catalogue.operation(&call.operation).is_some()).collect();
    let origin = origin.escape_debug();
    let mut text = format!("# The least policy for the {} calls {origin}.\n", calls.len());
    text.push_str("description = \"Suggested from recorded calls; look it through before you use it\"\n");
    let (unscoped, scoped): (Vec<&Call>, Vec<&Call>) =
        calls.into_iter().partition(|call| call.scopes.is_empty());
    let names: BTreeSet<&str> = unscoped.iter().map(|call| call.operation.as_str()).collect();
    if !names.is_empty() {
        line(&mut text, format_args!("# Operations that have no scope.\noperations = {}", list(names)));
    }
    for ((scopes, resources), operations) in rules(&scoped, catalogue) {
        rule(&mut text, &scopes, &resources, &operations, catalogue);
    }
    text
}

/// Scopes and resources of a rule, and its operations with their calls.
type Rules<'a> = BTreeMap<(BTreeSet<&'a str>, BTreeMap<String, BTreeSet<String>>), BTreeMap<&'a str, Group>>;

/// Calls of one operation that need the same scopes make a rule; equal rules of several operations are one.
fn rules<'a>(calls: &[&'a Call], catalogue: &Catalogue) -> Rules<'a> {
    let mut groups: BTreeMap<(&str, BTreeSet<&str>), Group> = BTreeMap::new();
    for call in calls {
        let scopes = call.scopes.iter().map(String::as_str).collect();
        groups.entry((&call.operation, scopes)).or_default().add(call, catalogue);
    }
    let mut rules: Rules<'_> = BTreeMap::new();
    for ((operation, scopes), group) in groups {
        let few = group.resources.iter().filter(|(_, values)| is_listed(values));
        let few = few.map(|(kind, values)| (kind.clone(), values.clone())).collect();
        rules.entry((scopes, few)).or_default().insert(operation, group);
    }
    rules
}

impl Group {
    fn add(&mut self, call: &Call, catalogue: &Catalogue) {
        if self.calls == 0 {
            // A kind that nobody knows is a word of the client's own, in a URN or beside a value.
            let is_known = |kind: &str| catalogue.kinds().any(|(known, _)| known == kind);
            self.resources = call.resources.clone();
            self.resources.retain(|kind, _| is_known(kind));
        } else {
            self.resources.retain(|kind, _| call.resources.contains_key(kind));
            for (kind, values) in &mut self.resources {
                values.extend(call.resources.get(kind).into_iter().flatten().cloned());
            }
        }
        self.calls += 1;
        self.refused += usize::from(call.refused);
    }
}

fn rule(
    text: &mut String,
    scopes: &BTreeSet<&str>,
    resources: &BTreeMap<String, BTreeSet<String>>,
    operations: &BTreeMap<&str, Group>,
    catalogue: &Catalogue,
) {
    text.push('\n');
    for (operation, group) in operations {
        let refused = match group.refused {
            0 => String::new(),
            all if all == group.calls => ", refused when they were recorded".to_owned(),
            some => format!(", {some} refused when they were recorded"),
        };
        let plural = if group.calls == 1 { "" } else { "s" };
        line(text, format_args!("# {operation}: {} call{plural}{refused}", group.calls));
        for (kind, values) in group.resources.iter().filter(|(_, values)| !is_listed(values)) {
            let count = values.len();
            line(
                text,
                format_args!(
                    "#   of {count} different values of `{kind}`, so that it is not narrowed to them"
                ),
            );
        }
        let entry = catalogue.operation(operation);
        let more = entry.map(|entry| shown_by(entry, scopes)).unwrap_or_default();
        if !more.is_empty() {
            line(text, format_args!("#   its answers show more with {}", more.join(", ")));
        }
    }
    line(text, format_args!("[[rule]]\neffect = \"allow\"\nscopes = {}", list(scopes.iter().copied())));
    line(text, format_args!("operations = {}", list(operations.keys().copied())));
    if !resources.is_empty() {
        let kinds = resources
            .iter()
            .map(|(kind, values)| format!("{kind} = {}", list(values.iter().map(String::as_str))));
        line(text, format_args!("resources = {{ {} }}", kinds.collect::<Vec<_>>().join(", ")));
    }
}

/// The scopes that an operation's answers take and its calls do not, secrets apart.
fn shown_by<'a>(operation: &'a Operation, held: &BTreeSet<&str>) -> Vec<&'a str> {
    let shown = operation.filters.iter().filter(|filter| filter.kind != filter::Kind::Credential);
    let words: BTreeSet<&str> = shown.map(|filter| filter.requires.as_str()).collect();
    words.into_iter().filter(|word| !held.contains(word)).collect()
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(quoted).collect();
    format!("[{}]", quoted.join(", "))
}

/// Whether a rule is narrowed to the values: they are few, and none would mean more or less in a rule than it is.
fn is_listed(values: &BTreeSet<String>) -> bool {
    values.len() <= FEW && values.iter().all(|value| !value.is_empty() && !value.contains(['*', '?']))
}

/// A basic string of TOML.
fn quoted(word: &str) -> String {
    let mut text = String::from("\"");
    for character in word.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            character if character.is_control() => {
                let _ = write!(text, "\\u{:04X}", u32::from(character));
            }
            character => text.push(character),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests;
