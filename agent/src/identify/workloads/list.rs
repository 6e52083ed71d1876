//! A list of workloads, in which those of a cgroup are looked up.

use super::Matched;
use crate::{
    config::cgroup_pattern::{CgroupPatternSet, Meaning},
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
    /// The tables that name no cgroup.
    others: Vec<Place>,
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
        let others = others.iter().map(|(place, _)| *place).collect();
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
        let tables = self.tables_for(facts.origin.as_deref());
        for tables in tables.chunk_by(|(one, _), (other, _)| one.workload == other.workload) {
            let Some(matched) = tables.first().and_then(|(place, _)| self.all.get(place.workload)) else {
                continue;
            };
            let fit = |(place, depth): &(Place, Option<usize>)| {
                matched.matches.get(place.table)?.fits(facts, *depth)
            };
            let fits: Vec<Fit> = tables.iter().filter_map(fit).collect();
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

    /// The tables that may fit a connection of this cgroup, in their order, and how many names lead to the one that each
    /// names: all others name other cgroups.
    fn tables_for(&self, origin: Option<&Path>) -> Vec<(Place, Option<usize>)> {
        let meanings = origin.map(|origin| self.patterns.meaning(origin)).unwrap_or_default();
        let place = |meaning: &Meaning| Some((*self.tables.get(meaning.pattern)?, Some(meaning.depth)));
        let others = self.others.iter().map(|place| (*place, None));
        let mut tables: Vec<_> = meanings.iter().filter_map(place).chain(others).collect();
        tables.sort_unstable();
        tables
    }
}
