//! Stage 2: whose connection is it?

pub mod process;

use crate::{decide::Policy, record::Subject};
use std::{path::PathBuf, sync::Arc};
use tidegate_ebpf_common::Flow;

/// The authenticated name of a workload, with what governs it and the facts for its records.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The workload's name.
    pub workload: Arc<str>,
    /// The policy that governs it.
    pub policy: Arc<Policy>,
    /// The facts that go into every record of its connections.
    pub subject: Subject,
}

/// A workload that is one cgroup and everything below it. The kernel side captures nobody else's connects.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name.
    pub name: Arc<str>,
    /// What governs it.
    pub policy: Arc<Policy>,
    /// Its cgroup's directory.
    pub cgroup: PathBuf,
    /// The cgroup2 mount that the directory lies in.
    pub mount: PathBuf,
}

impl Workload {
    /// The principal of a flow.
    pub fn identify(&self, flow: &Flow) -> Principal {
        let subject = process::facts(flow, &self.name, &self.policy.name, &self.mount, &self.cgroup);
        Principal { workload: Arc::clone(&self.name), policy: Arc::clone(&self.policy), subject }
    }
}
