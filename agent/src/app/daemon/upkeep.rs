//! What the daemon does beside the proxy: proving that capture works, and ending connections from before it did.

use super::{
    super::{counts::Counts, door::Servant, engine::Figures, handover::Manager},
    namespaces::Served,
};
use crate::{
    capture::{
        attached::Attached,
        canary::{self, Canary},
        connections::{self, Destinations, Owners, Report},
    },
    health::{Health, Part},
    session::protected::ProtectedAddresses,
};
use std::{
    collections::HashSet,
    error::Error as StdError,
    net::IpAddr,
    ops::RangeInclusive,
    os::fd::AsFd,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::mpsc::UnboundedReceiver,
    task::spawn_blocking,
    time::{interval, sleep},
};

/// How often capture is proven.
const PROOF: Duration = Duration::from_secs(60);

/// How long until the next attempt after one that failed.
const RETRY: Duration = Duration::from_secs(5);

/// What keeps the kernel side as it was left.
pub(super) struct Upkeep {
    pub(super) attached: Attached,
    pub(super) canary: Arc<Canary>,
    /// Whether there is a listener, for IPv4 and for IPv6.
    pub(super) families: [bool; 2],
    pub(super) ports: Vec<u16>,
    pub(super) targeted: bool,
    pub(super) addresses: Arc<ProtectedAddresses>,
    pub(super) health: Arc<Health>,
    /// The other network namespaces that have listeners.
    pub(super) served: Served,
}

impl Upkeep {
    /// Proves capture again and again, and says so the first time. Ends with whoever waits for it.
    pub(super) async fn keep_proving(&mut self, manager: &Manager) {
        let mut is_ready = false;
        let mut rounds = interval(PROOF);
        loop {
            rounds.tick().await;
            self.verify();
            while !self.prove().await {
                self.repair();
                sleep(RETRY).await;
            }
            if !is_ready {
                is_ready = true;
                self.retire_others();
                tracing::info!("ready");
                manager.tell("READY=1");
            }
        }
    }

    /// Whether the programs are as they were left; what is not, is repaired.
    fn verify(&self) {
        let mut found = self.attached.verify();
        if let Err(missing) = &found {
            tracing::error!(%missing, "the kernel side is not as it was left");
            self.repair();
            found = self.attached.verify();
        }
        self.health.report(Part::Programs, found.map_err(|missing| missing.to_string()));
    }

    async fn prove(&self) -> bool {
        let (canary, ports) = (Arc::clone(&self.canary), self.ports.clone());
        let protected: Vec<IpAddr> = self.addresses.whole().borrow().iter().copied().collect();
        let (targeted, [v4, v6], served) = (self.targeted, self.families, self.served.clone());
        let probe = move || {
            let plan =
                canary::Plan { namespace: None, v4, v6, ports: &ports, targeted, protected: &protected };
            canary.probe(&plan)?;
            served.all().into_iter().try_for_each(|(cookie, place)| {
                let [v4, v6] = place.families();
                let there = canary::Plan { namespace: Some(place.namespace.as_fd()), v4, v6, ..plan };
                match canary.probe(&there) {
                    // Closed meanwhile, or without a way out even for what is not captured.
                    Err(failure) if failure.is_shut() || !served.has(cookie) => {
                        tracing::debug!(netns_cookie = cookie, %failure, "nothing is proven in this network namespace");
                        Ok(())
                    }
                    Err(failure) => {
                        tracing::error!(netns_cookie = cookie, %failure, "in this network namespace");
                        Err(failure)
                    }
                    Ok(()) => Ok(()),
                }
            })
        };
        self.health.check(Part::Canary, probe).await
    }

    fn repair(&self) {
        match self.attached.repair() {
            Ok(faults) => faults.iter().for_each(|fault| tracing::error!(%fault, "repaired")),
            Err(error) => {
                let error: &dyn StdError = &error;
                tracing::error!(error, "the kernel side cannot be repaired");
            }
        }
    }

    fn retire_others(&self) {
        match self.attached.retire_others() {
            Ok(removed) => {
                removed
                    .iter()
                    .for_each(|path| tracing::info!(path = %path.display(), "an earlier agent's; removed"));
            }
            Err(error) => {
                let error: &dyn StdError = &error;
                tracing::error!(error, "what an earlier agent left cannot be removed");
            }
        }
    }
}

/// How often the audit log's own counts are looked at.
const AUDIT_LOG: Duration = Duration::from_secs(5);

/// So often in a row the process that serves may leave a question without an answer, each for ten seconds.
const MAX_SILENCES: u32 = 3;

/// Tells whether the process that serves answers, and whether records could be written since it last looked.
pub(super) async fn keep_watching_log(servant: Servant, health: Arc<Health>) {
    let (mut before, mut silences) = (Figures::default(), 0);
    health.report(Part::AuditLog, Ok(()));
    let mut looks = interval(AUDIT_LOG);
    loop {
        looks.tick().await;
        let asked = servant.clone();
        // An answer may be long in coming.
        let Ok(Some(now)) = spawn_blocking(move || asked.figures()).await else {
            health.report(Part::Proxy, Err("it does not answer".to_owned()));
            silences += 1;
            if silences >= MAX_SILENCES
                && let Some(proxy) = servant.proxy()
            {
                // The service manager then starts both anew.
                proxy.give_up();
            }
            continue;
        };
        silences = 0;
        health.report(Part::Proxy, Ok(()));
        if now.unwritten > before.unwritten {
            let why = format!("{} records could not be written", now.unwritten);
            health.report(Part::AuditLog, Err(why));
        } else if now.written > before.written {
            health.report(Part::AuditLog, Ok(()));
        }
        before = now;
    }
}

/// Whose connections from before are ended, and whose not.
#[derive(Clone)]
pub(super) struct Earlier {
    pub(super) users: Vec<RangeInclusive<u32>>,
    /// In and below this cgroup alone the users' count, where it is given.
    pub(super) below: Option<PathBuf>,
    pub(super) destinations: Destinations,
    /// The proxy's process, whose connections are the agent's.
    pub(super) spared: Option<u32>,
}

/// Ends the connections that users, and each cgroup that becomes a subject, had open before. `is_heard` is called when one
/// becomes a subject.
pub(super) async fn end_earlier(
    mut tagged: UnboundedReceiver<PathBuf>,
    is_heard: impl Fn() + Send,
    mut earlier: Earlier,
    counts: Arc<Counts>,
) {
    loop {
        let mut cgroups = Vec::new();
        if tagged.recv_many(&mut cgroups, usize::MAX).await == 0 {
            return;
        }
        is_heard();
        let now = earlier.clone();
        // They were subjects from the start on.
        earlier.users.clear();
        let ended = spawn_blocking(move || end(&cgroups, &now)).await;
        match ended {
            Ok(Report { ended: 0, failed: 0, problems }) if problems.is_empty() => {}
            Ok(Report { ended, failed, problems }) => {
                counts.ended.fetch_add(ended as u64, Relaxed);
                tracing::info!(ended, failed, "connections from before");
                problems.iter().for_each(|error| {
                    let error: &dyn StdError = error;
                    tracing::warn!(error, "connections from before may hang");
                });
            }
            Err(error) => tracing::error!(%error, "connections from before are left to the backstop"),
        }
    }
}

fn end(cgroups: &[PathBuf], Earlier { users, below, destinations, spared }: &Earlier) -> Report {
    let mut owners = Owners::new();
    owners.spare(*spared);
    for cgroup in cgroups {
        if let Err(error) = owners.add_cgroup(cgroup) {
            tracing::warn!(cgroup = %cgroup.display(), %error, "its connections from before are left to the backstop");
        }
    }
    // Of thousands of subordinate ids, the backstop drops the packets.
    for uid in users.iter().filter(|range| range.start() == range.end()).map(RangeInclusive::start) {
        if let Err(error) = owners.add_user(*uid, below.as_deref()) {
            tracing::warn!(uid, %error, "its connections from before are left to the backstop");
        }
    }
    connections::end(&owners, destinations, &HashSet::new())
}
