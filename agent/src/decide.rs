//! Stage 6: may this workload make this request? Pure, total, deterministic; the default is deny.

pub mod case;
pub mod decision;
pub mod document;
pub mod grant;
pub mod nearest;
pub mod policy;
pub mod trial;

pub use decision::{Decision, Effect};
pub use policy::Policy;

use crate::{
    classify::{Operation, Scope},
    reason::Reason,
};
use grant::{Access, Grant};
use http::Method;
use policy::{Mode, Rule};

/// Decides one request. `operation` is what the catalogue's router found for it.
///
/// A request passes if every scope of one of the operation's sets is allowed, no scope of any of its sets is
/// denied, and no deny rule fits. The order of entries and rules matters to no answer.
pub fn decide(policy: &Policy, method: &Method, operation: Option<&Operation>) -> Decision {
    let question = Question::new(policy, method, operation);
    let denials = question.denials();
    // A denial that is only recorded must not hide one that is carried out.
    let deciding = denials.iter().find(|denial| !denial.dry_run).or_else(|| denials.first());
    match deciding {
        Some(denial) => question.denied(denial),
        None => question.allowed(),
    }
}

/// One request against one policy.
struct Question<'a> {
    policy: &'a Policy,
    operation: Option<&'a Operation>,
    access: Access,
    /// Sets of scopes of which one must be allowed in full; empty where the operation has no scope or is unknown.
    alternatives: Vec<Vec<Scope>>,
}

/// One reason to deny.
struct Denial<'a> {
    reason: Reason,
    rule: String,
    note: Option<&'a str>,
    /// The scopes that its entry takes away.
    taken: Vec<&'a Scope>,
    dry_run: bool,
}

impl<'a> Question<'a> {
    fn new(policy: &'a Policy, method: &Method, operation: Option<&'a Operation>) -> Self {
        let access = operation
            .map_or_else(|| Access::of_unclassified(method), |operation| Access::of(method, operation));
        let mut alternatives = operation.map(Operation::alternatives).unwrap_or_default();
        // A real scope tells more than an alias, and the first fitting set is the one that is named.
        alternatives.sort_by_key(|set| set.iter().any(|scope| scope.resource() == "api"));
        Self { policy, operation, access, alternatives }
    }

    /// All that speaks against the request, the most telling first. Empty means allow.
    fn denials(&'a self) -> Vec<Denial<'a>> {
        let by_list = self.denied_by_list();
        let rules = self.policy.rules.iter().enumerate();
        let by_rules = rules.filter_map(|(index, rule)| self.denied_by_rule(index, rule));
        let by_default = self.not_allowed();
        if self.operation.is_none() {
            return by_default.into_iter().chain(by_list).chain(by_rules).collect();
        }
        by_list.into_iter().chain(by_rules).chain(by_default).collect()
    }

    fn denied_by_list(&'a self) -> Option<Denial<'a>> {
        let deny = &self.policy.deny;
        let index = deny.iter().position(|grant| self.is_hit_by(grant))?;
        Some(Denial {
            reason: Reason::DeniedScope,
            rule: format!("deny[{index}]"),
            note: None,
            taken: self.taken_by(deny),
            dry_run: self.policy.mode == Mode::DryRun,
        })
    }

    fn denied_by_rule(&'a self, index: usize, rule: &'a Rule) -> Option<Denial<'a>> {
        let fits = rule.effect == Effect::Deny
            && self.is_concern_of(rule)
            && (rule.scopes.is_empty() || rule.scopes.iter().any(|grant| self.is_hit_by(grant)));
        fits.then(|| Denial {
            reason: Reason::DeniedByRule,
            rule: format!("rule[{index}]"),
            note: rule.reason.as_deref(),
            taken: self.taken_by(&rule.scopes),
            dry_run: rule.mode.unwrap_or(self.policy.mode) == Mode::DryRun,
        })
    }

    fn not_allowed(&self) -> Option<Denial<'a>> {
        let reason = match self.operation {
            _ if self.allowing_rule().is_some() => return None,
            None => Reason::Unclassified,
            Some(_) if self.alternatives.is_empty() => Reason::NoScopeDefined,
            Some(_) => Reason::MissingScope,
        };
        let dry_run = self.policy.mode == Mode::DryRun;
        Some(Denial { reason, rule: "default".to_owned(), note: None, taken: Vec::new(), dry_run })
    }

    /// The entry that allows the request as far as no denial is considered.
    fn allowing_rule(&self) -> Option<String> {
        let Some(operation) = self.operation else {
            let allowed = self.policy.unknown_allowed && self.policy.allow.contains(&Grant::ApiWrite);
            return allowed.then(|| "unknown".to_owned());
        };
        if self.alternatives.is_empty() {
            let named = self.policy.operations.iter().position(|name| *name == operation.name);
            return named
                .map(|index| format!("operations[{index}]"))
                .or_else(|| self.first_allowing(|grant| grant.gives_unscoped(self.access)));
        }
        self.first_allowed_set().and_then(|set| set.first()).and_then(|scope| self.giver_of(scope))
    }

    fn first_allowed_set(&self) -> Option<&Vec<Scope>> {
        // An empty set among others would mean that nothing is needed: never take that from data.
        self.alternatives
            .iter()
            .find(|set| !set.is_empty() && set.iter().all(|scope| self.giver_of(scope).is_some()))
    }

    fn giver_of(&self, scope: &Scope) -> Option<String> {
        self.first_allowing(|grant| grant.gives(scope, self.access))
    }

    /// The first entry of `allow`, or else the first allow rule that concerns the operation, with such a grant.
    fn first_allowing(&self, gives: impl Fn(&Grant) -> bool) -> Option<String> {
        let listed = self.policy.allow.iter().position(&gives).map(|index| format!("allow[{index}]"));
        let ruled = || {
            self.policy.rules.iter().position(|rule| {
                rule.effect == Effect::Allow && self.is_concern_of(rule) && rule.scopes.iter().any(&gives)
            })
        };
        listed.or_else(|| ruled().map(|index| format!("rule[{index}]")))
    }

    fn is_concern_of(&self, rule: &Rule) -> bool {
        self.operation.map_or(rule.operations.is_none(), |operation| rule.concerns(&operation.name))
    }

    /// Whether a denied grant takes anything that the request could use.
    fn is_hit_by(&self, grant: &Grant) -> bool {
        if self.alternatives.is_empty() {
            return grant.takes_unscoped(self.access);
        }
        self.alternatives.iter().flatten().any(|scope| grant.takes(scope, self.access))
    }

    fn taken_by(&'a self, grants: &[Grant]) -> Vec<&'a Scope> {
        let is_taken = |scope: &&Scope| grants.iter().any(|grant| grant.takes(scope, self.access));
        self.alternatives.iter().flatten().filter(is_taken).collect()
    }

    fn allowed(&self) -> Decision {
        let reason = match self.operation {
            None => Reason::UnknownAllowed,
            Some(_) if self.alternatives.is_empty() => Reason::OperationAllowed,
            Some(_) => Reason::ScopesAllowed,
        };
        Decision {
            effect: Effect::Allow,
            reason,
            rule: self.allowing_rule().unwrap_or_default(),
            note: None,
            required: self.first_allowed_set().cloned().unwrap_or_default(),
            missing: Vec::new(),
            dry_run: false,
        }
    }

    fn denied(&self, denial: &Denial<'_>) -> Decision {
        let lacks = |scope: &&Scope| self.giver_of(scope).is_none() || denial.taken.contains(scope);
        let is_concerned =
            |set: &&Vec<Scope>| denial.taken.is_empty() || set.iter().any(|scope| denial.taken.contains(&scope));
        // The set that is nearest to being allowed is the most useful to name.
        let distance = |set: &&Vec<Scope>| set.iter().filter(lacks).count();
        let required = self.alternatives.iter().filter(is_concerned).min_by_key(distance);
        Decision {
            effect: Effect::Deny,
            reason: denial.reason,
            rule: denial.rule.clone(),
            note: denial.note.map(str::to_owned),
            missing: required.map(|set| set.iter().filter(lacks).cloned().collect()).unwrap_or_default(),
            required: required.cloned().unwrap_or_default(),
            dry_run: denial.dry_run,
        }
    }
}

#[cfg(test)]
mod tests;
