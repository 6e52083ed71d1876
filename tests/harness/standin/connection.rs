//! Accepting connections and speaking what the listener speaks.

use super::{Service, Tls, api, log, proxy};
use crate::certificates::{Authority, Leaf};
use anyhow::{Context as _, Result};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) log: log::Writer,
    pub(super) account: api::Account,
}

/// What a request's log line says of its connection.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) server_name: Option<String>,
}

/// A listener's service with its certificate made.
pub(super) enum Prepared {
    Https(TlsAcceptor),
    Http,
    TlsEcho(TlsAcceptor),
    Echo,
    Banner,
    Mute,
    Proxy { authorization: Option<String> },
}

impl Prepared {
    pub(super) fn new(service: Service, trusted: &Authority, unknown: &Authority) -> Result<Self> {
        let acceptor = |tls| acceptor(tls, trusted, unknown);
        Ok(match service {
            Service::Https(tls) => Self::Https(acceptor(tls)?),
            Service::TlsEcho(tls) => Self::TlsEcho(acceptor(tls)?),
            Service::Http => Self::Http,
            Service::Echo => Self::Echo,
            Service::Banner => Self::Banner,
            Service::Mute => Self::Mute,
            Service::Proxy { authorization } => Self::Proxy { authorization },
        })
    }
}

fn acceptor(tls: Tls, trusted: &Authority, unknown: &Authority) -> Result<TlsAcceptor> {
    let leaf = match &tls.file {
        Some(file) => Leaf::read(file)?,
        None => if tls.trusted { trusted } else { unknown }.issue(&tls.names)?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(leaf.chain, leaf.key)
        .context("setting up the stand-in's TLS")?;
    config.alpn_protocols = tls.alpn.into_iter().map(String::into_bytes).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves a listener until the task is aborted, and its connections with it.
pub(super) async fn accept_forever(listener: TcpListener, service: Arc<Prepared>, server: Arc<Server>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, peer)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (service, server) = (service.clone(), server.clone());
        // A connection that ends in an error is the client's business: tests look at the client and the log.
        connections.spawn(async move {
            let _ = serve(stream, peer, &service, server).await;
        });
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, service: &Prepared, server: Arc<Server>) -> Result<()> {
    let local = stream.local_addr()?;
    server.log.write(&log::Entry::Connection { local, peer })?;
    stream.set_nodelay(true)?;
    let facts = Facts { local, peer, server_name: None };
    match service {
        Prepared::Https(acceptor) => {
            let stream = acceptor.accept(stream).await?;
            let (_, session) = stream.get_ref();
            let server_name = session.server_name().map(str::to_owned);
            let http2 = session.alpn_protocol() == Some(b"h2");
            http(stream, http2, Facts { server_name, ..facts }, server).await
        }
        Prepared::Http => http(stream, false, facts, server).await,
        Prepared::TlsEcho(acceptor) => echo(acceptor.accept(stream).await?, b"").await,
        Prepared::Echo => echo(stream, b"").await,
        Prepared::Banner => echo(stream, b"220 stand-in ready\r\n").await,
        Prepared::Mute => mute(stream).await,
        Prepared::Proxy { authorization } => {
            proxy::serve(stream, authorization.as_deref(), &server.log).await
        }
    }
}

async fn http<S>(stream: S, http2: bool, facts: Facts, server: Arc<Server>) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| api::answer(request, facts.clone(), server.clone()));
    let stream = TokioIo::new(stream);
    if http2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(stream, service)
            .await?;
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await?;
    }
    Ok(())
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, first: &[u8]) -> Result<()> {
    stream.write_all(first).await?;
    stream.flush().await?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = stream.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
        stream.write_all(bytes).await?;
        stream.flush().await?;
    }
    Ok(stream.shutdown().await?)
}

async fn mute(mut stream: TcpStream) -> Result<()> {
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(())
}
