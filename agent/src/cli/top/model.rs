//! What `tidegate top` counts. Its memory is bounded whatever the log holds, and time comes in as an argument.

use super::decision::{Answer, Decision, MAX_NAME_CHARS, cut};
use crate::health::status;
use std::{
    array,
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
};

/// Over so many seconds rates are told.
pub(super) const WINDOW: usize = 10;
/// More workloads than a host has; the decisions of more are counted together.
const MAX_WORKLOADS: usize = 200;
/// Refused operations that are told apart, for each workload.
const MAX_REFUSED: usize = 32;
/// Slow requests that are kept, for each workload.
const MAX_SLOW: usize = 16;
/// Decisions that are kept to be shown.
const MAX_TAIL: usize = 1_000;
/// What the workloads beyond [`MAX_WORKLOADS`] are counted as; no workload can be named so.
pub(super) const OTHERS: &str = "(others)";

/// Everything that was seen.
#[derive(Debug, Default)]
pub(super) struct Model {
    workloads: BTreeMap<String, Workload>,
    tail: VecDeque<Decision>,
    decisions: u64,
    since: Option<String>,
}

/// What one workload did.
#[derive(Debug, Default)]
pub(super) struct Workload {
    pub(super) policy: String,
    pub(super) counts: Counts,
    pub(super) last_refusal: Option<Refusal>,
    refused: Refused,
    slow: Vec<Slow>,
    window: Window,
}

/// Requests and connections by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) allowed: u64,
    pub(super) refused: u64,
    pub(super) dry_run: u64,
    pub(super) passed: u64,
}

impl Counts {
    pub(super) fn sum(&self) -> u64 {
        let Self { allowed, refused, dry_run, passed } = *self;
        [refused, dry_run, passed].into_iter().fold(allowed, u64::saturating_add)
    }

    fn add(&mut self, answer: Answer, count: u64) {
        let counter = match answer {
            Answer::Allowed => &mut self.allowed,
            Answer::Refused => &mut self.refused,
            Answer::DryRun => &mut self.dry_run,
            Answer::Passed => &mut self.passed,
        };
        *counter = counter.saturating_add(count);
    }
}

/// A refusal that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) time: String,
    pub(super) why: String,
}

/// A request that took its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slow {
    pub(super) microseconds: u64,
    pub(super) request: String,
}

/// Of a workload, or of one of several.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Of<'m, T> {
    pub(super) workload: &'m str,
    pub(super) what: T,
}

impl Model {
    /// Counts a decision, which was read at this time in seconds since the epoch.
    pub(super) fn add(&mut self, decision: Decision, now: i64) {
        self.decisions = self.decisions.saturating_add(decision.count);
        self.since.get_or_insert_with(|| decision.time.clone());
        self.workload(&decision.workload).add(&decision, now);
        if self.tail.len() >= MAX_TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(decision);
    }

    /// Shows the workloads that a daemon has, also those that do nothing.
    pub(super) fn configure(&mut self, workloads: &[status::Workload]) {
        let printable = |text: &str| cut(&crate::record::redact::escape_control(text), MAX_NAME_CHARS);
        for status::Workload { name, policy, .. } in workloads {
            let name = printable(name);
            if self.workloads.len() < MAX_WORKLOADS || self.workloads.contains_key(&name) {
                self.workload(&name).policy = printable(policy);
            }
        }
    }

    /// Begins to count anew; the workloads stay.
    pub(super) fn clear(&mut self) {
        let workloads = std::mem::take(&mut self.workloads).into_iter();
        let emptied = workloads
            .map(|(name, Workload { policy, .. })| (name, Workload { policy, ..Workload::default() }));
        *self = Self { workloads: emptied.collect(), ..Self::default() };
    }

    /// All that were counted.
    pub(super) fn decisions(&self) -> u64 {
        self.decisions
    }

    /// The time of day of the first of them.
    pub(super) fn since(&self) -> Option<&str> {
        self.since.as_deref()
    }

    /// The workloads, the busiest of the last seconds first.
    pub(super) fn workloads(&self, now: i64) -> Vec<(&str, &Workload)> {
        let mut rows: Vec<_> = self.workloads.iter().map(|(name, workload)| (&**name, workload)).collect();
        rows.sort_by_cached_key(|(name, workload)| {
            (Reverse(workload.window.sum(now)), Reverse(workload.counts.sum()), *name)
        });
        rows
    }

    /// The operations that were refused most, with how often; of one workload or of all.
    pub(super) fn refused<'m>(&'m self, workload: Option<&'m str>) -> Vec<Of<'m, (&'m str, u64)>> {
        let all = self
            .of(workload)
            .flat_map(|(workload, its)| its.refused.iter().map(move |what| Of { workload, what }));
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|Of { workload, what: (operation, count) }| (Reverse(*count), *operation, *workload));
        all
    }

    /// The requests that took longest; of one workload or of all.
    pub(super) fn slowest<'m>(&'m self, workload: Option<&'m str>) -> Vec<Of<'m, &'m Slow>> {
        let all = self
            .of(workload)
            .flat_map(|(workload, its)| its.slow.iter().map(move |what| Of { workload, what }));
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|Of { what, .. }| Reverse(what.microseconds));
        all
    }

    /// The decisions, the newest first; of one workload or of all.
    pub(super) fn newest<'m>(
        &'m self,
        workload: Option<&'m str>,
        only_refused: bool,
    ) -> impl Iterator<Item = &'m Decision> {
        self.tail.iter().rev().filter(move |decision| {
            let is_its = workload.is_none_or(|wanted| wanted == self.counted_as(&decision.workload));
            is_its && (!only_refused || decision.answer.is_refusal())
        })
    }

    fn of<'m>(&'m self, workload: Option<&'m str>) -> impl Iterator<Item = (&'m str, &'m Workload)> {
        let all = self.workloads.iter().map(|(name, workload)| (&**name, workload));
        all.filter(move |(name, _)| workload.is_none_or(|wanted| wanted == *name))
    }

    fn counted_as<'n>(&self, name: &'n str) -> &'n str {
        if self.workloads.contains_key(name) { name } else { OTHERS }
    }

    fn workload(&mut self, name: &str) -> &mut Workload {
        let has_room = self.workloads.len() < MAX_WORKLOADS || self.workloads.contains_key(name);
        self.workloads.entry(if has_room { name } else { OTHERS }.to_owned()).or_default()
    }
}

impl Workload {
    /// Requests and connections a second.
    pub(super) fn rate(&self, now: i64) -> f64 {
        self.window.sum(now) as f64 / WINDOW as f64
    }

    fn add(&mut self, decision: &Decision, now: i64) {
        self.counts.add(decision.answer, decision.count);
        if self.policy.is_empty() {
            self.policy.clone_from(&decision.policy);
        }
        if let Some(second) = decision.second.filter(|second| *second <= now) {
            self.window.add(second, decision.count);
        }
        if decision.answer.is_refusal() {
            self.last_refusal = Some(Refusal { time: decision.time.clone(), why: decision.why.clone() });
            self.refused.add(&decision.operation, decision.count);
        }
        if let Some(microseconds) = decision.microseconds {
            let at = self.slow.partition_point(|slow| slow.microseconds >= microseconds);
            if at < MAX_SLOW {
                self.slow.truncate(MAX_SLOW - 1);
                self.slow.insert(at, Slow { microseconds, request: decision.request.clone() });
            }
        }
    }
}

/// How often operations were refused, exactly while there are few. Then each new one takes the place of the rarest and
/// goes on from its count ("space saving"): none that is frequent is missed, and the sum stays right.
#[derive(Debug, Default)]
struct Refused(BTreeMap<String, u64>);

impl Refused {
    fn add(&mut self, operation: &str, count: u64) {
        if let Some(known) = self.0.get_mut(operation) {
            *known = known.saturating_add(count);
            return;
        }
        let mut before = 0;
        if self.0.len() >= MAX_REFUSED
            && let Some((rarest, its)) = self.0.iter().min_by_key(|(_, count)| **count)
        {
            before = *its;
            let rarest = rarest.clone();
            self.0.remove(&rarest);
        }
        self.0.insert(operation.to_owned(), before.saturating_add(count));
    }

    fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(operation, count)| (&**operation, *count))
    }
}

/// Counts of the last seconds, each in the place of its remainder.
#[derive(Debug)]
struct Window([(i64, u64); WINDOW]);

impl Default for Window {
    fn default() -> Self {
        Self(array::from_fn(|_| (i64::MIN, 0)))
    }
}

impl Window {
    fn add(&mut self, second: i64, count: u64) {
        let place = usize::try_from(second.rem_euclid(WINDOW as i64)).unwrap_or_default();
        let Some(place) = self.0.get_mut(place) else { return };
        if place.0 < second {
            *place = (second, 0);
        }
        // A record that is older than the place's second came too late to tell anything of now.
        if place.0 == second {
            place.1 = place.1.saturating_add(count);
        }
    }

    fn sum(&self, now: i64) -> u64 {
        let oldest = now.saturating_sub(WINDOW as i64);
        let recent = self.0.iter().filter(|(second, _)| *second > oldest && *second <= now);
        recent.fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests;
