//! What a run says about each kernel: problems, and a table for people and for docs/kernels.md.

use super::{
    expected::{self, BUDGETS, EXCEPTIONS, REFUSED, Refused},
    kernels::Kernel,
    results::{Program, Results, Suite, Test},
};
use std::{fmt::Write as _, time::Duration};

/// A kernel and what came of it.
pub(crate) struct Run {
    /// The kernel.
    pub(crate) kernel: Kernel,
    /// What its machine told.
    pub(crate) results: Results,
    /// How long it ran.
    pub(crate) took: Duration,
}

/// How the tests of a kernel went.
struct Counts {
    passed: usize,
    failed: usize,
    excepted: usize,
    ignored: usize,
}

impl Run {
    /// Everything that fails the run; `whole` when no test was left out by a filter.
    pub(crate) fn problems(&self, whole: bool) -> Vec<String> {
        let results = &self.results;
        if results.release.is_empty() {
            return vec![format!("did not come up within {} s", self.took.as_secs())];
        }
        let mut problems = Vec::new();
        if !results.is_done {
            problems.push(format!("was stopped after {} s", self.took.as_secs()));
        }
        problems.extend(program_problems(self.kernel.name, &results.programs));
        for suite in &results.suites {
            problems.extend(suite.problem().map(|problem| format!("{}: {problem}", suite.name)));
            problems.extend(suite.tests.iter().filter_map(|(name, test)| {
                let exception = expected::exception(self.kernel.name, &suite.name, name);
                let name = format!("{}: {name}", suite.name);
                match (test, exception) {
                    (Test::Failed { output }, None) => Some(format!("{name} failed:\n{}", output.trim_end())),
                    (Test::Passed, Some(exception)) => Some(format!(
                        "{name} passes, though the list of exceptions says: {}",
                        exception.reason
                    )),
                    _ => None,
                }
            }));
        }
        if whole {
            problems.extend(self.unknown_exceptions());
        }
        problems
    }

    /// Exceptions whose test is not there any more.
    fn unknown_exceptions(&self) -> Vec<String> {
        let is_known = |suite: &str, test: &str| {
            self.results.suites.iter().any(|known| known.name == suite && known.tests.contains_key(test))
        };
        let here = EXCEPTIONS.iter().filter(|exception| exception.kernels.contains(&self.kernel.name));
        here.filter(|exception| !is_known(exception.suite, exception.test))
            .map(|exception| format!("the exception {}: {} names no test", exception.suite, exception.test))
            .collect()
    }

    fn counts(&self) -> Counts {
        let is_excepted =
            |suite: &Suite, name: &str| expected::exception(self.kernel.name, &suite.name, name).is_some();
        let count = |is_so: &dyn Fn(&Suite, &str, &Test) -> bool| self.results.count(is_so);
        let failed = |excepted: bool| {
            count(&|suite, name, test| {
                matches!(test, Test::Failed { .. } | Test::Running) && is_excepted(suite, name) == excepted
            })
        };
        Counts {
            passed: count(&|_, _, test| *test == Test::Passed),
            failed: failed(false),
            excepted: failed(true),
            ignored: count(&|_, _, test| *test == Test::Ignored),
        }
    }
}

fn program_problems(kernel: &str, programs: &[Program]) -> Vec<String> {
    let budget = |name: &str| BUDGETS.iter().find(|(known, _)| *known == name).map(|(_, budget)| *budget);
    let problem = |program: &Program| {
        let name = &program.name;
        match (&program.error, program.instructions, budget(name)) {
            (Some(_), _, _) if expected::refusal(kernel, name).is_some() => None,
            (None, _, _) if expected::refusal(kernel, name).is_some() => {
                Some(format!("the program {name} loads, though the list of refused programs has it"))
            }
            (Some(error), _, _) => Some(format!("the program {name} does not load: {error}")),
            (None, None, _) => Some(format!("the instructions of the program {name} could not be counted")),
            (None, Some(_), None) => Some(format!("the program {name} has no budget: give it one")),
            (None, Some(instructions), Some(budget)) => (instructions > budget).then(|| {
                format!("the program {name} takes {instructions} of the verifier's instructions, more than {budget}")
            }),
        }
    };
    let mut problems: Vec<String> = programs.iter().filter_map(problem).collect();
    let is_missing = |name: &str| programs.iter().all(|program| program.name != name);
    problems.extend(
        BUDGETS
            .iter()
            .filter(|(name, _)| is_missing(name))
            .map(|(name, _)| format!("the program {name} was not tried")),
    );
    problems
}

/// The tables, in Markdown.
pub(crate) fn tables(runs: &[Run]) -> String {
    let mut rows = vec![words(&[
        "kernel",
        "release",
        "up after",
        "programs",
        "most instructions",
        "passed",
        "failed",
        "cannot",
        "ignored",
        "took",
    ])];
    rows.extend(runs.iter().map(|run| {
        let Results { release, programs, .. } = &run.results;
        let counts = run.counts();
        let loaded = programs.iter().filter(|program| program.error.is_none()).count();
        let most = programs.iter().max_by_key(|program| program.instructions);
        vec![
            run.kernel.name.to_owned(),
            if release.is_empty() { "did not come up".to_owned() } else { release.clone() },
            format!("{:.1} s", run.results.up_seconds),
            format!("{loaded} of {}", BUDGETS.len()),
            most.and_then(|program| Some(format!("{} ({})", program.instructions?, program.name)))
                .unwrap_or_default(),
            counts.passed.to_string(),
            counts.failed.to_string(),
            counts.excepted.to_string(),
            counts.ignored.to_string(),
            format!("{} s", run.took.as_secs()),
        ]
    }));
    let mut text = table(&rows);
    text.push('\n');

    let mut head = words(&["instructions", "budget"]);
    head.extend(runs.iter().map(|run| run.kernel.name.to_owned()));
    let mut rows = vec![head];
    rows.extend(BUDGETS.iter().map(|(name, budget)| {
        let mut row = vec![(*name).to_owned(), budget.to_string()];
        row.extend(runs.iter().map(|run| {
            let program = run.results.programs.iter().find(|program| program.name == *name);
            match program {
                Some(Program { instructions: Some(instructions), .. }) => instructions.to_string(),
                Some(Program { error: Some(_), .. }) => "refused".to_owned(),
                _ => "?".to_owned(),
            }
        }));
        row
    }));
    text.push_str(&table(&rows));
    text
}

/// docs/kernels.md.
pub(crate) fn document(runs: &[Run]) -> String {
    let mut text = String::from(
        "# Kernels\n\nWritten by `cargo xtask vm --write`, which boots Debian's cloud kernels in qemu, loads every eBPF program, \
         and runs the\nkernel tests on each. *Cannot* counts the tests that a kernel has not the means for; they are below. \
         Times are those of a\nmachine without KVM. The second table is how many instructions the verifier looked at \
         (it gives up at a million).\n\n",
    );
    text.push_str(&tables(runs));
    // Writing to a String cannot fail.
    for Refused { kernels, programs, reason } in &REFUSED {
        let _ = writeln!(text, "\n- {}: `{}`: {reason}", kernels.join(", "), programs.join("`, `"));
    }
    for exception in &EXCEPTIONS {
        let kernels = exception.kernels.join(", ");
        let _ =
            writeln!(text, "\n- {kernels}: `{}: {}`: {}", exception.suite, exception.test, exception.reason);
    }
    text
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Rows as a Markdown table whose columns are aligned; the first row is its head.
fn table(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or_default()
    };
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells =
            row.iter().enumerate().map(|(column, cell)| format!("{cell:<width$}", width = width(column)));
        let _ = writeln!(text, "| {} |", cells.collect::<Vec<_>>().join(" | "));
        if number == 0 {
            let rules = row.iter().enumerate().map(|(column, _)| "-".repeat(width(column) + 2));
            let _ = writeln!(text, "|{}|", rules.collect::<Vec<_>>().join("|"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::kernels::KERNELS;

    fn run(told: &str) -> Run {
        Run { kernel: KERNELS[2], results: Results::parse(told), took: Duration::from_secs(7) }
    }

    fn good() -> String {
        let mut told = String::from("{\"vm\":\"up\",\"release\":\"5.10.0\",\"lsm\":\"\",\"seconds\":2.5}\n");
        for (name, budget) in BUDGETS {
            writeln!(told, "{{\"program\":\"{name}\",\"instructions\":{budget}}}").unwrap();
        }
        told.push_str("{\"vm\":\"done\"}\n");
        told
    }

    #[test]
    fn a_run_without_problems_has_none() {
        assert_eq!(run(&good()).problems(false), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_told() {
        let (name, budget) = BUDGETS[0];
        let line = format!("{{\"program\":\"{name}\",\"instructions\":{budget}}}");
        let with = |replacement: &str| good().replace(&line, replacement);
        let failed = "{\"vm\":\"suite\",\"name\":\"hooks\"}\n{\"type\":\"test\",\"name\":\"a\",\"event\":\"failed\",\"stdout\":\"why\"}\n\
                      {\"type\":\"suite\",\"event\":\"failed\",\"failed\":1}\n{\"vm\":\"ended\",\"name\":\"hooks\",\"status\":101}";
        for (told, expected) in [
            (String::new(), "did not come up"),
            (good().replace("done", "gone"), "was stopped after 7 s"),
            (with(""), "was not tried"),
            (with(&line.replace(&budget.to_string(), &(budget + 1).to_string())), "more than"),
            (with(&format!("{{\"program\":\"{name}\"}}")), "could not be counted"),
            (with(&format!("{{\"program\":\"{name}\",\"error\":\"no\"}}")), "does not load: no"),
            (good() + "{\"program\":\"other\",\"instructions\":1}", "has no budget"),
            (good() + failed, "hooks: a failed:\nwhy"),
        ] {
            let problems = run(&told).problems(false);
            assert!(problems.len() == 1 && problems[0].contains(expected), "{expected}: {problems:?}");
        }
    }

    #[test]
    fn a_refusal_that_is_known_is_no_problem_and_one_that_is_gone_is() {
        let on_5_10 = |told: &str| Run { kernel: KERNELS[0], ..run(told) }.problems(false);
        let mut told = good();
        for program in REFUSED[0].programs {
            assert!(
                on_5_10(&told).iter().any(|problem| problem.contains(&format!("{program} loads, though")))
            );
            let budget = BUDGETS.iter().find(|(name, _)| name == program).unwrap().1;
            let loads = format!("{{\"program\":\"{program}\",\"instructions\":{budget}}}");
            told = told.replace(&loads, &format!("{{\"program\":\"{program}\",\"error\":\"no\"}}"));
        }
        assert_eq!(on_5_10(&told), Vec::<String>::new());
    }

    #[test]
    fn tables_show_every_kernel_and_program() {
        let text = tables(&[run(&good())]);
        for word in ["5.10.0", "2.5 s", "7 s", "17 of 17", "connect6", "100000"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}
