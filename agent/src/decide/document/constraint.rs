//! What narrows a rule or limit, as it is written: `operations`, `resources`, `when`.

use super::Reader;
use crate::{
    classify::Operation,
    decide::{
        Effect,
        grant::{Access, Grant, did_you_mean},
        nearest::nearest,
        policy::Constraint,
        resources::{self, Resources},
        when::When,
    },
    spanned::Spanned,
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// `resources = { kind = [ids] }`.
pub(super) type ResourcesTable = BTreeMap<Spanned<String>, Spanned<Vec<Spanned<Id>>>>;

/// An id as people write it.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub(super) enum Id {
    Number(u64),
    Text(String),
}

/// The keys that narrow a rule or limit.
pub(super) struct Narrowing<'t> {
    /// `rule` or `limit`.
    pub(super) of: &'static str,
    pub(super) operations: Option<&'t Spanned<Vec<Spanned<String>>>>,
    pub(super) resources: Option<&'t Spanned<ResourcesTable>>,
    pub(super) when: Option<&'t Spanned<String>>,
}

impl<'c> Reader<'c> {
    /// Reads what narrows a rule or limit. `scopes` is none where one of its words is not known: what the
    /// operations need of them cannot be told then.
    pub(super) fn constraint(
        &mut self,
        keys: &Narrowing<'_>,
        scopes: Option<&[Grant]>,
        effect: Effect,
    ) -> Constraint {
        let operations = keys.operations.map(|names| {
            let names = names.as_ref();
            if let Some(scopes) = scopes {
                self.check_operations(keys.of, names, scopes, effect);
            }
            names.iter().map(|name| name.as_ref().clone()).collect::<Vec<_>>()
        });
        let is_narrowed_further = keys.resources.is_some() || keys.when.is_some();
        let concerned = match is_narrowed_further {
            true => self.concerned(operations.as_deref(), scopes.unwrap_or_default(), effect),
            false => Vec::new(),
        };
        Constraint {
            resources: keys
                .resources
                .and_then(|table| self.resources(table, operations.is_some(), &concerned)),
            when: keys.when.and_then(|text| self.when(text, &concerned)),
            operations,
        }
    }

    /// A condition that does not compile leaves no rule without one: the policy is not used then.
    fn when(&mut self, text: &Spanned<String>, concerned: &[&Operation]) -> Option<When> {
        let compiled = When::compile(text.as_ref(), self.catalogue, concerned);
        compiled.map_err(|error| self.findings.add(text.span(), format!("`when`: {error}"))).ok()
    }

    /// The operations that a rule could concern.
    fn concerned(&self, names: Option<&[String]>, scopes: &[Grant], effect: Effect) -> Vec<&'c Operation> {
        let is_named = |operation: &&Operation| names.is_none_or(|names| names.contains(&operation.name));
        let is_touched = |operation: &&Operation| {
            scopes.is_empty() || scopes.iter().any(|grant| can_touch(grant, operation, effect))
        };
        self.catalogue.operations().iter().filter(is_named).filter(is_touched).collect()
    }

    fn resources(
        &mut self,
        table: &Spanned<ResourcesTable>,
        by_name: bool,
        concerned: &[&Operation],
    ) -> Option<Resources> {
        let mut resources = Resources::default();
        if table.as_ref().is_empty() {
            self.findings.add(table.span(), "`resources = {}` fits nothing; name a kind, or remove the key");
        }
        for (kind, ids) in table.as_ref() {
            let name: &String = kind.as_ref();
            if ids.as_ref().is_empty() {
                self.findings
                    .add(ids.span(), format!("`{name} = []` fits nothing; name some, or remove the kind"));
            }
            if !self.catalogue.kinds().any(|(known, _)| known == name) {
                let suggestion = nearest(name, self.catalogue.kinds().map(|(known, _)| known))
                    .map_or_else(String::new, |known| format!("; did you mean `{known}`?"));
                self.findings.add(kind.span(), format!("unknown kind of resource `{name}`{suggestion}"));
                continue;
            }
            let unable = |operation: &&&Operation| !resources::can_name(operation, name);
            // Every operation that is named must be able to name the resource; of those that only need the
            // scopes one suffices.
            let problem = match (by_name, concerned.iter().find(unable)) {
                (true, Some(operation)) => Some(format!("operation `{}` names no `{name}`", operation.name)),
                (false, Some(_)) if concerned.iter().all(|operation| unable(&operation)) => {
                    Some(format!("no operation of this rule's scopes names a `{name}`"))
                }
                _ => None,
            };
            if let Some(problem) = problem {
                self.findings.add(kind.span(), format!("{problem}, so that this fits nothing; remove it"));
            }
            let patterns = ids.as_ref().iter().filter_map(|id| self.pattern(id)).collect();
            resources.insert(name, patterns, self.catalogue);
        }
        Some(resources)
    }

    fn pattern(&mut self, id: &Spanned<Id>) -> Option<String> {
        match id.as_ref() {
            Id::Number(number) => Some(number.to_string()),
            Id::Text(text) if text.is_empty() || text.chars().any(char::is_control) => {
                self.findings
                    .add(id.span(), "an id, name, slug or glob has at least one printable character");
                None
            }
            Id::Text(text) => Some(text.clone()),
        }
    }

    /// A rule that is narrowed to an operation that it cannot touch is a mistake.
    fn check_operations(&mut self, of: &str, names: &[Spanned<String>], scopes: &[Grant], effect: Effect) {
        for name in names {
            let Some(operation) = self.operation(name) else { continue };
            if !scopes.is_empty() && !scopes.iter().any(|grant| can_touch(grant, operation, effect)) {
                let message = format!("operation `{}` needs none of the {of}'s scopes", operation.name);
                self.findings.add(name.span(), message);
            }
        }
    }

    pub(super) fn operation(&mut self, name: &Spanned<String>) -> Option<&'c Operation> {
        let text: &String = name.as_ref();
        let found = self.catalogue.operation(text);
        if found.is_none() {
            let known = self.catalogue.operations().iter().map(|operation| operation.name.as_str());
            let suggestion = did_you_mean(nearest(text, known));
            self.findings.add(name.span(), format!("unknown operation `{text}`{suggestion}"));
        }
        found
    }
}

/// Whether a rule of the effect can make a difference to some request for the operation by this grant.
fn can_touch(grant: &Grant, operation: &Operation, effect: Effect) -> bool {
    let access = Access::of(&operation.method, operation);
    let own = || operation.scopes.iter().flatten().chain(&operation.hardened);
    let is_unscoped = own().next().is_none();
    let by_request = operation.conditions.iter().flat_map(|condition| &condition.requires);
    let by_answer = operation.filters.iter().map(|filter| &filter.requires);
    let mut scopes = own().chain(by_request).chain(by_answer);
    match (effect, is_unscoped) {
        (Effect::Allow, true) => grant.gives_unscoped(access),
        (Effect::Deny, true) => grant.takes_unscoped(access),
        (Effect::Allow, false) => {
            scopes.any(|scope| grant.gives(scope, access) || grant.gives(scope, Access::Read))
        }
        (Effect::Deny, false) => scopes.any(|scope| grant.takes(scope, access)),
    }
}
