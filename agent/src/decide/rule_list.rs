//! A policy's rules, found by the scopes that they speak of, so that a request looks at few of them.

use super::{grant::Grant, policy::Rule};
use crate::{
    classify::{Scope, scope::Tag},
    few::Few,
};
use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::OnceLock,
};

/// The rules of a policy, in the order of the file.
#[derive(Clone, Default)]
pub struct RuleList {
    rules: Vec<Rule>,
    /// Forgotten by whatever may change the rules.
    index: OnceLock<Index>,
}

impl RuleList {
    /// The numbers of the rules that could give or take any of these scopes, or something that has no scope; of
    /// others perhaps as well. Ascending.
    pub(super) fn near<'s>(&self, scopes: impl Iterator<Item = &'s Scope>) -> Few<usize> {
        self.index.get_or_init(|| Index::of(&self.rules)).near(scopes)
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

    fn near<'s>(&self, scopes: impl Iterator<Item = &'s Scope>) -> Few<usize> {
        let mut numbers: Few<usize> = self.wide.iter().map(|number| *number as usize).collect();
        for scope in scopes {
            self.add_near(scope.tag(), &mut numbers);
            self.add_near(scope.resource_tag(), &mut numbers);
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    fn add_near(&self, tag: Tag, numbers: &mut Few<usize>) {
        if self.spoken_of.may_hold(tag) {
            let named = self.bucket(tag).iter().filter(|(other, _)| *other == tag);
            numbers.extend(named.map(|(_, number)| *number as usize));
        }
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
