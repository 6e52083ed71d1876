//! What the daemon does beside the proxy: proving that capture works, and ending connections from before it did.

use super::super::handover::Manager;
use crate::{
    capture::{
        attached::Attached,
        canary::{self, Canary},
        connections::{self, Destinations, Owners, Report},
    },
    session::protected::ProtectedAddresses,
};
use std::{
    collections::HashSet, error::Error as StdError, net::IpAddr, ops::RangeInclusive, path::PathBuf,
    sync::Arc, time::Duration,
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
    attached: Attached,
    canary: Arc<Canary>,
    /// Whether there is a listener, for IPv4 and for IPv6.
    families: [bool; 2],
    ports: Vec<u16>,
    targeted: bool,
    addresses: Arc<ProtectedAddresses>,
}

impl Upkeep {
    pub(super) fn new(
        attached: Attached,
        canary: Arc<Canary>,
        families: [bool; 2],
        ports: Vec<u16>,
        targeted: bool,
        addresses: Arc<ProtectedAddresses>,
    ) -> Self {
        Self { attached, canary, families, ports, targeted, addresses }
    }

    /// Proves capture again and again, and says so the first time. Ends with whoever waits for it.
    pub(super) async fn keep_proving(&mut self, manager: &Manager) {
        let mut is_ready = false;
        let mut rounds = interval(PROOF);
        loop {
            rounds.tick().await;
            while let Err(error) = self.prove().await {
                let error: &dyn StdError = &error;
                tracing::error!(error, "capture is not proven");
                self.repair();
                sleep(RETRY).await;
            }
            if !is_ready {
                is_ready = true;
                self.retire_others();
                tracing::info!("ready");
                manager.tell("READY=1");
            }
            if self.attached.verify().is_err() {
                self.repair();
            }
        }
    }

    async fn prove(&self) -> Result<(), canary::Failure> {
        let (canary, ports) = (Arc::clone(&self.canary), self.ports.clone());
        let protected: Vec<IpAddr> = self.addresses.whole().borrow().iter().copied().collect();
        let (targeted, [v4, v6]) = (self.targeted, self.families);
        let probed = spawn_blocking(move || {
            let plan =
                canary::Plan { namespace: None, v4, v6, ports: &ports, targeted, protected: &protected };
            canary.probe(&plan)
        });
        probed.await.unwrap_or_else(|error| {
            Err(canary::Failure::NotTried { action: "wait for the canary", source: error.into() })
        })
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

/// Ends the connections that users, and each cgroup that becomes a subject, had open before.
pub(super) async fn end_earlier(
    mut tagged: UnboundedReceiver<PathBuf>,
    users: Vec<RangeInclusive<u32>>,
    destinations: Destinations,
) {
    let mut users = Some(users);
    loop {
        let mut cgroups = Vec::new();
        if tagged.recv_many(&mut cgroups, usize::MAX).await == 0 {
            return;
        }
        let (users, destinations) = (users.take().unwrap_or_default(), destinations.clone());
        let ended = spawn_blocking(move || end(&cgroups, &users, &destinations)).await;
        match ended {
            Ok(Report { ended: 0, failed: 0, problems }) if problems.is_empty() => {}
            Ok(Report { ended, failed, problems }) => {
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

fn end(cgroups: &[PathBuf], users: &[RangeInclusive<u32>], destinations: &Destinations) -> Report {
    let mut owners = Owners::new();
    for cgroup in cgroups {
        if let Err(error) = owners.add_cgroup(cgroup) {
            tracing::warn!(cgroup = %cgroup.display(), %error, "its connections from before are left to the backstop");
        }
    }
    for uid in users.iter().filter_map(|range| (range.start() == range.end()).then(|| *range.start())) {
        if let Err(error) = owners.add_user(uid) {
            tracing::warn!(uid, %error, "its connections from before are left to the backstop");
        }
    }
    connections::end(&owners, destinations, &HashSet::new())
}
