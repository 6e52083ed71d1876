//! What is said of an object: whether it counts, and where it does not, why, with the field.

use super::Kind;
use crate::{
    classify::Catalogue,
    manifest::{self, API_VERSION, Manifest},
    toml_file::{Problem, Source},
    yaml,
};
use serde_json::{Value, json};
use std::path::PathBuf;

/// More than this of what is wrong nobody reads.
const MAX_MESSAGE: usize = 4096;
/// As a policy file's.
const MAX_BYTES: usize = 1024 * 1024;

/// The content of an object that counts.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A policy.
    Policy,
    /// For whom one is.
    Binding(manifest::Binding),
}

/// Reads what an object says, as `tidegate check` reads a manifest.
///
/// # Errors
/// With all that is wrong, each with its field.
pub fn read(kind: Kind, name: &str, spec: &Value, catalogue: &Catalogue) -> Result<Content, String> {
    let source = source(kind, name, spec)?;
    let read = manifest::read(&source, catalogue).map_err(|error| told(&source, &error.problems()))?;
    match (kind, read.into_iter().next()) {
        (Kind::Policy, Some(Manifest::Policy(_))) => Ok(Content::Policy),
        (Kind::Binding, Some(Manifest::Binding(binding))) => Ok(Content::Binding(binding)),
        _ => Err(format!("this is no {}", kind.word())),
    }
}

/// An object as a text: the same for the same content.
///
/// # Errors
/// When it is larger than a policy can sensibly be.
pub fn source(kind: Kind, name: &str, spec: &Value) -> Result<Source, String> {
    let object = json!({
        "apiVersion": API_VERSION,
        "kind": kind.word(),
        "metadata": { "name": name },
        "spec": spec,
    });
    // What is JSON is YAML as well, and every value has a line of its own.
    let text = serde_json::to_string_pretty(&object).map_err(|error| error.to_string())?;
    if text.len() > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes"));
    }
    let path = PathBuf::from(format!("{name}.{}", crate::decide::store::OBJECT));
    Ok(Source { path, text })
}

fn told(source: &Source, problems: &[Problem]) -> String {
    let documents = yaml::documents(source).unwrap_or_default();
    let place = |problem: &Problem| {
        let line = problem.line.checked_sub(1)?;
        let starts: usize = source.text.split_inclusive('\n').take(line).map(str::len).sum();
        let before = source.text.get(starts..)?.chars().take(problem.column.saturating_sub(1));
        let path = documents.first()?.path_at(starts + before.map(char::len_utf8).sum::<usize>());
        Some(path).filter(|path| !path.is_empty())
    };
    let each = problems.iter().map(|problem| match place(problem) {
        Some(place) => format!("{place}: {}", problem.message),
        None => problem.message.clone(),
    });
    cut(each.collect::<Vec<_>>().join("; "))
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn problem(kind: Kind, spec: Value) -> String {
        read(kind, "p", &spec, Catalogue::embedded()).unwrap_err()
    }

    #[test]
    fn what_is_in_order_is_what_a_manifest_is() {
        let spec = json!({ "allow": ["api:read"], "rule": [{ "effect": "deny", "operations": ["droplets_create"],
            "when": "request.body.size == \"gpu\" ||\n!(request.body.region in [\"nyc3\"])" }] });
        assert_eq!(read(Kind::Policy, "p", &spec, Catalogue::embedded()), Ok(Content::Policy));
        let spec = json!({ "policy": "p", "podSelector": { "matchLabels": { "a": "true" } } });
        let Ok(Content::Binding(binding)) = read(Kind::Binding, "b", &spec, Catalogue::embedded()) else {
            panic!()
        };
        assert_eq!((&*binding.name, &*binding.policy), ("b", "p"));
    }

    #[test_case(json!({ "alow": [] }), "spec.alow: unknown key `alow`"; "a key")]
    #[test_case(json!({ "allow": ["api:read", "droplet:raed"] }), "spec.allow[1]: unknown scope `droplet:raed`"; "a scope")]
    #[test_case(json!({ "rule": [{ "effect": "allow" }] }), "spec.rule[0]: an allow rule needs `scopes`"; "a rule")]
    #[test_case(json!({ "allow": 3 }), "spec.allow: "; "a type")]
    #[test_case(json!({ "rule": [{ "effect": "deny", "when": "request.bdy == 1" }] }), "spec.rule[0].when: `when`:"; "a condition")]
    #[test_case(json!(3), "spec: `spec` is missing"; "no mapping")]
    #[test_case(json!({ "limit": [{ "rate": "é/hour" }] }), "spec.limit[0].rate: "; "a rate")]
    fn what_is_wrong_has_its_field(spec: Value, expected: &str) {
        let told = problem(Kind::Policy, spec);
        assert!(told.starts_with(expected), "{told}");
    }

    #[test]
    fn all_that_is_wrong_is_told_and_not_without_end() {
        let told = problem(Kind::Binding, json!({ "policy": "a/b", "namespaces": [], "podSelector": {} }));
        for field in ["spec.policy: ", "spec.namespaces: ", "spec.podSelector: "] {
            assert!(told.contains(field), "{told}");
        }
        let scopes: Vec<String> = (0..1000).map(|number| format!("nö:n{number}")).collect();
        let told = problem(Kind::Policy, json!({ "allow": scopes }));
        assert!(told.ends_with('…') && told.len() < MAX_MESSAGE + 10, "{}", told.len());
    }

    #[test]
    fn a_text_that_is_more_than_yaml_says_stays_one() {
        let spec = json!({ "policy": "p", "namespaces": ["a\": [1] #\u{85}\u{2028}\t'"], "serviceAccounts": ["on", "12:30"] });
        let Ok(Content::Binding(binding)) = read(Kind::Binding, "b", &spec, Catalogue::embedded()) else {
            panic!()
        };
        assert_eq!(binding.selection.namespaces, ["a\": [1] #\u{85}\u{2028}\t'"]);
        assert_eq!(binding.selection.service_accounts, ["on", "12:30"]);
    }
}
