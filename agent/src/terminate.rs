//! Stage 4: TLS with the workload, finished with a leaf of the local CA.

pub mod ca;
mod cache;
pub mod certificate;
pub mod files;
mod key;
mod leaf;
pub mod opening;
pub mod store;
pub mod tickets;

use crate::{host::HostName, reason::Reason, tls};
use ca::Mint;
use cache::Cache;
pub use leaf::Minted;
use rustls::{
    AlertDescription, ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The protocols that are served, the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Finishes handshakes with workloads.
pub struct Terminator {
    leaves: Arc<Cache>,
    /// What every handshake starts from; each gets its own certificate.
    config: ServerConfig,
}

/// Why there is no TLS with the workload.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// TLS cannot be set up at all.
    #[error("cannot set up TLS for workloads")]
    Setup(#[source] rustls::Error),
    /// There is no certificate for the name.
    #[error("no certificate for `{name}`")]
    NoLeaf {
        /// The name that the client asked for.
        name: HostName,
        /// Why.
        #[source]
        source: ca::Error,
    },
    /// The client does not trust the local CA.
    #[error("the client does not trust the local CA ({detail}): give it the CA's certificate")]
    ClientRejectedCa {
        /// What the client did when it saw the certificate.
        detail: String,
    },
    /// The handshake failed otherwise.
    #[error("the TLS handshake with the client failed")]
    HandshakeFailed(#[source] io::Error),
    /// The client took too long.
    #[error("the client did not finish the TLS handshake within {0:?}")]
    HandshakeTimeout(Duration),
}

impl Error {
    /// The reason for the record.
    pub fn reason(&self) -> Reason {
        match self {
            Self::ClientRejectedCa { .. } => Reason::ClientRejectedCa,
            Self::HandshakeTimeout(_) => Reason::HandshakeTimeout,
            Self::Setup(_) | Self::NoLeaf { .. } | Self::HandshakeFailed(_) => Reason::HandshakeFailed,
        }
    }
}

impl Terminator {
    /// With leaves of this authority, and session tickets that no other terminator can read.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(authority: Arc<dyn Mint>) -> Result<Self, Error> {
        let tickets = aws_lc_rs::Ticketer::new().map_err(Error::Setup)?;
        Self::with_tickets(authority, tickets)
    }

    /// With leaves of this authority, and these session tickets.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn with_tickets(authority: Arc<dyn Mint>, tickets: Arc<dyn ProducesTickets>) -> Result<Self, Error> {
        let mut config = ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(Error::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Shown::default()));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        config.ignore_client_order = true;
        // Tickets resume sessions in both versions, so nothing needs to be kept here.
        config.ticketer = tickets;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { leaves: Arc::new(Cache::new(authority)), config })
    }

    /// What changes the authority, wherever the terminator itself has gone.
    pub fn signer(&self) -> Signer {
        Signer(Arc::clone(&self.leaves))
    }

    /// Finishes the handshake as `name`, which the peeked ClientHello asks for.
    ///
    /// # Errors
    /// When the client does not trust the CA, breaks off, or needs longer than `patience`.
    pub async fn accept<S>(
        &self,
        stream: S,
        name: &HostName,
        patience: Duration,
    ) -> Result<TlsStream<S>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let leaf = self.leaves.leaf(name, SystemTime::now());
        let leaf = leaf.map_err(|source| Error::NoLeaf { name: name.clone(), source })?;
        let shown = Arc::new(Shown { leaf: Some(leaf), is_shown: AtomicBool::new(false) });
        let mut config = self.config.clone();
        config.cert_resolver = shown.clone();
        let handshake = TlsAcceptor::from(Arc::new(config)).accept(stream);
        let result = timeout(patience, handshake).await.map_err(|_| Error::HandshakeTimeout(patience))?;
        let stream =
            result.map_err(|error| handshake_error(error, shown.is_shown.load(Ordering::Relaxed)))?;
        // A name other than the peeked one would mean that two readers understood the ClientHello differently.
        if stream.get_ref().1.server_name() != Some(name.as_str()) {
            let problem = "the handshake was for another name than its first bytes";
            return Err(Error::HandshakeFailed(io::Error::new(io::ErrorKind::InvalidData, problem)));
        }
        Ok(stream)
    }
}

/// Says which authority a terminator's leaves come from.
#[derive(Clone)]
pub struct Signer(Arc<Cache>);

impl Signer {
    /// From here on leaves are of this authority. Connections that are open go on.
    pub fn sign_with(&self, authority: Arc<dyn Mint>) {
        self.0.sign_with(authority);
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl fmt::Debug for Terminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminator").finish_non_exhaustive()
    }
}

/// The certificate of one handshake, and whether the client was shown it: a resumed session shows none.
#[derive(Debug, Default)]
struct Shown {
    leaf: Option<Arc<CertifiedKey>>,
    is_shown: AtomicBool,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.is_shown.store(true, Ordering::Relaxed);
        self.leaf.clone()
    }
}

fn handshake_error(error: io::Error, is_shown: bool) -> Error {
    // Only of a certificate that it saw can an alert that has other meanings too speak.
    if is_shown && let Some(detail) = rejection(&error) {
        return Error::ClientRejectedCa { detail };
    }
    // Some programs give no alert and just hang up on a certificate that they do not trust.
    let is_end = matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    );
    if is_end && is_shown {
        return Error::ClientRejectedCa { detail: "closed when it saw the certificate".to_owned() };
    }
    Error::HandshakeFailed(error)
}

/// The alert by which a client that saw our certificate refuses it. Which one it sends for an unknown CA is its own
/// taste: OpenSSL unknown_ca, Go bad_certificate, Java certificate_unknown, OpenSSL for a program's own verification
/// handshake_failure, and for a CA of the same name with another key decrypt_error.
fn rejection(error: &io::Error) -> Option<String> {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::AlertReceived(alert)) = tls else { return None };
    let is_about_certificate = [
        AlertDescription::UnknownCA,
        AlertDescription::BadCertificate,
        AlertDescription::CertificateUnknown,
        AlertDescription::UnsupportedCertificate,
        AlertDescription::CertificateExpired,
        AlertDescription::CertificateRevoked,
        AlertDescription::CertificateUnobtainable,
        AlertDescription::BadCertificateStatusResponse,
        AlertDescription::AccessDenied,
        AlertDescription::HandshakeFailure,
        AlertDescription::DecryptError,
    ]
    .contains(alert);
    is_about_certificate.then(|| format!("alert {alert:?}"))
}

#[cfg(test)]
mod tests;
