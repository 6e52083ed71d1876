//! Stage 2: whose connection is it?

pub mod process;

use serde::Serialize;
use std::{path::PathBuf, sync::Arc};
use tidegate_ebpf_common::Flow;

/// The authenticated name of a workload, and the facts for its records.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The workload's name.
    pub workload: Arc<str>,
    /// The facts that go into every record of its connections.
    pub subject: Subject,
}

/// Who made the connection. Process facts are what /proc said at accept, as far as it still could.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Subject {
    /// The workload's name; empty only where nobody knows whose connection it was.
    #[serde(rename = "tidegate.workload")]
    pub workload: String,
    /// The policy's name.
    #[serde(rename = "tidegate.policy")]
    pub policy: String,
    /// The digest of the policies that a request was decided under; absent where no policy was asked.
    #[serde(rename = "tidegate.policy.digest", skip_serializing_if = "Option::is_none")]
    pub policy_digest: Option<String>,
    /// The cgroup's path below the cgroup2 mount.
    #[serde(rename = "tidegate.cgroup", skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The process that called connect (its thread group id).
    #[serde(rename = "process.pid", skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its executable.
    #[serde(rename = "process.executable.path", skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
    /// The name that the kernel keeps for the thread; a program can choose it.
    #[serde(rename = "process.executable.name", skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    /// Its user id.
    #[serde(rename = "process.user.id", skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

/// A workload that is one cgroup and everything below it. The kernel side captures nobody else's connects.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name.
    pub name: Arc<str>,
    /// The name of the policy that governs it.
    pub policy: Arc<str>,
    /// Its cgroup's directory.
    pub cgroup: PathBuf,
    /// The cgroup2 mount that the directory lies in.
    pub mount: PathBuf,
}

impl Workload {
    /// The principal of a flow.
    pub fn identify(&self, flow: &Flow) -> Principal {
        let subject = process::facts(flow, &self.name, &self.policy, &self.mount, &self.cgroup);
        Principal { workload: Arc::clone(&self.name), subject }
    }
}
