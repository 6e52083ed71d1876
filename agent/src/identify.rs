//! Stage 2: whose connection is it?

pub mod process;

use crate::{decide::Policy, record::Subject};
use std::sync::Arc;

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
