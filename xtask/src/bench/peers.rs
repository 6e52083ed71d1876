//! The peers, and what measures what no proxy is needed for.

use super::samples::Sample;
use crate::{cargo, command, packages::Program};
use anyhow::{Context as _, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Debian's: where there is systemd, installing them starts them, so a machine of its own is best.
pub(super) const PROGRAMS: [Program; 5] = [
    ("haproxy", "haproxy"),
    ("nginx", "nginx"),
    ("squid", "squid-openssl"),
    ("h2load", "nghttp2-client"),
    ("taskset", "util-linux"),
];

/// The newest that runs; its newest versions need 3.12.
const PYTHONS: [&str; 4] = ["python3.14", "python3.13", "python3.12", "python3"];

/// mitmproxy in an environment of its own, as its authors want it installed; Debian's is years old.
pub(super) fn mitmproxy(target: &Path) -> Result<PathBuf> {
    let directory = target.join("mitmproxy");
    let program = directory.join("bin/mitmdump");
    if works(Command::new(&program).arg("--version")) {
        return Ok(program);
    }
    let has_venv = |python: &&&str| works(Command::new(python).args(["-c", "import ensurepip, venv"]));
    let python = PYTHONS.iter().find(has_venv).context("no Python with venv: install python3-venv")?;
    command::run(Command::new(python).args(["-m", "venv", "--clear"]).arg(&directory))?;
    let mut pip = Command::new(directory.join("bin/python3"));
    command::run(pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "mitmproxy"]))?;
    Ok(program)
}

fn works(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// What the hooks cost a connect: `tests/benches/connect.rs`, as samples.
pub(super) fn connects(workspace: &Path) -> Result<Vec<Sample>> {
    let bench = ["bench", "--quiet", "--package", "tidegate-tests", "--bench", "connect"];
    let text = command::output(&mut cargo::command(workspace, &bench))?;
    let samples: Vec<Sample> = text.lines().filter_map(connect).collect();
    anyhow::ensure!(!samples.is_empty(), "the connect bench told nothing: {text}");
    Ok(samples)
}

/// A line such as `tidegate, no subject      7.91    7.20   1.02`: median, least, and the ratio of medians.
fn connect(line: &str) -> Option<Sample> {
    let mut words = line.split_whitespace().rev();
    let ratio: f64 = words.next()?.parse().ok()?;
    let _least: f64 = words.next()?.parse().ok()?;
    let median: f64 = words.next()?.parse().ok()?;
    let peer: Vec<&str> = words.collect::<Vec<_>>().into_iter().rev().collect();
    let metrics = [("us_per_connect".to_owned(), median), ("ratio".to_owned(), ratio)].into();
    let scenario = "connect".to_owned();
    Some(Sample { scenario, peer: peer.join(" "), round: 0, count: None, problem: None, metrics })
}

/// What a program says of its version, on whichever output.
pub(super) fn version(program: &Path, option: &str) -> String {
    let told = Command::new(program).arg(option).stdin(Stdio::null()).output();
    let text = told.map(|told| [told.stdout, told.stderr].concat()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or("unknown").trim().to_owned()
}

/// A file's lines, or none.
pub(super) fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::connect;

    #[test]
    fn a_line_of_the_connect_bench_is_a_sample() {
        let sample = connect("tidegate, no subject                    7.91    7.20   1.02").unwrap();
        assert_eq!(sample.peer, "tidegate, no subject");
        assert_eq!(sample.metrics.get("ratio"), Some(&1.02));
        assert!(connect("one connect and close, µs: median and least of 40 rounds").is_none());
    }
}
