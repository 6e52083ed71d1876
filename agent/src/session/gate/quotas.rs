//! `[limits]` of each workload: connections open, and handshakes under way. A connection of several workloads counts
//! for each.

use crate::{config::Limits, identify::Workload};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is left of each workload's limits.
pub(super) struct Quotas(HashMap<Arc<str>, Quota>);

struct Quota {
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
}

/// What a connection holds of its workloads' limits.
pub(super) type Permits = Vec<OwnedSemaphorePermit>;

impl Quotas {
    pub(super) fn new(workloads: &[&Workload], limits: &Limits) -> Self {
        let quota = || Quota {
            connections: Arc::new(Semaphore::new(limits.connections)),
            handshakes: Arc::new(Semaphore::new(limits.handshakes)),
        };
        Self(workloads.iter().map(|workload| (Arc::clone(&workload.name), quota())).collect())
    }

    /// Counts a connection; none where one of the workloads has no room.
    pub(super) fn connect(&self, workloads: &[Workload]) -> Option<Permits> {
        let quotas = self.of(workloads)?;
        quotas.into_iter().map(|quota| Arc::clone(&quota.connections).try_acquire_owned().ok()).collect()
    }

    /// Waits for its turn to shake hands. Everybody waits in the order of the configuration, so that nobody waits for
    /// each other.
    pub(super) async fn handshake(&self, workloads: &[Workload]) -> Option<Permits> {
        let mut permits = Vec::new();
        for quota in self.of(workloads)? {
            permits.push(Arc::clone(&quota.handshakes).acquire_owned().await.ok()?);
        }
        Some(permits)
    }

    fn of(&self, workloads: &[Workload]) -> Option<Vec<&Quota>> {
        let names: HashSet<&str> = workloads.iter().map(|workload| &*workload.name).collect();
        debug_assert_eq!(names.len(), workloads.len(), "a workload is named once");
        workloads.iter().map(|workload| self.0.get(&workload.name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::slice;

    fn workload(name: &str) -> Workload {
        Workload { name: name.into(), policy: "p".into() }
    }

    fn quotas(connections: usize) -> Quotas {
        let limits = Limits { connections, ..Config::default().limits };
        Quotas::new(&[&workload("a"), &workload("b")], &limits)
    }

    #[test]
    fn each_workload_has_its_own_and_several_count_for_each() {
        let quotas = quotas(2);
        let (a, b) = (workload("a"), workload("b"));
        let both = quotas.connect(&[a.clone(), b.clone()]).unwrap();
        let one = quotas.connect(slice::from_ref(&a)).unwrap();
        assert!(quotas.connect(slice::from_ref(&a)).is_none());
        assert!(quotas.connect(&[b.clone(), a.clone()]).is_none(), "a has no room");
        let rest = quotas.connect(slice::from_ref(&b)).unwrap();
        assert!(quotas.connect(slice::from_ref(&b)).is_none(), "what was refused is given back, and no more");
        drop((both, one, rest));
        assert!(quotas.connect(&[a, b]).is_some());
    }

    #[test]
    fn a_workload_that_is_none_has_no_room() {
        assert!(quotas(1).connect(&[workload("c")]).is_none());
    }
}
