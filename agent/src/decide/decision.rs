//! The answer of the engine.

use super::{Policy, account};
use crate::{classify::Scope, reason::Reason};
use serde::Serialize;
use smallvec::SmallVec;
use std::fmt;

/// What a rule says, and what the engine answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Let the request through.
    Allow,
    /// Refuse it; also the answer where nothing safe could be decided.
    Deny,
}

impl Effect {
    /// The word as it stands in records and case tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// The answer to one request: what, why, and which rule of the policy said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The answer.
    pub effect: Effect,
    /// Why.
    pub reason: Reason,
    /// The deciding entry of the policy.
    pub rule: Entry,
    /// What the deciding rule gives as its own reason, for the refusal's message.
    pub note: Option<String>,
    /// The scopes that the request needs; the set that came closest where several would do.
    pub required: SmallVec<[Scope; 2]>,
    /// Those of them that the policy does not allow, or denies.
    pub missing: Vec<Scope>,
    /// The policy's `[[limit]]` tables that count the request, by index.
    pub limits: Vec<usize>,
    /// The operation's filters whose part of the answer the policy does not show, by index.
    pub withheld: Vec<usize>,
    /// Whether a deny is only recorded (`mode = "dry-run"` on the policy or the deciding rule).
    pub dry_run: bool,
}

/// An entry of a policy. It is written as `allow[0]`, `deny[2]`, `operations[1]`, `rule[3]`, `limit[0]`, `unknown` or
/// `default`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// One of `allow`.
    Allow(usize),
    /// One of `deny`.
    Deny(usize),
    /// One of `operations`.
    Operation(usize),
    /// A `[[rule]]`.
    Rule(usize),
    /// A `[[limit]]`.
    Limit(usize),
    /// `unknown = "allow"`.
    Unknown,
    /// None: nothing of the policy fitted.
    Default,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (list, index) = match self {
            Self::Allow(index) => ("allow", index),
            Self::Deny(index) => ("deny", index),
            Self::Operation(index) => ("operations", index),
            Self::Rule(index) => ("rule", index),
            Self::Limit(index) => ("limit", index),
            Self::Unknown => return f.write_str("unknown"),
            Self::Default => return f.write_str("default"),
        };
        write!(f, "{list}[{index}]")
    }
}

impl Decision {
    /// The denial of a request that no policy was asked about.
    pub fn refusal(reason: Reason, note: String) -> Self {
        Self {
            effect: Effect::Deny,
            reason,
            rule: Entry::Default,
            note: Some(note),
            required: SmallVec::new(),
            missing: Vec::new(),
            limits: Vec::new(),
            withheld: Vec::new(),
            dry_run: false,
        }
    }

    /// What the policy would allow in place of a denied request, for the refusal's message.
    pub fn instead(&self, policy: &Policy) -> Option<String> {
        account::instead(policy, self.reason, self.rule, &self.missing)
    }
}
