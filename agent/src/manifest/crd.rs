//! The schemas in deploy/kubernetes/crds are those of the types that manifests are read into, with bounds that the API
//! server checks before any agent sees a manifest. A test writes them where they are not.

mod yaml;

use super::{API_VERSION, BINDING, POLICY, binding};
use crate::{classify::Catalogue, decide::document::Document};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};
use std::{env, fs, path::PathBuf};

/// What the types alone do not say, by the place of a property below `spec`.
type Bounds = (&'static str, Value);

const RULE: &str = "/rule/items";
const LIMIT: &str = "/limit/items";

/// The API server wants to know how much its own conditions can cost, hence a bound on every list.
fn policy_bounds() -> Vec<Bounds> {
    let scope = json!({ "pattern": "^[a-z0-9_]+:([a-z0-9_]+|\\*)$", "maxLength": 128 });
    let operation = json!({ "pattern": "^[A-Za-z0-9_.]+$", "maxLength": 128 });
    let line = json!({ "maxLength": 200, "pattern": "^[^\\x00-\\x1f\\x7f]*$" });
    let resources = json!({ "minProperties": 1, "maxProperties": 64 });
    let ids = json!({ "minItems": 1, "maxItems": 1000 });
    let mut bounds = vec![
        ("/description", json!({ "maxLength": 4000 })),
        ("/contact", line.clone()),
        ("/rule", json!({ "maxItems": 500 })),
        ("/limit", json!({ "maxItems": 100 })),
        (
            "/limit/items/properties/rate",
            json!({ "pattern": "^[1-9][0-9]{0,9}/(second|minute|hour|day)$", "maxLength": 20 }),
        ),
        ("/limit/items/properties/share", json!({ "pattern": "^([1-9][0-9]?|100)%$", "maxLength": 4 })),
        (
            RULE,
            conditions(&[
                ("self.effect != 'allow' || has(self.scopes)", "an allow rule needs `scopes`"),
                (
                    "has(self.scopes) || has(self.operations) || has(self.resources) || has(self.when)",
                    "a deny rule needs `scopes`, `operations`, `resources` or `when`",
                ),
                ("self.effect != 'allow' || !has(self.mode)", "`mode` belongs to deny rules only"),
            ]),
        ),
        (
            LIMIT,
            conditions(&[
                ("has(self.rate) != has(self.share)", "a limit has either `rate` or `share`"),
                (
                    "!has(self.share) || !(has(self.scopes) || has(self.operations) || has(self.resources) || has(self.when))",
                    "a `share` is of all the workload's requests",
                ),
            ]),
        ),
        (
            "",
            conditions(&[
                (
                    "!has(self.unknown) || self.unknown != 'allow' || (has(self.allow) && 'api:write' in self.allow)",
                    "`unknown: allow` has no effect without `api:write` in `allow`",
                ),
                (
                    "!has(self.limit) || self.limit.filter(limit, has(limit.share)).size() <= 1",
                    "only one limit has a `share`",
                ),
            ]),
        ),
    ];
    for (list, item) in [("/allow", &scope), ("/deny", &scope), ("/operations", &operation)] {
        bounds.push((list, json!({ "maxItems": 1000, "items": item })));
    }
    for at in [RULE, LIMIT] {
        let place = |key: &str| key_of(at, key);
        bounds.push((place("scopes"), json!({ "minItems": 1, "maxItems": 200, "items": &scope })));
        bounds.push((place("operations"), json!({ "minItems": 1, "maxItems": 200, "items": &operation })));
        bounds.push((place("resources"), resources.clone()));
        bounds.push((place("resources/additionalProperties"), ids.clone()));
        bounds.push((place("when"), json!({ "minLength": 1, "maxLength": 8192 })));
        bounds.push((place("reason"), line.clone()));
    }
    bounds
}

fn binding_bounds() -> Vec<Bounds> {
    let account = json!({ "minLength": 1, "maxLength": 253 });
    let mut bounds = vec![
        ("/policy", json!({ "minLength": 1, "maxLength": 64, "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$" })),
        ("/namespaces", json!({ "minItems": 1, "maxItems": 200, "items": account })),
        ("/serviceAccounts", json!({ "minItems": 1, "maxItems": 200, "items": account })),
        (
            "",
            conditions(&[(
                "has(self.namespaces) || has(self.podSelector) || has(self.serviceAccounts)",
                "give `namespaces`, `podSelector` or `serviceAccounts`",
            )]),
        ),
    ];
    let expression = "/podSelector/properties/matchExpressions/items";
    let values = conditions(&[(
        "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
        "`values` belong to `In` and `NotIn`",
    )]);
    bounds.extend([
        ("/podSelector", json!({ "minProperties": 1 })),
        ("/podSelector/properties/matchLabels", json!({ "minProperties": 1, "maxProperties": 100 })),
        ("/podSelector/properties/matchLabels/additionalProperties", json!({ "maxLength": 63 })),
        ("/podSelector/properties/matchExpressions", json!({ "minItems": 1, "maxItems": 100 })),
        (expression, values),
        (key_of(expression, "key"), json!({ "minLength": 1, "maxLength": 317 })),
        (key_of(expression, "values"), json!({ "maxItems": 200, "items": { "maxLength": 63 } })),
    ]);
    bounds
}

fn key_of(table: &str, key: &str) -> &'static str {
    format!("{table}/properties/{key}").leak()
}

fn conditions(rules: &[(&str, &str)]) -> Value {
    let rules = rules.iter().map(|(rule, message)| json!({ "rule": rule, "message": message }));
    json!({ "x-kubernetes-validations": rules.collect::<Vec<_>>() })
}

/// The schema of a type, as Kubernetes wants schemas: no references, and nothing that it prunes by itself.
fn schema<T: JsonSchema>(bounds: Vec<Bounds>) -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    structural(&mut schema);
    for (place, bound) in bounds {
        let pointer = match place.split_once('/') {
            Some((_, rest)) => format!("/properties/{rest}"),
            None => String::new(),
        };
        let found = schema.pointer_mut(&pointer).unwrap_or_else(|| panic!("no property at `{place}`"));
        merge(found, bound);
    }
    schema
}

fn structural(schema: &mut Value) {
    let Some(keys) = schema.as_object_mut() else { return };
    for key in ["$schema", "title", "nullable", "default", "format"] {
        keys.remove(key);
    }
    if keys.get("additionalProperties") == Some(&Value::Bool(false)) {
        keys.remove("additionalProperties");
    }
    if let Some(Value::String(text)) = keys.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    // A key that may be left out is no word of its own.
    if let Some(Value::Array(words)) = keys.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    // An id is written as a number or as a text.
    if keys.remove("anyOf").is_some() {
        keys.insert("x-kubernetes-int-or-string".to_owned(), true.into());
    }
    // Kubernetes has no place for what single words of an enumeration mean.
    if let Some(Value::Array(words)) = keys.remove("oneOf") {
        let words: Vec<Value> = words.iter().map(|word| word["enum"][0].clone()).collect();
        keys.insert("enum".to_owned(), words.into());
        keys.insert("type".to_owned(), "string".into());
    }
    for below in ["items", "additionalProperties"] {
        keys.get_mut(below).into_iter().for_each(structural);
    }
    if let Some(Value::Object(properties)) = keys.get_mut("properties") {
        properties.values_mut().for_each(structural);
    }
}

fn merge(into: &mut Value, other: Value) {
    match (into, other) {
        (Value::Object(into), Value::Object(other)) => {
            for (key, value) in other {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, other) => *into = other,
    }
}

fn status() -> Value {
    let text = |description: &str, most: u64| json!({ "type": "string", "description": description, "maxLength": most });
    json!({
        "type": "object",
        "description": "What became of it.",
        "properties": {
            "observedGeneration": { "type": "integer", "format": "int64", "description": "The generation that the conditions are about." },
            "conditions": {
                "type": "array",
                "description": "`Accepted`: whether it is in force; where it is not, `message` has every problem with its key.",
                "maxItems": 16,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object",
                    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
                    "properties": {
                        "type": text("What is told.", 316),
                        "status": { "type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it is so." },
                        "observedGeneration": { "type": "integer", "format": "int64", "minimum": 0, "description": "The generation that this is about." },
                        "lastTransitionTime": { "type": "string", "format": "date-time", "description": "Since when." },
                        "reason": text("One word of why.", 1024),
                        "message": text("Why, for people.", 32768),
                    },
                },
            },
        },
    })
}

fn column(name: &str, kind: &str, path: &str, priority: u8) -> Value {
    let mut column = json!({ "name": name, "type": kind, "jsonPath": path });
    if priority > 0 {
        column["priority"] = priority.into();
    }
    column
}

fn definition(kind: &str, short: &str, description: &str, spec: Value, columns: Vec<Value>) -> Value {
    let (group, version) = API_VERSION.split_once('/').unwrap();
    let singular = kind.to_lowercase();
    let plural =
        if singular.ends_with('y') { singular.replace("policy", "policies") } else { format!("{singular}s") };
    let accepted = column("Accepted", "string", ".status.conditions[?(@.type==\"Accepted\")].status", 0);
    let reason = column("Reason", "string", ".status.conditions[?(@.type==\"Accepted\")].reason", 1);
    let age = column("Age", "date", ".metadata.creationTimestamp", 0);
    let columns: Vec<Value> = columns.into_iter().chain([accepted, reason, age]).collect();
    let names = conditions(&[(
        "self.metadata.name.size() <= 64 && !self.metadata.name.contains('.')",
        "the name has at most 64 characters, and no dot",
    )]);
    let mut schema = json!({
        "type": "object",
        "description": description,
        "required": ["spec"],
        "properties": {
            "apiVersion": { "type": "string", "description": "The version of this schema." },
            "kind": { "type": "string", "description": "What this is." },
            "metadata": { "type": "object" },
            "spec": spec,
            "status": status(),
        },
    });
    merge(&mut schema, names);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{group}"), "labels": { "app.kubernetes.io/name": "tidegate", "app.kubernetes.io/part-of": "tidegate" } },
        "spec": {
            "group": group,
            "names": { "kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": singular, "shortNames": [short], "categories": ["tidegate"] },
            "scope": "Cluster",
            "versions": [{
                "name": version,
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": schema },
                "subresources": { "status": {} },
                "additionalPrinterColumns": columns,
            }],
        },
    })
}

fn definitions() -> [Value; 2] {
    [
        definition(
            POLICY,
            "scopepol",
            "What a workload may ask of DigitalOcean's API: what a policy file of tidegate holds, under the same keys.",
            schema::<Document>(policy_bounds()),
            vec![
                column("Mode", "string", ".spec.mode", 0),
                column("Description", "string", ".spec.description", 1),
            ],
        ),
        definition(
            BINDING,
            "scopebind",
            "For which pods a ScopePolicy is.",
            schema::<binding::Spec>(binding_bounds()),
            vec![column("Policy", "string", ".spec.policy", 0)],
        ),
    ]
}

fn properties<'v>(schema: &'v Value, path: &str, found: &mut Vec<(String, &'v Value)>) {
    for (key, value) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = format!("{path}.{key}");
        found.push((path.clone(), value));
        properties(value, &path, found);
    }
    for below in ["items", "additionalProperties"] {
        if let Some(value) = schema.get(below) {
            found.push((format!("{path}[]"), value));
            properties(value, &format!("{path}[]"), found);
        }
    }
}

#[test]
fn schemas_are_structural_and_say_what_each_key_is_for() {
    for definition in definitions() {
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut found = Vec::new();
        properties(schema, "", &mut found);
        assert!(found.len() > 15, "{found:?}");
        for (path, value) in found {
            let keys = value.as_object().unwrap_or_else(|| panic!("{path}: {value}"));
            let is_typed = keys.contains_key("type") || keys.contains_key("x-kubernetes-int-or-string");
            assert!(is_typed, "{path}: {value}");
            let is_free = ["$ref", "anyOf", "oneOf", "allOf", "not", "title"]
                .iter()
                .all(|key| !keys.contains_key(*key));
            assert!(is_free && value["additionalProperties"] != false, "{path}: {value}");
            let is_told =
                path.ends_with("[]") || path == ".metadata" || value["description"].as_str().is_some();
            assert!(is_told, "{path} has no description: {value}");
        }
    }
}

#[test]
fn the_patterns_let_every_scope_and_operation_pass() {
    let is_word = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    for entry in Catalogue::embedded().scopes() {
        assert!(is_word(entry.scope.resource()) && is_word(entry.scope.action()), "{}", entry.scope);
    }
    for operation in Catalogue::embedded().operations() {
        assert!(
            operation.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte)),
            "{}",
            operation.name
        );
    }
}

/// Writes them where they are not up to date, and fails then.
#[test]
fn the_definitions_are_those_of_the_types() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes/crds");
    let mut stale = Vec::new();
    for definition in definitions() {
        let name = format!("{}.yaml", definition["metadata"]["name"].as_str().unwrap());
        let text = format!(
            "# Generated from agent/src/manifest; `cargo test -p tidegate crd` writes it.\n{}",
            yaml::text(&definition)
        );
        let path = directory.join(&name);
        if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            fs::write(&path, text).unwrap();
            stale.push(name);
        }
    }
    assert!(stale.is_empty(), "{stale:?} were not up to date, and are now: look at them, and run this again");
}
