//! A list of workloads, in which those of a cgroup are looked up.

use super::Matched;
use crate::{
    config::CgroupPatternSet,
    identify::{
        Workload,
        table::{Facts, Fit},
    },
};
use std::{path::Path, sync::Arc};

/// Workloads in the order of the configuration.
#[derive(Debug)]
pub struct List {
    all: Vec<Matched>,
    /// Of all cgroups that tables name.
    patterns: Arc<CgroupPatternSet>,
    /// Where the table of each of these patterns is.
    tables: Vec<Place>,
    /// The workloads with a table that names no cgroup.
    others: Vec<usize>,
}

/// Where a `match` table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The workload's number.
    pub workload: usize,
    /// The table's, of those of the workload.
    pub table: usize,
}

impl List {
    /// A list of these.
    pub fn new(all: Vec<Matched>) -> Self {
        let tables = all.iter().enumerate().flat_map(|(workload, matched)| {
            let numbered = matched.matches.iter().enumerate();
            numbered.map(move |(table, match_table)| (Place { workload, table }, match_table))
        });
        let (named, others): (Vec<_>, Vec<_>) = tables.partition(|(_, table)| table.cgroup.is_some());
        let patterns = CgroupPatternSet::new(named.iter().filter_map(|(_, table)| table.cgroup.as_ref()));
        let patterns = Arc::new(patterns);
        let tables = named.iter().map(|(place, _)| *place).collect();
        let mut others: Vec<usize> = others.iter().map(|(place, _)| place.workload).collect();
        others.dedup();
        Self { all, patterns, tables, others }
    }

    /// All of them.
    pub fn all(&self) -> &[Matched] {
        &self.all
    }

    /// The cgroups that their tables name.
    pub fn patterns(&self) -> &Arc<CgroupPatternSet> {
        &self.patterns
    }

    /// The tables that name this cgroup, and not one above it.
    pub fn naming(&self, cgroup: &Path) -> impl Iterator<Item = Place> {
        let depth = cgroup.components().count().saturating_sub(1);
        let meanings = self.patterns.meaning(cgroup).into_iter();
        meanings
            .filter(move |meaning| meaning.depth == depth)
            .filter_map(|meaning| self.tables.get(meaning.pattern).copied())
    }

    /// The workloads that fit, and of those that do by cgroups the ones with the outermost.
    pub(super) fn outermost(&self, facts: &Facts<'_>) -> Vec<Workload> {
        let mut found: Vec<(&Workload, Vec<Fit>)> = Vec::new();
        for matched in self.candidates(facts.origin.as_deref()) {
            let fits: Vec<Fit> = matched.matches.iter().filter_map(|table| table.fits(facts)).collect();
            if !fits.is_empty() && !matched.except.iter().any(|table| table.excepts(facts)) {
                found.push((&matched.workload, fits));
            }
        }
        let depths = found.iter().flat_map(|(_, fits)| fits).filter_map(|fit| match fit {
            Fit::Cgroup(depth) => Some(*depth),
            Fit::User => None,
        });
        let outermost = depths.min();
        let counts = |fit: &Fit| match fit {
            Fit::Cgroup(depth) => Some(*depth) == outermost,
            Fit::User => true,
        };
        found.retain(|(_, fits)| fits.iter().any(counts));
        found.into_iter().map(|(workload, _)| workload.clone()).collect()
    }

    /// Those that a connection of this cgroup may be of: all others have tables for other cgroups alone.
    fn candidates(&self, origin: Option<&Path>) -> impl Iterator<Item = &Matched> {
        let meanings = origin.map(|origin| self.patterns.meaning(origin)).unwrap_or_default();
        let named = meanings.iter().filter_map(|meaning| self.tables.get(meaning.pattern));
        let mut numbers: Vec<usize> =
            named.map(|place| place.workload).chain(self.others.iter().copied()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().filter_map(|number| self.all.get(number))
    }
}
