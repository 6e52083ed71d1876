//! Who answers on the control socket.

use super::{
    super::{counts::Counts, door::Servant, reload::Bell, succession::Succession},
    commands::Commands,
    namespaces::Served,
};
use crate::{
    control::{self, Admission, peer::Peer},
    health::{
        Health,
        status::{Counters, Kubernetes, Listener, Program, Status, Workload},
    },
    identify::{
        Workloads,
        cgroups::Cgroups,
        members::Members,
        table::Table,
        workloads::{List, Matched, Place},
    },
    session::protected::ProtectedAddresses,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tidegate_ebpf_common::LAYOUT;

/// Whoever asks has to do with this.
pub(super) struct Desk {
    pub(super) told: Told,
    pub(super) commands: Commands,
    pub(super) bell: Bell,
    /// The group whose members may ask everything.
    pub(super) group: Option<u32>,
    /// Who waits to follow.
    pub(super) succession: Succession,
}

/// What the daemon knows of itself.
pub(super) struct Told {
    pub(super) health: Arc<Health>,
    pub(super) counts: Arc<Counts>,
    pub(super) servant: Servant,
    pub(super) addresses: Arc<ProtectedAddresses>,
    pub(super) cgroups: Arc<Cgroups>,
    pub(super) workloads: Arc<Workloads>,
    /// What is known of the cluster, where anybody asks.
    pub(super) kubernetes: Option<Arc<Mutex<Kubernetes>>>,
    /// Whoever knows pods and containers.
    pub(super) members: Option<Arc<dyn Members>>,
    pub(super) programs: Vec<Program>,
    /// The agent's own network namespace's.
    pub(super) listeners: Vec<Listener>,
    /// Those of others.
    pub(super) served: Served,
    pub(super) pins: PathBuf,
    /// The canary's cgroup.
    pub(super) own: PathBuf,
    /// The daemon's own cgroup, as far as it is a service's: what is in there is the service manager's.
    pub(super) service: Option<PathBuf>,
}

impl control::Desk for Desk {
    fn is_subject(&self, peer: &Peer) -> bool {
        self.told.is_subject(peer)
    }

    fn is_trusted(&self, peer: &Peer) -> bool {
        peer.uid == 0 || self.group.is_some_and(|group| peer.is_in(group))
    }

    fn status(&self) -> Status {
        Status { policies_refused: self.bell.refused(), ..self.told.status() }
    }

    fn admit(&self, peer: &Peer, workload: &str) -> Result<Admission, String> {
        self.commands.admit(peer, workload)
    }

    fn reload(&self) -> Result<String, String> {
        let outcome = self.bell.ask().blocking_recv();
        outcome.unwrap_or_else(|_| Err("the daemon is ending".to_owned()))
    }

    fn may_follow(&self, layout: u32) -> Result<(), String> {
        // What waits in a listener is told apart by maps that the other would not read.
        let is_same = layout == LAYOUT;
        is_same.then_some(()).ok_or_else(|| format!("its maps are of layout {LAYOUT}, and not {layout}"))
    }

    fn keep_follower(&self, follower: UnixStream) {
        self.succession.keep(follower);
    }
}

impl Told {
    /// Whoever could be one is taken for one: what narrows a table does not count here.
    fn is_subject(&self, peer: &Peer) -> bool {
        let cgroup = Path::new(&peer.cgroup);
        let is_service = self.service.as_deref() == Some(cgroup);
        let workloads = self.workloads.matched_now();
        let by_cgroup = workloads.iter().any(|list| list.patterns().means(cgroup));
        let tables = || workloads.iter().flat_map(|list| list.all()).flat_map(|matched| &matched.matches);
        let by_user = tables()
            .filter(|table| !table.is_of_cgroups())
            .filter_map(|table| table.users.as_ref())
            .any(|users| users.iter().any(|range| range.contains(&peer.uid)));
        let by_container =
            self.members.as_ref().is_some_and(|members| members.standing(cgroup).may_be_claimed());
        by_cgroup
            || by_container
            || by_user
            || (self.is_anybody(peer, &workloads) && !is_service)
            || cgroup.starts_with(self.cgroups.name(&self.own))
    }

    /// The state of everything.
    pub(super) fn status(&self) -> Status {
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let figures = self.servant.figures().unwrap_or_default();
        let mut counters = Counters {
            redirected: count(&self.counts.redirected),
            open: figures.open,
            ..Counters::default()
        };
        counters.refused = count(&self.counts.refused);
        counters.lost_events = count(&self.counts.lost);
        counters.ended = count(&self.counts.ended);
        counters.unwritten_records = figures.unwritten;
        Status {
            cgroup_root: Some(self.cgroups.top().to_owned()),
            pins: Some(self.pins.clone()),
            programs: self.programs.clone(),
            listeners: self.listeners(),
            workloads: self.statuses(),
            kubernetes: self
                .kubernetes
                .as_ref()
                .map(|shown| Kubernetes::clone(&shown.lock().unwrap_or_else(PoisonError::into_inner))),
            protected: self.addresses.all().into_iter().collect(),
            counters,
            ..Status::of(&self.health)
        }
    }

    /// The agent's own first.
    fn listeners(&self) -> Vec<Listener> {
        let elsewhere = self.served.all().into_iter().flat_map(|(_, place)| place.listeners);
        self.listeners.iter().cloned().chain(elsewhere).collect()
    }

    /// Whether a workload of everybody's leaves this one out by no exception.
    fn is_anybody(&self, peer: &Peer, workloads: &[Arc<List>]) -> bool {
        let excepted = |table: &Table| {
            let cgroup = Path::new(&peer.cgroup);
            let is_there = table.cgroup.as_ref().is_none_or(|pattern| pattern.outermost(cgroup).is_some());
            let is_user =
                table.users.as_ref().is_none_or(|users| users.iter().any(|range| range.contains(&peer.uid)));
            is_there && is_user && (table.member.is_none() || self.is_member(table, cgroup))
        };
        let all = workloads.iter().flat_map(|list| list.all());
        let mut everybodys = all.filter(|one| one.matches.iter().any(|table| table.any));
        everybodys.any(|matched| !matched.except.iter().any(excepted))
    }

    fn is_member(&self, table: &Table, cgroup: &Path) -> bool {
        let asked = self.members.as_ref().zip(table.member.as_ref());
        asked.is_some_and(|(members, pattern)| members.meant(cgroup, pattern, true).is_some())
    }

    fn statuses(&self) -> Vec<Workload> {
        let here: Vec<PathBuf> = self.cgroups.here().iter().map(|path| self.cgroups.name(path)).collect();
        self.workloads.matched_now().iter().flat_map(|list| self.statuses_of(list, &here)).collect()
    }

    fn statuses_of(&self, list: &List, here: &[PathBuf]) -> Vec<Workload> {
        let mut by_table: BTreeMap<Place, Vec<&PathBuf>> = BTreeMap::new();
        for cgroup in here {
            list.naming(cgroup).for_each(|place| by_table.entry(place).or_default().push(cgroup));
        }
        let numbered = list.all().iter().enumerate();
        let status = |(workload, matched): (usize, &Matched)| {
            let places = (0..matched.matches.len()).map(|table| Place { workload, table });
            let named: Vec<_> =
                places.map(|place| by_table.get(&place).map_or(&[][..], Vec::as_slice)).collect();
            self.workload(matched, &named, here)
        };
        numbered.map(status).collect()
    }

    /// `named` are the cgroups that each of its tables names.
    fn workload(&self, matched: &Matched, named: &[&[&PathBuf]], here: &[PathBuf]) -> Workload {
        let alone = matched.matches.iter().filter(|table| !table.is_of_cgroups());
        let ranges = alone.filter_map(|table| table.users.as_ref()).flatten();
        let tables: Vec<_> = matched.matches.iter().filter_map(|table| table.member.as_ref()).collect();
        let is_members = |path: &&PathBuf| {
            let meant = |pattern| self.members.as_ref()?.meant(path, pattern, false);
            tables.iter().any(|pattern| meant(pattern).as_ref() == Some(*path))
        };
        let of_members = if tables.is_empty() { &[] } else { here };
        let named_by_any = named.iter().copied().flatten().copied();
        let cgroups: BTreeSet<&PathBuf> = named_by_any.chain(of_members.iter().filter(is_members)).collect();
        let unmatched = matched.matches.iter().zip(named).filter(|(_, named)| named.is_empty());
        let unmatched = unmatched.filter_map(|(table, _)| table.cgroup.as_ref()).map(ToString::to_string);
        Workload {
            name: matched.workload.name.to_string(),
            policy: matched.workload.policy.to_string(),
            cgroups: cgroups.into_iter().cloned().collect(),
            // Of subordinate ids there are thousands; the first of each range tells enough.
            users: ranges.map(|range| *range.start()).collect(),
            everybody: matched.matches.iter().any(|table| table.any),
            unmatched: unmatched.collect(),
        }
    }
}
