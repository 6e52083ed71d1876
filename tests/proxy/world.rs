//! One upstream, one proxy in this process, and clients on in-memory streams.

use super::{
    pieces::{Last, Pieces},
    upstream::{Speaks, Upstream},
};
use bytes::Bytes;
use http::{Request, Response, request};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tidegate::{
    capture::own_sockets::OwnSockets,
    classify::Catalogue,
    config::{Config, ForwardProxy, OnAuditFailure, Otlp},
    decide::store::{Handle, PolicySet, Store},
    forward::{Forwarder, Offer, ratelimit::Budgets, upstream},
    host::HostName,
    identify::{Principal, Subject, Workload},
    record::{fingerprint::Fingerprinter, redact::Redactor, sink::Sink},
    session::{
        Connection, Recalls, Recorder, Services, Treatment,
        http::{Served, serve},
        limiter::Limiter,
    },
    toml_file::Source,
};
use tidegate_tests::certificates::Authority;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::watch,
    task::JoinHandle,
};

pub(crate) const HOST: &str = "api.digitalocean.com";
pub(crate) const TOKEN: &str = "dop_v1_aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd";

/// What differs from test to test.
pub(crate) struct Setting {
    pub(crate) speaks: Speaks,
    pub(crate) policy: &'static str,
    /// The name on the upstream's certificate.
    pub(crate) certified: &'static str,
    pub(crate) upstream_ip: &'static str,
    pub(crate) treatment: Treatment,
    /// In place of a file of the test's own.
    pub(crate) audit_path: Option<&'static str>,
    pub(crate) on_failure: OnAuditFailure,
    pub(crate) sync: bool,
    pub(crate) response_timeout: Duration,
    pub(crate) body_idle_timeout: Duration,
    pub(crate) body_inspect: usize,
    pub(crate) head_timeout: Duration,
    pub(crate) offer: Offer,
    /// `upstream.proxy` and `upstream.proxy_credentials`.
    pub(crate) own_proxy: Option<String>,
    pub(crate) credentials: Option<PathBuf>,
    /// `audit.otlp`.
    pub(crate) otlp: Option<Otlp>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            speaks: Speaks::Http1,
            policy: r#"allow = ["api:read", "domain:create"]"#,
            certified: HOST,
            upstream_ip: "127.0.0.1",
            treatment: Treatment::Protected,
            audit_path: None,
            on_failure: OnAuditFailure::RefuseWrites,
            sync: false,
            response_timeout: Duration::from_secs(20),
            body_idle_timeout: Duration::from_secs(20),
            body_inspect: 1 << 20,
            head_timeout: Duration::from_secs(20),
            offer: Offer::Http2OrHttp1,
            own_proxy: None,
            credentials: None,
            otlp: None,
        }
    }
}

pub(crate) struct World {
    pub(crate) upstream: Upstream,
    pub(crate) connection: Arc<Connection>,
    pub(crate) store: Arc<Store>,
    pub(crate) drain: watch::Sender<bool>,
    /// Lines of the audit log when a request's head came to the upstream.
    pub(crate) lines_at_upstream: Arc<Mutex<Vec<usize>>>,
    directory: TempDir,
}

impl World {
    pub(crate) async fn start(setting: Setting) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("the upstream's CA").unwrap();
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, authority.pem()).unwrap();
        let audit_path = directory.path().join("audit.jsonl");
        let lines_at_upstream: Arc<Mutex<Vec<usize>>> = Arc::default();
        let hook = {
            let (path, lines) = (audit_path.clone(), lines_at_upstream.clone());
            Arc::new(move || {
                lines.lock().unwrap().push(records_in(&path).len());
            })
        };
        let upstream =
            Upstream::start(&authority, setting.upstream_ip, 0, setting.certified, setting.speaks, hook)
                .await;

        let mut config = Config::default();
        config.audit.path = setting.audit_path.map_or(audit_path, Into::into);
        config.audit.on_failure = setting.on_failure;
        config.audit.sync = setting.sync;
        config.audit.otlp = setting.otlp;
        config.upstream.ca_file = Some(ca_file.clone());
        config.upstream.proxy = setting.own_proxy.map(|place| ForwardProxy::parse(&place).unwrap());
        config.upstream.proxy_credentials = setting.credentials;
        config.upstream.response_timeout = setting.response_timeout;
        config.upstream.connect_timeout = Duration::from_secs(2);
        config.limits.body_idle_timeout = setting.body_idle_timeout;
        config.limits.body_inspect = setting.body_inspect;
        config.limits.head_timeout = setting.head_timeout;

        let fingerprinter = Fingerprinter::ephemeral().unwrap();
        let sink = Arc::new(Sink::open(&config.audit, Redactor::new(fingerprinter.clone()), None).unwrap());
        sink.export(&config.audit, &OwnSockets::default());
        let roots = upstream::load_roots(Some(&ca_file), &[]).unwrap();
        let own: IpAddr = setting.upstream_ip.parse().unwrap();
        let resolve: upstream::Resolve = Arc::new(move |_| Box::pin(async move { Ok(vec![own]) }));
        let forwarder = Forwarder::start(
            &config.upstream,
            config.limits.body_idle_timeout,
            roots,
            resolve,
            OwnSockets::default(),
        )
        .unwrap();
        let (drain, draining) = watch::channel(false);
        let services = Services {
            catalogue: Catalogue::embedded(),
            own_sockets: OwnSockets::default(),
            forwarder,
            recorder: Recorder::new(sink, fingerprinter, &config.audit),
            limiter: Limiter::default(),
            budgets: Budgets::default(),
            limits: config.limits,
            drain: draining,
            recalls: watch::channel(Recalls::default()).1,
        };
        let store = Arc::new(Store::new(policies(setting.policy)));
        let workloads: Arc<[Workload]> = Arc::new([Workload { name: "run".into(), policy: "test".into() }]);
        let connection = Connection {
            principal: Principal::new(Arc::clone(&workloads), Subject::default()),
            policies: Handle::new(Arc::clone(&store), workloads),
            destination: SocketAddr::new("127.0.0.1".parse().unwrap(), upstream.address.port()),
            via: None,
            host: HostName::parse(HOST).unwrap(),
            treatment: setting.treatment,
            netns_cookie: 1,
            offer: setting.offer,
            services: Arc::new(services),
            accepted_at: Instant::now(),
        };
        Self { upstream, connection: Arc::new(connection), store, drain, lines_at_upstream, directory }
    }

    /// The same connection, with something else about it.
    pub(crate) fn connection(&self, change: impl FnOnce(&mut Connection)) -> Arc<Connection> {
        let old = &self.connection;
        let mut connection = Connection {
            principal: old.principal.clone(),
            policies: old.policies.clone(),
            destination: old.destination,
            via: old.via.clone(),
            host: old.host.clone(),
            treatment: old.treatment,
            netns_cookie: old.netns_cookie,
            offer: old.offer,
            services: Arc::clone(&old.services),
            accepted_at: old.accepted_at,
        };
        change(&mut connection);
        Arc::new(connection)
    }

    /// The audit log as it is.
    pub(crate) fn audit(&self) -> Vec<Value> {
        records_in(&self.directory.path().join("audit.jsonl"))
    }

    /// The audit log when it has `count` lines, which must not become more.
    pub(crate) async fn records(&self, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.audit().len() < count && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let records = self.audit();
        assert_eq!(records.len(), count, "{records:#?}");
        records
    }

    /// A raw stream to the proxy's server.
    pub(crate) fn raw(&self, is_http2: bool) -> (DuplexStream, JoinHandle<Served>) {
        raw_for(Arc::clone(&self.connection), is_http2)
    }

    pub(crate) async fn client(&self, is_http2: bool) -> Client {
        Client::new(self.raw(is_http2).0, is_http2).await
    }

    /// Sends these bytes, and returns all that comes back until the proxy closes.
    pub(crate) async fn exchange(&self, bytes: &[u8]) -> String {
        let (mut stream, _) = self.raw(false);
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer))
            .await
            .unwrap()
            .unwrap();
        String::from_utf8(answer).unwrap()
    }
}

pub(crate) fn raw_for(connection: Arc<Connection>, is_http2: bool) -> (DuplexStream, JoinHandle<Served>) {
    let (client, server) = tokio::io::duplex(64 * 1024);
    (client, tokio::spawn(serve(server, is_http2, connection)))
}

/// A client on one connection to the proxy.
pub(crate) enum Client {
    Http1(http1::SendRequest<Pieces>, JoinHandle<hyper::Result<()>>),
    Http2(http2::SendRequest<Pieces>, JoinHandle<hyper::Result<()>>),
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: http::response::Parts,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Client {
    pub(crate) async fn new(stream: DuplexStream, is_http2: bool) -> Self {
        let stream = TokioIo::new(stream);
        if is_http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            Self::Http2(sender, tokio::spawn(connection))
        } else {
            let (sender, connection) = http1::handshake(stream).await.unwrap();
            Self::Http1(sender, tokio::spawn(connection))
        }
    }

    /// An HTTP/2 client that lets answers send so many bytes before it reads them.
    pub(crate) async fn with_window(stream: DuplexStream, bytes: u32) -> Self {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(bytes)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        Self::Http2(sender, tokio::spawn(connection))
    }

    /// Ends the connection wherever it is.
    pub(crate) fn abort(self) {
        match self {
            Self::Http1(_, connection) | Self::Http2(_, connection) => connection.abort(),
        }
    }

    pub(crate) async fn send(&mut self, request: Request<Pieces>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender, _) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender, _) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Sends the request and reads the whole answer.
    pub(crate) async fn ask(&mut self, request: Request<Pieces>) -> Answer {
        let (head, body) = self.send(request).await.unwrap().into_parts();
        Answer { head, body: body.collect().await.unwrap().to_bytes() }
    }

    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(..))
    }

    /// A request in this client's form.
    pub(crate) fn request(&self, method: &str, target: &str) -> request::Builder {
        let mut builder =
            Request::builder().method(method).header("authorization", format!("Bearer {TOKEN}"));
        if method == "POST" {
            builder = builder.header("content-type", "application/json");
        }
        if self.is_http2() {
            builder.uri(format!("https://{HOST}{target}"))
        } else {
            builder.uri(target).header("host", HOST)
        }
    }
}

/// The set with this one policy.
pub(crate) fn policies(text: &str) -> PolicySet {
    let source = Source::from_bytes(Path::new("test.toml"), text.as_bytes().to_vec()).unwrap();
    PolicySet::load(&[source], Catalogue::embedded()).unwrap()
}

/// No body.
pub(crate) fn empty() -> Pieces {
    Pieces::new([], Last::End)
}

/// A body of one piece, whose length is not told.
pub(crate) fn body(bytes: &[u8]) -> Pieces {
    Pieces::new([Bytes::copy_from_slice(bytes)], Last::End)
}

/// The lines of an audit log that are about something else than the log.
fn records_in(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last line may be on its way.
    let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
    let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["tidegate.phase"] != "checkpoint").collect()
}
