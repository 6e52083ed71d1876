//! What a single request tells: conditions, actions, free-form objects, lists.

use super::{openapi::OpenApi, source::Endpoint};
use anyhow::{Context, bail};
use std::collections::{BTreeMap, BTreeSet};

/// Scopes that some requests of an operation need.
pub(crate) struct Condition {
    pub(crate) at: String,
    pub(crate) is: Option<String>,
    pub(crate) begins: Option<String>,
    pub(crate) needs: Vec<String>,
}

/// The field that makes an operation one of several actions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Variants {
    pub(crate) at: String,
    pub(crate) by_prefix: bool,
    pub(crate) known: BTreeSet<String>,
}

/// The end of the paths whose operations are several actions, told apart by the body.
const ACTIONS: &str = "/actions";

/// What the facts lack: operation, place, beginning and scope. The spec's pattern of URNs has no apps, yet its own
/// table of the resources of a project has them, and Terraform sends them.
const MORE: [(&str, &str, &str, &str); 2] = [
    ("projects_assign_resources", "/resources/*", "do:app:", "app:read"),
    ("projects_assign_resources_default", "/resources/*", "do:app:", "app:read"),
];

/// The conditions of the facts, in their order; derived ones count as much as explicit ones.
pub(crate) fn conditions(endpoint: &Endpoint) -> anyhow::Result<Vec<Condition>> {
    let conditions = endpoint.conditional_scopes.iter().map(|condition| {
        Ok(Condition {
            at: condition.when.place()?,
            is: condition.when.equals.clone(),
            begins: condition.when.prefix()?.map(str::to_owned),
            needs: condition.requires.clone(),
        })
    });
    let more =
        MORE.iter().filter(|(name, ..)| *name == endpoint.operation_id).map(|(_, at, begins, scope)| {
            let (at, begins) = ((*at).to_owned(), Some((*begins).to_owned()));
            Ok(Condition { at, is: None, begins, needs: vec![(*scope).to_owned()] })
        });
    conditions.chain(more).collect()
}

/// The actions: every place that conditions compare with a value, and the choice that a path of actions has.
pub(crate) fn variants(
    endpoint: &Endpoint,
    conditions: &[Condition],
    openapi: &OpenApi,
) -> anyhow::Result<Vec<Variants>> {
    let mut places: BTreeMap<&str, Variants> = BTreeMap::new();
    for condition in conditions {
        let Some(value) = condition.is.as_ref().or(condition.begins.as_ref()) else { continue };
        let by_prefix = condition.begins.is_some();
        let fresh = || Variants { at: condition.at.clone(), by_prefix, known: BTreeSet::new() };
        let variants = places.entry(&condition.at).or_insert_with(fresh);
        if variants.by_prefix != by_prefix {
            bail!("its conditions on `{}` compare both with values and with prefixes", condition.at);
        }
        variants.known.insert(value.clone());
    }
    let choices = openapi.choices(&endpoint.operation_id)?;
    for (at, values) in &choices {
        let is_action = endpoint.method == "POST" && endpoint.path.ends_with(ACTIONS);
        if !is_action && !places.contains_key(at.as_str()) {
            continue;
        }
        let fresh = || Variants { at: at.clone(), by_prefix: false, known: BTreeSet::new() };
        places.entry(at).or_insert_with(fresh).known.extend(values.iter().cloned());
    }
    let variants: Vec<Variants> = places.into_values().collect();
    if let Some(empty) = variants.iter().find(|variants| variants.known.is_empty()) {
        bail!("the spec lists no action for `{}`", empty.at);
    }
    if endpoint.method == "POST" && endpoint.path.ends_with(ACTIONS) && variants.is_empty() {
        bail!("it is several actions, and the spec does not tell them apart");
    }
    Ok(variants)
}

/// The objects of a body whose keys are the client's own; not the body itself.
pub(crate) fn maps(endpoint: &Endpoint, openapi: &OpenApi) -> anyhow::Result<Vec<String>> {
    let fields = openapi.body(&endpoint.operation_id)?;
    let maps = fields.into_iter().filter(|(pointer, field)| {
        field.map && !pointer.is_empty() && !pointer.contains("{}")
            || is_free(&endpoint.operation_id, pointer)
    });
    let mut maps: Vec<String> = maps.map(|(pointer, _)| pointer).collect();
    // What stands inside one is part of it.
    let all = maps.clone();
    maps.retain(|map| !all.iter().any(|outer| map.starts_with(&format!("{outer}/"))));
    Ok(maps)
}

/// Parameters for a function: the spec lists one field of them as an example.
fn is_free(operation: &str, pointer: &str) -> bool {
    operation.starts_with("functions_") && pointer == "/scheduled_details/body"
}

/// The query parameters that are lists.
pub(crate) fn lists(endpoint: &Endpoint, openapi: &OpenApi) -> anyhow::Result<Vec<String>> {
    let parameters = openapi.query(&endpoint.operation_id).context("its query")?;
    Ok(parameters.into_iter().filter(|(_, is_list)| *is_list).map(|(name, _)| name).collect())
}
