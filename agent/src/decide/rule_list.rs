//! A policy's rules, found by the scopes that they speak of, so that a request looks at few of them.

use super::{grant::Grant, policy::Rule};
use crate::classify::{Scope, scope::Tag};
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
    pub(super) fn near<'s>(&self, scopes: impl Iterator<Item = &'s Scope>) -> Vec<usize> {
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
#[derive(Clone, Debug, Default)]
struct Index {
    /// Each word of a rule's scopes with the rule's number, sorted.
    by_word: Box<[(Tag, u32)]>,
    /// The rules that may speak of any scope: by an alias, or by naming none.
    wide: Box<[u32]>,
    /// A bit for the lowest bits of each tag, since most words of a request stand in no rule.
    present: [u64; 4],
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
        let mut present = [0; 4];
        for (tag, _) in &by_word {
            let (place, bit) = bit_of(*tag);
            if let Some(bits) = present.get_mut(place) {
                *bits |= bit;
            }
        }
        Self { by_word: by_word.into(), wide: wide.into(), present }
    }

    fn near<'s>(&self, scopes: impl Iterator<Item = &'s Scope>) -> Vec<usize> {
        let tags = scopes.flat_map(|scope| [scope.tag(), scope.resource_tag()]);
        let named = tags.filter(|tag| self.may_hold(*tag)).flat_map(|tag| {
            let first = self.by_word.partition_point(|(other, _)| *other < tag);
            let others = self.by_word.iter().skip(first);
            others.take_while(move |(other, _)| *other == tag).map(|(_, number)| *number)
        });
        let mut numbers: Vec<usize> =
            named.chain(self.wide.iter().copied()).map(|number| number as usize).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    fn may_hold(&self, tag: Tag) -> bool {
        let (place, bit) = bit_of(tag);
        self.present.get(place).is_some_and(|bits| bits & bit != 0)
    }
}

/// A tag's bit, and the one of four numbers that it is in.
fn bit_of(tag: Tag) -> (usize, u64) {
    let low = tag.number() % 256;
    ((low / 64) as usize, 1 << (low % 64))
}

#[cfg(test)]
mod tests;
