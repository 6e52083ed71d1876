//! How a decision came about: every entry of the policy that was considered, and what it said.

use super::{
    Effect, Policy, Request,
    decision::Entry,
    grant::Grant,
    question::{Question, View},
    rules::Fit,
};
use crate::{classify::Scope, reason::Reason};
use serde::Serialize;
use std::fmt;

/// One entry of the policy, before one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Considered {
    /// The entry, such as `allow[0]` or `rule[3]`.
    pub rule: String,
    /// What it says of requests that it fits.
    pub effect: Effect,
    /// Whether it fits this one.
    #[serde(flatten)]
    pub finding: Finding,
}

/// Whether an entry fits a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// It does, for these of the scopes; for none where it is not about scopes.
    Fits {
        /// The scopes.
        scopes: Vec<String>,
    },
    /// It is about other scopes.
    OtherScopes,
    /// It is narrowed to other operations.
    OtherOperation,
    /// It is narrowed to other resources.
    OtherResource,
    /// Its condition is false.
    ConditionFalse,
    /// Its condition has no answer.
    ConditionFailed {
        /// Why.
        error: String,
    },
}

impl fmt::Display for Considered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, effect, finding } = self;
        write!(f, "{rule:<10} {:<5} ", effect.word())?;
        match finding {
            Finding::Fits { scopes } if scopes.is_empty() => f.write_str("fits"),
            Finding::Fits { scopes } => write!(f, "fits: {}", scopes.join(", ")),
            Finding::OtherScopes => f.write_str("is about other scopes"),
            Finding::OtherOperation => f.write_str("is about other operations"),
            Finding::OtherResource => f.write_str("is about other resources"),
            Finding::ConditionFalse => f.write_str("its condition is false"),
            Finding::ConditionFailed { error } => write!(f, "its condition failed: {error}"),
        }
    }
}

/// Every rule, and those entries of `allow` and `deny` that speak of a scope in `required`.
pub fn account(policy: &Policy, request: &Request<'_>, required: &[Scope]) -> Vec<Considered> {
    let question = Question::new(policy, request, View::Whole);
    let required: Vec<&Scope> = required.iter().collect();
    let listed = [(Effect::Allow, "allow", &policy.allow), (Effect::Deny, "deny", &policy.deny)];
    let listed = listed.into_iter().flat_map(|(effect, list, grants)| {
        let (question, required) = (&question, &required);
        grants.iter().enumerate().filter_map(move |(index, grant)| {
            let scopes = question.hits(std::slice::from_ref(grant), required, effect);
            let rule = format!("{list}[{index}]");
            (!scopes.is_empty()).then_some(Considered { rule, effect, finding: Finding::Fits { scopes } })
        })
    });
    let ruled = policy.rules.iter().enumerate().map(|(index, rule)| {
        let scopes = question.hits(&rule.scopes, &required, rule.effect);
        let finding = match question.rules.fit_of(&rule.constraint, rule.effect) {
            Fit::OtherOperation => Finding::OtherOperation,
            _ if scopes.is_empty() && !rule.scopes.is_empty() => Finding::OtherScopes,
            Fit::OtherResource => Finding::OtherResource,
            Fit::NotNow => Finding::ConditionFalse,
            Fit::Unanswered(error) => Finding::ConditionFailed { error: error.to_string() },
            Fit::Yes => Finding::Fits { scopes },
        };
        Considered { rule: format!("rule[{index}]"), effect: rule.effect, finding }
    });
    listed.chain(ruled).collect()
}

/// The most that a sentence lists.
const MAX_LISTED: usize = 8;

/// What would be allowed in place of a denied request, as the end of a sentence; nothing where the policy has
/// nothing near.
pub(super) fn instead(policy: &Policy, reason: Reason, entry: Entry, missing: &[Scope]) -> Option<String> {
    let rule = || if let Entry::Rule(index) = entry { policy.rules.get(index) } else { None };
    if reason == Reason::ResourceNotAllowed {
        let resources = rule()?.constraint.resources.as_ref()?;
        let kinds = resources
            .entries()
            .map(|(kind, patterns)| format!("{kind} {}", listed(patterns.map(str::to_owned).collect())));
        Some(format!("allowed for {} only", kinds.collect::<Vec<_>>().join(" and ")))
    } else if reason == Reason::ConditionNotMet {
        let when = rule()?.constraint.when.as_ref()?;
        let words = when.text().split_whitespace().collect::<Vec<_>>().join(" ");
        Some(format!("allowed only when {}", shortened(&words)))
    } else if reason == Reason::MissingScope {
        let missing = missing.first()?;
        let words = allowed_of_resource(policy, missing);
        let resource = missing.resource();
        (!words.is_empty()).then(|| format!("of {resource} this policy allows {}", listed(words)))
    } else {
        None
    }
}

/// The most that a sentence repeats of a condition, in characters.
const MAX_CONDITION: usize = 200;

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_CONDITION) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn listed(mut words: Vec<String>) -> String {
    if words.len() > MAX_LISTED {
        words.truncate(MAX_LISTED);
        words.push("…".to_owned());
    }
    words.join(", ")
}

/// The policy's own words for what it allows of a scope's resource.
fn allowed_of_resource(policy: &Policy, missing: &Scope) -> Vec<String> {
    let ruled = policy.rules.iter().filter(|rule| rule.effect == Effect::Allow).flat_map(|rule| &rule.scopes);
    let speaks = |grant: &&Grant| match grant {
        Grant::Scope(scope) => scope.is_beside(missing),
        Grant::Resource(resource) => **resource == *missing.resource(),
        Grant::ApiRead | Grant::ApiWrite => !policy.deny.contains(grant),
    };
    let mut words: Vec<String> =
        policy.allow.iter().chain(ruled).filter(speaks).map(ToString::to_string).collect();
    words.sort();
    words.dedup();
    words
}
