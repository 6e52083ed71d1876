//! What the policy's limits say of a request that may go out.

use super::{Judge, Stop};
use crate::{
    classify::Classified,
    decide::{Decision, limit::Limit},
    reason::Reason,
    record::Verdict,
    session::{
        limiter::{Asking, Full},
        refusal::limited::{Limited, Retry},
    },
};
use std::time::{Instant, SystemTime};

impl Judge<'_> {
    /// Counts the request, or stops it where a limit has no room.
    pub(super) fn count(
        &mut self,
        classified: &Classified<'_, '_>,
        decision: &Decision,
        verdict: Verdict,
    ) -> Result<Verdict, Stop> {
        if decision.limits.is_empty() {
            return Ok(verdict);
        }
        let services = &self.connection.services;
        let token = self.outcome.token_fingerprint();
        let budget = token.and_then(|token| services.budgets.of(token));
        let asking = Asking {
            workload: &self.connection.principal.workload,
            policy: self.policy,
            limits: &decision.limits,
            token,
            hourly: budget.and_then(|budget| budget.limit),
        };
        match services.limiter.take(asking, Instant::now()) {
            Ok(taken) => {
                let over = taken.over;
                self.taken = Some(taken);
                let Some(full) = over else { return Ok(verdict) };
                // A denial that is only recorded came first.
                if verdict == Verdict::Forwarded {
                    self.outcome.limited(full.index);
                }
                Ok(Verdict::WouldRefuse)
            }
            Err(full) => {
                self.outcome.limited(full.index);
                Err(self.used_up(classified, full))
            }
        }
    }

    fn used_up(&self, classified: &Classified<'_, '_>, full: Full) -> Stop {
        let policy = self.policy;
        let retry = Retry::new(full.rate, full.wait, SystemTime::now());
        let message = policy.limits.get(full.index).map(|limit: &Limit| {
            let limited = Limited {
                workload: &self.connection.principal.workload,
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
