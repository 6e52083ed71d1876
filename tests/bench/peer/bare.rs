//! A proxy that does nothing: what hyper and rustls cost by themselves.

use super::{LISTEN, Running};
use crate::place::{Place, Role};
use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::Args;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
    server,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use std::{
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task,
};
use tidegate_tests::{
    certificates::Leaf,
    netns::addresses::{API, API_NAME},
    process::Process,
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

/// What the proxy is told.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Certificate and key.
    #[arg(long)]
    certificate: PathBuf,
    /// Who signs the upstream's certificate.
    #[arg(long)]
    ca_file: PathBuf,
}

pub(super) fn start(place: &Place) -> Result<Running> {
    let [certificate, ca_file] = ["static.pem", "ca.pem"].map(|file| place.directory().join(file));
    let (certificate, ca) = (certificate.display().to_string(), ca_file.display().to_string());
    let line = ["bare", "--certificate", &certificate, "--ca-file", &ca];
    let process = Process::start(&mut place.own(Role::Proxy, &line)?, place.directory())?;
    Running::listening(ca_file, vec![process])
}

/// Serves until it is killed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    tidegate::run::limits::OpenFiles::raise()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let Leaf { chain, key } = Leaf::read(&arguments.certificate)?;
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&arguments.ca_file)? {
        roots.add(certificate?)?;
    }
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let upstream = Arc::new(Upstream {
        http1: connector(client.clone(), b"http/1.1"),
        http2: connector(client, b"h2"),
        idle: Mutex::default(),
        shared: tokio::sync::Mutex::default(),
    });
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let listener = TcpListener::bind(LISTEN.parse::<SocketAddr>()?).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
            // A connection that breaks is the client's to notice.
            tokio::spawn(async move { serve(stream, acceptor, upstream).await });
        }
    })
}

fn connector(mut config: ClientConfig, protocol: &[u8]) -> TlsConnector {
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, upstream: Arc<Upstream>) -> Result<()> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = TokioIo::new(stream);
    if is_http2 {
        let service = service_fn(move |request| {
            let upstream = upstream.clone();
            async move { upstream.multiplexed(request).await }
        });
        server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await?;
    } else {
        let service = service_fn(move |request| {
            let upstream = upstream.clone();
            async move { upstream.pooled(request).await }
        });
        server::conn::http1::Builder::new().serve_connection(stream, service).await?;
    }
    Ok(())
}

type Sender = http1::SendRequest<Incoming>;

/// The connections to the upstream.
struct Upstream {
    http1: TlsConnector,
    http2: TlsConnector,
    idle: Mutex<Vec<Sender>>,
    shared: tokio::sync::Mutex<Option<http2::SendRequest<Incoming>>>,
}

impl Upstream {
    async fn connect(connector: &TlsConnector) -> Result<TokioIo<TlsStream<TcpStream>>> {
        let stream = TcpStream::connect((API, 443)).await?;
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(connector.connect(ServerName::try_from(API_NAME)?, stream).await?))
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Sender>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pooled(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Returning>> {
        let kept = self.idle().pop();
        let mut usable = None;
        if let Some(mut sender) = kept
            && sender.ready().await.is_ok()
        {
            usable = Some(sender);
        }
        let mut sender = match usable {
            Some(sender) => sender,
            None => {
                let (sender, connection) = http1::handshake(Self::connect(&self.http1).await?).await?;
                tokio::spawn(connection);
                sender
            }
        };
        let response = sender.send_request(request).await.context("the upstream")?;
        Ok(response.map(|body| Returning { body, sender: Some(sender), upstream: self }))
    }

    async fn multiplexed(&self, request: Request<Incoming>) -> Result<Response<Incoming>> {
        let mut shared = self.shared.lock().await;
        let mut sender = match shared.as_ref().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender.clone(),
            None => {
                let stream = Self::connect(&self.http2).await?;
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
                tokio::spawn(connection);
                shared.insert(sender).clone()
            }
        };
        drop(shared);
        sender.send_request(request).await.context("the upstream")
    }
}

/// A body whose connection can be used again once it is read.
struct Returning {
    body: Incoming,
    sender: Option<Sender>,
    upstream: Arc<Upstream>,
}

impl Body for Returning {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take().filter(|sender| !sender.is_closed()) {
            self.upstream.idle().push(sender);
        }
    }
}
