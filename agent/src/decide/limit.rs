//! Limits: how often a workload may do what it may do. What is counted where is the session's.

use super::{
    grant::Grant,
    policy::{Constraint, Mode, Policy},
};
use aws_lc_rs::digest;
use std::{fmt, iter, time::Duration};

/// The most requests of a rate, since each takes eight bytes until its period is over.
pub const MAX_COUNT: u32 = 100_000;

/// What the API gives a token an hour, where its answers say nothing else.
const HOURLY: u32 = 5_000;
/// Of that it gives a twentieth a minute.
const MINUTES_PART: u32 = 20;
/// An hour's budget is more than a minute's: what the API says in smaller numbers is of another window.
const LEAST_HOURLY: u32 = HOURLY / MINUTES_PART;

/// One `[[limit]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What it counts: requests that need any of these; none: every request.
    pub scopes: Vec<Grant>,
    /// What narrows it.
    pub constraint: Constraint,
    /// How many of them.
    pub quota: Quota,
    /// Its own mode, where that differs from the policy's.
    pub mode: Option<Mode>,
    /// For the refusal's message.
    pub reason: Option<String>,
    digest: Digest,
}

/// Stands for what a limit counts and how many, so that counts outlive a reload that does not change that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// How many requests a limit lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// So many of the workload's.
    Rate(Rate),
    /// A part of what the API gives each token.
    Share(Share),
}

/// So many requests within any such period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub count: u32,
    /// Sliding: it ends now.
    pub period: Period,
}

/// The period of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

/// A part of a token's budget: 1 to 100 per cent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32);

/// A text that is no rate.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is no rate; write a whole number from 1 to {MAX_COUNT} and `second`, `minute`, `hour` or `day`, such as \
     `20/hour`"
)]
pub struct InvalidRate(String);

/// A text that is no share.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no share; write a whole number from 1 to 100 and a per cent sign, such as `20%`")]
pub struct InvalidShare(String);

impl Limit {
    /// A limit in the policy's mode and without a reason of its own.
    pub fn new(scopes: Vec<Grant>, constraint: Constraint, quota: Quota) -> Self {
        let digest = Digest::of(&scopes, &constraint, quota);
        Self { scopes, constraint, quota, mode: None, reason: None, digest }
    }

    /// The same, with these.
    #[must_use]
    pub fn with(self, mode: Option<Mode>, reason: Option<String>) -> Self {
        Self { mode, reason, ..self }
    }

    /// Under which its requests are counted.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether what goes beyond it is refused.
    pub fn is_enforced(&self, policy: &Policy) -> bool {
        self.mode.unwrap_or(policy.mode) == Mode::Enforce
    }
}

impl Digest {
    fn of(scopes: &[Grant], constraint: &Constraint, quota: Quota) -> Self {
        let Constraint { operations, resources, when } = constraint;
        let mut scopes: Vec<String> = scopes.iter().map(ToString::to_string).collect();
        scopes.sort();
        let operations = operations.clone().map(|mut names| {
            names.sort();
            names
        });
        let when = when.as_ref().map(|when| when.text());
        // The debug form of lists and texts has quotes and escapes, so that no two definitions look alike.
        let definition = format!("{scopes:?} {operations:?} {resources:?} {when:?} {quota}");
        let mut bytes = [0; 32];
        let digest = digest::digest(&digest::SHA256, definition.as_bytes());
        bytes.iter_mut().zip(digest.as_ref()).for_each(|(byte, digested)| *byte = *digested);
        Self(bytes)
    }
}

impl Quota {
    /// The rates that must have room. `hourly` is what the API says that it gives the token an hour.
    pub fn rates(self, hourly: Option<u32>) -> impl Iterator<Item = Rate> {
        let (first, second) = match self {
            Self::Rate(rate) => (rate, None),
            Self::Share(share) => {
                let hourly = hourly.filter(|hourly| *hourly > LEAST_HOURLY).unwrap_or(HOURLY);
                let hour = Rate { count: share.of(hourly), period: Period::Hour };
                let minute = Rate { count: share.of(hourly / MINUTES_PART), period: Period::Minute };
                (hour, Some(minute))
            }
        };
        iter::once(first).chain(second)
    }

    /// Whether each token is counted by itself.
    pub fn is_per_token(self) -> bool {
        match self {
            Self::Rate(_) => false,
            Self::Share(_) => true,
        }
    }

    /// The longest period of its rates.
    pub fn span(self) -> Duration {
        match self {
            Self::Rate(rate) => rate.period.length(),
            Self::Share(_) => Period::Hour.length(),
        }
    }
}

impl Rate {
    /// Reads `20/hour`.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidRate> {
        let parsed = text.split_once('/').and_then(|(count, period)| {
            let period = match period {
                "second" => Period::Second,
                "minute" => Period::Minute,
                "hour" => Period::Hour,
                "day" => Period::Day,
                _ => return None,
            };
            let count = whole_number(count).filter(|count| *count <= MAX_COUNT)?;
            Some(Self { count, period })
        });
        parsed.ok_or_else(|| InvalidRate(text.to_owned()))
    }
}

impl Period {
    /// How long it is.
    pub fn length(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 60 * 60,
            Self::Day => 24 * 60 * 60,
        })
    }
}

impl Share {
    /// Reads `20%`.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidShare> {
        let percent = text.strip_suffix('%').and_then(whole_number).filter(|percent| *percent <= 100);
        percent.map(Self).ok_or_else(|| InvalidShare(text.to_owned()))
    }

    /// So much of a budget, rounded down; what is given at all is at least one request.
    fn of(self, budget: u32) -> u32 {
        let part = u64::from(budget) * u64::from(self.0) / 100;
        u32::try_from(part).unwrap_or(MAX_COUNT).clamp(1, MAX_COUNT)
    }
}

/// A number from 1 on, in plain digits, without a sign or leading zeros.
fn whole_number(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| is_plain)
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate(rate) => rate.fmt(f),
            Self::Share(share) => share.fmt(f),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.period)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        })
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

#[cfg(test)]
mod tests;
