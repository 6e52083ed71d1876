//! `tidegate scopes [WORD]`: the catalogue, searchable.

use crate::classify::{Catalogue, Operation, Scope, catalogue::ScopeEntry};
use serde::Serialize;
use std::{collections::BTreeMap, io};

/// Writes the scopes and operations that `word` finds: in a scope or its description, in an operation's name
/// or its method and path, without regard to case. A scope brings the operations that need it, an operation
/// the scopes that it needs. Without a word, the human form lists the scopes alone.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(word: Option<&str>, json: bool, out: &mut impl io::Write) -> io::Result<()> {
    let found = Found::search(Catalogue::embedded(), word);
    if json {
        serde_json::to_writer_pretty(&mut *out, &found)?;
        return writeln!(out);
    }
    if found.scopes.is_empty() && found.operations.is_empty() {
        return writeln!(out, "nothing in the catalogue has `{}`", word.unwrap_or_default().escape_debug());
    }
    write_scopes(&found.scopes, out)?;
    if word.is_some() && !found.operations.is_empty() {
        writeln!(out)?;
        write_operations(&found.operations, out)?;
    }
    Ok(())
}

/// The answer, in its stable JSON form.
#[derive(Serialize)]
struct Found<'a> {
    scopes: Vec<FoundScope<'a>>,
    operations: Vec<FoundOperation<'a>>,
}

#[derive(Serialize)]
struct FoundScope<'a> {
    scope: &'a str,
    description: &'a str,
    /// The names of all operations that may need it.
    operations: Vec<&'a str>,
}

#[derive(Serialize)]
struct FoundOperation<'a> {
    operation: &'a str,
    method: &'a str,
    path: &'a str,
    /// Absent for the API's own host.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    /// The sets of scopes of which any one is needed in full; empty where none is defined.
    any_of: Vec<Vec<String>>,
    read: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    destructive: Option<&'a str>,
}

impl<'a> Found<'a> {
    fn search(catalogue: &'a Catalogue, word: Option<&str>) -> Self {
        let word = word.unwrap_or_default().to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&word);
        let needs: Vec<(&Operation, Vec<Vec<Scope>>)> =
            catalogue.operations().iter().map(|operation| (operation, operation.alternatives())).collect();
        let mut users: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
        for (operation, sets) in &needs {
            for scope in sets.iter().flatten() {
                let users = users.entry(scope.as_str()).or_default();
                if !users.iter().any(|user| user.name == operation.name) {
                    users.push(operation);
                }
            }
        }
        let is_named = |operation: &Operation| {
            has(&operation.name) || has(&format!("{} {}", operation.method, operation.path))
        };
        let is_described = |entry: &ScopeEntry| has(entry.scope.as_str()) || has(&entry.description);
        let used_by = |scope: &str| users.get(scope).map_or(&[][..], Vec::as_slice);
        let entries = catalogue.scopes().filter(|entry| {
            is_described(entry) || used_by(entry.scope.as_str()).iter().any(|operation| is_named(operation))
        });
        let operations = needs.iter().filter(|(operation, sets)| {
            let mut entries = sets.iter().flatten().filter_map(|scope| catalogue.scope(scope.as_str()));
            is_named(operation) || entries.any(is_described)
        });
        Self {
            scopes: entries.map(|entry| FoundScope::new(entry, used_by(entry.scope.as_str()))).collect(),
            operations: operations.map(|(operation, sets)| FoundOperation::new(operation, sets)).collect(),
        }
    }
}

impl<'a> FoundScope<'a> {
    fn new(entry: &'a ScopeEntry, users: &[&'a Operation]) -> Self {
        Self {
            scope: entry.scope.as_str(),
            description: &entry.description,
            operations: users.iter().map(|operation| operation.name.as_str()).collect(),
        }
    }
}

impl<'a> FoundOperation<'a> {
    fn new(operation: &'a Operation, sets: &[Vec<Scope>]) -> Self {
        Self {
            operation: &operation.name,
            method: operation.method.as_str(),
            path: &operation.path,
            host: operation.host.as_deref(),
            any_of: sets.iter().map(|set| set.iter().map(Scope::to_string).collect()).collect(),
            read: operation.is_read(),
            destructive: operation.destructive.as_deref(),
        }
    }

    fn needs(&self) -> String {
        let sets: Vec<String> = self.any_of.iter().map(|set| set.join(" + ")).collect();
        let needs = if sets.is_empty() { "no scope defined".to_owned() } else { sets.join(", or ") };
        self.host.map_or_else(|| needs.clone(), |host| format!("{needs} (at {host})"))
    }
}

fn write_scopes(scopes: &[FoundScope<'_>], out: &mut impl io::Write) -> io::Result<()> {
    let width = width("SCOPE", scopes.iter().map(|scope| scope.scope));
    writeln!(out, "{:width$}  OPERATIONS  DESCRIPTION", "SCOPE")?;
    for scope in scopes {
        writeln!(out, "{:width$}  {:>10}  {}", scope.scope, scope.operations.len(), scope.description)?;
    }
    Ok(())
}

fn write_operations(operations: &[FoundOperation<'_>], out: &mut impl io::Write) -> io::Result<()> {
    let name_width = width("OPERATION", operations.iter().map(|operation| operation.operation));
    let path_width = width("PATH", operations.iter().map(|operation| operation.path));
    writeln!(out, "{:name_width$}  {:6}  {:path_width$}  NEEDS", "OPERATION", "METHOD", "PATH")?;
    for operation in operations {
        let FoundOperation { operation: name, method, path, .. } = operation;
        writeln!(out, "{name:name_width$}  {method:6}  {path:path_width$}  {}", operation.needs())?;
    }
    Ok(())
}

fn width<'a>(heading: &'a str, cells: impl Iterator<Item = &'a str>) -> usize {
    cells.chain([heading]).map(str::len).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn text(word: Option<&str>, json: bool) -> String {
        let mut out = Vec::new();
        run(word, json, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn found(word: &str) -> (Vec<String>, Vec<String>) {
        let value: serde_json::Value = serde_json::from_str(&text(Some(word), true)).unwrap();
        let names = |list: &str, key: &str| {
            let items = value[list].as_array().unwrap().iter();
            items.map(|item| item[key].as_str().unwrap().to_owned()).collect()
        };
        (names("scopes", "scope"), names("operations", "operation"))
    }

    #[test_case("uptime:DELETE", &["uptime:delete"], &["uptime_delete_check", "uptime_delete_alert"]; "a scope")]
    #[test_case("droplets_get_k", &[], &[]; "a word that is nowhere")]
    #[test_case("volumes_list", &["block_storage:read"], &["volumes_list"]; "an operation")]
    #[test_case("GET /v2/regions", &["regions:read"], &["regions_list"]; "a method and path")]
    #[test_case("volume history", &["block_storage_action:read"], &["volumeActions_list", "volumeActions_get"];
        "a description")]
    #[test_case("oneClicks_list", &[], &["oneClicks_list"]; "an operation without scope")]
    #[test_case("vendor portal apps", &["vendor_portal:create", "vendor_portal:delete", "vendor_portal:read",
        "vendor_portal:update"], &[]; "scopes without operation")]
    fn a_word_finds(word: &str, scopes: &[&str], operations: &[&str]) {
        let (found_scopes, found_operations) = found(word);
        assert_eq!(found_operations, operations);
        // A scope is found by the operations that need it, which may need others as well.
        assert!(
            scopes.iter().all(|scope| found_scopes.iter().any(|found| found == scope)),
            "{found_scopes:?}"
        );
        assert_eq!(found_scopes.is_empty(), scopes.is_empty());
    }

    #[test]
    fn json_has_the_stable_keys() {
        let value: serde_json::Value =
            serde_json::from_str(&text(Some("domains_delete_record"), true)).unwrap();
        let operation = serde_json::json!({
            "operation": "domains_delete_record",
            "method": "DELETE",
            "path": "/v2/domains/{domain_name}/records/{domain_record_id}",
            "any_of": [["domain:delete"], ["domain:update"]],
            "read": false,
            "destructive": "destroy",
        });
        assert_eq!(value["operations"], serde_json::json!([operation]));
        assert_eq!(value["scopes"][0]["scope"], "domain:delete");
        assert_eq!(value["scopes"][0]["description"], "delete domains and DNS records");
        assert_eq!(
            value["scopes"][0]["operations"],
            serde_json::json!(["domains_delete", "domains_delete_record"])
        );
    }

    #[test]
    fn without_a_word_json_holds_the_whole_catalogue() {
        let value: serde_json::Value = serde_json::from_str(&text(None, true)).unwrap();
        assert_eq!(value["scopes"].as_array().unwrap().len(), 157);
        assert_eq!(value["operations"].as_array().unwrap().len(), 659);
    }

    #[test]
    fn people_get_tables() {
        let all = text(None, false);
        assert_eq!(all.lines().count(), 158);
        assert!(all.starts_with("SCOPE "));
        let record = text(Some("domains_delete_record"), false);
        assert!(record.contains("domain:delete           2  delete domains and DNS records\n"), "{record}");
        assert!(record.ends_with("{domain_record_id}  domain:delete, or domain:update\n"), "{record}");
        let models = text(Some("inference_list_models"), false);
        assert!(models.ends_with("/v1/models  no scope defined (at inference.do-ai.run)\n"), "{models}");
        assert_eq!(text(Some("no\nsuch"), false), "nothing in the catalogue has `no\\nsuch`\n");
    }
}
