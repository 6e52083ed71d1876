//! `cargo xtask hot-path`: what classifying and deciding a request costs in instructions and allocations, against a
//! budget. Instructions are counted by valgrind, so that the count is the same on a busy machine.
//!
//! `cargo xtask test` counts those of the development build, which is there anyway and shows a new loop, copy or search
//! as well; those of a release build have a budget of their own.

use crate::{cargo, command, packages};
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, io::Write, path::Path, process::Command};

const PROGRAM: &str = "tidegate-hot-path";
/// Only what this function does is counted.
const COUNTED: &str = "*tidegate_hot_path::counted*";
/// What it counts belongs to one request until this function returns.
const CASE: &str = "*tidegate_hot_path::one_case*";
/// How often a request is decided for one count; hash seeds differ from run to run, but not within one.
const TIMES: u64 = 20;
/// How far above the budget a count may be: another version of the C library copies memory in other ways.
const TOLERANCE_PERCENT: u64 = 5;
/// A count so far below it leaves room for a regression that nobody would see.
const SLACK_PERCENT: u64 = 15;

/// `cargo xtask hot-path`
#[derive(Args)]
pub(crate) struct Arguments {
    /// Take the counts of now as the budget: commit the file with the reason for the change.
    #[arg(long)]
    write: bool,
    /// Count in a release build, against its own budget.
    #[arg(long)]
    release: bool,
}

/// What one decision costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cost {
    instructions: u64,
    allocations: u64,
}

type Costs = BTreeMap<String, Cost>;
/// By the build's profile.
type Budgets = BTreeMap<String, Costs>;

/// Counts, tells every count, and fails where one is above its budget.
pub(crate) fn run(arguments: &Arguments, workspace: &Path, out: &mut impl Write) -> Result<()> {
    let profile = if arguments.release { "release" } else { "dev" };
    let costs = count(workspace, profile)?;
    let file = workspace.join("tests/hot_path/budget.json");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let mut budgets: Budgets =
        serde_json::from_str(&text).with_context(|| format!("in {}", file.display()))?;
    let budget = budgets.entry(profile.to_owned()).or_default();
    if arguments.write {
        budget.clone_from(&costs);
        fs::write(&file, serde_json::to_string_pretty(&budgets)? + "\n")
            .with_context(|| format!("writing {}", file.display()))?;
    }
    let budget = budgets.remove(profile).unwrap_or_default();
    writeln!(
        out,
        "{:24} {:>12} {:>8} {:>11} {:>8}",
        "request", "instructions", "budget", "allocations", "budget"
    )?;
    for (name, cost) in &costs {
        let (instructions, allocations) =
            budget.get(name).map_or(("-".to_owned(), "-".to_owned()), |budget| {
                (budget.instructions.to_string(), budget.allocations.to_string())
            });
        writeln!(
            out,
            "{name:24} {:12} {instructions:>8} {:11} {allocations:>8}",
            cost.instructions, cost.allocations
        )?;
    }
    for hint in slack(&costs, &budget) {
        writeln!(out, "{hint}")?;
    }
    judge(&costs, &budget)
}

/// As [`run`], silent where all is well: for `cargo xtask test`.
pub(crate) fn check(workspace: &Path) -> Result<()> {
    let mut told = Vec::new();
    let arguments = Arguments { write: false, release: false };
    run(&arguments, workspace, &mut told).with_context(|| String::from_utf8_lossy(&told).into_owned())
}

fn count(workspace: &Path, profile: &str) -> Result<Costs> {
    packages::ensure(&[("valgrind", "valgrind")])?;
    let build = ["build", "--quiet", "--profile", profile, "--package", "tidegate-tests", "--bin", PROGRAM];
    cargo::run(workspace, &build)?;
    let target = cargo::target_directory(workspace)?;
    let program = target.join(if profile == "dev" { "debug" } else { profile }).join(PROGRAM);
    let directory = target.join("hot-path");
    fs::create_dir_all(&directory)?;
    let told = command::output(&mut Command::new(&program))?;
    let cases: Vec<(&str, u64)> = told.lines().map(allocations).collect::<Result<_>>()?;
    let profile = directory.join("callgrind");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind", "--collect-atstart=no"]);
    valgrind.arg(format!("--toggle-collect={COUNTED}")).arg(format!("--dump-after={CASE}"));
    valgrind.arg(format!("--callgrind-out-file={}", profile.display()));
    command::output(valgrind.arg(&program).arg(TIMES.to_string()))?;
    let mut costs = Costs::new();
    for (number, (name, allocations)) in (1..).zip(cases) {
        // In the order in which they were counted.
        let part = directory.join(format!("callgrind.{number}"));
        let named = directory.join(format!("{name}.callgrind"));
        fs::rename(&part, &named).with_context(|| {
            format!("valgrind wrote no {}: it does not find {CASE} in {PROGRAM}", part.display())
        })?;
        let instructions = total(&fs::read_to_string(&named)?).unwrap_or_default() / TIMES;
        ensure!(instructions > 0, "nothing was counted: valgrind does not find {COUNTED} in {PROGRAM}");
        costs.insert(name.to_owned(), Cost { instructions, allocations });
    }
    Ok(costs)
}

/// A line of the program's: a case, how often it allocates, and how many bytes.
fn allocations(line: &str) -> Result<(&str, u64)> {
    let mut words = line.split(' ');
    let (name, times) = words.next().zip(words.next()).with_context(|| format!("`{line}` of {PROGRAM}"))?;
    Ok((name, times.parse().with_context(|| format!("`{line}` of {PROGRAM}"))?))
}

/// The total of a file of callgrind's.
fn total(profile: &str) -> Option<u64> {
    let totals = |line: &str| line.strip_prefix("totals: ").and_then(|total| total.trim().parse().ok());
    profile.lines().find_map(totals)
}

/// Fails with all that is above its budget, and with how to change the budget.
fn judge(costs: &Costs, budget: &Costs) -> Result<()> {
    let mut problems = Vec::new();
    for (name, cost) in costs {
        let Some(budget) = budget.get(name) else {
            problems.push(format!("{name}: no budget"));
            continue;
        };
        let most = budget.instructions + budget.instructions * TOLERANCE_PERCENT / 100;
        if cost.instructions > most {
            let more = (cost.instructions - budget.instructions) as f64 * 100.0 / budget.instructions as f64;
            problems.push(format!(
                "{name}: {} instructions, {more:.1} % more than the budget of {}",
                cost.instructions, budget.instructions
            ));
        }
        if cost.allocations > budget.allocations {
            problems.push(format!(
                "{name}: {} allocations, {} more than the budget of {}",
                cost.allocations,
                cost.allocations - budget.allocations,
                budget.allocations
            ));
        }
    }
    for name in budget.keys().filter(|name| !costs.contains_key(*name)) {
        problems.push(format!("{name}: a budget, and no such request"));
    }
    ensure!(
        problems.is_empty(),
        "the hot path costs more than its budget:\n{}\n`callgrind_annotate --inclusive=yes` of \
         target/hot-path/REQUEST.callgrind shows where; where the cost is worth it, `cargo xtask hot-path --write` \
         raises the budget in tests/hot_path/budget.json",
        problems.join("\n")
    );
    Ok(())
}

/// What became so much cheaper that the budget no longer guards it.
fn slack(costs: &Costs, budget: &Costs) -> Vec<String> {
    let far_below = |(name, cost): (&String, &Cost)| {
        let budget = budget.get(name)?;
        let is_far = cost.instructions * 100 < budget.instructions * (100 - SLACK_PERCENT)
            || cost.allocations < budget.allocations;
        is_far.then(|| {
            format!("{name} is well below its budget: keep that with `cargo xtask hot-path --write`")
        })
    };
    costs.iter().filter_map(far_below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(instructions: u64, allocations: u64) -> Costs {
        [("get".to_owned(), Cost { instructions, allocations })].into()
    }

    #[test]
    fn what_is_above_the_budget_fails_and_says_by_how_much() {
        let budget = costs(1_000, 3);
        for (instructions, allocations, expected) in [
            (1_000, 3, None),
            (900, 0, None),
            (1_050, 3, None),
            (1_051, 3, Some("1051 instructions, 5.1 % more than the budget of 1000")),
            (1_000, 4, Some("4 allocations, 1 more than the budget of 3")),
        ] {
            let said = judge(&costs(instructions, allocations), &budget).map_err(|error| error.to_string());
            match expected {
                None => assert_eq!(said, Ok(())),
                Some(expected) => {
                    assert!(said.as_ref().is_err_and(|said| said.contains(expected)), "{said:?}")
                }
            }
        }
    }

    #[test]
    fn a_request_without_a_budget_and_a_budget_without_a_request_fail() {
        assert!(judge(&costs(1, 1), &Costs::new()).is_err());
        assert!(judge(&Costs::new(), &costs(1, 1)).is_err());
    }

    #[test]
    fn a_budget_far_above_the_cost_is_told() {
        let budget = costs(1_000, 3);
        for (instructions, allocations, expected) in [(1_000, 3, 0), (850, 3, 0), (849, 3, 1), (1_000, 2, 1)]
        {
            assert_eq!(slack(&costs(instructions, allocations), &budget).len(), expected, "{instructions}");
        }
    }

    #[test]
    fn the_total_is_found_among_callgrinds_lines() {
        assert_eq!(total("events: Ir\nfn=(1) main\n1 2\ntotals: 123456\n"), Some(123_456));
        assert_eq!(total("events: Ir\n"), None);
    }
}
