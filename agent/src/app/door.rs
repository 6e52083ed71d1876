//! Where a captured connection comes in: whose it is, is found out here, and then it is served, by this process or by
//! the one that has no privileges.

use super::{
    counts::Counts,
    engine::{Engine, Figures},
    proxy::Proxy,
};
use crate::{
    capture::{Captured, event::Refused},
    identify::{Subject, Whose, Workloads, runtime::witness::Witness},
    session::{
        gate::{Arrived, Refusal},
        protected::ProtectedAddresses,
    },
};
use std::{
    fs::File,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tidegate_ebpf_common::Flow;
use tokio::{
    sync::{Semaphore, watch},
    time::sleep,
};

/// Who serves connections.
#[derive(Clone)]
pub(super) enum Servant {
    /// This process.
    Here(Arc<Engine>),
    /// Another one.
    Proxy(Arc<Proxy>),
}

/// How long after its start an agent waits to be told of pods, and how often it is seen whether it was.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
/// So many connections at most wait for that, each with a descriptor.
const MAX_WAITING: usize = 1_024;

/// How long connections of pods wait of which nobody has told yet.
#[derive(Debug)]
pub(super) struct Patience {
    began: Instant,
    places: Semaphore,
}

impl Patience {
    /// Of an agent that starts.
    pub(super) fn from_now() -> Self {
        Self { began: Instant::now(), places: Semaphore::new(MAX_WAITING) }
    }
}

/// Identifies, and hands over.
pub(super) struct Door {
    pub(super) workloads: Arc<Workloads>,
    pub(super) addresses: Arc<ProtectedAddresses>,
    pub(super) servant: Servant,
    pub(super) counts: Arc<Counts>,
    pub(super) patience: Patience,
}

impl Door {
    /// Takes a connection in. It reads files of the process, so that it blocks for a moment.
    pub(super) async fn pass(&self, captured: Captured, drain: &watch::Receiver<bool>) {
        let Captured { stream, destination, flow } = captured;
        let (destination, netns_cookie) = (destination.0, flow.netns_cookie);
        let whose = self.identify(&flow, drain).await;
        if matches!(whose, Whose::Nobody(_) | Whose::Unknown(_)) {
            // Whoever looks after the cgroups has not seen this one, or it would not be here.
            self.workloads.cgroups().ask();
        }
        let mut arrived = Arrived { stream, destination, netns_cookie, whose, witness: None };
        match &self.servant {
            Servant::Here(engine) => engine.serve(arrived),
            Servant::Proxy(proxy) => {
                self.counts.redirected.fetch_add(1, Relaxed);
                // An address that is in use stays protected: who serves does not keep them.
                self.addresses.place(destination.ip());
                if let Whose::Workloads(principal) = &arrived.whose {
                    arrived.witness = Some(Witness::of(&principal.subject));
                }
                proxy.serve(arrived);
            }
        }
    }

    /// Whose a connection is. What has waited in a listener for the agent to start may be a pod's of which nobody has told
    /// it yet, and waits for that as well, unless the agent ends.
    async fn identify(&self, flow: &Flow, drain: &watch::Receiver<bool>) -> Whose {
        let mut generation = self.workloads.generation();
        let mut whose = self.workloads.identify(flow);
        let is_early = || self.patience.began.elapsed() < TOLD_WITHIN;
        if generation.is_none() || !matches!(whose, Whose::Unknown(_)) || !is_early() {
            return whose;
        }
        let Ok(_place) = self.patience.places.try_acquire() else { return whose };
        while matches!(whose, Whose::Unknown(_)) && is_early() && !*drain.borrow() {
            sleep(LOOK).await;
            let now = self.workloads.generation();
            if now != generation {
                (generation, whose) = (now, self.workloads.identify(flow));
            }
        }
        whose
    }

    /// Records what the kernel side refused, `count` times.
    pub(super) fn refused(&self, refused: &Refused, count: u64) {
        let subject = Subject::from(self.workloads.identify(&refused.flow));
        let Refused { destination, protocol, reason, .. } = *refused;
        let refusal = Refusal { subject, destination: destination.0, protocol, reason };
        match &self.servant {
            Servant::Here(engine) => engine.gate.refused(refusal, count),
            Servant::Proxy(proxy) => proxy.refused(refusal, count),
        }
    }

    /// Records `count` connections without a flow, the first of them from `peer`.
    pub(super) fn no_flow(&self, peer: SocketAddr, count: u64) {
        match &self.servant {
            Servant::Here(engine) => engine.gate.no_flow(peer, count),
            Servant::Proxy(proxy) => proxy.no_flow(peer, count),
        }
    }

    /// Records that `count` refusals have no records of their own.
    pub(super) fn unnamed(&self, count: u64) {
        match &self.servant {
            Servant::Here(engine) => engine.gate.unnamed(self.workloads.sole(), count),
            Servant::Proxy(proxy) => proxy.unnamed(count),
        }
    }

    /// Closes what is idle of a network namespace, whose sockets would keep it.
    pub(super) fn forget(&self, netns_cookie: u64) {
        match &self.servant {
            Servant::Here(engine) => engine.gate.forget(netns_cookie),
            Servant::Proxy(proxy) => proxy.forget(netns_cookie),
        }
    }
}

impl Servant {
    /// The other process, where there is one.
    pub(super) fn proxy(&self) -> Option<Arc<Proxy>> {
        match self {
            Self::Here(_) => None,
            Self::Proxy(proxy) => Some(Arc::clone(proxy)),
        }
    }

    /// Keeps in this file how many reads have no record yet, and records what an earlier agent left there. No other agent
    /// may be at work.
    pub(super) async fn count_unfinished(&self, file: File) -> io::Result<()> {
        match self {
            Self::Here(engine) => engine.count_unfinished(file),
            Self::Proxy(proxy) => proxy.count_unfinished(file).await,
        }
    }

    /// What became of records and connections so far; none where the other process does not answer. It may block.
    pub(super) fn figures(&self) -> Option<Figures> {
        match self {
            Self::Here(engine) => Some(engine.figures()),
            Self::Proxy(proxy) => proxy.figures(),
        }
    }

    /// The metrics of what is served; none where the other process does not answer. It may block.
    pub(super) fn metrics(&self) -> Option<String> {
        match self {
            Self::Here(engine) => engine.metrics(),
            Self::Proxy(proxy) => proxy.metrics(),
        }
    }

    /// Lets connections end, and ends those that do not in time; each is recorded either way.
    pub(super) async fn drain(&self, patience: Duration) {
        match self {
            Self::Here(engine) => engine.drain(patience).await,
            Self::Proxy(proxy) => proxy.drain(patience).await,
        }
    }

    /// Ends the records.
    pub(super) async fn finish(&self) {
        match self {
            Self::Here(engine) => engine.finish(),
            Self::Proxy(proxy) => proxy.finish().await,
        }
    }
}
