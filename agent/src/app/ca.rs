//! Keeps the gate at the CA that signs now, and what programs must trust where they find it.

use super::watch::Watch;
use crate::{
    config,
    host::HostName,
    host_trust::bundle,
    terminate::{
        self, Signer, Terminator,
        store::{self, Standing, Store},
        tickets::Tickets,
    },
};
use rustls_pki_types::CertificateDer;
use std::{
    error::Error as StdError,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep},
};

/// The local CA's certificates, in the directory that [`Keeper::keep`] is given.
pub const ANCHORS: &str = "ca.pem";
/// The system's certificates and the local CA's, in the same directory.
pub const BUNDLE: &str = "ca-bundle.pem";

/// How often the clock is asked whether a generation's time has come.
const POLL: Duration = Duration::from_secs(30);

/// How long files may take to be written one after the other.
const QUIET: Duration = Duration::from_millis(200);

/// The CA of a running agent.
pub struct Keeper {
    store: Store,
    standing: Standing,
    tickets: Arc<Tickets>,
}

impl Keeper {
    /// Makes or finds the CA, constrained to these domains.
    ///
    /// # Errors
    /// When what is there cannot be used; it stays as it is.
    pub fn open(settings: &config::Ca, domains: &[HostName]) -> Result<Self, store::Error> {
        let now = SystemTime::now();
        let store = Store::open(settings, domains)?;
        let standing = store.start(now)?;
        let tickets = Arc::new(store.tickets(now)?);
        Ok(Self { store, standing, tickets })
    }

    /// What programs must trust, and upstreams must not be verified with.
    pub fn anchors(&self) -> &[CertificateDer<'static>] {
        &self.standing.anchors
    }

    /// The same, PEM.
    pub fn anchors_pem(&self) -> String {
        self.standing.anchors_pem()
    }

    /// What finishes handshakes with this CA's leaves.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn terminator(&self) -> Result<Terminator, terminate::Error> {
        Terminator::with_tickets(self.standing.authority.clone(), self.tickets.clone())
    }

    /// Follows the CA for good: rotations, ends and the user's new files. `published`: the directory in which
    /// [`ANCHORS`] and [`BUNDLE`] are kept.
    pub async fn keep(self, signer: Signer, published: Option<PathBuf>) {
        let Self { store, mut standing, tickets } = self;
        let store = Arc::new(store);
        let watch = Watch::start(store.watched()).unwrap_or_else(|error| {
            tracing::warn!(%error, "a change of the local CA is seen only every {POLL:?}");
            Watch::SILENT
        });
        publish(published.as_deref(), &standing);
        let mut polls = interval(POLL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = String::new();
        loop {
            tokio::select! {
                () = watch.changed() => sleep(QUIET).await,
                _ = polls.tick() => {}
            }
            watch.forget();
            let (looking, before, rolling) = (Arc::clone(&store), standing.clone(), Arc::clone(&tickets));
            // A new generation takes signatures and waits for the disk.
            let looked = spawn_blocking(move || {
                let now = SystemTime::now();
                if let Err(error) = rolling.roll(now) {
                    tracing::error!(
                        error = &error as &dyn StdError,
                        "the session tickets keep their old key"
                    );
                }
                looking.refresh(&before, now)
            });
            match looked.await {
                Ok(Ok(Some(next))) => {
                    if !Arc::ptr_eq(&next.authority, &standing.authority) {
                        signer.sign_with(Arc::clone(&next.authority));
                        tracing::info!("leaves come from the next CA from now on");
                    }
                    standing = next;
                    publish(published.as_deref(), &standing);
                    told.clear();
                }
                Ok(Ok(None)) => told.clear(),
                Ok(Err(error)) => {
                    let text = error.to_string();
                    if text != told {
                        tracing::error!(error = &error as &dyn StdError, "the CA stays as it was");
                        told = text;
                    }
                }
                Err(error) => tracing::error!(%error, "the CA was not looked at to the end"),
            }
        }
    }
}

fn publish(directory: Option<&Path>, standing: &Standing) {
    let Some(directory) = directory else { return };
    let written = bundle::write(&directory.join(ANCHORS), &standing.anchors_pem()).and_then(|()| {
        let (text, _) = bundle::merged(Path::new("/"), &standing.anchors)?;
        bundle::write(&directory.join(BUNDLE), &text)
    });
    if let Err(error) = written {
        let error: &dyn StdError = &error;
        tracing::error!(error, "programs do not find the certificates that they have to trust");
    }
}

#[cfg(test)]
mod tests;
