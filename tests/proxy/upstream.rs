//! A small upstream on loopback that does what the request's `x-test` field says, and remembers what it saw.

use super::pieces::{Last, Pieces};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri, Version};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tidegate_tests::certificates::Authority;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

/// What the upstream speaks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
    /// For each connection: reads a head, writes these bytes, closes.
    Raw(Vec<u8>),
}

/// A request as the upstream saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    /// None: it broke off.
    pub(crate) body: Option<Bytes>,
}

/// An answer that a test has put there, for requests with `x-test: canned`.
#[derive(Clone, Default)]
pub(crate) struct Canned {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) pieces: Vec<Bytes>,
    /// Whether the body never ends.
    pub(crate) stalls: bool,
}

type Hook = Arc<dyn Fn() + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    canned: Arc<Mutex<Canned>>,
    accepted: Arc<AtomicUsize>,
}

impl Upstream {
    /// Listens at `ip`, with a certificate for `name`. `hook` is called when a request's head is there.
    pub(crate) async fn start(
        authority: &Authority,
        ip: &str,
        port: u16,
        name: &str,
        speaks: Speaks,
        hook: Hook,
    ) -> Self {
        let listener = TcpListener::bind((ip, port)).await.unwrap();
        let leaf = authority.issue(&[name.to_owned()]).unwrap();
        let mut tls =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(leaf.chain, leaf.key)
                .unwrap();
        tls.alpn_protocols =
            vec![if speaks == Speaks::Http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            canned: Arc::default(),
            accepted: Arc::default(),
        };
        let this = upstream.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                this.accepted.fetch_add(1, SeqCst);
                let (this, acceptor, speaks, hook) =
                    (this.clone(), acceptor.clone(), speaks.clone(), hook.clone());
                tokio::spawn(async move {
                    // A proxy that does not trust the certificate ends the handshake.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        this.serve(stream, speaks, hook).await;
                    }
                });
            }
        });
        upstream
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn put(&self, canned: Canned) {
        *self.canned.lock().unwrap() = canned;
    }

    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    async fn serve(self, mut stream: TlsStream<TcpStream>, speaks: Speaks, hook: Hook) {
        let service = service_fn(|request| {
            let (this, hook) = (self.clone(), hook.clone());
            async move { Ok::<_, Infallible>(this.answer(request, hook).await) }
        });
        match speaks {
            Speaks::Http1 => {
                let server = hyper::server::conn::http1::Builder::new();
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            }
            Speaks::Http2 => {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            }
            Speaks::Raw(answer) => {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>, hook: Hook) -> Response<Pieces> {
        let (head, body) = request.into_parts();
        hook();
        let test = head.headers.get("x-test").map_or("", |value| value.to_str().unwrap()).to_owned();
        let (what, number) = test.split_once('=').unwrap_or((&test, "0"));
        let number: usize = number.parse().unwrap_or_default();
        if what == "early" {
            // Answers before it reads the body.
            return respond(200, pieces(vec![b"early"]));
        }
        let body = body.collect().await.ok().map(|body| body.to_bytes());
        let echo = body.clone().unwrap_or_default();
        self.seen.lock().unwrap().push(Seen {
            uri: head.uri,
            version: head.version,
            headers: head.headers,
            body,
        });
        match what {
            "bytes" => respond(200, pieces(content(number).chunks(50_000).collect())),
            "echo" => respond(201, pieces(vec![&echo])),
            "slow" => std::future::pending().await,
            "stall" => respond(200, Pieces::new([Bytes::from_static(b"first")], Last::Never)),
            "break" => respond(200, Pieces::new([Bytes::from_static(b"first")], Last::Error)),
            "status" => respond(u16::try_from(number).unwrap(), pieces(vec![])),
            "edge" => {
                let mut response = respond(403, pieces(vec![b"<html>bot?</html>"]));
                response.headers_mut().insert("ratelimit-limit", "300".parse().unwrap());
                response.headers_mut().insert("content-type", "text/html; charset=UTF-8".parse().unwrap());
                response.headers_mut().insert("server", "cloudflare".parse().unwrap());
                response
            }
            "fields" => {
                let mut response = respond(200, pieces(vec![]));
                response.headers_mut().insert("alt-svc", "h3=\":443\"".parse().unwrap());
                response.headers_mut().insert("x-tidegate-decision", "allow".parse().unwrap());
                response.headers_mut().insert("ratelimit-remaining", "7".parse().unwrap());
                response
            }
            "ratelimit" => {
                let mut response = respond(200, pieces(vec![]));
                let headers = response.headers_mut();
                headers.insert("ratelimit-limit", number.into());
                headers.insert("ratelimit-remaining", (number - 1).into());
                headers.insert("ratelimit-reset", 1_700_000_000_u64.into());
                response
            }
            "canned" => {
                let Canned { status, fields, pieces, stalls } = self.canned.lock().unwrap().clone();
                let last = if stalls { Last::Never } else { Last::End };
                let mut response = respond(status, Pieces::new(pieces, last));
                for (name, value) in fields {
                    response.headers_mut().append(name, value.parse().unwrap());
                }
                response
            }
            "sleep" => {
                tokio::time::sleep(Duration::from_millis(number as u64)).await;
                respond(200, pieces(vec![]))
            }
            _ => respond(200, pieces(vec![b"{\"droplets\":[]}"])),
        }
    }
}

/// Bytes that no compression, reordering or loss leaves as they are.
pub(crate) fn content(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        })
        .collect()
}

fn respond(status: u16, body: Pieces) -> Response<Pieces> {
    Response::builder().status(status).body(body).unwrap()
}

fn pieces(pieces: Vec<&[u8]>) -> Pieces {
    Pieces::new(pieces.into_iter().map(Bytes::copy_from_slice), Last::End)
}
