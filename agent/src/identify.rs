//! Stage 2: whose connection is it?

pub mod cgroups;
pub mod members;
pub mod process;
pub mod runtime;
pub mod table;
pub mod tagging;
pub mod workloads;

pub use workloads::Workloads;

use members::RecordFacts;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A named thing that a policy governs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its name.
    pub name: Arc<str>,
    /// The name of its policy.
    pub policy: Arc<str>,
}

/// Whose a connection is.
#[derive(Clone, Debug)]
pub enum Whose {
    /// At least one workload's.
    Workloads(Principal),
    /// No workload's, and that is certain.
    Nobody(Arc<Subject>),
    /// Nobody can tell any more: what would tell it is gone.
    Unknown(Arc<Subject>),
}

/// The workloads of a connection, and the facts for its records.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The workload's name; of several, all names with `+` between them.
    pub name: Arc<str>,
    /// The workloads: one, or several of which every policy must allow. Never empty.
    pub workloads: Arc<[Workload]>,
    /// The facts that go into every record of its connections.
    pub subject: Arc<Subject>,
}

impl Principal {
    /// Of these workloads, whose names `subject` need not have.
    pub fn new(workloads: Arc<[Workload]>, subject: Subject) -> Self {
        let name = joined(workloads.iter().map(|workload| &*workload.name));
        let policy = joined(workloads.iter().map(|workload| &*workload.policy));
        let subject = Subject { workload: name.clone(), policy, ..subject };
        Self { name: name.into(), workloads, subject: Arc::new(subject) }
    }
}

/// Names in their order, each once.
fn joined<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = Vec::new();
    for name in names {
        if !known.contains(&name) {
            known.push(name);
        }
    }
    known.join("+")
}

/// Who made the connection. Process facts are what /proc said at accept, as far as it still could.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Subject {
    /// The workload's name, of several all names with `+` between them; empty where it is nobody's.
    #[serde(rename = "tidegate.workload", default)]
    pub workload: String,
    /// The policy's name, in the same way; of a refusal by one of several policies, that one's.
    #[serde(rename = "tidegate.policy", default)]
    pub policy: String,
    /// The digest of the policies that a request was decided under; absent where no policy was asked.
    #[serde(rename = "tidegate.policy.digest", skip_serializing_if = "Option::is_none")]
    pub policy_digest: Option<String>,
    /// The cgroup's path below the cgroup2 mount.
    #[serde(rename = "tidegate.cgroup", skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The pod and container that it is of.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub container: Option<RecordFacts>,
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
