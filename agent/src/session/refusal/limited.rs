//! The refusal of a request that a limit has no room for.

use super::call;
use crate::decide::{
    Policy,
    limit::{Limit, Quota, Rate},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use std::{
    fmt::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The fields of the API's own answers, in its spelling.
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// More scopes or operations than these are only counted.
const MAX_NAMED: usize = 5;

/// When a request may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    rate: Rate,
    after_seconds: u64,
    reset_unix_seconds: u64,
}

/// Why a request may not be made yet.
#[derive(Clone, Copy, Debug)]
pub struct Limited<'a> {
    /// The workload.
    pub workload: &'a str,
    /// The policy.
    pub policy: &'a Policy,
    /// The limit that has no room.
    pub limit: &'a Limit,
    /// Which of the policy's it is.
    pub index: usize,
    /// When it has.
    pub retry: Retry,
    /// The request's method.
    pub method: &'a Method,
    /// Its path.
    pub path: &'a str,
    /// The catalogue's name for it, where it has one.
    pub operation: Option<&'a str>,
}

impl Retry {
    /// When the rate is used up, and has room after `wait`. Whoever comes at the whole second must find it.
    pub fn new(rate: Rate, wait: Duration, now: SystemTime) -> Self {
        let reset = now.duration_since(UNIX_EPOCH).unwrap_or_default() + wait;
        Self { rate, after_seconds: rounded_up(wait).max(1), reset_unix_seconds: rounded_up(reset) }
    }

    /// Writes it into an answer's head as the API does.
    pub fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(self.after_seconds));
        headers.insert(LIMIT, HeaderValue::from(self.rate.count));
        headers.insert(REMAINING, HeaderValue::from(0));
        headers.insert(RESET, HeaderValue::from(self.reset_unix_seconds));
    }
}

impl Limited<'_> {
    /// The sentence for the client.
    pub fn message(&self) -> String {
        let mut message = call(self.workload, self.method, self.path, self.operation);
        // Writing to a string cannot fail.
        let _ = write!(message, " yet: {} is used up", self.what());
        if let Some(reason) = &self.limit.reason {
            let _ = write!(message, " ({reason})");
        }
        let seconds = self.retry.after_seconds;
        let plural = if seconds == 1 { "" } else { "s" };
        let _ = write!(message, "; try again in {seconds} second{plural}");
        let _ = write!(message, "; policy \"{}\", rule limit[{}]", self.policy.name, self.index);
        if let Some(contact) = &self.policy.contact {
            let _ = write!(message, "; contact {contact}");
        }
        message
    }

    fn what(&self) -> String {
        let rate = self.retry.rate;
        match self.limit.quota {
            Quota::Share(share) => format!("its {share} of the token's budget, {rate},"),
            Quota::Rate(rate) => format!("the limit of {rate} for {}", self.counted()),
        }
    }

    fn counted(&self) -> String {
        let scopes: Vec<String> = self.limit.scopes.iter().map(ToString::to_string).collect();
        let operations = self.limit.constraint.operations.as_deref().unwrap_or_default();
        let lists = [scopes.as_slice(), operations].into_iter().filter(|list| !list.is_empty());
        let lists: Vec<String> = lists.map(listed).collect();
        if lists.is_empty() { "its requests".to_owned() } else { lists.join(" in ") }
    }
}

fn listed(words: &[String]) -> String {
    let named = words.get(..MAX_NAMED).unwrap_or(words);
    match words.len() - named.len() {
        0 => named.join(", "),
        further => format!("{} and {further} more", named.join(", ")),
    }
}

fn rounded_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;
