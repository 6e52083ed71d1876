//! The validated policy.

use super::{Effect, grant::Grant, limit::Limit, resources::Resources, rule_list::RuleList, when::When};
use crate::classify::Operation;

/// Whether a deny is carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Refuse what is denied.
    #[default]
    Enforce,
    /// Forward it, and record that it would have been refused.
    DryRun,
}

/// A policy, loaded and checked against the catalogue. The empty one denies everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Its name: the file's, without `.toml`.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Whom to ask for more, shown in refusals.
    pub contact: Option<String>,
    /// Whether denials are carried out.
    pub mode: Mode,
    /// What is allowed.
    pub allow: Vec<Grant>,
    /// What is denied, whatever else allows it.
    pub deny: Vec<Grant>,
    /// Operations without a scope that are allowed by name.
    pub operations: Vec<String>,
    /// The `[[rule]]` tables, in the order of the file, which decides nothing but their numbers.
    pub rules: RuleList,
    /// The `[[limit]]` tables.
    pub limits: Vec<Limit>,
    /// Whether a request that is not in the catalogue passes where `allow` holds `api:write`.
    pub unknown_allowed: bool,
}

/// One `[[rule]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it says of the requests that it fits.
    pub effect: Effect,
    /// Its scopes. An allow rule gives them; a deny rule fits what needs any of them, or, where it names no
    /// scope, all of its operations.
    pub scopes: Vec<Grant>,
    /// What narrows it.
    pub constraint: Constraint,
    /// For the refusal's message.
    pub reason: Option<String>,
    /// For a deny rule: its own mode, where that differs from the policy's.
    pub mode: Option<Mode>,
}

/// What narrows a rule or limit; nothing narrows the default one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraint {
    /// The operations; none: any.
    pub operations: Option<Vec<String>>,
    /// The resources; none: any.
    pub resources: Option<Resources>,
    /// The condition; none: always.
    pub when: Option<When>,
}

impl Constraint {
    /// Whether the operation is among those that it is narrowed to.
    fn concerns(&self, operation: Option<&Operation>) -> bool {
        self.operations
            .as_ref()
            .is_none_or(|names| operation.is_some_and(|operation| names.contains(&operation.name)))
    }

    /// Whether it looks at the bodies of an operation's requests.
    pub fn reads_body(&self, operation: Option<&Operation>) -> bool {
        let by_resources =
            |resources: &Resources| operation.is_some_and(|operation| resources.read_body_of(operation));
        self.concerns(operation)
            && (self.when.as_ref().is_some_and(When::reads_body)
                || self.resources.as_ref().is_some_and(by_resources))
    }
}

impl Policy {
    /// The names of the body's fields that conditions speak of, for requests of an operation.
    pub fn names_in_body(&self, operation: Option<&Operation>) -> Vec<&str> {
        let ruled = self.rules.iter().map(|rule| &rule.constraint);
        let limited = self.limits.iter().map(|limit| &limit.constraint);
        let conditions = ruled.chain(limited).filter(|constraint| constraint.concerns(operation));
        conditions
            .filter_map(|constraint| constraint.when.as_ref())
            .flat_map(When::names)
            .map(|name| &**name)
            .collect()
    }
}
