//! What an agent serves with: for an engine in this process, or for the process that serves.

use super::{
    Error,
    agent::Sources,
    ca::Keeper,
    engine::Means,
    proxy::{Rights, Start},
};
use crate::{
    capture::own_sockets::OwnSockets,
    forward::upstream::Resolve,
    record::sink::place,
    session::{gate::OwnEyes, protected::ProtectedAddresses, proxies::ProxyAddresses},
    terminate::Signer,
};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, RwLock},
};

/// What serving takes, by whichever process.
pub(super) struct Ground<'a> {
    pub(super) own_sockets: OwnSockets,
    pub(super) resolve: Resolve,
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) log: Arc<place::Own>,
    pub(super) ca: &'a Keeper,
}

impl Ground<'_> {
    /// For this process, and who tells it of the CA's changes.
    pub(super) fn means(
        self,
        (addresses, proxies): (&Arc<ProtectedAddresses>, &Arc<ProxyAddresses>),
    ) -> Result<(Means, Signer), Error> {
        let terminator = self.ca.terminator()?;
        let follower = terminator.signer();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.roots);
        let means = Means {
            own_sockets: self.own_sockets,
            resolve: self.resolve,
            roots,
            terminator,
            log: self.log,
            clients: Arc::<OwnEyes>::default(),
            addresses: Arc::clone(addresses),
            proxies: Arc::clone(proxies),
        };
        Ok((means, follower))
    }

    /// For another process, what it begins with.
    pub(super) fn start(
        &self,
        Sources { config, policies }: Sources,
        addresses: &ProtectedAddresses,
        forward_proxies: &[SocketAddr],
    ) -> Start {
        Start {
            config,
            policies,
            roots: self.roots.iter().map(|root| root.to_vec()).collect(),
            tickets: self.ca.tickets().handed_over(),
            protected: addresses.all(),
            forward_proxies: forward_proxies.to_vec(),
            files: Vec::new(),
        }
    }

    /// For another process, what it may ask for.
    pub(super) fn rights(self) -> Rights {
        Rights {
            own_sockets: self.own_sockets,
            resolve: self.resolve,
            authority: RwLock::new(self.ca.authority()),
            log: self.log,
            clients: Arc::default(),
            signed: Mutex::default(),
        }
    }
}
