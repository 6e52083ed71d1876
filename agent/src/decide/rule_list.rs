//! A policy's rules, found by the scopes that they speak of, so that a request looks at few of them.

use super::{grant::Grant, policy::Rule};
use crate::classify::{Scope, scope::Tag};
use smallvec::SmallVec;
use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::OnceLock,
};

/// Numbers of rules.
pub(super) type Numbers = SmallVec<[usize; 8]>;

/// The rules of a policy, in the order of the file.
#[derive(Clone, Default)]
pub struct RuleList {
    rules: Vec<Rule>,
    /// Forgotten by whatever may change the rules.
    index: OnceLock<Index>,
}

impl RuleList {
    /// The rules that could give or take what has no scope; those of scopes are added.
    pub(super) fn near(&self) -> Near<'_> {
        let index = self.index.get_or_init(|| Index::of(&self.rules));
        Near { index, numbers: index.wide.iter().map(|number| *number as usize).collect() }
    }
}

impl From<Vec<Rule>> for RuleList {
    fn from(rules: Vec<Rule>) -> Self {
        let index = OnceLock::from(Index::of(&rules));
        Self { rules, index }
    }
}

impl FromIterator<Rule> for RuleList {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Self {
        Self::from(Vec::from_iter(rules))
    }
}

impl Deref for RuleList {
    type Target = Vec<Rule>;

    fn deref(&self) -> &Vec<Rule> {
        &self.rules
    }
}

impl DerefMut for RuleList {
    fn deref_mut(&mut self) -> &mut Vec<Rule> {
        self.index = OnceLock::new();
        &mut self.rules
    }
}

impl PartialEq for RuleList {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl Eq for RuleList {}

impl fmt::Debug for RuleList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.fmt(f)
    }
}

/// Rules that may speak of a request, and perhaps others.
pub(super) struct Near<'a> {
    index: &'a Index,
    numbers: Numbers,
}

impl Near<'_> {
    /// Adds those that could give or take the scope.
    pub(super) fn add(&mut self, scope: &Scope) {
        for tag in [scope.tag(), scope.resource_tag()] {
            if self.index.spoken_of.may_hold(tag) {
                let named = self.index.bucket(tag).iter().filter(|(other, _)| *other == tag);
                self.numbers.extend(named.map(|(_, number)| *number as usize));
            }
        }
    }

    /// Their numbers, ascending, each once.
    pub(super) fn numbers(mut self) -> Numbers {
        self.numbers.sort_unstable();
        self.numbers.dedup();
        self.numbers
    }
}

/// Where to look for rules. The tags of two words may be equal, so that what is found is looked at all the same.
#[derive(Clone, Debug)]
struct Index {
    spoken_of: TagFilter,
    /// Each word of a rule's scopes with the rule's number, sorted.
    by_word: Box<[(Tag, u32)]>,
    /// Where in `by_word` the tags with the same upper bits begin, and at last where the last of them end.
    beginnings: Box<[u32]>,
    /// By how much a tag is shifted to tell which of these are its own.
    shift: u32,
    /// The rules that may speak of any scope: by an alias, or by naming none.
    wide: Box<[u32]>,
}

impl Index {
    fn of(rules: &[Rule]) -> Self {
        let mut by_word = Vec::new();
        let mut wide = Vec::new();
        for (rule, number) in rules.iter().zip(0..) {
            if rule.scopes.is_empty() {
                wide.push(number);
            }
            for grant in &rule.scopes {
                match grant {
                    Grant::Scope(scope) => by_word.push((scope.tag(), number)),
                    Grant::Resource(resource) => by_word.push((Tag::of(resource), number)),
                    Grant::ApiRead | Grant::ApiWrite => wide.push(number),
                }
            }
        }
        by_word.sort_unstable();
        let spoken_of = by_word.iter().map(|(tag, _)| *tag).collect();
        // As many as there are words, or a few more, so that most hold none or one.
        let buckets = by_word.len().max(2).next_power_of_two();
        let shift = u32::BITS - buckets.trailing_zeros();
        let beginning = |bucket| by_word.partition_point(|(tag, _)| bucket_of(*tag, shift) < bucket) as u32;
        let beginnings = (0..=buckets).map(beginning).collect();
        Self { spoken_of, beginnings, shift, by_word: by_word.into(), wide: wide.into() }
    }

    /// The words whose tags have the same upper bits.
    fn bucket(&self, tag: Tag) -> &[(Tag, u32)] {
        let bucket = bucket_of(tag, self.shift);
        let end = bucket + 1;
        match (self.beginnings.get(bucket), self.beginnings.get(end)) {
            (Some(begin), Some(end)) => self.by_word.get(*begin as usize..*end as usize).unwrap_or_default(),
            _ => &[],
        }
    }
}

/// One bit for all tags with the same lower bits: of most words that no rule speaks of it tells so, by a look at one
/// cache line.
#[derive(Clone, Copy, Debug, Default)]
struct TagFilter([u64; 8]);

impl TagFilter {
    fn may_hold(&self, tag: Tag) -> bool {
        let (word, bit) = Self::place(tag);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }

    fn place(tag: Tag) -> (usize, u64) {
        let number = tag.number();
        ((number >> 6) as usize % 8, 1 << (number % 64))
    }
}

impl FromIterator<Tag> for TagFilter {
    fn from_iter<I: IntoIterator<Item = Tag>>(tags: I) -> Self {
        let mut filter = Self::default();
        for (word, bit) in tags.into_iter().map(Self::place) {
            if let Some(bits) = filter.0.get_mut(word) {
                *bits |= bit;
            }
        }
        filter
    }
}

fn bucket_of(tag: Tag, shift: u32) -> usize {
    (tag.number() >> shift) as usize
}

#[cfg(test)]
mod tests;
