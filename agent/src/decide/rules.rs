//! Which rules fit a request: by operation, resources and condition. Each that may speak of its scopes is looked at
//! once, and only if need be.

use super::{
    Effect, Policy, Request,
    grant::Access,
    policy::{Constraint, Rule},
    question::View,
    rule_list::Near,
    when::EvaluationError,
};
use smallvec::SmallVec;
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
    /// The numbers of those that may speak of the request, ascending.
    near: SmallVec<[(usize, OnceCell<Fit>); 4]>,
}

impl<'a> Rules<'a> {
    /// Those rules that may speak of the request.
    pub(super) fn new(policy: &'a Policy, request: &'a Request<'a>, view: View, near: Near<'_>) -> Self {
        let near = near.numbers().into_iter().map(|number| (number, OnceCell::new())).collect();
        Self { policy, request, view, near }
    }

    /// The rules of an effect, with their numbers.
    pub(super) fn of(&self, effect: Effect) -> impl Iterator<Item = (usize, &'a Rule)> {
        let rules =
            self.near.iter().filter_map(|(number, _)| Some((*number, self.policy.rules.get(*number)?)));
        rules.filter(move |(_, rule)| rule.effect == effect)
    }

    /// Whether the rule of that number fits, which is one of those that [`Self::of`] gives.
    pub(super) fn fit(&self, number: usize) -> &Fit {
        let place = self.near.binary_search_by_key(&number, |(near, _)| *near).ok();
        let near = place.and_then(|place| self.near.get(place));
        let (Some(rule), Some((_, fit))) = (self.policy.rules.get(number), near) else {
            return &Fit::OtherOperation;
        };
        fit.get_or_init(|| self.fit_of(&rule.constraint, rule.effect))
    }

    fn access(&self) -> Access {
        let method = self.request.method;
        let known = self.request.operation.map(|operation| Access::of(method, operation));
        known.unwrap_or_else(|| Access::of_unclassified(method))
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
                Effect::Deny => resources.touch(named, self.access()),
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
