//! What was measured, and the medians of it.

use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// One turn of one peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sample {
    pub(super) scenario: String,
    pub(super) peer: String,
    pub(super) round: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
    pub(super) metrics: BTreeMap<String, f64>,
}

impl Sample {
    /// A line about it.
    pub(super) fn told(&self) -> String {
        let mut line = format!("{} {} round {}", self.scenario, self.peer, self.round + 1);
        if let Some(count) = self.count {
            let _ = write!(line, " of {count}");
        }
        match &self.problem {
            Some(problem) => line + " FAILED: " + problem.lines().next().unwrap_or_default(),
            None => {
                self.metrics.iter().fold(line, |line, (name, value)| format!("{line}  {name} {value:.1}"))
            }
        }
    }
}

/// All turns of a run, in their order.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Samples(Vec<Sample>);

impl Samples {
    pub(super) fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    pub(super) fn extend(&mut self, samples: Vec<Sample>) {
        self.0.extend(samples);
    }

    /// The turns that failed.
    pub(super) fn problems(&self) -> Vec<String> {
        let failed = self.0.iter().filter_map(|sample| Some((sample, sample.problem.as_ref()?)));
        failed.map(|(sample, problem)| format!("{} {}: {problem}", sample.scenario, sample.peer)).collect()
    }

    /// In the order in which they were first measured.
    pub(super) fn scenarios(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        let names = self.0.iter().map(|sample| sample.scenario.as_str());
        names.filter(|name| seen.insert(*name)).collect()
    }

    /// How many turns each peer had in a scenario.
    pub(super) fn rounds(&self, scenario: &str) -> u32 {
        let turns = self.0.iter().filter(|sample| sample.scenario == scenario);
        turns.map(|sample| sample.round + 1).max().unwrap_or_default()
    }

    /// Those with a turn in a scenario, in the order of their turns.
    pub(super) fn peers(&self, scenario: &str) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        let turns = self.0.iter().filter(|sample| sample.scenario == scenario);
        turns.map(|sample| sample.peer.as_str()).filter(|name| seen.insert(*name)).collect()
    }

    /// The counts of a curve, ascending.
    pub(super) fn counts(&self, scenario: &str) -> Vec<u64> {
        let turns = self.0.iter().filter(|sample| sample.scenario == scenario);
        turns.filter_map(|sample| sample.count).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Over the rounds.
    pub(super) fn median(&self, scenario: &str, peer: &str, metric: &str) -> Option<f64> {
        self.median_at(scenario, peer, None, metric)
    }

    /// Over the rounds, on a curve.
    pub(super) fn median_at(
        &self,
        scenario: &str,
        peer: &str,
        count: Option<u64>,
        metric: &str,
    ) -> Option<f64> {
        let is_it =
            |sample: &&Sample| sample.scenario == scenario && sample.peer == peer && sample.count == count;
        median(self.0.iter().filter(is_it).filter_map(|sample| sample.metrics.get(metric).copied()).collect())
    }

    /// The median of the rounds' ratios: what slows the machine for a while meets both.
    pub(super) fn ratio(&self, scenario: &str, of: &str, to: &str, metric: &str) -> Option<f64> {
        let by_round = |peer: &str| -> BTreeMap<u32, f64> {
            let turns = self.0.iter().filter(|sample| sample.scenario == scenario && sample.peer == peer);
            turns.filter_map(|sample| Some((sample.round, *sample.metrics.get(metric)?))).collect()
        };
        let to = by_round(to);
        let ratios = by_round(of).into_iter().filter_map(|(round, value)| Some(value / to.get(&round)?));
        median(ratios.filter(|ratio| ratio.is_finite()).collect())
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(upper, *values.get((values.len() / 2).checked_sub(1)?)?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Turns of `scenario peer round metric value`.
    pub(crate) fn samples(rows: &[(&str, &str, u32, &str, f64)]) -> Samples {
        let row = |(scenario, peer, round, metric, value): &(&str, &str, u32, &str, f64)| Sample {
            scenario: (*scenario).to_owned(),
            peer: (*peer).to_owned(),
            round: *round,
            count: None,
            problem: None,
            metrics: [((*metric).to_owned(), *value)].into(),
        };
        Samples(rows.iter().map(row).collect())
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let turns = samples(&[
            ("http1", "haproxy", 0, "cpu", 10.0),
            ("http1", "tidegate", 0, "cpu", 20.0),
            ("http1", "haproxy", 1, "cpu", 100.0),
            ("http1", "tidegate", 1, "cpu", 200.0),
            ("http1", "haproxy", 2, "cpu", 10.0),
            ("http1", "tidegate", 2, "cpu", 10.0),
            ("http1", "haproxy", 3, "cpu", 10.0),
        ]);
        assert_eq!(turns.ratio("http1", "tidegate", "haproxy", "cpu"), Some(2.0));
        assert_eq!(turns.ratio("http2", "tidegate", "haproxy", "cpu"), None);
        assert_eq!(turns.median("http1", "haproxy", "cpu"), Some(10.0));
    }

    #[test]
    fn the_median_lies_in_the_middle() {
        for (values, expected) in [
            (vec![], None),
            (vec![3.0], Some(3.0)),
            (vec![9.0, 1.0], Some(5.0)),
            (vec![9.0, 1.0, 2.0], Some(2.0)),
        ] {
            assert_eq!(median(values), expected);
        }
    }
}
