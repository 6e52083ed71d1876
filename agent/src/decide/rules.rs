//! Which rules fit a request: by operation, resources and condition. Each is looked at once, and only if need be.

use super::{
    Effect, Policy, Request,
    policy::{Constraint, Rule},
    question::View,
    when::EvaluationError,
};
use std::cell::OnceCell;

/// Whether a rule fits a request, its scopes apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It does.
    Yes,
    /// It is narrowed to other operations.
    OtherOperation,
    /// It is narrowed to other resources.
    OtherResource,
    /// Its condition is false.
    NotNow,
    /// Its condition has no answer.
    Unanswered(EvaluationError),
}

/// The rules of a policy, before one request.
pub(super) struct Rules<'a> {
    policy: &'a Policy,
    request: &'a Request<'a>,
    view: View,
    fits: Vec<OnceCell<Fit>>,
}

impl<'a> Rules<'a> {
    pub(super) fn new(policy: &'a Policy, request: &'a Request<'a>, view: View) -> Self {
        let fits = policy.rules.iter().map(|_| OnceCell::new()).collect();
        Self { policy, request, view, fits }
    }

    /// The rules of an effect, with their numbers.
    pub(super) fn of(&self, effect: Effect) -> impl Iterator<Item = (usize, &'a Rule)> + use<'a> {
        self.policy.rules.iter().enumerate().filter(move |(_, rule)| rule.effect == effect)
    }

    /// Whether the rule of that number fits.
    pub(super) fn fit(&self, index: usize) -> &Fit {
        let (Some(rule), Some(fit)) = (self.policy.rules.get(index), self.fits.get(index)) else {
            return &Fit::OtherOperation;
        };
        fit.get_or_init(|| self.fit_of(&rule.constraint, rule.effect))
    }

    /// Whether what narrows a rule fits; `effect` says what that would mean for the request.
    ///
    /// A rule that is narrowed to operations never fits an unknown one.
    pub(super) fn fit_of(&self, constraint: &Constraint, effect: Effect) -> Fit {
        if let Some(names) = &constraint.operations
            && !self.request.operation.is_some_and(|operation| names.contains(&operation.name))
        {
            return Fit::OtherOperation;
        }
        let unread = self.view == View::Head && constraint.reads_body(self.request.operation);
        if unread {
            return match effect {
                Effect::Allow => Fit::Yes,
                Effect::Deny => Fit::NotNow,
            };
        }
        if let Some(resources) = &constraint.resources {
            let named = &self.request.needs.resources;
            let fits = match effect {
                Effect::Allow => resources.cover(named),
                Effect::Deny => resources.touch(named),
            };
            if !fits {
                return Fit::OtherResource;
            }
        }
        match constraint.when.as_ref().map(|when| when.holds(self.request)) {
            None | Some(Ok(true)) => Fit::Yes,
            Some(Ok(false)) => Fit::NotNow,
            Some(Err(error)) => Fit::Unanswered(error),
        }
    }
}
