//! One request against one policy: what speaks for it, and what against.

use super::{
    Decision, Effect, Policy, Request,
    decision::Entry,
    grant::{Access, Grant},
    policy::Mode,
    rules::{Fit, Rules},
};
use crate::{
    classify::{
        Filter, Operation, Scope, filter,
        operation::{Set, Sets},
    },
    reason::Reason,
};
use smallvec::SmallVec;

/// How much of the request is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// All of it.
    Whole,
    /// All but the body. What a body could change counts for the request.
    Head,
}

/// One request against one policy.
pub(super) struct Question<'a> {
    policy: &'a Policy,
    operation: Option<&'a Operation>,
    /// Whether it is an action of the operation that the catalogue does not know.
    action_is_unknown: bool,
    access: Access,
    /// Whether each of the operation's own sets has a scope that writes.
    is_write_by_scope: bool,
    /// Whether nothing but the request's query and body asks for a scope, if anything does.
    is_unscoped: bool,
    pub(super) rules: Rules<'a>,
    /// Sets of scopes of which one must be allowed in full. Where the operation has no scope or is unknown, one set
    /// with what the query and the body ask for, which never counts as allowed by itself.
    pub(super) sets: Sets<'a>,
}

/// One reason to deny.
#[derive(Clone, Debug)]
pub(super) struct Denial {
    pub(super) reason: Reason,
    pub(super) entry: Entry,
    pub(super) note: Option<String>,
    pub(super) dry_run: bool,
}

impl Denial {
    /// Nothing of the policy fitted.
    pub(super) fn by_default(reason: Reason) -> Self {
        Self { reason, entry: Entry::Default, note: None, dry_run: false }
    }
}

/// The denial that tells most: one that is only recorded must not hide one that is carried out.
pub(super) fn deciding<const N: usize>(denials: [Option<Denial>; N]) -> Option<Denial> {
    // Against most requests nothing speaks.
    if denials.iter().all(Option::is_none) {
        return None;
    }
    denials.into_iter().flatten().min_by_key(|denial| denial.dry_run)
}

/// Of several rules' denials, the one that is named whatever the rules' order: one that is carried out, and one
/// that is sure.
fn surest(denials: impl Iterator<Item = Denial>) -> Option<Denial> {
    denials.min_by_key(|denial| (denial.dry_run, denial.reason == Reason::ConditionFailed))
}

impl<'a> Question<'a> {
    pub(super) fn new(policy: &'a Policy, request: &'a Request<'a>, view: View) -> Self {
        let operation = request.operation;
        let access = operation.map_or_else(
            || Access::of_unclassified(request.method),
            |operation| Access::of(request.method, operation),
        );
        let mut sets = operation.map(Operation::sets).unwrap_or_default();
        let is_write = |set: &Set<'_>| set.iter().any(|scope| !scope.is_read());
        let is_write_by_scope = !sets.is_empty() && sets.iter().all(is_write);
        let is_unscoped = sets.is_empty();
        let extras = || request.needs.extras.iter().map(|extra| extra.scope);
        if is_unscoped {
            sets.push(Set::new());
        }
        for set in sets.iter_mut() {
            for scope in extras() {
                if !set.contains(&scope) {
                    set.push(scope);
                }
            }
        }
        let mut near = policy.rules.near();
        for set in &sets {
            set.iter().for_each(|scope| near.add(scope));
        }
        for (filter, _) in operation.into_iter().flat_map(|operation| operation.filters.alike()) {
            near.add(&filter.requires);
        }
        let rules = Rules::new(policy, request, view, near);
        let action_is_unknown = request.action_is_unknown;
        Self { policy, operation, action_is_unknown, access, is_write_by_scope, is_unscoped, rules, sets }
    }

    /// What speaks against the request as far as it needs this set.
    pub(super) fn denial_of_set(&self, set: &[&Scope]) -> Option<Denial> {
        let by_default = self.not_allowed(set);
        let by_list = self.policy.deny.iter().position(|grant| self.is_hit(set, grant));
        let by_list = by_list.map(|index| self.denial_by_list(index));
        let by_rules = self.rules.of(Effect::Deny).filter(|(_, rule)| {
            let hits = || rule.scopes.iter().any(|grant| self.is_hit(set, grant));
            rule.constraint.operations.is_none() && (rule.scopes.is_empty() || hits())
        });
        let by_rules = surest(by_rules.filter_map(|(index, _)| self.denial_by(index)));
        // That nobody knows the request says more than that it is a write.
        if self.is_unknown() {
            return deciding([by_default, by_list, by_rules]);
        }
        deciding([by_list, by_rules, by_default])
    }

    /// Deny rules that are narrowed to the operation and fit it, whichever set would do.
    pub(super) fn denial_by_narrowed_rules(&self) -> Option<Denial> {
        let is_hit = |grant: &Grant| self.sets.iter().any(|set| self.is_hit(set, grant));
        let fitting = self
            .rules
            .of(Effect::Deny)
            .filter(|(_, rule)| rule.constraint.operations.is_some())
            .filter(|(_, rule)| rule.scopes.is_empty() || rule.scopes.iter().any(is_hit));
        surest(fitting.filter_map(|(index, _)| self.denial_by(index)))
    }

    fn denial_by_list(&self, index: usize) -> Denial {
        Denial {
            reason: Reason::DeniedScope,
            entry: Entry::Deny(index),
            note: None,
            dry_run: self.policy.mode == Mode::DryRun,
        }
    }

    /// The denial of a deny rule whose scopes fit, if the rest of it fits as well.
    fn denial_by(&self, index: usize) -> Option<Denial> {
        let rule = self.policy.rules.get(index)?;
        let (reason, note) = match self.rules.fit(index) {
            Fit::Yes => (Reason::DeniedByRule, rule.reason.clone()),
            Fit::Unanswered(error) => (Reason::ConditionFailed, Some(error.to_string())),
            Fit::OtherOperation | Fit::OtherResource | Fit::NotNow => return None,
        };
        let dry_run = rule.mode.unwrap_or(self.policy.mode) == Mode::DryRun;
        Some(Denial { reason, entry: Entry::Rule(index), note, dry_run })
    }

    fn not_allowed(&self, set: &[&Scope]) -> Option<Denial> {
        if self.allowing_entry(set).is_some() {
            return None;
        }
        let default = match self.operation {
            _ if self.is_unknown() => Denial::by_default(Reason::Unclassified),
            None => Denial::by_default(Reason::Unclassified),
            Some(operation) if self.is_unscoped && self.naming_entry(operation).is_none() => {
                Denial::by_default(Reason::NoScopeDefined)
            }
            Some(_) => self.nearly_allowed(set).unwrap_or(Denial::by_default(Reason::MissingScope)),
        };
        Some(Denial { dry_run: self.policy.mode == Mode::DryRun, ..default })
    }

    /// The allow rule that would give a missing scope, were its resources or condition other ones.
    fn nearly_allowed(&self, set: &[&Scope]) -> Option<Denial> {
        let missing = set.iter().filter(|scope| self.giver_of(scope).is_none());
        let mut nearly = missing.map(|scope| {
            let giving = self
                .rules
                .of(Effect::Allow)
                .filter(|(_, rule)| rule.scopes.iter().any(|grant| self.gives(grant, scope)));
            let denials = giving.filter_map(|(index, rule)| {
                let (reason, note) = match self.rules.fit(index) {
                    Fit::OtherResource => (Reason::ResourceNotAllowed, rule.reason.clone()),
                    Fit::NotNow => (Reason::ConditionNotMet, rule.reason.clone()),
                    Fit::Unanswered(error) => (Reason::ConditionFailed, Some(error.to_string())),
                    Fit::Yes | Fit::OtherOperation => return None,
                };
                Some(Denial { reason, entry: Entry::Rule(index), note, dry_run: false })
            });
            // A condition is looked at only where the resources fit, so that its rule comes closer.
            denials.min_by_key(|denial| {
                (denial.reason == Reason::ResourceNotAllowed, denial.reason == Reason::ConditionFailed)
            })
        });
        // A scope that nobody gives at all says more than one that is given for something else.
        let first = nearly.next()??;
        nearly.all(|denial| denial.is_some()).then_some(first)
    }

    /// The entry that allows the set, as far as no denial is considered: the one that gives its first scope.
    fn allowing_entry(&self, set: &[&Scope]) -> Option<Entry> {
        let unknown_allowed = self.policy.unknown_allowed && self.policy.allow.contains(&Grant::ApiWrite);
        let Some(operation) = self.operation else {
            return unknown_allowed.then_some(Entry::Unknown);
        };
        // What the action needs beyond the operation's own scopes nobody knows.
        if self.is_unknown() && (!unknown_allowed || set.iter().any(|scope| self.giver_of(scope).is_none())) {
            return None;
        }
        if self.is_unknown() {
            return Some(Entry::Unknown);
        }
        if self.is_unscoped {
            let naming = self.naming_entry(operation)?;
            return set.iter().all(|scope| self.giver_of(scope).is_some()).then_some(naming);
        }
        let (first, others) = set.split_first()?;
        let giver = self.giver_of(first)?;
        others.iter().all(|scope| self.giver_of(scope).is_some()).then_some(giver)
    }

    /// The entry that allows an operation that no scope of its own stands for.
    fn naming_entry(&self, operation: &Operation) -> Option<Entry> {
        let named = self.policy.operations.iter().position(|name| *name == operation.name);
        named.map(Entry::Operation).or_else(|| self.first_allowing(|grant| grant.gives_unscoped(self.access)))
    }

    /// Whether nobody knows the request: it is for no operation, or for an action of one that is not known.
    fn is_unknown(&self) -> bool {
        self.operation.is_none() || self.action_is_unknown
    }

    fn giver_of(&self, scope: &Scope) -> Option<Entry> {
        self.first_allowing(|grant| self.gives(grant, scope))
    }

    /// Whether an entry gives a scope. A read scope beside the operation's own write scope is context of a write
    /// that something else has to give, so that `api:read` gives it there too.
    fn gives(&self, grant: &Grant, scope: &Scope) -> bool {
        grant.gives(scope, self.access)
            || (*grant == Grant::ApiRead && self.is_write_by_scope && grant.gives(scope, Access::Read))
    }

    /// The first entry of `allow`, or else the first allow rule that fits, with such a grant.
    fn first_allowing(&self, gives: impl Fn(&Grant) -> bool) -> Option<Entry> {
        let listed = self.policy.allow.iter().position(&gives).map(Entry::Allow);
        let ruled = || {
            let mut giving = self.rules.of(Effect::Allow).filter(|(_, rule)| rule.scopes.iter().any(&gives));
            giving.find(|(index, _)| matches!(self.rules.fit(*index), Fit::Yes))
        };
        listed.or_else(|| ruled().map(|(index, _)| Entry::Rule(index)))
    }

    /// Whether a denied grant takes anything of the set.
    fn is_hit(&self, set: &[&Scope], grant: &Grant) -> bool {
        (self.is_unscoped && grant.takes_unscoped(self.access))
            || set.iter().any(|scope| grant.takes(scope, self.access))
    }

    /// Which of the scopes the grants give, or take.
    pub(super) fn hits(&self, grants: &[Grant], scopes: &[&Scope], effect: Effect) -> Vec<String> {
        let hit = |scope: &&&Scope| {
            grants.iter().any(|grant| match effect {
                Effect::Allow => self.gives(grant, scope),
                Effect::Deny => grant.takes(scope, self.access),
            })
        };
        scopes.iter().filter(hit).map(ToString::to_string).collect()
    }

    /// Every grant that is denied to this request.
    fn denied_grants(&self) -> impl Iterator<Item = &'a Grant> {
        let fitting = self
            .rules
            .of(Effect::Deny)
            .filter(|(index, _)| matches!(self.rules.fit(*index), Fit::Yes | Fit::Unanswered(_)));
        self.policy.deny.iter().chain(fitting.flat_map(|(_, rule)| &rule.scopes))
    }

    /// The scopes of a set that the policy does not allow, or denies.
    pub(super) fn missing(&self, set: &[&Scope]) -> Vec<Scope> {
        let is_missing = |scope: &&Scope| {
            self.giver_of(scope).is_none()
                || self.denied_grants().any(|grant| grant.takes(scope, self.access))
        };
        set.iter().copied().filter(is_missing).cloned().collect()
    }

    /// The limits that count the request, whichever of its sets would do, and the denial where one of them has no
    /// answer.
    pub(super) fn limits(&self) -> (Vec<usize>, Option<Denial>) {
        let (mut counting, mut unanswered) = (Vec::new(), Vec::new());
        for (index, limit) in self.policy.limits.iter().enumerate() {
            let is_hit = |grant: &Grant| self.sets.iter().any(|set| self.is_hit(set, grant));
            if !limit.scopes.is_empty() && !limit.scopes.iter().any(is_hit) {
                continue;
            }
            match self.rules.fit_of(&limit.constraint, Effect::Deny) {
                Fit::Yes => counting.push(index),
                Fit::Unanswered(error) => unanswered.push(Denial {
                    reason: Reason::ConditionFailed,
                    entry: Entry::Limit(index),
                    note: Some(error.to_string()),
                    dry_run: !limit.is_enforced(self.policy),
                }),
                Fit::OtherOperation | Fit::OtherResource | Fit::NotNow => {}
            }
        }
        (counting, surest(unanswered.into_iter()))
    }

    /// The operation's filters whose part of the answer is not to be shown.
    fn withheld(&self) -> Vec<usize> {
        let mut withheld = Vec::new();
        let Some(operation) = self.operation.filter(|operation| !operation.filters.is_empty()) else {
            return withheld;
        };
        let denied: SmallVec<[&Grant; 8]> = self.denied_grants().collect();
        for (filter, alike) in operation.filters.alike() {
            if !self.shows(filter, &denied) {
                withheld.extend(alike);
            }
        }
        withheld
    }

    fn shows(&self, filter: &Filter, denied: &[&Grant]) -> bool {
        let shows = |grant: &Grant| match filter.kind {
            filter::Kind::Credential => grant.names(&filter.requires),
            filter::Kind::Field | filter::Kind::Items { .. } => {
                grant.gives(&filter.requires, self.access) || grant.gives(&filter.requires, Access::Read)
            }
        };
        self.first_allowing(shows).is_some()
            && !denied.iter().any(|grant| grant.takes(&filter.requires, Access::Read))
    }

    pub(super) fn allowed(&self, required: &[&Scope]) -> Decision {
        let reason = match self.operation {
            _ if self.is_unknown() => Reason::UnknownAllowed,
            None => Reason::UnknownAllowed,
            Some(_) if required.is_empty() => Reason::OperationAllowed,
            Some(_) => Reason::ScopesAllowed,
        };
        Decision {
            effect: Effect::Allow,
            reason,
            rule: self.allowing_entry(required).unwrap_or(Entry::Default),
            note: None,
            required: required.iter().copied().cloned().collect(),
            missing: Vec::new(),
            limits: Vec::new(),
            withheld: self.withheld(),
            dry_run: false,
        }
    }

    pub(super) fn denied(&self, denial: Denial, required: &[&Scope]) -> Decision {
        let missing = self.missing(required);
        let withheld = if denial.dry_run { self.withheld() } else { Vec::new() };
        Decision {
            effect: Effect::Deny,
            reason: denial.reason,
            rule: denial.entry,
            note: denial.note,
            required: required.iter().copied().cloned().collect(),
            missing,
            limits: Vec::new(),
            withheld,
            dry_run: denial.dry_run,
        }
    }
}
