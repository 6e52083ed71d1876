//! The process that serves connections, apart from this one: what workloads and upstreams send is read there, by a user
//! that may do nothing. It gets connections one by one, and asks for the rest: sockets, names, leaves, the log.
//!
//! ```text
//! supervisor (BPF, namespaces, /proc, the CA's key)        proxy (no capability, no file of its own)
//!   accept, flow, whose is it ──────── connection ───────→ peek, TLS, HTTP, decision, upstream
//!   open a socket there, exempt it ←── socket, name ────── dial
//!   sign ←──────────────────────────── leaf, log's head ── handshake, record
//! ```

mod answers;
pub mod child;
mod elsewhere;
mod message;
mod sandbox;
mod spawn;
#[cfg(test)]
mod tests;

pub(super) use answers::Rights;
pub(super) use message::Start;

use super::{Error, ca::Follower, engine::Figures};
use crate::{
    config::Config,
    forward::upstream,
    identify::{Whose, Workload},
    link::{Link, Message},
    session::gate::{Arrived, Refusal},
    terminate::{
        ca::Authority,
        files::{Allowed, read_secret},
        tickets::Tickets,
    },
    toml_file::Source,
};
use message::{Answer, Arrival, ConfigFile, Introduction, Order, WhoseSent};
use rustix::fs::{MemfdFlags, Mode, Uid, fchmod, fchown, memfd_create};
use serde::{Serialize, de::DeserializeOwned};
use spawn::Spawned;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{runtime::Handle, time::timeout};

/// How long an answer may take for which somebody waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// The process that serves.
pub(super) struct Proxy {
    link: Link,
    spawned: Mutex<Option<Spawned>>,
    pid: u32,
}

impl Proxy {
    /// Starts it. The files that `config` names go along; `rights` is what it may ask for.
    pub(super) async fn start(config: &Config, start: Start, rights: Arc<Rights>) -> Result<Self, Error> {
        let failed = |source| Error::System { action: "start the process that serves connections", source };
        let (socket, spawned) = spawn::spawn().map_err(failed)?;
        let runtime = Handle::current();
        let answer = move |message: Message| {
            let rights = Arc::clone(&rights);
            runtime.spawn(async move { rights.answer(message).await });
        };
        let link = Link::start(socket, answer).map_err(failed)?;
        let hello = link.ask(&Order::Hello, &[]).await.and_then(|answer| answer.read());
        let Introduction { user, pid } = hello.map_err(failed)?;
        let proxy = Self { link, spawned: Mutex::new(spawned), pid };
        let files = files_of(config, user)?;
        let descriptors: Vec<BorrowedFd<'_>> = files.iter().map(|(_, file)| file.as_fd()).collect();
        let start = Start { files: files.iter().map(|(which, _)| *which).collect(), ..start };
        let started: Answer<()> =
            proxy.ask(&Order::Start(Box::new(start)), &descriptors).await.map_err(failed)?;
        started.map_err(|error| failed(error.into()))?;
        Ok(proxy)
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it is gone.
    pub(super) async fn ended(&self) {
        self.link.closed().await;
    }

    /// Hands a connection over.
    pub(super) fn serve(&self, arrived: Arrived) {
        let Arrived { stream, destination, netns_cookie, whose, witness } = arrived;
        let (whose, subject) = match whose {
            Whose::Workloads(principal) => {
                let named = |workload: &Workload| (workload.name.to_string(), workload.policy.to_string());
                (WhoseSent::Workloads(principal.workloads.iter().map(named).collect()), principal.subject)
            }
            Whose::Nobody(subject) => (WhoseSent::Nobody, subject),
            Whose::Unknown(subject) => (WhoseSent::Unknown, subject),
        };
        let place = witness.as_ref().and_then(|witness| witness.parts().2);
        let descriptors: Vec<BorrowedFd<'_>> = [stream.as_fd()].into_iter().chain(place).collect();
        let arrival = Arrival { destination, netns_cookie, whose, subject: Arc::unwrap_or_clone(subject) };
        self.tell(&Order::Connection(arrival), &descriptors);
    }

    /// Has a refusal of the kernel side recorded.
    pub(super) fn refused(&self, refusal: Refusal, count: u64) {
        self.tell(&Order::Refused(refusal, count), &[]);
    }

    /// Has it recorded that so many connections are nobody's.
    pub(super) fn no_flow(&self, peer: SocketAddr, count: u64) {
        self.tell(&Order::NoFlow(peer, count), &[]);
    }

    /// Has it recorded that so many refusals have no records.
    pub(super) fn unnamed(&self, count: u64) {
        self.tell(&Order::Unnamed(count), &[]);
    }

    /// Has it close what is idle of a network namespace.
    pub(super) fn forget(&self, netns_cookie: u64) {
        self.tell(&Order::Forget(netns_cookie), &[]);
    }

    /// Has it end connections of these pods, whose unique ids these are.
    #[cfg_attr(not(feature = "kubernetes"), expect(dead_code, reason = "nobody tells of pods"))]
    pub(super) fn recall(&self, pods: BTreeSet<String>) {
        self.tell(&Order::Recall(pods), &[]);
    }

    /// Tells it all addresses of protected hosts.
    pub(super) fn protect(&self, addresses: &BTreeSet<IpAddr>) {
        self.tell(&Order::Protected(addresses.clone()), &[]);
    }

    /// Tells it a new address of a forward proxy.
    pub(super) fn capture(&self, address: SocketAddr) {
        self.tell(&Order::ForwardProxy(address), &[]);
    }

    /// Gives it the file of the reads without a record.
    pub(super) async fn count_unfinished(&self, file: File) -> io::Result<()> {
        let counted: Answer<()> = self.ask(&Order::Unfinished, &[file.as_fd()]).await?;
        Ok(counted?)
    }

    /// Puts policies in force.
    pub(super) async fn replace(&self, policies: Vec<Source>) -> io::Result<()> {
        let replaced: Answer<()> = self.ask(&Order::Policies(policies), &[]).await?;
        Ok(replaced?)
    }

    /// What became of records and connections so far; none where it does not answer. It blocks.
    pub(super) fn figures(&self) -> Option<Figures> {
        self.ask_now(&Order::Figures)
    }

    /// The metrics of what it does; none where it does not answer. It blocks.
    pub(super) fn metrics(&self) -> Option<String> {
        self.ask_now(&Order::Metrics).flatten()
    }

    /// Gives it up: it hangs, or does what it should not.
    pub(super) fn give_up(&self) {
        self.link.close();
        if let Some(spawned) = self.spawned.lock().unwrap_or_else(PoisonError::into_inner).take() {
            spawned.end();
        }
    }

    /// Lets it end its connections.
    pub(super) async fn drain(&self, patience: Duration) {
        let drained = timeout(patience + PATIENCE, self.ask::<()>(&Order::Drain(patience), &[])).await;
        if !matches!(drained, Ok(Ok(()))) {
            tracing::error!("the process that serves connections has not ended them in time");
        }
    }

    /// Lets it end its records, and then itself.
    pub(super) async fn finish(&self) {
        let finished = timeout(PATIENCE, self.ask::<()>(&Order::Finish, &[])).await;
        if !matches!(finished, Ok(Ok(()))) {
            tracing::error!("the process that serves connections has not ended its records in time");
        }
        let spawned = self.spawned.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(spawned) = spawned {
            spawned.end();
        }
    }

    fn tell(&self, order: &Order, descriptors: &[BorrowedFd<'_>]) {
        if let Err(error) = self.link.tell(order, descriptors) {
            // Whoever waits for its end ends the agent.
            tracing::debug!(%error, "the process that serves connections is not told");
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        order: &(impl Serialize + Sync),
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<T> {
        self.link.ask(order, descriptors).await?.read()
    }

    fn ask_now<T: DeserializeOwned>(&self, order: &Order) -> Option<T> {
        let answered = self.link.ask_now(order, &[]).and_then(|answer| answer.read());
        answered.inspect_err(|error| tracing::error!(%error, "the process that serves does not answer")).ok()
    }
}

/// The CA's changes, for the process that shows leaves.
pub(super) struct Following {
    pub(super) proxy: Arc<Proxy>,
    pub(super) rights: Arc<Rights>,
}

impl Follower for Following {
    fn sign_with(&self, authority: Arc<Authority>) {
        self.rights.sign_with(authority);
        self.proxy.tell(&Order::Authority, &[]);
    }

    fn seal_with(&self, tickets: &Tickets) {
        self.proxy.tell(&Order::Tickets(tickets.handed_over()), &[]);
    }
}

/// What the configuration names and the process may not open, each as a file in memory that belongs to it.
fn files_of(config: &Config, user: u32) -> Result<Vec<(ConfigFile, OwnedFd)>, Error> {
    let mut files = Vec::new();
    let copied = |content: &[u8]| {
        let copied = copied(content, user);
        copied.map_err(|source| Error::System { action: "hand over a file of the configuration", source })
    };
    if let Some(credentials) = upstream::proxy_credentials(&config.upstream)? {
        files.push((ConfigFile::ProxyCredentials, copied(&credentials)?));
    }
    let Some(otlp) = &config.audit.otlp else { return Ok(files) };
    // Without the collector there are records nevertheless.
    if let Some(path) = &otlp.headers {
        match read_secret(path, Allowed::Owner) {
            Ok(content) => files.push((ConfigFile::CollectorHeaders, copied(&content)?)),
            Err(error) => tracing::error!(%error, "the file of `audit.otlp.headers` cannot be read"),
        }
    }
    if let Some(path) = &otlp.ca_file {
        match fs::read(path) {
            Ok(content) => files.push((ConfigFile::CollectorRoots, copied(&content)?)),
            Err(error) => tracing::error!(%error, "the file of `audit.otlp.ca_file` cannot be read"),
        }
    }
    Ok(files)
}

fn copied(content: &[u8], user: u32) -> io::Result<OwnedFd> {
    let mut memory = File::from(memfd_create("tidegate-file", MemfdFlags::CLOEXEC)?);
    fchmod(&memory, Mode::RUSR)?;
    fchown(&memory, Some(Uid::from_raw(user)), None)?;
    memory.write_all(content)?;
    Ok(memory.into())
}
