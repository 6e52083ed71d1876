//! The connection to the collector: HTTP/1.1, one request after the other.

use crate::{
    capture::own_sockets::OwnSockets,
    config::{Otlp, forward_proxy::ProxyHost, otlp::Endpoint},
    forward::upstream::{RootsError, load_roots},
    terminate::files,
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode,
    header::{
        CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, TRANSFER_ENCODING,
        USER_AGENT,
    },
};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// More than this of an answer says nothing.
const MAX_ANSWER: usize = 64 << 10;

/// What the exporter alone can say.
const OWN_HEADERS: [HeaderName; 6] =
    [CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING];

/// Why no connection can be made, wherever the collector is.
#[derive(Debug, thiserror::Error)]
pub(in crate::record::sink) enum SetupError {
    /// The file of headers cannot be read, or others can read it.
    #[error("`audit.otlp.headers` cannot be used")]
    File(#[from] files::Error),
    /// It holds something else. The content is not repeated.
    #[error("`audit.otlp.headers` `{}` does not hold one `name: value` a line, or names a header of HTTP itself", .0.display())]
    Headers(PathBuf),
    /// There are no certificates to verify the collector with.
    #[error("`audit.otlp.endpoint` cannot be verified")]
    Roots(#[from] RootsError),
    /// TLS cannot be set up.
    #[error("cannot set up TLS with `audit.otlp.endpoint`")]
    Tls(#[from] rustls::Error),
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It took too long.
    #[error("the collector has not answered within {0:?}")]
    Slow(Duration),
    /// There is no connection.
    #[error("cannot connect to the collector")]
    Connect(#[source] io::Error),
    /// The connection broke off, or speaks something else.
    #[error("cannot talk to the collector")]
    Http(#[source] hyper::Error),
}

/// What the collector says.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

/// Sends requests.
pub(super) struct Client {
    setup: Arc<Setup>,
    open: Option<SendRequest<Full<Bytes>>>,
}

struct Setup {
    endpoint: Endpoint,
    headers: HeaderMap,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    own_sockets: OwnSockets,
    timeout: Duration,
}

impl Client {
    /// Reads what the settings name; connects with the first request.
    pub(super) fn new(settings: &Otlp, own_sockets: OwnSockets) -> Result<Self, SetupError> {
        let endpoint = settings.endpoint.clone();
        let headers = settings.headers.as_deref().map(headers).transpose()?.unwrap_or_default();
        if !headers.is_empty() && !endpoint.tls && !endpoint.is_local() {
            tracing::warn!(%endpoint, "the headers of `audit.otlp` go over the network in the clear; use https");
        }
        let tls = if endpoint.tls { Some(tls(settings)?) } else { None };
        let setup = Setup { endpoint, headers, tls, own_sockets, timeout: settings.timeout };
        Ok(Self { setup: Arc::new(setup), open: None })
    }

    /// To the same collector, over another connection.
    pub(super) fn another(&self) -> Self {
        Self { setup: Arc::clone(&self.setup), open: None }
    }

    /// Sends one request, and reads its answer.
    pub(super) async fn post(&mut self, path: &str, body: Bytes) -> Result<Answer, Error> {
        let patience = self.setup.timeout;
        timeout(patience, self.exchange(path, body)).await.unwrap_or(Err(Error::Slow(patience)))
    }

    async fn exchange(&mut self, path: &str, body: Bytes) -> Result<Answer, Error> {
        // Taken out, so that a connection on which something went wrong, or is under way, serves nobody.
        let kept = match self.open.take() {
            Some(mut open) => open.ready().await.is_ok().then_some(open),
            None => None,
        };
        let mut open = match kept {
            Some(open) => open,
            None => self.setup.connect().await?,
        };
        let answer = open.send_request(self.setup.request(path, body)).await.map_err(Error::Http)?;
        let (head, body) = answer.into_parts();
        // What the status says counts, so that nothing is sent twice for the sake of an explanation.
        let body = Limited::new(body, MAX_ANSWER).collect().await.map(Collected::to_bytes);
        if body.is_ok() {
            self.open = Some(open);
        }
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Answer {
            status: head.status,
            retry_after: retry_after.map(Duration::from_secs),
            body: body.unwrap_or_default(),
        })
    }
}

impl Setup {
    fn request(&self, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::post(format!("{}{path}", self.endpoint.path));
        if let Some(headers) = request.headers_mut() {
            headers.insert(
                USER_AGENT,
                HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION"))),
            );
            headers.extend(self.headers.clone());
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
            if let Ok(host) = HeaderValue::from_str(&self.endpoint.authority()) {
                headers.insert(HOST, host);
            }
        }
        // Path and host were checked when the configuration was read, so that this is no other request.
        request.body(Full::new(body)).unwrap_or_default()
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Error> {
        let stream = self.reach().await.map_err(Error::Connect)?;
        stream.set_nodelay(true).map_err(Error::Connect)?;
        match &self.tls {
            None => speak(stream).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(Error::Connect)?;
                speak(stream).await
            }
        }
    }

    /// The first of the collector's addresses that takes a connection.
    async fn reach(&self) -> io::Result<TcpStream> {
        let port = self.endpoint.port;
        let addresses: Vec<SocketAddr> = match &self.endpoint.host {
            ProxyHost::Address(address) => vec![SocketAddr::new(*address, port)],
            ProxyHost::Name(name) => lookup_host((name.as_str(), port)).await?.collect(),
        };
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "its name resolves to no address");
        for address in addresses {
            match self.own_sockets.connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

async fn speak<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (open, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Error::Http)?;
    // What goes wrong with it is told to who sends a request on it.
    tokio::spawn(async move { drop(connection.await) });
    Ok(open)
}

fn tls(settings: &Otlp) -> Result<(TlsConnector, ServerName<'static>), SetupError> {
    let roots = load_roots(settings.ca_file.as_deref(), &[])?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = match &settings.endpoint.host {
        ProxyHost::Address(address) => ServerName::from(*address),
        ProxyHost::Name(name) => {
            let name = ServerName::try_from(name.as_str().to_owned());
            name.map_err(|_| rustls::Error::UnsupportedNameType)?
        }
    };
    Ok((TlsConnector::from(Arc::new(config)), name))
}

/// One `name: value` a line; empty lines do not count.
fn headers(path: &Path) -> Result<HeaderMap, SetupError> {
    let content = files::read_secret(path, files::Allowed::Owner)?;
    parse(&content).ok_or_else(|| SetupError::Headers(path.to_owned()))
}

fn parse(content: &[u8]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    let lines = content.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        let name = HeaderName::from_bytes(name).ok().filter(|name| !OWN_HEADERS.contains(name))?;
        let mut value = HeaderValue::from_bytes(value.get(1..)?.trim_ascii()).ok()?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};
    use test_case::test_case;

    #[test_case("", Some(0); "empty")]
    #[test_case("api-key: a:b\r\n\n X-Scope-OrgID:tenant \n", Some(2); "two")]
    #[test_case("authorization: Bearer x", Some(1); "no line break")]
    #[test_case("Bearer x", None; "no name")]
    #[test_case(": x", None; "empty name")]
    #[test_case("a b: x", None; "a space in the name")]
    #[test_case("a: x\ry", None; "carriage return")]
    #[test_case("Content-Length: 3", None; "a header of http itself")]
    fn headers_are_names_and_values(content: &str, expected: Option<usize>) {
        let headers = parse(content.as_bytes());
        assert_eq!(headers.as_ref().map(HeaderMap::len), expected);
        let shown = format!("{headers:?}");
        assert!(!["a:b", "tenant", "Bearer"].iter().any(|secret| shown.contains(secret)), "{shown}");
    }

    #[test]
    fn a_file_that_others_can_read_or_that_holds_something_else_is_refused_and_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("headers");
        fs::write(&path, "geheim").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(headers(&path), Err(SetupError::File(files::Error::Exposed { .. }))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = headers(&path).unwrap_err();
        assert!(matches!(error, SetupError::Headers(_)) && !format!("{error} {error:?}").contains("geheim"));
    }
}
