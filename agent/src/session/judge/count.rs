//! What the policy's limits say of a request that may go out.

use super::{Judge, Stop};
use crate::{
    classify::Classified,
    decide::{Decision, Effect, limit::Limit, store::Party},
    reason::Reason,
    record::Verdict,
    session::{
        limiter::{Asking, Full},
        refusal::limited::{Limited, Retry},
    },
};
use std::time::{Instant, SystemTime};

impl Judge<'_> {
    /// Counts the request for every workload, or stops it where a limit has no room, and counts it for none.
    pub(super) fn count(
        &mut self,
        classified: &Classified<'_, '_>,
        decisions: &[Decision],
    ) -> Result<Verdict, Stop> {
        let is_denied = decisions.iter().any(|decision| decision.effect == Effect::Deny);
        let mut verdict = if is_denied { Verdict::WouldRefuse } else { Verdict::Forwarded };
        for (party, decision) in self.parties.iter().zip(decisions) {
            match self.count_for(party, decision) {
                Ok(over) => {
                    let Some(full) = over else { continue };
                    // A denial that is only recorded came first.
                    if verdict == Verdict::Forwarded {
                        self.outcome.limited(full.index);
                        self.outcome.ruled_by(&party.policy.name);
                    }
                    verdict = Verdict::WouldRefuse;
                }
                Err(full) => {
                    for taken in self.taken.drain(..) {
                        self.connection.services.limiter.give_back(taken);
                    }
                    self.outcome.limited(full.index);
                    self.outcome.ruled_by(&party.policy.name);
                    return Err(self.used_up(party, classified, full));
                }
            }
        }
        Ok(verdict)
    }

    /// Counts it by one workload's limits; answers the one that is full and not enforced.
    fn count_for(&mut self, party: &Party, decision: &Decision) -> Result<Option<Full>, Full> {
        if decision.limits.is_empty() {
            return Ok(None);
        }
        let services = &self.connection.services;
        let token = self.outcome.token_fingerprint();
        let budget = token.and_then(|token| services.budgets.of(token));
        let asking = Asking {
            workload: &party.workload,
            policy: &party.policy,
            limits: &decision.limits,
            token,
            hourly: budget.and_then(|budget| budget.limit),
        };
        let taken = services.limiter.take(asking, Instant::now())?;
        let over = taken.over;
        self.taken.push(taken);
        Ok(over)
    }

    fn used_up(&self, party: &Party, classified: &Classified<'_, '_>, full: Full) -> Stop {
        let policy = &party.policy;
        let retry = Retry::new(full.rate, full.wait, SystemTime::now());
        let message = policy.limits.get(full.index).map(|limit: &Limit| {
            let limited = Limited {
                workload: &party.workload,
                policy,
                limit,
                index: full.index,
                retry,
                method: &self.head.method,
                path: classified.path.as_str(),
                operation: classified.route.as_ref().map(|route| route.operation.name.as_str()),
            };
            limited.message()
        });
        let message = message.unwrap_or_default();
        Stop { reason: Reason::RateLimited, message, is_error: false, arrived: false, retry: Some(retry) }
    }
}
