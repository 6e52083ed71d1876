//! What a valid policy should perhaps not say: entries that do nothing, and entries that allow much.

use super::{
    Effect, Policy,
    grant::{Access, Grant, hands_out_access},
    policy::{Constraint, Mode},
};
use crate::classify::{Catalogue, Operation, Scope, filter};
use std::collections::BTreeSet;

/// A doubt about an entry of a policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Doubt {
    /// The entry, such as `allow[0]` or `rule[3]`; empty for the policy as a whole.
    pub entry: String,
    /// What is doubtful, and what to do.
    pub message: String,
}

/// Every doubt, in the order of the entries.
pub fn doubts(policy: &Policy, catalogue: &Catalogue) -> Vec<Doubt> {
    let lint = Lint { policy, operations: here(catalogue).collect() };
    let mut doubts = Vec::new();
    let mut add = |entry: &str, message: String| doubts.push(Doubt { entry: entry.to_owned(), message });
    if policy.mode == Mode::DryRun {
        add("mode", "nothing is refused, except by rules with `mode = \"enforce\"`".to_owned());
    }
    if policy.unknown_allowed {
        add("unknown", "requests that nobody has looked at pass; prefer a newer catalogue".to_owned());
    }
    for entry in lint.entries() {
        let name = &entry.name;
        for message in lint.doubts_of(&entry) {
            add(name, message);
        }
    }
    doubts
}

fn here(catalogue: &Catalogue) -> impl Iterator<Item = &Operation> {
    catalogue.operations().iter().filter(|operation| operation.host.is_none())
}

/// One grant where it stands.
struct Entry<'a> {
    name: String,
    effect: Effect,
    grant: &'a Grant,
    constraint: Option<&'a Constraint>,
}

struct Lint<'a> {
    policy: &'a Policy,
    operations: Vec<&'a Operation>,
}

/// What an entry gives or takes.
type Reach<'a> = BTreeSet<(Part<'a>, IsRead)>;

/// What a scope, or none, lets somebody do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    /// Call operations that need the scope.
    Call(&'a Scope),
    /// Call operations that have no scope.
    CallUnscoped,
    /// See fields of answers.
    See(&'a Scope),
    /// See secrets in answers.
    SeeSecret(&'a Scope),
}

type IsRead = bool;

impl<'a> Lint<'a> {
    fn entries(&self) -> Vec<Entry<'a>> {
        let lists = [(Effect::Allow, "allow", &self.policy.allow), (Effect::Deny, "deny", &self.policy.deny)];
        let listed = lists.into_iter().flat_map(|(effect, list, grants)| {
            let entries = grants.iter().enumerate();
            entries.map(move |(index, grant)| Entry {
                name: format!("{list}[{index}]"),
                effect,
                grant,
                constraint: None,
            })
        });
        let ruled = self.policy.rules.iter().enumerate().flat_map(|(index, rule)| {
            rule.scopes.iter().map(move |grant| {
                let constraint =
                    Some(&rule.constraint).filter(|constraint| **constraint != Constraint::default());
                Entry { name: format!("rule[{index}]"), effect: rule.effect, grant, constraint }
            })
        });
        listed.chain(ruled).collect()
    }

    fn doubts_of(&self, entry: &Entry<'a>) -> Vec<String> {
        let reach = self.reach(entry);
        if reach.is_empty() {
            return vec![format!("`{}` is needed by no operation; remove it", entry.grant)];
        }
        let mut doubts = Vec::new();
        if let Some(other) = self.shadow(entry, &reach) {
            doubts.push(format!("`{}` adds nothing to {other}; remove it", entry.grant));
        }
        if entry.effect == Effect::Allow {
            doubts.extend(self.width(entry, &reach));
        }
        doubts
    }

    /// The scopes of operations, and of parts of answers, that the entry speaks of.
    fn reach(&self, entry: &Entry<'_>) -> Reach<'a> {
        let mut reach = Reach::new();
        for operation in &self.operations {
            let is_named = |names: &Vec<String>| names.contains(&operation.name);
            let operations = entry.constraint.and_then(|constraint| constraint.operations.as_ref());
            if !operations.is_none_or(is_named) {
                continue;
            }
            let access = Access::of(&operation.method, operation);
            let speaks = |scope: &Scope, access: Access| match entry.effect {
                Effect::Allow => entry.grant.gives(scope, access),
                Effect::Deny => entry.grant.takes(scope, access),
            };
            let by_request = operation.conditions.iter().flat_map(|condition| &condition.requires);
            let own = operation.scopes.iter().flatten().chain(&operation.hardened).chain(by_request);
            // A read scope beside a write is given as on a read.
            let own =
                own.filter(|scope| speaks(scope, access) || (scope.is_read() && speaks(scope, Access::Read)));
            let shown = operation.filters.iter().filter(|filter| match filter.kind {
                filter::Kind::Credential if entry.effect == Effect::Allow => {
                    entry.grant.names(&filter.requires)
                }
                filter::Kind::Credential | filter::Kind::Field | filter::Kind::Items { .. } => {
                    speaks(&filter.requires, Access::Read)
                }
            });
            let shown = shown.map(|filter| match filter.kind {
                filter::Kind::Credential => Part::SeeSecret(&filter.requires),
                filter::Kind::Field | filter::Kind::Items { .. } => Part::See(&filter.requires),
            });
            let is_read = access == Access::Read;
            reach.extend(own.map(Part::Call).chain(shown).map(|part| (part, is_read)));
            if operation.alternatives().is_empty() && entry.grant.gives_unscoped(access) {
                reach.insert((Part::CallUnscoped, is_read));
            }
        }
        reach
    }

    /// Another entry of the same effect that already says as much.
    fn shadow(&self, entry: &Entry<'a>, reach: &Reach<'a>) -> Option<String> {
        let others = self.entries().into_iter().filter(|other| {
            other.effect == entry.effect && other.constraint.is_none() && other.name != entry.name
        });
        others
            // Of two that say the same, the second is the one too many.
            .filter(|other| {
                other.grant != entry.grant || entry.constraint.is_some() || other.name < entry.name
            })
            .find(|other| self.reach(other).is_superset(reach))
            .map(|other| format!("`{}` ({})", other.grant, other.name))
    }

    /// What is wide about an allowing entry.
    fn width(&self, entry: &Entry<'_>, reach: &Reach<'_>) -> Vec<String> {
        let bound = entry
            .constraint
            .is_some_and(|constraint| constraint.resources.is_some() || constraint.when.is_some());
        if *entry.grant == Grant::ApiWrite {
            return vec![
                "`api:write` allows every change and deletion; list the scopes that are needed".to_owned(),
            ];
        }
        let denied = |scope: &Scope| self.policy.deny.iter().any(|grant| grant.takes(scope, Access::Write));
        let called = reach.iter().filter_map(|(part, _)| match part {
            Part::Call(scope) | Part::SeeSecret(scope) => Some(*scope),
            Part::CallUnscoped | Part::See(_) => None,
        });
        let scopes: BTreeSet<&Scope> = called.filter(|scope| !denied(scope)).collect();
        if scopes.is_empty() && !reach.is_empty() && *entry.grant != Grant::ApiRead {
            return vec![format!("all that `{}` allows is denied; remove one of them", entry.grant)];
        }
        let mut doubts = Vec::new();
        if let Some(scope) = scopes.iter().find(|scope| scope.action() == "delete").filter(|_| !bound) {
            doubts.push(format!(
                "`{}` allows deleting every {}; narrow it with `resources`",
                entry.grant,
                scope.resource()
            ));
        }
        if scopes.iter().any(|scope| scope.as_str() == "kubernetes:delete") {
            let message = "`kubernetes:delete` also deletes the volumes, snapshots and load balancers of a cluster, without \
                           their scopes; deny the operations `kubernetes_destroy_associatedResourcesDangerous` and \
                           `kubernetes_destroy_associatedResourcesSelective` where that is not meant";
            doubts.push(message.to_owned());
        }
        let secret: Vec<&str> =
            scopes.iter().filter(|scope| hands_out_access(scope)).map(|scope| scope.as_str()).collect();
        if !secret.is_empty() {
            let words = secret.join("`, `");
            doubts.push(format!("`{words}` hands out access that tidegate does not see being used"));
        }
        doubts
    }
}

#[cfg(test)]
mod tests;
