//! Tables and plots of a run.

use super::{
    Run,
    goals::{GOALS, Outcome},
    plot::{self, Group, shown},
    samples::Samples,
};
use std::fmt::Write as _;

/// A metric, and its column's heading.
const COLUMNS: [(&str, &str); 10] = [
    ("requests_per_second", "requests/s"),
    ("cpu_us_per_request", "CPU µs a request"),
    ("core_share", "share of its core"),
    ("p50_added_us", "p50 added, µs"),
    ("p99_added_us", "p99 added, µs"),
    ("resident_kib", "resident, KiB"),
    ("kib_per_connection", "KiB a connection"),
    ("us_per_connect", "µs a connect"),
    ("start_ms", "start, ms"),
    ("settled_ms", "settled, ms"),
];
/// What the ratios are to.
const REFERENCE: &str = "haproxy";
const CPU: &str = "cpu_us_per_request";
const QUICK: &str =
    "The turns were too short for the numbers to mean anything: this run only tries the benchmark.";

const HEAD: &str = "# Benchmarks

`cargo xtask bench --write` (root, Debian) installs the peers, measures all of them side by side on this machine, and writes this page;
`cargo xtask bench --scale --write` adds the curves. Everything happens in a network namespace of its own, on loopback. Upstream (nginx with
TLS 1.3) and load generator are the same for all; the proxy has one core, they have the others. The peers take turns in every round, and each
is started for its turn and ended after it; what is shown is the median of the rounds, and of the rounds' ratios.

* **haproxy**, **nginx**: TLS to TLS with one fixed certificate and no policy, the practical limit; nginx speaks HTTP/1.1 upstream.
* **bare**: hyper and rustls that do nothing. **squid** (ssl-bump, through a tunnel, HTTP/1.1 alone), **mitmproxy**: proxies that make certificates.
* **tidegate**: the daemon with capture, identity, a policy and the audit log; **tidegate-policies** with 1,000 policies of 50 rules;
  **tidegate-unrecorded** with its audit log thrown away, to see what recording costs. A turn whose requests are not all in the audit log fails.
* **direct**: no proxy.

Idle connections are 9,900, so that 20,000 descriptors are enough where each has one upstream, too; squid did not keep them. A round of *connect* is the median of 40 turns
of each program.

CPU time is user and system time of all processes of the proxy. Added latency is that of requests at a tenth of the proxy's own peak rate, less
that of the same rate without a proxy. A share of its core well below 1 says that the load or the upstream was the limit: then the rate says little
of the proxy, and the CPU time still does. tidegate's start takes until the first answer, and it has settled when nothing of its start is left
to do; then the curves are measured. [profile.md](profile.md) says why goals are missed, [decide.md](decide.md) what a decision costs.
";

/// What is told on the terminal.
pub(super) fn told(run: &Run) -> String {
    let mut text = String::new();
    if run.facts.quick {
        let _ = writeln!(text, "{QUICK}\n");
    }
    tables(&mut text, &run.samples);
    if run.samples.scenarios().iter().any(|scenario| run.samples.counts(scenario).is_empty()) {
        goals(&mut text, &run.samples);
    }
    text
}

/// The page in docs, of the latest run of either kind.
pub(super) fn page(peers: Option<&Run>, scale: Option<&Run>) -> String {
    let mut text = HEAD.to_owned();
    if let Some(run) = peers {
        goals(&mut text, &run.samples);
        tables(&mut text, &run.samples);
        let _ = writeln!(text, "\n![CPU time a request](cpu.svg)");
        facts(&mut text, run);
    }
    if let Some(run) = scale {
        let _ = writeln!(text, "\n## Scale\n\nEach curve should be flat, or nearly.");
        tables(&mut text, &run.samples);
        for (name, _) in drawings(run) {
            let _ = writeln!(text, "\n![{name}]({name})");
        }
        facts(&mut text, run);
    }
    text
}

fn facts(text: &mut String, run: &Run) {
    let _ = writeln!(text, "\n| measured on | |\n|---|---|");
    let _ = writeln!(text, "| rounds | {} |", rounds(&run.samples));
    for (name, value) in &run.facts.rows {
        let _ = writeln!(text, "| {name} | {} |", value.replace('|', "\\|"));
    }
    if run.facts.quick {
        let _ = writeln!(text, "\n**{QUICK}**");
    }
}

/// The most that a scenario has, and those with fewer.
fn rounds(samples: &Samples) -> String {
    let scenarios = samples.scenarios();
    let most = scenarios.iter().map(|scenario| samples.rounds(scenario)).max().unwrap_or_default();
    let fewer = scenarios.iter().map(|scenario| (scenario, samples.rounds(scenario)));
    let fewer = fewer.filter(|(_, rounds)| *rounds < most);
    fewer.fold(most.to_string(), |text, (scenario, rounds)| format!("{text}; {scenario} {rounds}"))
}

fn goals(text: &mut String, samples: &Samples) {
    let _ = writeln!(text, "\n| goal | wanted | measured | |\n|---|---|---|---|");
    for goal in &GOALS {
        let (value, outcome) = match goal.outcome(samples) {
            Outcome::Met(value) => (shown(value), "met"),
            Outcome::Missed(value) => (shown(value), "**missed**"),
            Outcome::NotMeasured => ("-".to_owned(), "not measured"),
        };
        let _ = writeln!(text, "| {} | {} | {value} | {outcome} |", goal.name, goal.bound());
    }
}

fn tables(text: &mut String, samples: &Samples) {
    for scenario in samples.scenarios() {
        let counts: Vec<Option<u64>> = match samples.counts(scenario) {
            counts if counts.is_empty() => vec![None],
            counts => counts.into_iter().map(Some).collect(),
        };
        let peers = samples.peers(scenario);
        let rows = || counts.iter().flat_map(|&count| peers.iter().map(move |&peer| (peer, count)));
        let is_there = |metric: &str| {
            rows().any(|(peer, count)| samples.median_at(scenario, peer, count, metric).is_some())
        };
        let columns: Vec<_> = COLUMNS.iter().filter(|(metric, _)| is_there(metric)).collect();
        let has_ratio = peers.contains(&REFERENCE) && is_there(CPU);
        let headings: String = columns.iter().map(|(_, heading)| format!(" {heading} |")).collect();
        let ratio = if has_ratio { " CPU against HAProxy |" } else { "" };
        let _ = writeln!(text, "\n| {scenario} |{headings}{ratio}");
        let _ = writeln!(text, "|{}", "---|".repeat(columns.len() + 1 + usize::from(has_ratio)));
        for (peer, count) in rows() {
            let name = count.map_or_else(|| peer.to_owned(), |count| count.to_string());
            let cell =
                |value: Option<f64>| value.map_or(" |".to_owned(), |value| format!(" {} |", shown(value)));
            let mut cells: String = columns
                .iter()
                .map(|(metric, _)| cell(samples.median_at(scenario, peer, count, metric)))
                .collect();
            if has_ratio {
                cells += &cell(samples.ratio(scenario, peer, REFERENCE, CPU));
            }
            let _ = writeln!(text, "| {name} |{cells}");
        }
    }
}

/// The plots of a run, with their files' names.
pub(super) fn drawings(run: &Run) -> Vec<(String, String)> {
    let samples = &run.samples;
    let mut drawings = Vec::new();
    let mut groups = Vec::new();
    for scenario in samples.scenarios() {
        let counts = samples.counts(scenario);
        if counts.is_empty() {
            let peers = samples.peers(scenario);
            let bars: Vec<_> =
                peers.iter().filter_map(|&peer| Some((peer, samples.median(scenario, peer, CPU)?))).collect();
            groups.extend((!bars.is_empty()).then_some(Group { heading: scenario, bars }));
            continue;
        }
        for peer in samples.peers(scenario) {
            let at = |&count: &u64| Some((count, samples.median_at(scenario, peer, Some(count), CPU)?));
            let points: Vec<_> = counts.iter().filter_map(at).collect();
            let drawing = plot::curve("CPU µs a request", scenario, &points);
            drawings.push((format!("scale-{scenario}.svg"), drawing));
        }
    }
    if !groups.is_empty() {
        drawings.push(("cpu.svg".to_owned(), plot::bars("CPU µs a request (logarithmic)", &groups)));
    }
    drawings
}

#[cfg(test)]
mod tests {
    use super::{super::samples::tests::samples, *};

    #[test]
    fn a_table_has_only_the_columns_that_were_measured() {
        let run = samples(&[("http1", "haproxy", 0, CPU, 10.0), ("http1", "tidegate", 0, CPU, 12.0)]);
        let mut text = String::new();
        tables(&mut text, &run);
        assert_eq!(
            text,
            "\n| http1 | CPU µs a request | CPU against HAProxy |\n|---|---|---|\n\
             | haproxy | 10.0 | 1.00 |\n| tidegate | 12.0 | 1.20 |\n"
        );
    }

    #[test]
    fn scenarios_with_fewer_rounds_are_named() {
        let run = samples(&[("http1", "haproxy", 0, CPU, 10.0), ("http1", "haproxy", 2, CPU, 11.0)]);
        assert_eq!(rounds(&run), "3");
        let turns = [("http1", "haproxy", 2, CPU, 10.0), ("connect", "none", 0, CPU, 12.0)];
        assert_eq!(rounds(&samples(&turns)), "3; connect 1");
    }
}
