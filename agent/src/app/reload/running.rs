//! The configuration that a daemon runs with, beside what its file says by now.

use crate::{
    config::{Config, file},
    toml_file,
};
use std::path::PathBuf;

/// A configuration, and the file that it came from.
#[derive(Debug)]
pub(in crate::app) struct Running {
    config: Config,
    path: PathBuf,
}

impl Running {
    /// `path`: absolute, or good for as long as the process stays where it is.
    pub(in crate::app) fn new(config: Config, path: PathBuf) -> Self {
        Self { config, path }
    }

    /// The keys that have another value in the file now. All of them count from a start on.
    ///
    /// # Errors
    /// When the file is wrong, or gone.
    pub(super) fn differing(&self) -> Result<Vec<&'static str>, toml_file::Error> {
        let Config {
            policy_dir,
            hosts,
            workloads,
            capture,
            upstream,
            audit,
            ca,
            limits,
            health,
            containers,
            kubernetes,
        } = file::load(&self.path)?;
        let own = &self.config;
        let differs = [
            ("`policy_dir`", policy_dir != own.policy_dir),
            ("`hosts`", hosts != own.hosts),
            ("`[[workload]]`", workloads != own.workloads),
            ("`[capture]`", capture != own.capture),
            ("`[upstream]`", upstream != own.upstream),
            ("`[audit]`", audit != own.audit),
            ("`[ca]`", ca != own.ca),
            ("`[limits]`", limits != own.limits),
            ("`[health]`", health != own.health),
            ("`[containers]`", containers != own.containers),
            ("`[kubernetes]`", kubernetes != own.kubernetes),
        ];
        Ok(differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use test_case::test_case;

    const TEXT: &str = "hosts = [\"api.digitalocean.com\"]\n[audit]\npath = \"/a\"\n";

    #[test_case(TEXT, &[]; "the same")]
    #[test_case("# A remark\n[audit]\npath = \"/a\"\n", &[]; "the same in other words")]
    #[test_case("[audit]\npath = \"/b\"\n[limits]\nconnections = 3\n", &["`[audit]`", "`[limits]`"]; "two tables")]
    #[test_case("policy_dir = \"/p\"\n[audit]\npath = \"/a\"\n", &["`policy_dir`"]; "a key of the top level")]
    #[test_case("[[workload]]\nname = \"w\"\npolicy = \"p\"\n[audit]\npath = \"/a\"\n", &["`[[workload]]`"]; "a workload")]
    fn keys_that_differ_are_named(text: &str, expected: &[&str]) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tidegate.toml");
        fs::write(&path, TEXT).unwrap();
        let running = Running::new(file::load(&path).unwrap(), path.clone());
        fs::write(&path, text).unwrap();
        assert_eq!(running.differing().unwrap(), expected);
        fs::write(&path, "hosts = 3").unwrap();
        assert!(running.differing().is_err());
    }
}
