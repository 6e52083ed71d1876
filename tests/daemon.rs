//! The kernel tier of `tidegate daemon`: many workloads on the real kernel, real programs, and the upstream's own log.
//! Root only.

mod daemon {
    mod changes;
    mod commands;
    mod configuration;
    mod dashboard;
    mod identity;
    mod namespaces;
    mod privileges;
    mod records;
    mod restart;
    mod succession;
    mod tagging;
    mod telemetry;
}

mod pinned;

use anyhow::Result;
use tidegate_tests::{
    agent::LIMIT,
    audit::Record,
    cgroup::Cgroup,
    client::{self, Answer},
    process::Process,
    scene::Scene,
};

/// The URL of an operation at the API.
fn api(path: &str) -> String {
    format!("https://api.digitalocean.com{path}")
}

/// A look at the Droplets.
fn look() -> Vec<String> {
    client::curl(&[], &api("/v2/droplets"), "")
}

/// What a program in this cgroup gets that trusts the stand-in and not the daemon.
fn ask_directly(scene: &Scene, cgroup: &Cgroup) -> Result<Answer> {
    let mut command = scene.world.command_in(cgroup, &look());
    client::trust(&mut command, &scene.standin.ca_file());
    Answer::of(&Process::run(&mut command, scene.directory(), LIMIT)?)
}

/// Workload, policy and reason of each record.
fn told(records: &[Record]) -> Vec<(&str, &str, &str)> {
    records
        .iter()
        .map(|record| (record.text("tidegate.workload"), record.text("tidegate.policy"), record.reason()))
        .collect()
}
