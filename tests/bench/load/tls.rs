//! One connection with one request, as our own clients make it.

use super::TOKEN;
use anyhow::{Context as _, Result, bail, ensure};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use std::{net::SocketAddr, path::Path, sync::Arc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Asks one server for one thing.
#[derive(Clone)]
pub(crate) struct Client {
    connector: TlsConnector,
    address: SocketAddr,
    name: ServerName<'static>,
    host: Arc<str>,
    path: Arc<str>,
}

impl Client {
    /// Trusts the authorities of this file.
    pub(crate) fn new(
        ca_file: &Path,
        resumes: bool,
        address: SocketAddr,
        host: &str,
        path: &str,
    ) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca_file)? {
            roots.add(certificate?)?;
        }
        ensure!(!roots.is_empty(), "no certificate in {}", ca_file.display());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.resumption = if resumes { Resumption::in_memory_sessions(64) } else { Resumption::disabled() };
        let name = ServerName::try_from(host.to_owned())?;
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self { connector, address, name, host: host.into(), path: path.into() })
    }

    pub(crate) async fn connect(&self) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        self.connector.connect(self.name.clone(), stream).await.context("shaking hands")
    }

    /// Makes the request, and reads the whole answer.
    pub(crate) async fn ask(&self, stream: &mut TlsStream<TcpStream>, keeps: bool) -> Result<()> {
        let (host, path) = (&self.host, &self.path);
        let connection = if keeps { "keep-alive" } else { "close" };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: {connection}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.context("asking")?;
        let mut answer = Vec::with_capacity(4096);
        let wanted = loop {
            if let Some(length) = whole_length(&answer)? {
                break length;
            }
            if stream.read_buf(&mut answer).await.context("reading the head")? == 0 {
                bail!("the connection ended within the answer's head");
            }
        };
        while answer.len() < wanted {
            if stream.read_buf(&mut answer).await.context("reading the body")? == 0 {
                bail!("the connection ended within the answer's body");
            }
        }
        Ok(())
    }
}

/// How long an answer is with its body, once its head is there; an answer that is no success is none.
fn whole_length(answer: &[u8]) -> Result<Option<usize>> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(answer.get(..end).unwrap_or_default()).to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 200"), "the answer is no success: {head}");
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    Ok(Some(end + 4 + length.with_context(|| format!("an answer without a length: {head}"))?))
}

#[cfg(test)]
mod tests {
    use super::whole_length;

    #[test]
    fn an_answer_is_as_long_as_it_says() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
        assert_eq!(whole_length(whole).unwrap(), Some(whole.len() + 10));
        assert_eq!(whole_length(&whole[..20]).unwrap(), None);
        assert!(whole_length(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\n").is_err());
        assert!(whole_length(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
