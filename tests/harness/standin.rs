//! A stand-in for DigitalOcean's API and for other servers: real TLS, realistic answers, and a log of what
//! reached it, which is what tests believe.
//!
//! Any answer can be bent by the query, so that a request keeps the path of a real operation:
//!
//! | parameter | answer |
//! |---|---|
//! | `standin_delay_ms=N` | the usual one, after N milliseconds |
//! | `standin_bytes=N` | N bytes of [`pattern`], streamed |
//! | `standin_events=N` | N server-sent events, 50 ms apart |
//! | `standin_echo=1` | the request's body, piece by piece as it arrives |
//! | `standin_digest=1` | length and SHA-256 of the request's body as JSON |
//! | `standin_page=N` | an HTML page with status N, as the edge in front of the API answers |
//! | `standin_break=N` | N bytes of a longer body, then a broken connection |

mod api;
mod body;
mod connection;
mod log;
mod process;
mod proxy;

pub use body::pattern;
pub use log::{Entry, Log, Request};
pub use process::Served;

use crate::certificates::Authority;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{net::TcpListener, task::JoinSet};

/// What to serve.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where `ca.pem` and `log.jsonl` are written; it must exist.
    pub directory: PathBuf,
    /// The sockets to listen on.
    pub listeners: Vec<Listener>,
}

/// One listening socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Its address; port 0 takes a free one.
    pub address: SocketAddr,
    /// What is spoken there.
    pub service: Service,
}

/// What a listener speaks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Service {
    /// The API over TLS.
    Https(Tls),
    /// The API in plain text.
    Http,
    /// TLS whose bytes come back.
    TlsEcho(Tls),
    /// Bytes that come back.
    Echo,
    /// A line of the server's own first, as SMTP has it, then bytes that come back.
    Banner,
    /// Reads and never answers.
    Mute,
    /// An HTTP proxy that makes tunnels and passes requests in absolute form on.
    Proxy {
        /// What `Proxy-Authorization` must say; without it the answer is 407.
        authorization: Option<String>,
    },
}

/// How a listener does TLS.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The names in its certificate.
    pub names: Vec<String>,
    /// The protocols that it offers, best first; empty: it knows no ALPN.
    pub alpn: Vec<String>,
    /// Whether the certificate comes from the authority in `ca.pem` or from one that nobody trusts.
    pub trusted: bool,
    /// Chain and key to show instead of a certificate of its own, PEM.
    #[serde(default)]
    pub file: Option<PathBuf>,
}

impl Tls {
    /// A trusted certificate for these names, HTTP/2 and HTTP/1.1.
    pub fn of(names: &[&str]) -> Self {
        Self {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
            trusted: true,
            file: None,
        }
    }

    /// Whoever this file, with chain and key, says.
    pub fn from_file(file: &Path) -> Self {
        Self { file: Some(file.to_owned()), ..Self::of(&[]) }
    }

    /// The same, with only these protocols.
    #[must_use]
    pub fn offering(mut self, alpn: &[&str]) -> Self {
        self.alpn = alpn.iter().map(|&protocol| protocol.to_owned()).collect();
        self
    }

    /// The same, from an authority that nobody trusts.
    #[must_use]
    pub fn untrusted(mut self) -> Self {
        self.trusted = false;
        self
    }
}

impl Config {
    /// A stand-in that writes into this directory and listens nowhere yet.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), listeners: Vec::new() }
    }

    /// The same, with one more listener.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr, service: Service) -> Self {
        self.listeners.push(Listener { address, service });
        self
    }

    /// Where the authority's certificate is once the stand-in serves.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// What reached the stand-in.
    pub fn log(&self) -> Log {
        Log::new(self.directory.join("log.jsonl"))
    }
}

/// A stand-in that serves until it is dropped.
#[derive(Debug)]
pub struct Standin {
    config: Config,
    addresses: Vec<SocketAddr>,
    tasks: JoinSet<()>,
}

impl Standin {
    /// Binds every listener, writes `ca.pem`, and serves on the current tokio runtime.
    ///
    /// # Errors
    /// When an address cannot be bound or a file cannot be written.
    pub async fn serve(config: Config) -> Result<Self> {
        let trusted = Authority::new("tidegate stand-in CA")?;
        let unknown = Authority::new("tidegate stand-in CA")?;
        std::fs::write(config.ca_file(), trusted.pem()).context("writing the stand-in's ca.pem")?;
        let server = Arc::new(connection::Server {
            log: log::Writer::create(config.log().path())?,
            account: api::Account::default(),
        });
        let mut standin = Self { config, addresses: Vec::new(), tasks: JoinSet::new() };
        for Listener { address, service } in standin.config.listeners.clone() {
            let listener = TcpListener::bind(address).await.with_context(|| format!("binding {address}"))?;
            standin.addresses.push(listener.local_addr()?);
            let service = connection::Prepared::new(service, &trusted, &unknown)?;
            standin.tasks.spawn(connection::accept_forever(listener, Arc::new(service), server.clone()));
        }
        Ok(standin)
    }

    /// The bound addresses, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the authority's certificate is.
    pub fn ca_file(&self) -> PathBuf {
        self.config.ca_file()
    }

    /// What reached this stand-in.
    pub fn log(&self) -> Log {
        self.config.log()
    }
}
