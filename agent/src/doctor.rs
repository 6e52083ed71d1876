//! `tidegate doctor`: tries, one by one and without leaving anything, what `tidegate run` and the daemon need of the
//! machine, and tells what will be enforced.
//!
//! Each module reads or tries something, and judges what it saw by a pure function. Nothing is concluded from
//! a version number that can be tried instead, since distributions port features back.

#[cfg(feature = "kubernetes")]
mod api_server;
mod cgroups;
pub mod command;
mod configuration;
#[cfg(feature = "kubernetes")]
mod containers;
mod deputies;
mod enforcement;
mod kernel;
mod network;
mod privileges;
mod programs;
pub mod report;
mod surroundings;
mod trust;

use serde::Serialize;
use std::{error::Error as StdError, fs, path::Path};

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, but less well or less safely than it could.
    Warning,
    /// `tidegate run` cannot work like this.
    Failed,
}

/// One thing that was examined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name, which stays the same from version to version.
    pub name: String,
    /// What it came to.
    pub status: Status,
    /// What was seen.
    pub seen: String,
    /// What to do about it; None where it is ok.
    pub advice: Option<String>,
}

impl Check {
    fn ok(name: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { name: name.into(), status: Status::Ok, seen: seen.into(), advice: None }
    }

    fn warning(name: impl Into<String>, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        let (name, seen, advice) = (name.into(), seen.into(), Some(advice.into()));
        Self { name, status: Status::Warning, seen, advice }
    }

    fn failed(name: impl Into<String>, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        let (name, seen, advice) = (name.into(), seen.into(), Some(advice.into()));
        Self { name, status: Status::Failed, seen, advice }
    }
}

/// Examines the machine for the configuration that is named, or else the installed one.
///
/// What others build on comes first: the first check that failed is the one to begin with.
pub fn examine(config: Option<&Path>) -> Vec<Check> {
    let (config, configuration) = configuration::load(config);
    let mut checks = privileges::examine();
    checks.extend(kernel::examine());
    checks.extend(surroundings::examine());
    checks.extend(cgroups::examine(config.capture.cgroup_root.as_deref()));
    checks.extend(programs::examine());
    checks.extend(enforcement::examine(&config.capture));
    checks.extend(network::examine(&config.capture));
    checks.extend(trust::examine(&config.upstream));
    checks.extend(deputies::examine(&config.workloads));
    #[cfg(feature = "kubernetes")]
    checks.extend(containers::examine(&config));
    #[cfg(feature = "kubernetes")]
    checks.extend(api_server::examine(&config.kubernetes));
    checks.push(configuration);
    checks.push(configuration::audit(&config.audit));
    checks
}

/// The error with its causes, in one line.
fn told(error: &dyn StdError) -> String {
    let causes = std::iter::successors(Some(error), |error: &&dyn StdError| (*error).source());
    let mut told: Vec<String> = Vec::new();
    for text in causes.map(|error| error.to_string().replace('\n', " ")) {
        // Some libraries repeat the cause in the message.
        if !told.last().is_some_and(|last| last.contains(&text)) {
            told.push(text);
        }
    }
    told.join(": ")
}

/// A small file of procfs or sysfs without its line end; None where there is none.
fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}

/// The value behind `name:` in the form of `/proc/PID/status`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests;
