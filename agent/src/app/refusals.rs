//! Records of what was refused before it was a connection: a program, or anybody on the machine, can cause these as
//! fast as it can call the kernel, and must fill neither the audit log nor the memory with them.

use super::{counts::Counts, door::Door};
use crate::{
    capture::{
        canary::Canary,
        event::{Events, Refused},
    },
    reason::Reason,
};
use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

/// How long equal refusals are only counted after the first was recorded.
const WINDOW: Duration = Duration::from_secs(1);

/// How many different ones are recorded in a window; all others of it make one record.
const KINDS: usize = 256;

/// What makes two refusals equal: the process, its cgroup, what it asked for, and the answer.
type Kind = (u32, u64, SocketAddr, Reason);

/// Has refusals recorded.
pub(super) struct Refusals {
    door: Arc<Door>,
    counts: Arc<Counts>,
    tallies: Mutex<Tallies>,
    /// Told of the processes in whose network namespaces there is no listener.
    unserved: OnceLock<Box<dyn Fn(u32) + Send + Sync>>,
}

#[derive(Default)]
struct Tallies {
    refused: Tally<Kind, Refused>,
    no_flow: Tally<IpAddr, SocketAddr>,
    lost: u64,
}

impl Refusals {
    pub(super) fn new(door: Arc<Door>, counts: Arc<Counts>) -> Self {
        Self { door, counts, tallies: Mutex::default(), unserved: OnceLock::new() }
    }

    /// From now on this is told of each process that was refused since its network namespace has no listener; only the
    /// first call counts.
    pub(super) fn tell_of_unserved(&self, told: impl Fn(u32) + Send + Sync + 'static) {
        let _is_set = self.unserved.set(Box::new(told));
    }

    /// A connection came to the listener and nobody knows whose it is.
    pub(super) fn no_flow(&self, peer: SocketAddr) {
        if self.with(|tallies| tallies.no_flow.is_first(peer.ip(), peer)) {
            self.door.no_flow(peer, 1);
        }
    }

    /// Records what the kernel side refuses, until the drain.
    pub(super) async fn report(
        self: Arc<Self>,
        mut events: Events,
        canary: Option<Arc<Canary>>,
        mut drain: watch::Receiver<bool>,
    ) {
        let refused = |refused: Refused| {
            if !canary.as_ref().is_some_and(|canary| canary.is_own(&refused.flow)) {
                self.refused(&refused);
            }
        };
        let mut windows = interval(WINDOW);
        windows.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let read = tokio::select! {
                biased;
                _ = windows.tick() => {
                    self.turn(events.lost());
                    continue;
                }
                _ = drain.wait_for(|draining| *draining) => break,
                read = events.next(&refused) => read,
            };
            if let Err(error) = read {
                tracing::error!(%error, "the kernel side's refusals cannot be read any more");
                break;
            }
        }
        events.drain(&refused);
        self.turn(events.lost());
    }

    /// Records what was only counted so far.
    pub(super) fn finish(&self) {
        self.turn(0);
    }

    fn refused(&self, refused: &Refused) {
        self.counts.refused.fetch_add(1, Relaxed);
        let flow = &refused.flow;
        let kind = (flow.tgid, flow.cgroup_id, refused.destination.0, refused.reason);
        if self.with(|tallies| tallies.refused.is_first(kind, *refused)) {
            if matches!(refused.reason, Reason::NoListener | Reason::FlowTableFull) {
                tracing::warn!(pid = flow.tgid, to = %refused.destination.0, reason = refused.reason.code(), "refused a connect");
            }
            if refused.reason == Reason::NoListener
                && let Some(unserved) = self.unserved.get()
            {
                unserved(flow.tgid);
            }
            self.door.refused(refused, 1);
        }
    }

    /// Ends the window. `lost` is how many refusals the kernel side could not report since it started.
    fn turn(&self, lost: u64) {
        self.counts.lost.fetch_max(lost, Relaxed);
        let (refused, no_flow, newly_lost) = self.with(|tallies| {
            let newly_lost = lost.saturating_sub(tallies.lost);
            tallies.lost = tallies.lost.max(lost);
            (tallies.refused.turn(), tallies.no_flow.turn(), newly_lost)
        });
        for (refused, count) in &refused.repeated {
            self.door.refused(refused, *count);
        }
        for (peer, count) in &no_flow.repeated {
            self.door.no_flow(*peer, *count);
        }
        let unnamed = refused.others + no_flow.others + newly_lost;
        if unnamed > 0 {
            tracing::warn!(count = unnamed, "refusals came faster than they can be recorded one by one");
            self.door.unnamed(unnamed);
        }
    }

    fn with<T>(&self, action: impl FnOnce(&mut Tallies) -> T) -> T {
        action(&mut self.tallies.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Counts equal things within a window.
struct Tally<K, V> {
    kinds: HashMap<K, (V, u64)>,
    others: u64,
}

/// What a window brought beside the firsts.
struct Turned<V> {
    repeated: Vec<(V, u64)>,
    others: u64,
}

impl<K, V> Default for Tally<K, V> {
    fn default() -> Self {
        Self { kinds: HashMap::new(), others: 0 }
    }
}

impl<K: Eq + Hash, V> Tally<K, V> {
    /// Whether nothing equal came in this window, so that it is to be recorded by itself.
    fn is_first(&mut self, kind: K, value: V) -> bool {
        if let Some((_, count)) = self.kinds.get_mut(&kind) {
            *count += 1;
            return false;
        }
        if self.kinds.len() >= KINDS {
            self.others += 1;
            return false;
        }
        self.kinds.insert(kind, (value, 0));
        true
    }

    fn turn(&mut self) -> Turned<V> {
        let kinds = std::mem::take(&mut self.kinds).into_values();
        Turned {
            repeated: kinds.filter(|(_, count)| *count > 0).collect(),
            others: std::mem::take(&mut self.others),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_things_are_counted_after_the_first() {
        let mut tally = Tally::default();
        let firsts: Vec<bool> = ["a", "b", "a", "a"].map(|kind| tally.is_first(kind, kind)).into();
        assert_eq!(firsts, [true, true, false, false]);
        let turned = tally.turn();
        assert_eq!((turned.repeated, turned.others), (vec![("a", 2)], 0));
        assert!(tally.is_first("a", "a"), "a new window begins");
    }

    #[test]
    fn things_of_too_many_kinds_are_one() {
        let mut tally = Tally::default();
        let firsts = (0..10_000).filter(|kind| tally.is_first(*kind, ())).count();
        assert_eq!((firsts, tally.kinds.len()), (KINDS, KINDS));
        assert_eq!(tally.turn().others, 10_000 - KINDS as u64);
    }
}
