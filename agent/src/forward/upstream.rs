//! One new connection to the upstream: the original destination first, the host's certificate always.

use super::{
    Error, Key, Via,
    own_proxy::{self, OwnProxy},
    via,
};
use crate::{
    capture::own_sockets::OwnSockets, config, host::HostName, peek::rewind::Rewind, terminate::ca, tls,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use zeroize::Zeroizing;

/// How many of the host's own addresses are tried when the original destination is out of reach.
const MAX_ADDRESSES: usize = 4;

/// What the agent itself resolves a host's name to.
pub type Resolve = Arc<dyn Fn(HostName) -> Resolving + Send + Sync>;
/// A name on its way to its addresses.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// The protocols that are offered to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offer {
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2, else HTTP/1.1. A client of either protocol can ride either.
    Http2OrHttp1,
}

/// Why the certificates to trust could not be had.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The system has none.
    #[error(
        "no trusted certificate found on this system; install the ca-certificates package or set `ca_file`"
    )]
    None(#[source] Option<rustls_native_certs::Error>),
    /// The configured file cannot be read.
    #[error("`ca_file` `{}` is not a file of PEM certificates", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// One of its certificates is unusable.
    #[error("`ca_file` `{}` holds an unusable certificate", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// It holds no certificate.
    #[error("`ca_file` `{}` holds no certificate", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Why no upstream can be reached, whatever it is.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// TLS cannot be set up.
    #[error("cannot set up TLS with the upstream")]
    Tls(#[from] rustls::Error),
    /// What the proxy wants to know is not to be had.
    #[error("cannot use `upstream.proxy`")]
    Proxy(#[from] own_proxy::Error),
}

/// The certificates that an upstream is verified against: the system's and those of `ca_file`,
/// without `local`, the certificates of the agent's own CA, which a host may have been told to trust.
///
/// # Errors
/// When there is none, or the file is unusable.
pub fn load_roots(ca_file: Option<&Path>, local: &[CertificateDer<'_>]) -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(load_certificates(ca_file, local)?);
    Ok(roots)
}

/// As [`load_roots`], for another process of the agent.
///
/// # Errors
/// As [`load_roots`].
pub fn load_certificates(
    ca_file: Option<&Path>,
    local: &[CertificateDer<'_>],
) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let mut system = rustls_native_certs::load_native_certs();
    // Systems carry some that no verifier takes; each is worth nothing by itself.
    let is_usable = |certificate: &CertificateDer<'static>| {
        !is_local(certificate, local) && RootCertStore::empty().add(certificate.clone()).is_ok()
    };
    let mut roots: Vec<_> = system.certs.into_iter().filter(is_usable).collect();
    tracing::debug!(usable = roots.len(), errors = system.errors.len(), "system roots read");
    if let Some(path) = ca_file {
        add_file(&mut roots, path, local)?;
    } else if roots.is_empty() {
        return Err(RootsError::None(system.errors.pop()));
    }
    Ok(roots)
}

/// Also one that was rotated away, whose key may have been stolen.
fn is_local(certificate: &CertificateDer<'_>, local: &[CertificateDer<'_>]) -> bool {
    let is_ours = || certificate.windows(ca::NAME.len()).any(|window| window == ca::NAME.as_bytes());
    local.contains(certificate) || is_ours()
}

fn add_file(
    roots: &mut Vec<CertificateDer<'static>>,
    path: &Path,
    local: &[CertificateDer<'_>],
) -> Result<(), RootsError> {
    let before = roots.len();
    let unreadable = |source| RootsError::File { path: path.to_owned(), source };
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        let certificate = certificate.map_err(unreadable)?;
        if !is_local(&certificate, local) {
            let unusable = |source| RootsError::Certificate { path: path.to_owned(), source };
            RootCertStore::empty().add(certificate.clone()).map_err(unusable)?;
            roots.push(certificate);
        }
    }
    if roots.len() == before { Err(RootsError::Empty { path: path.to_owned() }) } else { Ok(()) }
}

/// What `upstream.proxy_credentials` holds, for another process of the agent.
///
/// # Errors
/// When it cannot be used.
pub fn proxy_credentials(settings: &config::Upstream) -> Result<Option<Zeroizing<Vec<u8>>>, SetupError> {
    Ok(own_proxy::credentials(settings)?)
}

/// Makes connections; knows nothing of HTTP.
pub(super) struct Dialer {
    http1: TlsConnector,
    both: TlsConnector,
    resolve: Resolve,
    own_sockets: OwnSockets,
    patience: Duration,
    proxy: Option<OwnProxy>,
}

/// A verified connection.
pub(super) struct Dialled {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) http2: bool,
}

impl Dialer {
    pub(super) fn new(
        settings: &config::Upstream,
        roots: RootCertStore,
        resolve: Resolve,
        own_sockets: OwnSockets,
    ) -> Result<Self, SetupError> {
        let provider = tls::provider();
        let roots = Arc::new(roots);
        let connector = |protocols: &[&str]| -> Result<TlsConnector, rustls::Error> {
            let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()?
                .with_root_certificates(Arc::clone(&roots))
                .with_no_client_auth();
            config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
            Ok(TlsConnector::from(Arc::new(config)))
        };
        Ok(Self {
            http1: connector(&["http/1.1"])?,
            both: connector(&["h2", "http/1.1"])?,
            resolve,
            own_sockets,
            patience: settings.connect_timeout,
            proxy: OwnProxy::load(settings)?,
        })
    }

    /// Connects to the key's original destination or, where that is out of reach, to what the agent itself
    /// resolves the host to. Through a forward proxy, the workload's own or the agent's, there is only the one way.
    pub(super) async fn dial(&self, key: &Key) -> Result<Dialled, Error> {
        let (stream, address) = match (&key.via, &self.proxy) {
            (Some(via), _) => (self.tunnel(key, via, key.destination).await?, key.destination),
            (None, Some(proxy)) => self.through(key, proxy).await?,
            (None, None) => self.reach(key).await?,
        };
        self.secure(key, stream, address).await
    }

    /// Makes the connection one to the key's host, and to nobody else.
    pub(super) async fn secure(
        &self,
        key: &Key,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<Dialled, Error> {
        let name = ServerName::try_from(key.host.as_str().to_owned())
            .map_err(|source| Error::failed(&key.host, source))?;
        // The API's requests are small and must not wait for each other's acknowledgements.
        stream.set_nodelay(true).map_err(|source| Error::failed(&key.host, source))?;
        let connector = match key.offer {
            Offer::Http1 => &self.http1,
            Offer::Http2OrHttp1 => &self.both,
        };
        let handshake = timeout(self.patience, connector.connect(name, stream));
        let stream = handshake
            .await
            .map_err(|_| Error::SlowToConnect { what: "finish the TLS handshake", after: self.patience })?
            .map_err(|error| handshake_error(error, &key.host, address))?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Dialled { stream, http2 })
    }

    /// Through the agent's proxy, at the first of its addresses that takes a connection.
    async fn through(&self, key: &Key, proxy: &OwnProxy) -> Result<(TcpStream, SocketAddr), Error> {
        let resolved = timeout(self.patience, proxy.addresses(&self.resolve)).await;
        let addresses = resolved
            .map_err(|_| Error::SlowToConnect { what: "resolve `upstream.proxy`", after: self.patience })?
            .map_err(|source| Error::failed(&key.host, source))?;
        let via = proxy.tunnel_to(&key.host, key.destination.port());
        let nowhere = io::Error::new(io::ErrorKind::NotFound, "`upstream.proxy` resolves to no address");
        let mut failure = Error::failed(&key.host, nowhere);
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            match self.tunnel(key, &via, address).await {
                Ok(stream) => return Ok((stream, address)),
                Err(error @ Error::Unreachable { .. }) => failure = error,
                Err(error) => return Err(error),
            }
        }
        Err(failure)
    }

    async fn tunnel(&self, key: &Key, via: &Via, proxy: SocketAddr) -> Result<TcpStream, Error> {
        // The agent's own proxy is reached as the agent reaches it.
        let from = key.via.as_ref().map(|_| key.netns_cookie);
        let mut stream = Rewind::new(self.connect(from, proxy, &key.host).await?);
        let asked = via::ask(&mut stream, via.head(), self.patience).await;
        let (answer, _head) = asked.map_err(|error| {
            if error.kind() == io::ErrorKind::TimedOut {
                Error::SlowToConnect { what: "open a tunnel", after: self.patience }
            } else {
                Error::failed(&key.host, error)
            }
        })?;
        if !answer.is_tunnel() {
            return Err(Error::Proxy { address: proxy, status: answer.status });
        }
        match stream.into_parts() {
            (early, stream) if early.is_empty() => Ok(stream),
            _ => Err(Error::failed(&key.host, io::Error::other("the far end of the tunnel spoke first"))),
        }
    }

    async fn reach(&self, key: &Key) -> Result<(TcpStream, SocketAddr), Error> {
        let mut failure = match self.connect(Some(key.netns_cookie), key.destination, &key.host).await {
            Ok(stream) => return Ok((stream, key.destination)),
            Err(error) => error,
        };
        let resolved = timeout(self.patience, (self.resolve)(key.host.clone())).await;
        let addresses = match resolved {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the host's own addresses are unknown");
                return Err(failure);
            }
            Err(_) => return Err(failure),
        };
        let others = addresses
            .into_iter()
            .map(|ip| SocketAddr::new(ip, key.destination.port()))
            .filter(|address| *address != key.destination);
        for address in others.take(MAX_ADDRESSES) {
            match self.connect(Some(key.netns_cookie), address, &key.host).await {
                Ok(stream) => return Ok((stream, address)),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// From the namespace of that cookie, else from the agent's own.
    async fn connect(
        &self,
        from: Option<u64>,
        address: SocketAddr,
        host: &HostName,
    ) -> Result<TcpStream, Error> {
        let connecting = async {
            match from {
                Some(netns_cookie) => self.own_sockets.connect_from(netns_cookie, address).await,
                None => self.own_sockets.connect(address).await,
            }
        };
        match timeout(self.patience, connecting).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => {
                Err(Error::Unreachable { host: host.clone(), address, source: Arc::new(source) })
            }
            Err(_) => Err(Error::SlowToConnect { what: "accept a connection", after: self.patience }),
        }
    }
}

fn handshake_error(error: io::Error, host: &HostName, address: SocketAddr) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(source @ (rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)) => {
            Error::NotHost { host: host.clone(), address, source: source.clone() }
        }
        Some(_) | None => Error::failed(host, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use std::fs;

    fn authority() -> rcgen::Certificate {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn the_file_adds_to_the_systems_roots_and_the_local_ca_never_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("extra.pem");
        let (extra, local) = (authority(), authority());
        fs::write(&path, format!("{}{}", local.pem(), extra.pem())).unwrap();
        let both = load_roots(Some(&path), &[]).unwrap().len();
        let one = load_roots(Some(&path), &[local.der().clone()]).unwrap().len();
        assert_eq!(both, one + 1);
        let only_local = load_roots(Some(&path), &[local.der().clone(), extra.der().clone()]);
        assert!(matches!(only_local, Err(RootsError::Empty { .. })));
    }

    #[test]
    fn a_local_ca_that_was_rotated_away_never_counts_either() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("extra.pem");
        let domain = HostName::parse("digitalocean.com").unwrap();
        fs::write(&path, ca::Authority::ephemeral(&[domain]).unwrap().trust_anchor_pem()).unwrap();
        assert!(matches!(load_roots(Some(&path), &[]), Err(RootsError::Empty { .. })));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("extra.pem");
        let message = |path| load_roots(Some(path), &[]).unwrap_err().to_string();
        assert!(
            message(&path).contains("extra.pem` is not a file of PEM certificates"),
            "{}",
            message(&path)
        );
        fs::write(&path, "no certificate").unwrap();
        assert!(message(&path).contains("extra.pem` holds no certificate"), "{}", message(&path));
        fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(message(&path).contains("extra.pem` holds an unusable certificate"), "{}", message(&path));
    }
}
