//! Counts the requests that go out, and says when a limit of the policy has no room for another.
//!
//! A window slides: it holds the time of every request within it, as the API's own does, so that no moment lets
//! twice the limit through. A time takes eight bytes, and a window holds at most
//! [`MAX_COUNT`](crate::decide::limit::MAX_COUNT) of them: of a rate there is one for each workload, of a share
//! one for each of its tokens, up to `MAX_TOKENS`. What has left its window is forgotten.

mod window;

use crate::decide::{
    Policy,
    limit::{Digest, Limit, Rate},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use window::Window;

/// The tokens of a workload that are counted by themselves. Further ones are counted as if they were one: a program
/// must not get a new share with each token that it makes up.
const MAX_TOKENS: usize = 10_000;

/// How often what has left its window is looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// The counts of all workloads. They outlive a change of the policy, as far as its limits stay the same.
#[derive(Debug, Default)]
pub struct Limiter(Mutex<State>);

/// A request that is about to go out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking<'a> {
    pub(super) workload: &'a Arc<str>,
    pub(super) policy: &'a Policy,
    /// The policy's limits that count it.
    pub(super) limits: &'a [usize],
    /// The token's fingerprint.
    pub(super) token: Option<&'a str>,
    /// What the API says that it gives the token an hour.
    pub(super) hourly: Option<u32>,
}

/// A request that is counted.
#[derive(Debug)]
pub(super) struct Taken {
    workload: Arc<str>,
    nanos: u64,
    counted: Vec<(Digest, Place)>,
    /// The limit that would have refused it, were it enforced.
    pub(super) over: Option<Full>,
}

/// A limit without room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    /// Which of the policy's.
    pub(super) index: usize,
    /// Which of its rates.
    pub(super) rate: Rate,
    /// When there is room again.
    pub(super) wait: Duration,
}

/// Whose window.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// This token's; of a rate, everybody's.
    Own(Box<str>),
    /// That of all tokens beyond [`MAX_TOKENS`].
    Others,
}

#[derive(Debug, Default)]
struct State {
    /// The first request's time, which all others are counted from.
    epoch: Option<Instant>,
    /// The latest time, in nanoseconds: time never goes back, whatever order requests come in.
    now: u64,
    swept: u64,
    workloads: HashMap<Arc<str>, HashMap<Digest, Count>>,
}

/// The windows of one limit.
#[derive(Debug)]
struct Count {
    /// How long they are.
    span: u64,
    own: HashMap<Box<str>, Window>,
    others: Window,
}

impl Limiter {
    /// Counts a request by every limit that has room, or by none if one that is enforced has not.
    pub(super) fn take(&self, asking: Asking<'_>, now: Instant) -> Result<Taken, Full> {
        let mut state = self.lock();
        state.advance(now);
        state.take(asking)
    }

    /// Takes back what was counted, where nothing of the request can have reached the upstream.
    pub(super) fn give_back(&self, taken: Taken) {
        let mut state = self.lock();
        let Some(counts) = state.workloads.get_mut(&taken.workload) else { return };
        for (digest, place) in taken.counted {
            let Some(count) = counts.get_mut(&digest) else { continue };
            let window = match &place {
                Place::Own(token) => count.own.get_mut(token),
                Place::Others => Some(&mut count.others),
            };
            if let Some(window) = window {
                window.take_back(taken.nanos);
            }
        }
    }

    /// No code panics while it holds the lock, and each change leaves the counts whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn advance(&mut self, now: Instant) {
        let epoch = *self.epoch.get_or_insert(now);
        self.now = self.now.max(nanos(now.saturating_duration_since(epoch)));
        if self.now - self.swept >= nanos(SWEEP) {
            self.swept = self.now;
            self.sweep();
        }
    }

    fn take(&mut self, asking: Asking<'_>) -> Result<Taken, Full> {
        let now = self.now;
        let mut with_room: Vec<&Limit> = Vec::new();
        let (mut refusing, mut over) = (None, None);
        // The policy has every limit that its own decision names.
        let limits =
            asking.limits.iter().filter_map(|index| Some((*index, asking.policy.limits.get(*index)?)));
        for (index, limit) in limits {
            let full = self.full(asking, limit).map(|(rate, wait)| Full { index, rate, wait });
            match full {
                Some(full) if limit.is_enforced(asking.policy) => refusing = later(refusing, full),
                Some(full) => over = later(over, full),
                // Limits that count the same alike are one count.
                None if with_room.iter().any(|other| other.digest() == limit.digest()) => {}
                None => with_room.push(limit),
            }
        }
        if let Some(full) = refusing {
            return Err(full);
        }
        let mut counted = Vec::with_capacity(with_room.len());
        for limit in with_room {
            let counts = self.workloads.entry(Arc::clone(asking.workload)).or_default();
            let count = counts.entry(limit.digest()).or_insert_with(|| Count::of(limit));
            let place = count.place(asking.token_of(limit));
            count.window(&place).add(now);
            counted.push((limit.digest(), place));
        }
        Ok(Taken { workload: Arc::clone(asking.workload), nanos: now, counted, over })
    }

    /// Which rate of a limit has no room, and when it has.
    fn full(&mut self, asking: Asking<'_>, limit: &Limit) -> Option<(Rate, Duration)> {
        let count = self.workloads.get_mut(asking.workload)?.get_mut(&limit.digest())?;
        let place = count.place(asking.token_of(limit));
        let (now, span) = (self.now, count.span);
        let window = match &place {
            Place::Own(token) => count.own.get_mut(token)?,
            Place::Others => &mut count.others,
        };
        window.forget(now, span);
        let waits = limit.quota.rates(asking.hourly).filter_map(|rate| {
            let until = window.full_until(now, rate.count, nanos(rate.period.length()))?;
            Some((rate, Duration::from_nanos(until.saturating_sub(now))))
        });
        waits.max_by_key(|(_, wait)| *wait)
    }

    fn sweep(&mut self) {
        let now = self.now;
        for counts in self.workloads.values_mut() {
            counts.retain(|_, count| {
                let span = count.span;
                count.others.forget(now, span);
                count.own.retain(|_, window| {
                    window.forget(now, span);
                    !window.is_empty()
                });
                !count.own.is_empty() || !count.others.is_empty()
            });
        }
        self.workloads.retain(|_, counts| !counts.is_empty());
    }
}

impl Asking<'_> {
    /// Whose requests a limit counts together with this one: a share the token's, a rate everybody's.
    fn token_of(&self, limit: &Limit) -> &str {
        if limit.quota.is_per_token() { self.token.unwrap_or_default() } else { "" }
    }
}

impl Count {
    fn of(limit: &Limit) -> Self {
        Self { span: nanos(limit.quota.span()), own: HashMap::new(), others: Window::default() }
    }

    /// As long as the others have a count, no further token gets one of its own: it may be in theirs.
    fn place(&self, token: &str) -> Place {
        let has_room = self.own.len() < MAX_TOKENS && self.others.is_empty();
        if has_room || self.own.contains_key(token) { Place::Own(token.into()) } else { Place::Others }
    }

    fn window(&mut self, place: &Place) -> &mut Window {
        match place {
            Place::Own(token) => self.own.entry(token.clone()).or_default(),
            Place::Others => &mut self.others,
        }
    }
}

/// Whoever waits for one limit waits for the others too.
fn later(known: Option<Full>, full: Full) -> Option<Full> {
    Some(known.filter(|known| known.wait >= full.wait).unwrap_or(full))
}

/// Enough for five hundred years.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
