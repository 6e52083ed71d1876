//! The stand-in's log: one JSON object a line, written before the answer is.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Entry {
    /// A connection was accepted.
    Connection {
        /// The listener's address.
        local: SocketAddr,
        /// The client's address.
        peer: SocketAddr,
    },
    /// A proxy opened a tunnel to this `host:port`.
    Tunnel {
        /// As it was asked for.
        target: String,
    },
    /// A request's head arrived.
    Request(Request),
    /// A request's body ended.
    Body {
        /// The request's number.
        number: u64,
        /// Its length.
        bytes: u64,
        /// Its digest in hexadecimal.
        sha256: String,
        /// Whether it arrived to its end.
        complete: bool,
    },
}

/// A request as it arrived.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Request {
    /// Counts the stand-in's requests from 1.
    pub number: u64,
    /// The listener's address; absent only in [`Default`].
    pub local: Option<SocketAddr>,
    /// The client's address; absent only in [`Default`].
    pub peer: Option<SocketAddr>,
    /// `1.0`, `1.1` or `2`.
    pub protocol: String,
    /// The name in the client's hello.
    pub server_name: Option<String>,
    /// The method.
    pub method: String,
    /// Path and query, byte for byte.
    pub target: String,
    /// `:authority` or Host.
    pub authority: Option<String>,
    /// Every header; tokens are the tests' own.
    pub headers: Vec<(String, String)>,
    /// Length of the body; set by [`Log::requests`] once it has ended.
    pub body_bytes: Option<u64>,
    /// SHA-256 of the body in hexadecimal; as `body_bytes`.
    pub body_sha256: Option<String>,
    /// Whether the body arrived to its end.
    pub complete: bool,
}

impl Request {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// The log, as tests read it.
#[derive(Clone, Debug)]
pub struct Log {
    path: PathBuf,
}

impl Log {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every line so far.
    ///
    /// # Errors
    /// When the file cannot be read or a line is not an entry.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let text = std::fs::read_to_string(&self.path)
            .with_context(|| format!("reading the stand-in's log {}", self.path.display()))?;
        text.lines()
            .map(|line| serde_json::from_str(line).context("reading a line of the stand-in's log"))
            .collect()
    }

    /// Every request so far, each with what is known of its body.
    ///
    /// # Errors
    /// As [`Log::entries`].
    pub fn requests(&self) -> Result<Vec<Request>> {
        let mut requests: Vec<Request> = Vec::new();
        let mut bodies = HashMap::new();
        for entry in self.entries()? {
            match entry {
                Entry::Connection { .. } | Entry::Tunnel { .. } => {}
                Entry::Request(request) => requests.push(request),
                Entry::Body { number, bytes, sha256, complete } => {
                    bodies.insert(number, (bytes, sha256, complete));
                }
            }
        }
        for request in &mut requests {
            if let Some((bytes, sha256, complete)) = bodies.remove(&request.number) {
                request.body_bytes = Some(bytes);
                request.body_sha256 = Some(sha256);
                request.complete = complete;
            }
        }
        Ok(requests)
    }

    /// The tunnels that a proxy opened so far, each as `host:port`.
    ///
    /// # Errors
    /// As [`Log::entries`].
    pub fn tunnels(&self) -> Result<Vec<String>> {
        let target = |entry| if let Entry::Tunnel { target } = entry { Some(target) } else { None };
        Ok(self.entries()?.into_iter().filter_map(target).collect())
    }

    /// How many connections were accepted so far.
    ///
    /// # Errors
    /// As [`Log::entries`].
    pub fn connections(&self) -> Result<usize> {
        Ok(self.entries()?.iter().filter(|entry| matches!(entry, Entry::Connection { .. })).count())
    }
}

/// Appends whole lines with one `write(2)` each.
#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    requests: AtomicU64,
}

impl Writer {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("creating the stand-in's log {}", path.display()))?;
        Ok(Self { file, requests: AtomicU64::new(0) })
    }

    pub(super) fn next_number(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn write(&self, entry: &Entry) -> Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        (&self.file).write_all(&line).context("writing the stand-in's log")
    }
}
