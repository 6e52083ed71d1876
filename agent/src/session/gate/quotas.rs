//! `[limits]` of each workload: connections open, and handshakes under way. A connection of several workloads counts
//! for each.

use crate::{config::Limits, identify::Workload};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many workloads are remembered before those that have no connection are forgotten.
const MANY: usize = 1024;

/// What is left of each workload's limits.
pub(super) struct Quotas {
    limits: Limits,
    known: Mutex<HashMap<Arc<str>, Quota>>,
}

#[derive(Clone)]
struct Quota {
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
}

/// What a connection holds of its workloads' limits.
pub(super) type Permits = Vec<OwnedSemaphorePermit>;

impl Quotas {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), known: Mutex::default() }
    }

    /// Counts a connection; none where one of the workloads has no room.
    pub(super) fn connect(&self, workloads: &[Workload]) -> Option<Permits> {
        let quotas = self.of(workloads);
        quotas.into_iter().map(|quota| quota.connections.try_acquire_owned().ok()).collect()
    }

    /// Waits for its turn to shake hands. Everybody waits in the order of the configuration, so that nobody waits for
    /// each other.
    pub(super) async fn handshake(&self, workloads: &[Workload]) -> Option<Permits> {
        let mut permits = Vec::new();
        for quota in self.of(workloads) {
            permits.push(quota.handshakes.acquire_owned().await.ok()?);
        }
        Some(permits)
    }

    /// Workloads come while the agent runs, each with a quota of its own.
    fn of(&self, workloads: &[Workload]) -> Vec<Quota> {
        let names: HashSet<&str> = workloads.iter().map(|workload| &*workload.name).collect();
        debug_assert_eq!(names.len(), workloads.len(), "a workload is named once");
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > MANY {
            known.retain(|_, quota| quota.is_in_use());
        }
        let quota = |workload: &Workload| {
            known.entry(Arc::clone(&workload.name)).or_insert_with(|| Quota::of(&self.limits)).clone()
        };
        workloads.iter().map(quota).collect()
    }
}

impl Quota {
    fn of(limits: &Limits) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(limits.connections)),
            handshakes: Arc::new(Semaphore::new(limits.handshakes)),
        }
    }

    /// Each permit holds its semaphore, and so does whoever waits for one.
    fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.connections) > 1 || Arc::strong_count(&self.handshakes) > 1
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
        Quotas::new(&limits)
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
    fn a_workload_that_comes_has_its_own_and_one_without_connections_is_forgotten() {
        let quotas = quotas(1);
        let held = quotas.connect(&[workload("first")]).unwrap();
        for number in 0..=MANY {
            assert!(quotas.connect(&[workload(&format!("c{number}"))]).is_some());
        }
        assert!(quotas.connect(&[workload("first")]).is_none(), "what is in use is not forgotten");
        assert!(quotas.known.lock().unwrap().len() <= 3);
        drop(held);
        assert!(quotas.connect(&[workload("first")]).is_some());
    }
}
