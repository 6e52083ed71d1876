//! What the API says in its answers of a token's budget, and the last of it for each token.

use http::{HeaderMap, HeaderValue};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The spellings of the fields: the API's own, and the older one.
const SPELLINGS: [[&str; 3]; 2] = [
    ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"],
    ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"],
];

/// More tokens than a machine has; what is kept of another takes the place of the longest unheard of.
const MAX_TOKENS: usize = 10_000;

/// After this the answers of the window that they tell of are all in.
const WINDOW: Duration = Duration::from_secs(60 * 60);

/// Smaller numbers are seconds from now on, as other APIs count, and no time.
const LEAST_UNIX_SECONDS: u64 = 1_000_000_000;
/// A number of twelve digits is counted in another unit.
const MOST_DIGITS: usize = 11;

/// What one answer says of the budget of the request's token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// How many requests the token has an hour.
    pub limit: Option<u32>,
    /// How many of them are left.
    pub remaining: Option<u32>,
    /// When the oldest of those counted leaves the window, in unix seconds.
    pub reset: Option<u64>,
}

impl Budget {
    /// What the fields say that stand there once, as plain numbers, and do not contradict each other.
    pub fn of(headers: &HeaderMap) -> Self {
        let spelling =
            SPELLINGS.into_iter().find(|names| names.iter().any(|name| headers.contains_key(*name)));
        let Some([limit, remaining, reset]) = spelling else { return Self::default() };
        let small = |name| number(headers, name).and_then(|number| u32::try_from(number).ok());
        let (limit, remaining) = (small(limit), small(remaining));
        if limit.zip(remaining).is_some_and(|(limit, remaining)| remaining > limit) {
            return Self::default();
        }
        let reset = number(headers, reset).filter(|seconds| *seconds >= LEAST_UNIX_SECONDS);
        Self { limit, remaining, reset }
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let is_plain = !value.is_empty() && value.len() <= MOST_DIGITS && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| is_plain)?.parse().ok()
}

/// The last budget of each token, by its fingerprint.
#[derive(Debug, Default)]
pub struct Budgets(Mutex<HashMap<Box<str>, Kept>>);

#[derive(Clone, Copy, Debug)]
struct Kept {
    budget: Budget,
    at: Instant,
}

impl Budgets {
    /// Keeps what an answer that came at this time says. Of answers that overtook each other, the one that tells of
    /// the later window counts.
    pub fn keep(&self, token: &str, budget: Budget, at: Instant) {
        if budget == Budget::default() {
            return;
        }
        let mut tokens = self.lock();
        if let Some(kept) = tokens.get_mut(token) {
            if !kept.is_newer_than(budget, at) {
                let limit = budget.limit.or(kept.budget.limit);
                *kept = Kept { budget: Budget { limit, ..budget }, at };
            }
            return;
        }
        if tokens.len() >= MAX_TOKENS {
            forget_half(&mut tokens);
        }
        tokens.insert(token.into(), Kept { budget, at });
    }

    /// The last that is known of a token.
    pub fn of(&self, token: &str) -> Option<Budget> {
        self.lock().get(token).map(|kept| kept.budget)
    }

    /// No code panics while it holds the lock, and each change leaves the map whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn is_newer_than(&self, budget: Budget, at: Instant) -> bool {
        let is_of_a_later_window =
            self.budget.reset.zip(budget.reset).is_some_and(|(own, other)| own > other);
        // A time that is far ahead must not hold for ever.
        let is_fresh = at.saturating_duration_since(self.at) < WINDOW;
        at < self.at || (is_of_a_later_window && is_fresh)
    }
}

/// Half at once, so that making room costs little for each token. What is lost is learnt anew.
fn forget_half(tokens: &mut HashMap<Box<str>, Kept>) {
    let mut times: Vec<Instant> = tokens.values().map(|kept| kept.at).collect();
    let half = times.len() / 2;
    let (_, middle, _) = times.select_nth_unstable(half);
    let middle = *middle;
    tokens.retain(|_, kept| kept.at > middle);
}

#[cfg(test)]
mod tests;
