//! The catalogue's file as it is written: agent/catalogue/README.md explains the keys.

use super::{
    super::{
        Condition, Filter, Pointer, Scope,
        condition::{Place, Test},
        filter::Kind,
        needs::{Naming, Target, Variants, Whole},
        operation::Form,
    },
    Catalogue,
};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    #[serde(rename = "source")]
    _source: String,
    #[serde(rename = "commit")]
    _commit: String,
    pub(super) operations: Vec<Entry>,
    pub(super) resources: BTreeMap<String, Form>,
    pub(super) scopes: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) method: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) resources: Vec<String>,
    pub(super) host: Option<String>,
    pub(super) scopes: Option<Vec<String>>,
    pub(super) any_of: Option<Vec<Vec<String>>>,
    #[serde(default)]
    conditions: Vec<ConditionEntry>,
    #[serde(default)]
    variants: Vec<VariantsEntry>,
    #[serde(default)]
    targets: Vec<TargetEntry>,
    #[serde(default)]
    wholes: Vec<WholeEntry>,
    #[serde(default)]
    filters: Vec<FilterEntry>,
    #[serde(default)]
    maps: Vec<String>,
    #[serde(default)]
    pub(super) lists: Vec<String>,
    #[serde(default)]
    pub(super) hardened: Vec<String>,
    #[serde(default)]
    pub(super) read: bool,
    pub(super) destructive: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConditionEntry {
    at: String,
    is: Option<String>,
    begins: Option<String>,
    needs: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VariantsEntry {
    at: String,
    is: Option<Vec<String>>,
    begins: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetEntry {
    kind: Option<String>,
    kind_by: Option<String>,
    at: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WholeEntry {
    kind: String,
    at: String,
    unless: String,
    is: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterEntry {
    fields: Option<Vec<String>>,
    credentials: Option<Vec<String>>,
    items: Option<String>,
    #[serde(rename = "where")]
    field: Option<String>,
    begins: Option<String>,
    needs: String,
}

/// What `kind_by` says where the values are URNs.
const URN: &str = "urn";

/// Each of these answers with the rest of a sentence about the operation where the entry is wrong.
impl Entry {
    pub(super) fn conditions(&self, catalogue: &Catalogue) -> Result<Vec<Condition>, String> {
        let conditions = self.conditions.iter().map(|entry| {
            let test = match (&entry.is, &entry.begins) {
                (None, None) => Test::Given,
                (Some(value), None) => Test::Equals(value.as_str().into()),
                (None, Some(prefix)) => Test::StartsWith(prefix.as_str().into()),
                (Some(_), Some(_)) => {
                    return Err(format!("has a condition on `{}` with two tests", entry.at));
                }
            };
            let requires = catalogue.known(&entry.needs)?;
            if requires.is_empty() {
                return Err(format!("has a condition on `{}` that needs nothing", entry.at));
            }
            Ok(Condition { place: place(&entry.at)?, test, requires })
        });
        conditions.collect()
    }

    pub(super) fn variants(&self) -> Result<Vec<Variants>, String> {
        let variants = self.variants.iter().map(|entry| {
            let (known, by_prefix) = match (&entry.is, &entry.begins) {
                (Some(known), None) => (known, false),
                (None, Some(known)) => (known, true),
                _ => {
                    return Err(format!(
                        "must have either `is` or `begins` for the variants of `{}`",
                        entry.at
                    ));
                }
            };
            if known.is_empty() || known.iter().any(String::is_empty) {
                return Err(format!("has variants of `{}` without a value", entry.at));
            }
            let known = known.iter().map(|value| value.as_str().into()).collect();
            Ok(Variants { place: place(&entry.at)?, known, by_prefix })
        });
        variants.collect()
    }

    pub(super) fn targets(&self, catalogue: &Catalogue) -> Result<Vec<Target>, String> {
        let mut targets = Vec::new();
        for entry in &self.targets {
            let naming = match (&entry.kind, &entry.kind_by) {
                (Some(kind), None) if catalogue.kinds.contains_key(kind) => {
                    Naming::Kind(kind.as_str().into())
                }
                (Some(kind), None) => return Err(format!("names the unknown resource `{kind}`")),
                (None, Some(by)) if by == URN => Naming::Urn,
                (None, Some(field)) => Naming::Beside(field.as_str().into()),
                _ => return Err("must have either `kind` or `kind_by` for a target".to_owned()),
            };
            for at in expanded(&entry.at)? {
                let place = place(&at)?;
                let has_sibling = matches!(&place, Place::Body(pointer) if pointer.parent().is_some());
                if matches!(naming, Naming::Beside(_)) && !has_sibling {
                    return Err(format!("has no field beside `{at}`"));
                }
                targets.push(Target { place, naming: naming.clone() });
            }
        }
        Ok(targets)
    }

    pub(super) fn wholes(&self, catalogue: &Catalogue) -> Result<Vec<Whole>, String> {
        let wholes = self.wholes.iter().map(|entry| {
            if !catalogue.kinds.contains_key(&entry.kind) {
                return Err(format!("names the unknown resource `{}`", entry.kind));
            }
            let pointer = body(&entry.at)?;
            if pointer.parent().is_none() {
                return Err(format!("has no field beside `{}`", entry.at));
            }
            Ok(Whole {
                kind: entry.kind.as_str().into(),
                place: Place::Body(pointer),
                field: entry.unless.as_str().into(),
                parts: entry.is.iter().map(|part| part.as_str().into()).collect(),
            })
        });
        wholes.collect()
    }

    pub(super) fn filters(&self, catalogue: &Catalogue) -> Result<Vec<Filter>, String> {
        let mut filters = Vec::new();
        for entry in &self.filters {
            let requires = scope(catalogue, &entry.needs)?;
            let (pointers, kind) = entry.parts()?;
            for pointer in expanded(&pointers)? {
                filters.push(Filter {
                    pointer: body(&pointer)?,
                    requires: requires.clone(),
                    kind: kind.clone(),
                });
            }
        }
        Ok(filters)
    }

    pub(super) fn maps(&self) -> Result<Vec<Pointer>, String> {
        expanded(&self.maps)?.iter().map(|pointer| body(pointer)).collect()
    }
}

impl FilterEntry {
    fn parts(&self) -> Result<(Vec<String>, Kind), String> {
        let Self { fields, credentials, items, field, begins, .. } = self;
        match (fields, credentials, items, field, begins) {
            (Some(fields), None, None, None, None) => Ok((fields.clone(), Kind::Field)),
            (None, Some(fields), None, None, None) => Ok((fields.clone(), Kind::Credential)),
            (None, None, Some(items), Some(field), Some(prefix)) if items.ends_with("/*") => {
                let kind = Kind::Items { field: field.as_str().into(), prefix: prefix.as_str().into() };
                Ok((vec![items.clone()], kind))
            }
            _ => Err("must have `fields`, `credentials`, or `items` (of an array), `where` and `begins` for a filter"
                .to_owned()),
        }
    }
}

fn scope(catalogue: &Catalogue, word: &str) -> Result<Scope, String> {
    let known = catalogue.known(&[word.to_owned()])?;
    known.into_iter().next().ok_or_else(|| format!("needs `{word}`, which `scopes` does not list"))
}

/// `?name` is a parameter of the query, `/a/b` a place in the body.
fn place(text: &str) -> Result<Place, String> {
    match text.strip_prefix('?') {
        Some("") => Err("has a place without a name".to_owned()),
        Some(name) => Ok(Place::Query(name.into())),
        None => body(text).map(Place::Body),
    }
}

fn body(text: &str) -> Result<Pointer, String> {
    Pointer::parse(text).map_err(|error| format!("has a place that is none: {error}"))
}

/// Writes out `/{a,b}/c` as `/a/c` and `/b/c`, with the first braces outermost.
fn expanded(texts: &[String]) -> Result<Vec<String>, String> {
    let mut whole = Vec::new();
    let mut rest: Vec<String> = texts.iter().rev().cloned().collect();
    while let Some(text) = rest.pop() {
        let Some((before, tail)) = text.split_once('{') else {
            if text.contains('}') {
                return Err(format!("has the broken braces `{text}`"));
            }
            whole.push(text);
            continue;
        };
        let (words, after) = tail.split_once('}').ok_or_else(|| format!("has the broken braces `{text}`"))?;
        if words.contains('{') {
            return Err(format!("has the broken braces `{text}`"));
        }
        rest.extend(words.split(',').rev().map(|word| format!("{before}{word}{after}")));
    }
    Ok(whole)
}
