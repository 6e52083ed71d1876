//! What a machine wrote to its second serial port: one JSON object to a line, of the init, of the program that
//! loads, and of libtest.

use serde::Deserialize;
use std::collections::BTreeMap;

/// All that a machine told.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// What `uname -r` said; empty when the machine never came up.
    pub(crate) release: String,
    /// The security modules.
    pub(crate) lsm: String,
    /// How long the machine took to come up.
    pub(crate) up_seconds: f64,
    /// The eBPF programs in the order in which they were tried.
    pub(crate) programs: Vec<Program>,
    /// The test programs in the order in which they ran.
    pub(crate) suites: Vec<Suite>,
    /// Whether the machine came to its end by itself.
    pub(crate) is_done: bool,
}

/// An eBPF program.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Program {
    /// Its name.
    #[serde(rename = "program")]
    pub(crate) name: String,
    /// How many instructions the verifier looked at.
    pub(crate) instructions: Option<u32>,
    /// Why it does not load.
    pub(crate) error: Option<String>,
}

/// One run of a test program.
#[derive(Debug, Default)]
pub(crate) struct Suite {
    /// Its name.
    pub(crate) name: String,
    /// How it ended; `None` when it did not.
    pub(crate) status: Option<i32>,
    /// Its tests.
    pub(crate) tests: BTreeMap<String, Test>,
    /// What the test program itself counted: passed, failed, ignored.
    counted: Option<[u64; 3]>,
    /// How long it took.
    pub(crate) seconds: f64,
}

/// How a test went.
#[derive(Debug, PartialEq)]
pub(crate) enum Test {
    /// It began, and nothing more was heard of it.
    Running,
    /// It passed.
    Passed,
    /// It is not to be run.
    Ignored,
    /// It failed.
    Failed {
        /// What it printed.
        output: String,
    },
}

/// A line that is none of these is somebody's stray output.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Machine(Machine),
    Program(Program),
    Test(Event),
}

#[derive(Deserialize)]
#[serde(tag = "vm", rename_all = "lowercase")]
enum Machine {
    Up { release: String, lsm: String, seconds: f64 },
    Suite { name: String },
    Ended { name: String, status: i32 },
    Done,
}

/// As libtest writes it.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Event {
    Test {
        event: String,
        name: String,
        #[serde(default)]
        stdout: String,
    },
    Suite {
        event: String,
        #[serde(default)]
        passed: u64,
        #[serde(default)]
        failed: u64,
        #[serde(default)]
        ignored: u64,
        #[serde(default)]
        exec_time: f64,
    },
}

impl Results {
    /// Reads what was written so far; a last line that is cut off is left out.
    pub(crate) fn parse(text: &str) -> Self {
        let mut results = Self::default();
        for line in text.lines() {
            match serde_json::from_str(line.trim()) {
                Ok(Line::Machine(line)) => results.machine(line),
                Ok(Line::Program(program)) => results.programs.push(program),
                Ok(Line::Test(event)) => {
                    if let Some(suite) = results.suites.last_mut() {
                        suite.take(event);
                    }
                }
                Err(_) => {}
            }
        }
        results
    }

    fn machine(&mut self, line: Machine) {
        match line {
            Machine::Up { release, lsm, seconds } => {
                (self.release, self.lsm, self.up_seconds) = (release, lsm, seconds);
            }
            Machine::Suite { name } => self.suites.push(Suite { name, ..Suite::default() }),
            Machine::Ended { name, status } => {
                if let Some(suite) = self.suites.last_mut().filter(|suite| suite.name == name) {
                    suite.status = Some(status);
                }
            }
            Machine::Done => self.is_done = true,
        }
    }

    /// How many tests of all suites are so.
    pub(crate) fn count(&self, is_so: impl Fn(&Suite, &str, &Test) -> bool) -> usize {
        let tests =
            |suite: &Suite| suite.tests.iter().filter(|(name, test)| is_so(suite, name, test)).count();
        self.suites.iter().map(tests).sum()
    }
}

impl Suite {
    fn take(&mut self, event: Event) {
        match event {
            Event::Test { event, name, stdout } => {
                let test = match event.as_str() {
                    "started" => Test::Running,
                    "ok" => Test::Passed,
                    "ignored" => Test::Ignored,
                    "failed" => Test::Failed { output: stdout },
                    // Such as a reminder that it runs for long.
                    _ => return,
                };
                self.tests.insert(name, test);
            }
            Event::Suite { event, passed, failed, ignored, exec_time } => {
                if event != "started" {
                    self.counted = Some([passed, failed, ignored]);
                    self.seconds = exec_time;
                }
            }
        }
    }

    /// What is wrong with the run as such, whatever its tests say.
    pub(crate) fn problem(&self) -> Option<String> {
        let running: Vec<&str> = self
            .tests
            .iter()
            .filter(|(_, test)| **test == Test::Running)
            .map(|(name, _)| name.as_str())
            .collect();
        if self.status.is_none() || !running.is_empty() {
            return Some(format!("did not end; still running: {}", running.join(", ")));
        }
        // The program that loads is no test program.
        if self.tests.is_empty() && self.counted.is_none() {
            return self
                .status
                .filter(|status| *status != 0)
                .map(|status| format!("failed with status {status}"));
        }
        let count = |is_so: fn(&Test) -> bool| self.tests.values().filter(|test| is_so(test)).count() as u64;
        let seen = [
            count(|test| *test == Test::Passed),
            count(|test| matches!(test, Test::Failed { .. })),
            count(|test| *test == Test::Ignored),
        ];
        (self.counted != Some(seen)).then(|| {
            format!("counted {:?} tests (passed, failed, ignored), and {seen:?} were seen", self.counted)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = concat!(
        r#"{"vm":"up","release":"6.1.0-56-cloud-amd64","lsm":"lockdown,bpf","seconds":2.71}"#,
        "\r\n",
        r#"{"vm":"suite","name":"load"}"#,
        "\n",
        r#"{"program":"connect4","instructions":4711}"#,
        "\n",
        r#"{"program":"egress","error":"refused: \"x\""}"#,
        "\n",
        r#"{"vm":"ended","name":"load","status":1}"#,
        "\nstray output {\n",
        r#"{"vm":"suite","name":"hooks"}"#,
        "\n",
        r#"{ "type": "suite", "event": "started", "test_count": 4 }"#,
        "\n",
        r#"{ "type": "test", "event": "started", "name": "a::one" }"#,
        "\n",
        r#"{ "type": "test", "name": "a::one", "event": "ok", "exec_time": 0.5 }"#,
        "\n",
        r#"{ "type": "test", "event": "started", "name": "two" }"#,
        "\n",
        r#"{ "type": "test", "event": "timeout", "name": "two" }"#,
        "\n",
        r#"{ "type": "test", "name": "two", "event": "failed", "stdout": "it said\nno" }"#,
        "\n",
        r#"{ "type": "test", "event": "started", "name": "three" }"#,
        "\n",
        r#"{ "type": "test", "name": "three", "event": "ignored" }"#,
        "\n",
        r#"{ "type": "suite", "event": "failed", "passed": 1, "failed": 1, "ignored": 1, "measured": 0, "filtered_out": 0, "exec_time": 1.5 }"#,
        "\n",
        r#"{"vm":"ended","name":"hooks","status":101}"#,
        "\n",
        r#"{"vm":"done"}"#,
        "\n",
    );

    #[test]
    fn everything_that_was_told_is_read() {
        let results = Results::parse(TOLD);
        assert_eq!(
            (results.release.as_str(), results.lsm.as_str()),
            ("6.1.0-56-cloud-amd64", "lockdown,bpf")
        );
        assert!(results.is_done && results.up_seconds > 2.7);
        let [connect4, egress] = &results.programs[..] else { panic!("{results:?}") };
        assert_eq!((connect4.name.as_str(), connect4.instructions), ("connect4", Some(4711)));
        assert_eq!(egress.error.as_deref(), Some("refused: \"x\""));
        let [load, hooks] = &results.suites[..] else { panic!("{results:?}") };
        assert_eq!(load.problem().as_deref(), Some("failed with status 1"));
        assert_eq!((hooks.status, hooks.problem()), (Some(101), None));
        assert_eq!(hooks.tests["a::one"], Test::Passed);
        assert_eq!(hooks.tests["two"], Test::Failed { output: "it said\nno".to_owned() });
        assert_eq!(results.count(|_, _, test| *test == Test::Ignored), 1);
    }

    #[test]
    fn a_machine_that_ends_early_never_looks_as_if_it_had_passed() {
        let end = TOLD.len() - "{\"vm\":\"done\"}\n".len();
        for length in 0..end {
            let results = Results::parse(&TOLD[..length]);
            assert!(!results.is_done, "{length}");
        }
    }

    #[test]
    fn a_lost_line_is_noticed() {
        let lost: String =
            TOLD.lines().filter(|line| !line.contains("a::one")).map(|line| format!("{line}\n")).collect();
        let results = Results::parse(&lost);
        let problem = results.suites[1].problem().unwrap();
        assert!(problem.contains("[1, 1, 1]") && problem.contains("[0, 1, 1]"), "{problem}");
        let lost: String =
            TOLD.lines().filter(|line| !line.contains("failed")).map(|line| format!("{line}\n")).collect();
        assert!(Results::parse(&lost).suites[1].problem().unwrap().contains("two"));
    }
}
