//! The harness of the tests that need more than one stage: a stand-in for DigitalOcean's API, private worlds
//! (namespaces and cgroups) for kernel tests, and recipes for real programs.
//!
//! Everything answers with a `Result` that says what is missing, so that a test fails loudly and never skips.

pub mod certificates;
pub mod standin;

pub mod cgroup;
pub mod netns;
pub mod process;
pub mod programs;

pub mod agent;
pub mod audit;
pub mod client;
pub mod cluster;
pub mod containerd;
pub mod daemon;
pub mod scene;
pub mod systemd;
pub mod terminal;
