//! Stage 6: may this workload make this request? Pure, total, deterministic; the default is deny.

pub mod case;
pub mod decision;
pub mod document;
pub mod grant;
mod nearest;
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
/// A request passes if every scope of one of the operation's sets is allowed, none of that set is denied, and
/// no deny rule is narrowed to the operation. The order of entries and rules changes no answer.
pub fn decide(policy: &Policy, method: &Method, operation: Option<&Operation>) -> Decision {
    let question = Question::new(policy, method, operation);
    let outcomes = question.sets.iter().map(|set| (set, question.denial_of_set(set)));
    // The set that comes closest is the one that is named: one that passes, then one that only dry-run rules
    // stand against, then the one that lacks least, rather by a denial than by nobody's having allowed it.
    let closest = outcomes.min_by_key(|(set, denial)| match denial {
        None => (0, 0, false),
        Some(denial) => {
            let rank = if denial.dry_run { 1 } else { 2 };
            (rank, question.missing(set).len(), denial.reason == Reason::MissingScope)
        }
    });
    let (required, denial_of_set) = closest.unwrap_or((&NOTHING, None));
    let denials = question
        .denials_by_narrowed_rules()
        .chain(denial_of_set)
        .chain(question.denial_of_answer())
        .collect();
    match deciding(denials) {
        Some(denial) => question.denied(denial, required),
        None => question.allowed(required),
    }
}

static NOTHING: Vec<Scope> = Vec::new();

/// One request against one policy.
struct Question<'a> {
    policy: &'a Policy,
    operation: Option<&'a Operation>,
    access: Access,
    /// Sets of scopes of which one must be allowed in full. Where the operation has no scope or is unknown, one
    /// empty set, which never counts as allowed by itself.
    sets: Vec<Vec<Scope>>,
}

/// One reason to deny.
struct Denial<'a> {
    reason: Reason,
    rule: String,
    note: Option<&'a str>,
    dry_run: bool,
}

/// The denial that tells most: one that is only recorded must not hide one that is carried out.
fn deciding(mut denials: Vec<Denial<'_>>) -> Option<Denial<'_>> {
    denials.sort_by_key(|denial| denial.dry_run);
    denials.into_iter().next()
}

impl<'a> Question<'a> {
    fn new(policy: &'a Policy, method: &Method, operation: Option<&'a Operation>) -> Self {
        let access = operation
            .map_or_else(|| Access::of_unclassified(method), |operation| Access::of(method, operation));
        let mut sets = operation.map(Operation::alternatives).unwrap_or_default();
        if sets.is_empty() {
            sets.push(Vec::new());
        }
        Self { policy, operation, access, sets }
    }

    /// What speaks against the request as far as it needs this set.
    fn denial_of_set(&self, set: &[Scope]) -> Option<Denial<'a>> {
        let by_default = self.not_allowed(set);
        let by_list = self.policy.deny.iter().position(|grant| self.is_hit(set, grant));
        let by_list = by_list.map(|index| self.denial_by_list(index));
        let by_rules = self.deny_rules().filter(|(_, rule)| {
            rule.operations.is_none() && rule.scopes.iter().any(|grant| self.is_hit(set, grant))
        });
        let by_rules = by_rules.map(|(index, rule)| self.denial_by(index, rule));
        // That nobody knows the request says more than that it is a write.
        if self.operation.is_none() {
            return deciding(by_default.into_iter().chain(by_list).chain(by_rules).collect());
        }
        deciding(by_list.into_iter().chain(by_rules).chain(by_default).collect())
    }

    /// What speaks against the credentials that the answer holds. It goes to the client as it came, and the
    /// token may hold what the policy denies.
    fn denial_of_answer(&self) -> Option<Denial<'a>> {
        let shows = self.shows();
        if shows.is_empty() {
            return None;
        }
        let by_list = self.policy.deny.iter().position(|grant| self.is_hit(shows, grant));
        let by_list = by_list.map(|index| self.denial_by_list(index));
        let by_rules = self.deny_rules().filter(|(_, rule)| {
            rule.operations.is_none() && rule.scopes.iter().any(|grant| self.is_hit(shows, grant))
        });
        let by_rules = by_rules.map(|(index, rule)| self.denial_by(index, rule));
        deciding(by_list.into_iter().chain(by_rules).collect())
    }

    /// The scopes of the credentials in the answer.
    fn shows(&self) -> &'a [Scope] {
        self.operation.map_or(&[], |operation| &operation.shows)
    }

    /// Deny rules that are narrowed to the operation and fit it, whichever set would do.
    fn denials_by_narrowed_rules(&self) -> impl Iterator<Item = Denial<'a>> {
        let is_hit = |grant: &Grant| {
            self.sets.iter().any(|set| self.is_hit(set, grant))
                || self.shows().iter().any(|scope| grant.takes(scope, self.access))
        };
        self.deny_rules()
            .filter(|(_, rule)| rule.operations.is_some() && self.concerns(rule))
            .filter(move |(_, rule)| rule.scopes.is_empty() || rule.scopes.iter().any(is_hit))
            .map(|(index, rule)| self.denial_by(index, rule))
    }

    fn deny_rules(&self) -> impl Iterator<Item = (usize, &'a Rule)> {
        self.policy.rules.iter().enumerate().filter(|(_, rule)| rule.effect == Effect::Deny)
    }

    fn denial_by_list(&self, index: usize) -> Denial<'a> {
        Denial {
            reason: Reason::DeniedScope,
            rule: format!("deny[{index}]"),
            note: None,
            dry_run: self.policy.mode == Mode::DryRun,
        }
    }

    fn denial_by(&self, index: usize, rule: &'a Rule) -> Denial<'a> {
        Denial {
            reason: Reason::DeniedByRule,
            rule: format!("rule[{index}]"),
            note: rule.reason.as_deref(),
            dry_run: rule.mode.unwrap_or(self.policy.mode) == Mode::DryRun,
        }
    }

    fn not_allowed(&self, set: &[Scope]) -> Option<Denial<'a>> {
        let reason = match self.operation {
            _ if self.allowing_entry(set).is_some() => return None,
            None => Reason::Unclassified,
            Some(_) if set.is_empty() => Reason::NoScopeDefined,
            Some(_) => Reason::MissingScope,
        };
        let dry_run = self.policy.mode == Mode::DryRun;
        Some(Denial { reason, rule: "default".to_owned(), note: None, dry_run })
    }

    /// The entry that allows the set, as far as no denial is considered: the one that gives its first scope.
    fn allowing_entry(&self, set: &[Scope]) -> Option<String> {
        let Some(operation) = self.operation else {
            let allowed = self.policy.unknown_allowed && self.policy.allow.contains(&Grant::ApiWrite);
            return allowed.then(|| "unknown".to_owned());
        };
        if let Some(first) = set.first() {
            let all_given = set.iter().all(|scope| self.giver_of(scope).is_some());
            return self.giver_of(first).filter(|_| all_given);
        }
        let named = self.policy.operations.iter().position(|name| *name == operation.name);
        named
            .map(|index| format!("operations[{index}]"))
            .or_else(|| self.first_allowing(|grant| grant.gives_unscoped(self.access)))
    }

    fn giver_of(&self, scope: &Scope) -> Option<String> {
        self.first_allowing(|grant| grant.gives(scope, self.access))
    }

    /// The first entry of `allow`, or else the first allow rule that concerns the operation, with such a grant.
    fn first_allowing(&self, gives: impl Fn(&Grant) -> bool) -> Option<String> {
        let listed = self.policy.allow.iter().position(&gives).map(|index| format!("allow[{index}]"));
        let ruled = || {
            self.policy.rules.iter().position(|rule| {
                rule.effect == Effect::Allow && self.concerns(rule) && rule.scopes.iter().any(&gives)
            })
        };
        listed.or_else(|| ruled().map(|index| format!("rule[{index}]")))
    }

    /// A rule that is narrowed to operations never concerns an unknown one.
    fn concerns(&self, rule: &Rule) -> bool {
        let Some(names) = &rule.operations else { return true };
        self.operation.is_some_and(|operation| names.contains(&operation.name))
    }

    /// Whether a denied grant takes anything of the set.
    fn is_hit(&self, set: &[Scope], grant: &Grant) -> bool {
        if set.is_empty() {
            return grant.takes_unscoped(self.access);
        }
        set.iter().any(|scope| grant.takes(scope, self.access))
    }

    /// The scopes of a set that the policy does not allow or denies, and those of the answer that it denies.
    fn missing(&self, set: &[Scope]) -> Vec<Scope> {
        let by_rules = self.deny_rules().filter(|(_, rule)| self.concerns(rule));
        let denied: Vec<&Grant> =
            self.policy.deny.iter().chain(by_rules.flat_map(|(_, rule)| &rule.scopes)).collect();
        let is_missing = |scope: &&Scope| {
            self.giver_of(scope).is_none() || denied.iter().any(|grant| grant.takes(scope, self.access))
        };
        let shown =
            self.shows().iter().filter(|scope| denied.iter().any(|grant| grant.takes(scope, self.access)));
        let mut missing: Vec<Scope> = set.iter().filter(is_missing).chain(shown).cloned().collect();
        missing.dedup();
        missing
    }

    fn allowed(&self, required: &[Scope]) -> Decision {
        let reason = match self.operation {
            None => Reason::UnknownAllowed,
            Some(_) if required.is_empty() => Reason::OperationAllowed,
            Some(_) => Reason::ScopesAllowed,
        };
        Decision {
            effect: Effect::Allow,
            reason,
            rule: self.allowing_entry(required).unwrap_or_default(),
            note: None,
            required: required.to_vec(),
            missing: Vec::new(),
            dry_run: false,
        }
    }

    fn denied(&self, denial: Denial<'_>, required: &[Scope]) -> Decision {
        Decision {
            effect: Effect::Deny,
            reason: denial.reason,
            rule: denial.rule,
            note: denial.note.map(str::to_owned),
            required: required.to_vec(),
            missing: self.missing(required),
            dry_run: denial.dry_run,
        }
    }
}

#[cfg(test)]
mod tests;
