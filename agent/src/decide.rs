//! Stage 6: may this workload make this request? Pure, total, deterministic; the default is deny.

pub mod account;
pub mod case;
pub mod decision;
pub mod document;
pub mod grant;
pub mod limit;
pub mod lint;
mod nearest;
pub mod policy;
mod question;
pub mod request;
pub mod resources;
pub mod rule_list;
mod rules;
pub mod store;
pub mod suggest;
pub mod trial;
pub mod when;

pub use decision::{Decision, Effect, Entry};
pub use policy::Policy;
pub use request::{Caller, Request};

use crate::{classify::Operation, reason::Reason};
use question::{Denial, Question, View, deciding};

/// Decides one request.
///
/// A request passes if every scope of one of the operation's sets is allowed, with the scopes that its query and
/// body make necessary, none of them is denied, and no deny rule is narrowed to the operation. The order of
/// entries and rules changes no answer.
pub fn decide(policy: &Policy, request: &Request<'_>) -> Decision {
    answer(&Question::new(policy, request, View::Whole))
}

/// Decides as far as the head tells, when the body was not read yet: only what no body could change is denied.
/// None where the body decides.
pub fn decide_by_head(policy: &Policy, request: &Request<'_>) -> Option<Decision> {
    let decision = answer(&Question::new(policy, request, View::Head));
    (decision.effect == Effect::Deny && !decision.dry_run).then_some(decision)
}

/// Whether the answer to requests for an operation may depend on their bodies.
pub fn depends_on_body(policy: &Policy, operation: Option<&Operation>) -> bool {
    let narrowed = policy.rules.iter().map(|rule| &rule.constraint);
    let limited = policy.limits.iter().map(|limit| &limit.constraint);
    operation.is_some_and(Operation::has_telling_body)
        || narrowed.chain(limited).any(|constraint| constraint.reads_body(operation))
}

fn answer(question: &Question<'_>) -> Decision {
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
    let Some((required, denial_of_set)) = closest else {
        return question.denied(Denial::by_default(Reason::Unclassified), &[]);
    };
    let (limits, unanswered) = question.limits();
    let narrowed = question.denial_by_narrowed_rules();
    match deciding([narrowed, denial_of_set, unanswered]) {
        Some(denial) => Decision {
            // What is forwarded all the same counts all the same.
            limits: if denial.dry_run { limits } else { Vec::new() },
            ..question.denied(denial, required)
        },
        None => Decision { limits, ..question.allowed(required) },
    }
}

#[cfg(test)]
mod tests;
