//! The times of the requests within a sliding window. Pure: time is a number of nanoseconds, and comes in.

use std::collections::VecDeque;

/// The times, oldest first.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<u64>);

impl Window {
    /// Forgets what is `span` old or older.
    pub(super) fn forget(&mut self, now: u64, span: u64) {
        while self.0.front().is_some_and(|time| now.saturating_sub(*time) >= span) {
            self.0.pop_front();
        }
        // What a busy hour took is not held for ever.
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When there is room again for one more of `count` within `period`, if there is none now.
    pub(super) fn full_until(&self, now: u64, count: u32, period: u64) -> Option<u64> {
        let first = self.0.partition_point(|time| now.saturating_sub(*time) >= period);
        let held = self.0.len() - first;
        let surplus = held.checked_sub(usize::try_from(count).unwrap_or(usize::MAX))?;
        // With a smaller budget than before, more than one has to leave.
        Some(self.0.get(first + surplus).unwrap_or(&now).saturating_add(period))
    }

    /// Counts one more; `now` is no earlier than any before.
    pub(super) fn add(&mut self, now: u64) {
        self.0.push_back(now);
    }

    /// Counts one less of those of that time.
    pub(super) fn take_back(&mut self, time: u64) {
        if let Ok(index) = self.0.binary_search(&time) {
            self.0.remove(index);
        }
    }
}

#[cfg(test)]
impl Window {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
