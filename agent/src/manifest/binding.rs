//! For which pods a policy is.

use crate::{
    config::selection::{Operator, Requirement, Selection, Selector},
    decide::document::is_policy_name,
    spanned::Spanned,
    toml_file::{Error, Findings, Source},
    yaml::Node,
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A `ScopeBinding`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Its name.
    pub name: String,
    /// The ScopePolicy.
    pub policy: String,
    /// The pods.
    pub selection: Selection,
}

/// For which pods a ScopePolicy is: those that fit all that is given. Where several fit a pod, every policy must allow
/// a request.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Spec {
    /// The name of the ScopePolicy.
    policy: Spanned<String>,
    /// The namespaces, by name.
    namespaces: Option<Spanned<Vec<Spanned<String>>>>,
    /// The pods, by their labels.
    pod_selector: Option<Spanned<SelectorTable>>,
    /// The service accounts, one of which the pod runs as.
    service_accounts: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SelectorTable {
    /// Labels with these values.
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
    /// What is said of other labels.
    #[serde(default)]
    match_expressions: Vec<Spanned<RequirementTable>>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct RequirementTable {
    /// The label.
    key: String,
    /// What is said of it.
    operator: Operator,
    /// Of which values; `In` and `NotIn` need some, and the others have none.
    #[serde(default)]
    values: Vec<String>,
}

/// Reads a binding from a manifest's `spec`.
pub(super) fn read(name: &str, spec: &Node, source: &Source) -> Result<Binding, Error> {
    let table: Spec = spec.parse(source)?;
    let mut findings = Findings::new(source);
    let policy = table.policy.as_ref();
    if !is_policy_name(policy) {
        findings.add(table.policy.span(), format!("`{policy}` is not a policy's name"));
    }
    if table.namespaces.is_none() && table.pod_selector.is_none() && table.service_accounts.is_none() {
        let message =
            "this fits every pod of the cluster; give `namespaces`, `podSelector` or `serviceAccounts`";
        findings.add(spec.span.clone(), message);
    }
    let binding = Binding {
        name: name.to_owned(),
        policy: policy.clone(),
        selection: Selection {
            namespaces: names("namespaces", table.namespaces, &mut findings),
            pods: table.pod_selector.as_ref().map(|table| selector(table, &mut findings)),
            service_accounts: names("serviceAccounts", table.service_accounts, &mut findings),
        },
    };
    findings.finish(binding)
}

fn names(key: &str, list: Option<Spanned<Vec<Spanned<String>>>>, findings: &mut Findings<'_>) -> Vec<String> {
    let Some(list) = list else { return Vec::new() };
    if list.as_ref().is_empty() {
        findings.add(list.span(), format!("`{key}: []` fits nothing; name some, or remove the key"));
    }
    for name in list.as_ref().iter().filter(|name| name.as_ref().is_empty()) {
        findings.add(name.span(), format!("an empty name in `{key}`"));
    }
    list.into_inner().into_iter().map(Spanned::into_inner).collect()
}

/// An empty selector must never come to fit everything, though it does elsewhere in Kubernetes.
fn selector(table: &Spanned<SelectorTable>, findings: &mut Findings<'_>) -> Selector {
    let SelectorTable { match_labels, match_expressions } = table.as_ref();
    if match_labels.is_empty() && match_expressions.is_empty() {
        findings.add(table.span(), "an empty selector fits everything; name labels, or remove the key");
    }
    let mut requirements = Vec::new();
    for expression in match_expressions {
        let RequirementTable { key, operator, values } = expression.as_ref();
        let needs_values = matches!(operator, Operator::In | Operator::NotIn);
        if key.is_empty() || needs_values == values.is_empty() {
            let message = "an expression has a `key`, and `values` with `In` and `NotIn` only";
            findings.add(expression.span(), message);
        }
        requirements.push(Requirement { key: key.clone(), operator: *operator, values: values.clone() });
    }
    Selector { labels: match_labels.clone(), requirements }
}
