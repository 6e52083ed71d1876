//! Keeps the gate at the CA that signs now, and what programs must trust where they find it.

use super::watch::Watch;
use crate::{
    config,
    host::HostName,
    host_trust::bundle,
    protect::Copies,
    terminate::{
        self, Signer, Terminator,
        ca::Authority,
        certificate,
        store::{self, Standing, Store},
        tickets::Tickets,
    },
};
use rustls_pki_types::CertificateDer;
use std::{
    error::Error as StdError,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
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

/// The directory beside them that has both of them and nothing else, for containers to see.
pub const TRUST: &str = "trust";

/// How often the clock is asked whether a generation's time has come.
const POLL: Duration = Duration::from_secs(30);

/// How long files may take to be written one after the other.
const QUIET: Duration = Duration::from_millis(200);

/// Where programs find what they have to trust.
#[derive(Debug)]
pub struct Published {
    directory: PathBuf,
    copies: Copies,
}

impl Published {
    /// [`ANCHORS`] and [`BUNDLE`] in this directory, and the copies that protected units see.
    pub fn new(directory: PathBuf, copies: Copies) -> Self {
        Self { directory, copies }
    }

    fn write(&mut self, anchors: &[CertificateDer<'_>]) {
        let Self { directory, copies } = self;
        let pem: String = anchors.iter().map(|anchor| certificate::pem(anchor)).collect();
        let written = bundle::merged(Path::new("/"), anchors).and_then(|(text, _)| {
            [directory.clone(), directory.join(TRUST)].iter().try_for_each(|directory| {
                bundle::write(&directory.join(ANCHORS), &pem)?;
                bundle::write(&directory.join(BUNDLE), &text)
            })
        });
        if let Err(error) = written {
            let error: &dyn StdError = &error;
            tracing::error!(error, "programs do not find the certificates that they have to trust");
        }
        if let Err(error) = copies.fill(anchors) {
            let error: &dyn StdError = &error;
            tracing::error!(error, "protected units do not find the certificates that they have to trust");
        }
    }

    /// Where something that it was made from has changed.
    fn write_if_stale(&mut self, anchors: &[CertificateDer<'_>]) {
        if self.copies.are_stale() {
            self.write(anchors);
        }
    }
}

/// Whoever shows what the CA signs.
pub trait Follower: Send + Sync {
    /// From here on this authority signs.
    fn sign_with(&self, authority: Arc<Authority>);

    /// There are other keys of session tickets.
    fn seal_with(&self, tickets: &Tickets);
}

/// In the same process, which has the same keys of tickets.
impl Follower for Signer {
    fn sign_with(&self, authority: Arc<Authority>) {
        Self::sign_with(self, authority);
    }

    fn seal_with(&self, _tickets: &Tickets) {}
}

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

    /// Who signs leaves now.
    pub fn authority(&self) -> Arc<Authority> {
        Arc::clone(&self.standing.authority)
    }

    /// The keys of session tickets.
    pub fn tickets(&self) -> Arc<Tickets> {
        Arc::clone(&self.tickets)
    }

    /// Writes what programs have to trust.
    pub fn publish(&self, published: &mut Published) {
        published.write(&self.standing.anchors);
    }

    /// Follows the CA for good: rotations, ends and the user's new files. `follower` and what is published follow, too.
    pub async fn keep(self, follower: Arc<dyn Follower>, published: Option<Published>) {
        let Self { store, mut standing, tickets } = self;
        let store = Arc::new(store);
        let watch = Watch::start(store.watched()).unwrap_or_else(|error| {
            tracing::warn!(%error, "a change of the local CA is seen only every {POLL:?}");
            Watch::SILENT
        });
        let published = Arc::new(Mutex::new(published));
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
            let (publishing, following) = (Arc::clone(&published), Arc::clone(&follower));
            // A new generation takes signatures and waits for the disk.
            let looked = spawn_blocking(move || {
                let now = SystemTime::now();
                match rolling.roll(now) {
                    Ok(true) => following.seal_with(&rolling),
                    Ok(false) => {}
                    Err(error) => {
                        let error = &error as &dyn StdError;
                        tracing::error!(error, "the session tickets keep their old key");
                    }
                }
                let refreshed = looking.refresh(&before, now);
                let mut published = publishing.lock().unwrap_or_else(PoisonError::into_inner);
                match &refreshed {
                    Ok(Some(next)) => turn(&before, next, &*following, published.as_mut()),
                    Ok(None) | Err(_) => {
                        if let Some(published) = published.as_mut() {
                            published.write_if_stale(&before.anchors);
                        }
                    }
                }
                refreshed
            });
            match looked.await {
                Ok(Ok(Some(next))) => {
                    standing = next;
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

/// Goes over to the next standing. Whoever signs is trusted before and after, wherever that is published.
fn turn(before: &Standing, next: &Standing, follower: &dyn Follower, mut published: Option<&mut Published>) {
    let mut both = next.anchors.clone();
    both.extend(before.anchors.iter().filter(|anchor| !next.anchors.contains(anchor)).cloned());
    if let Some(published) = &mut published {
        published.write(&both);
    }
    if !Arc::ptr_eq(&next.authority, &before.authority) {
        follower.sign_with(Arc::clone(&next.authority));
        tracing::info!("leaves come from the next CA from now on");
    }
    if let Some(published) = published
        && both.len() > next.anchors.len()
    {
        published.write(&next.anchors);
    }
}

#[cfg(test)]
mod tests;
