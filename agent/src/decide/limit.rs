//! Limits: how often a workload may do what it may do.

use super::{grant::Grant, policy::Constraint};

/// One `[[limit]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What it counts: requests that need any of these; none: every request.
    pub scopes: Vec<Grant>,
    /// What narrows it.
    pub constraint: Constraint,
    /// For the refusal's message.
    pub reason: Option<String>,
}
