//! What the two processes say: orders to the one that serves, and its requests for what it has no right to.

use crate::{
    identify::Subject,
    record::{
        signer::{Signed, SignedHead},
        sink::place::Identity,
    },
    session::gate::Refusal,
    toml_file::Source,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use zeroize::Zeroizing;

/// What the process that serves is told, or asked. Some hold keys, so that none can be shown.
#[derive(Deserialize, Serialize)]
pub(super) enum Order {
    /// The first of all. Answer: [`Introduction`].
    Hello,
    /// Then this, with the descriptors of `files`. Answer: [`Answer<()>`].
    Start(Box<Start>),
    /// A connection, with its socket, and then the place of its program, if that is known.
    Connection(Arrival),
    /// What the kernel side has refused, and how often.
    Refused(Refusal, u64),
    /// So many connections of which nobody knows whose they are, the first of them from here.
    NoFlow(SocketAddr, u64),
    /// So many refusals without records of their own.
    Unnamed(u64),
    /// These pods, by their unique ids, are governed by others than before.
    Recall(BTreeSet<String>),
    /// The network namespace of that cookie ends.
    Forget(u64),
    /// All addresses of protected hosts.
    Protected(BTreeSet<IpAddr>),
    /// A new address of a forward proxy.
    ForwardProxy(SocketAddr),
    /// Another authority signs: leaves are to be asked for again.
    Authority,
    /// The keys of session tickets.
    Tickets(Zeroizing<Vec<u8>>),
    /// The file of the reads without a record. Answer: [`Answer<()>`].
    Unfinished,
    /// All policies. Answer: [`Answer<()>`].
    Policies(Vec<Source>),
    /// Answer: the figures.
    Figures,
    /// Answer: the metrics as text, if they can be told.
    Metrics,
    /// Let connections end, for so long. Answer: `()`, when they have.
    Drain(Duration),
    /// End the records, and the process. Answer: `()`, when they are.
    Finish,
}

/// Who the process is.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Introduction {
    pub(super) user: u32,
    pub(super) pid: u32,
}

/// What it begins with.
#[derive(Deserialize, Serialize)]
pub(in crate::app) struct Start {
    /// The configuration.
    pub(in crate::app) config: Source,
    /// The policies.
    pub(in crate::app) policies: Vec<Source>,
    /// What upstreams are verified with, DER.
    pub(in crate::app) roots: Vec<Vec<u8>>,
    /// The keys of session tickets.
    pub(in crate::app) tickets: Zeroizing<Vec<u8>>,
    /// The addresses of protected hosts.
    pub(in crate::app) protected: BTreeSet<IpAddr>,
    /// Those of forward proxies.
    pub(in crate::app) forward_proxies: Vec<SocketAddr>,
    /// Which of the configuration's files came along, each as a descriptor.
    pub(in crate::app) files: Vec<ConfigFile>,
}

/// A file that the configuration names and this process may not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(in crate::app) enum ConfigFile {
    /// `upstream.proxy_credentials`.
    ProxyCredentials,
    /// `audit.otlp.headers`.
    CollectorHeaders,
    /// `audit.otlp.ca_file`.
    CollectorRoots,
}

/// A connection, beside its socket.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Arrival {
    pub(super) destination: SocketAddr,
    pub(super) netns_cookie: u64,
    pub(super) whose: WhoseSent,
    pub(super) subject: Subject,
}

/// Whose it is.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum WhoseSent {
    /// These workloads', each with its policy.
    Workloads(Vec<(String, String)>),
    /// Nobody's.
    Nobody,
    /// Nobody can tell any more.
    Unknown,
}

/// What the process that serves asks for. Each answer is an [`Answer`].
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Request {
    /// A socket, which comes as a descriptor.
    Socket { netns_cookie: Option<u64>, is_v6: bool },
    /// The addresses of a name: `Vec<IpAddr>`.
    Resolve(String),
    /// A certificate for a name: the leaf.
    Leaf(String),
    /// What a client is made of, whose program's place comes along: `Option<Guess>`.
    Look { pid: Option<u32>, path: PathBuf },
    /// The audit log, as a descriptor, and behind it one that tells when the file is moved.
    OpenLog,
    /// Whether the log's path still names this file: `bool`.
    HasLog(Identity),
    /// Whether the log could be moved aside: `bool`.
    RotateLog,
    /// `Option<Signature>`.
    Sign(Signed),
    /// How far the log goes: `()`.
    Keep(SignedHead),
}

/// What came of a request.
pub(super) type Answer<T> = Result<T, Failed>;

/// An error as it crosses.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Failed {
    errno: Option<i32>,
    text: String,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self { errno: error.raw_os_error(), text: told(&error) }
    }
}

impl From<Failed> for io::Error {
    fn from(Failed { errno, text }: Failed) -> Self {
        errno.map_or_else(|| Self::other(text), Self::from_raw_os_error)
    }
}

impl Failed {
    /// With all its causes.
    pub(super) fn of(error: &dyn std::error::Error) -> Self {
        Self { errno: None, text: told(error) }
    }
}

fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
