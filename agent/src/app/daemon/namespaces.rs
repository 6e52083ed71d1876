//! Listeners in the network namespaces of subjects: a container's loopback is its own, so that what is captured in
//! there can only go to a listener in there.

mod faults;
mod processes;

use super::{super::server::Server, subjects::Matching};
use crate::{
    app::handover::{self, Manager},
    capture::{
        self,
        listener::{self, Listener},
        maps,
        netns::{
            self, Namespace,
            namespace::{Identity, identity_of},
        },
        own_sockets::OwnSockets,
    },
    health::{Health, status},
    identify::{cgroups::Cgroups, members::Members},
};
use faults::Faults;
use processes::{Seen, Subjects};
use std::{
    collections::HashMap,
    error::Error as StdError,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot, watch,
    },
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep},
};

/// How often all processes are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// How long after news of a subject its processes are looked at: a runtime makes the namespace, then its routes.
const SOON: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(800)];

/// In so many looks no process must be found in a namespace until its listeners are closed. They would keep it.
const MISSES: u32 = 2;

/// For how many looks the routes of a namespace are waited for. After that a refused connect tells of new ones.
const YOUNG: u32 = 24;

/// So many namespaces are served that no runtime has told of: a subject can make any number, each of which takes
/// descriptors and ports of the agent's. In further ones connects are refused.
const MAX_FOUND: usize = 256;

/// What is to be looked at.
#[derive(Debug)]
pub(super) enum News {
    /// A cgroup has become a subject.
    Tagged,
    /// A process was refused, since its namespace has no listener.
    Unserved(u32),
    /// A container is about to live in the namespace at this path.
    #[cfg_attr(not(feature = "kubernetes"), expect(dead_code, reason = "nobody tells of containers"))]
    Inhabited {
        path: PathBuf,
        /// The process that keeps it, where that is known.
        pid: Option<u32>,
        /// Dropped when it has its listeners.
        done: oneshot::Sender<()>,
    },
    /// The last container of the namespace at this path has ended.
    #[cfg_attr(not(feature = "kubernetes"), expect(dead_code, reason = "nobody tells of containers"))]
    Left(PathBuf),
}

/// The namespaces that have listeners, besides the agent's own.
#[derive(Clone, Debug, Default)]
pub(super) struct Served(Arc<Mutex<HashMap<u64, Place>>>);

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) namespace: Arc<Namespace>,
    pub(super) listeners: Vec<status::Listener>,
}

impl Place {
    /// Whether it has a listener for IPv4, and for IPv6.
    pub(super) fn families(&self) -> [bool; 2] {
        [false, true].map(|v6| self.listeners.iter().any(|listener| listener.address.is_ipv6() == v6))
    }
}

impl Served {
    /// All of them, by their cookies.
    pub(super) fn all(&self) -> Vec<(u64, Place)> {
        let mut all: Vec<(u64, Place)> =
            self.lock().iter().map(|(cookie, place)| (*cookie, place.clone())).collect();
        all.sort_unstable_by_key(|(cookie, _)| *cookie);
        all
    }

    /// Whether this one is still served.
    pub(super) fn has(&self, netns_cookie: u64) -> bool {
        self.lock().contains_key(&netns_cookie)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What listeners are made of and known to.
pub(super) struct Parts {
    pub(super) server: Server,
    pub(super) own_sockets: OwnSockets,
    pub(super) published: maps::Listeners,
    /// Ports that no listener may have.
    pub(super) avoid: Vec<u16>,
    pub(super) manager: Arc<Manager>,
    pub(super) served: Served,
    pub(super) health: Arc<Health>,
}

/// Looks after them.
pub(super) struct Namespaces {
    parts: Parts,
    subjects: Arc<Subjects>,
    home: Identity,
    open: HashMap<Identity, Open>,
    /// Those of containers, by the paths that runtimes give.
    paths: HashMap<PathBuf, Identity>,
    /// Whether it was told that there is no room.
    is_full: bool,
    faults: Faults,
    news: UnboundedReceiver<News>,
}

/// A namespace that a subject lives in.
struct Open {
    namespace: Arc<Namespace>,
    cookie: u64,
    /// Dropped to close the listeners.
    is_open: watch::Sender<()>,
    misses: u32,
    /// How many looks it has seen.
    age: u32,
}

impl Namespaces {
    /// Serves those that an earlier agent has left listeners in, and takes back what is published for others but the
    /// agent's own. The news come through the sender.
    ///
    /// # Errors
    /// When the agent's own namespace cannot be told from others.
    pub(super) fn start(
        parts: Parts,
        matching: &Matching,
        cgroups: &Cgroups,
        members: Option<Arc<dyn Members>>,
        kept: Vec<Listener>,
    ) -> Result<(Self, UnboundedSender<News>), capture::Error> {
        let failed =
            |source| capture::Error::Io { action: "tell network namespaces apart".to_owned(), source };
        let home = identity_of(std::process::id()).map_err(failed)?;
        let own_cookie = netns::own_cookie().map_err(failed)?;
        parts.own_sockets.live_in(own_cookie);
        let (told, news) = unbounded_channel();
        let subjects = Arc::new(Subjects::of(matching, cgroups, members));
        let faults = Faults::new(Arc::clone(&parts.health));
        let (open, paths) = (HashMap::new(), HashMap::new());
        let mut namespaces = Self { parts, subjects, home, open, paths, is_full: false, faults, news };
        for listener in kept {
            let address = listener.address;
            if let Err(error) = namespaces.adopt(listener) {
                tracing::warn!(%address, %error, "a listener of another network namespace is of no use; closed");
            }
        }
        let served = namespaces.parts.served.clone();
        namespaces.parts.published.retain(|cookie| cookie == own_cookie || served.has(cookie))?;
        Ok((namespaces, told))
    }

    /// Follows them for as long as the agent runs.
    pub(super) async fn keep(mut self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut soon = SOON.iter();
        let mut next = soon.next();
        loop {
            tokio::select! {
                biased;
                news = self.news.recv() => match news {
                    Some(News::Tagged) => {
                        soon = SOON.iter();
                        next = soon.next();
                    }
                    Some(News::Unserved(pid)) => self.serve_process(pid).await,
                    Some(News::Inhabited { path, pid, done }) => {
                        self.serve_path(path, pid).await;
                        drop(done);
                    }
                    Some(News::Left(path)) => {
                        if let Some(identity) = self.paths.remove(&path) {
                            self.close(identity);
                        }
                    }
                    None => return,
                },
                () = sleep(next.copied().unwrap_or(LOOK)), if next.is_some() => {
                    self.look().await;
                    next = soon.next();
                }
                _ = looks.tick() => self.look().await,
            }
        }
    }

    /// Opens what a subject has come to live in, and closes what nobody lives in any more.
    async fn look(&mut self) {
        let (subjects, home) = (Arc::clone(&self.subjects), self.home);
        let known = self.open.keys().copied().collect();
        let seen = spawn_blocking(move || processes::look(&subjects, home, &known)).await;
        let seen = seen.map_err(io::Error::other).and_then(|seen| seen);
        let Seen { inhabited, new, forbidden } = match seen {
            Ok(seen) => seen,
            Err(error) => {
                tracing::error!(%error, "cannot look for the network namespaces of subjects");
                return;
            }
        };
        self.faults.looked(&inhabited, forbidden.as_ref());
        for (identity, open) in &mut self.open {
            open.misses = if inhabited.contains(identity) { 0 } else { open.misses + 1 };
            open.age = open.age.saturating_add(1);
        }
        let gone: Vec<Identity> = self
            .open
            .iter()
            .filter(|(_, open)| open.misses >= MISSES)
            .map(|(identity, _)| *identity)
            .collect();
        gone.into_iter().for_each(|identity| self.close(identity));
        for namespace in new {
            self.serve_found(namespace).await;
        }
        // A namespace gets its routes after its first process.
        let young = self.open.values().filter(|open| open.age < YOUNG);
        let partly = young.filter(|open| self.families(open.cookie) != [true; 2]);
        let partly: Vec<Arc<Namespace>> = partly.map(|open| Arc::clone(&open.namespace)).collect();
        for namespace in partly {
            self.serve(namespace).await;
        }
    }

    async fn serve_process(&mut self, pid: u32) {
        match Namespace::of_process(pid) {
            Ok(namespace) if namespace.identity() == self.home => {}
            Ok(namespace) => self.serve_found(namespace).await,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self.faults.unseen(&error),
            Err(error) => {
                tracing::debug!(pid, %error, "it has ended before its network namespace had a listener")
            }
        }
    }

    /// Serves one that no runtime has told of, as far as there is room.
    async fn serve_found(&mut self, namespace: Namespace) {
        let is_known = self.open.contains_key(&namespace.identity());
        if !is_known && self.open.len().saturating_sub(self.paths.len()) >= MAX_FOUND {
            if !self.is_full {
                tracing::error!(
                    limit = MAX_FOUND,
                    "subjects have made too many network namespaces; connects in further ones are refused"
                );
            }
            self.is_full = true;
            return;
        }
        self.serve(Arc::new(namespace)).await;
    }

    async fn serve_path(&mut self, path: PathBuf, pid: Option<u32>) {
        // The path may mean nothing where the agent is, in a container of its own; the process does.
        let found = pid.map_or_else(|| Namespace::at(&path), Namespace::of_process);
        match found.or_else(|error| Namespace::at(&path).map_err(|_| error)) {
            Ok(namespace) if namespace.identity() == self.home => {}
            Ok(namespace) => {
                self.paths.insert(path, namespace.identity());
                self.serve(Arc::new(namespace)).await;
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self.faults.unseen(&error),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a container's network namespace cannot be opened yet");
            }
        }
    }

    /// Listens in a namespace, for the families that have a route and no listener yet.
    async fn serve(&mut self, namespace: Arc<Namespace>) {
        let (within, runtime) = (Arc::clone(&namespace), Handle::current());
        let avoid = self.parts.avoid.clone();
        let entered = spawn_blocking(move || within.within(netns::own_cookie)).await;
        let cookie = match entered.map_err(io::Error::other).and_then(|entered| entered) {
            Ok(cookie) => cookie,
            Err(error) => return self.faults.unentered(namespace.identity(), &error),
        };
        let has = self.families(cookie);
        let before = [false, true].map(|v6| self.parts.published.port(cookie, v6));
        let (within, own_sockets) = (Arc::clone(&namespace), self.parts.own_sockets.clone());
        let bound = spawn_blocking(move || {
            within.within(|| {
                // A listener belongs to the runtime that it is made in.
                let _runtime = runtime.enter();
                let [v4, v6] = before;
                let before = |_, is_v6| if is_v6 { v6 } else { v4 };
                listener::bind(&own_sockets, &avoid, has, before).map_err(io::Error::other)
            })
        });
        let bound = bound.await.map_err(io::Error::other).and_then(|bound| bound);
        match &bound {
            Ok(_) => self.faults.served(namespace.identity()),
            Err(error) => self.faults.unbound(namespace.identity(), error),
        }
        let listeners = bound.unwrap_or_default();
        self.open(&namespace, cookie);
        for listener in listeners {
            tracing::info!(netns_cookie = cookie, address = %listener.address, "listening in a subject's network namespace");
            self.parts.manager.keep(&listener, &handover::name_elsewhere(cookie, listener.address));
            self.publish(&namespace, listener);
        }
    }

    fn adopt(&mut self, listener: Listener) -> io::Result<()> {
        let namespace = Arc::new(listener.namespace()?);
        self.open(&namespace, listener.netns_cookie);
        self.publish(&namespace, listener);
        Ok(())
    }

    fn open(&mut self, namespace: &Arc<Namespace>, cookie: u64) {
        self.open.entry(namespace.identity()).or_insert_with(|| Open {
            namespace: Arc::clone(namespace),
            cookie,
            is_open: watch::Sender::new(()),
            misses: 0,
            age: 0,
        });
        self.parts.own_sockets.enter(cookie, Arc::clone(namespace));
    }

    fn publish(&mut self, namespace: &Arc<Namespace>, listener: Listener) {
        let Some(open) = self.open.get(&namespace.identity()) else { return };
        let (cookie, address) = (listener.netns_cookie, listener.address);
        self.parts.server.serve(listener, Some(open.is_open.subscribe()));
        if let Err(error) = self.parts.published.publish(cookie, address) {
            let error: &dyn StdError = &error;
            return tracing::error!(
                error,
                "a listener cannot be published; connects in its namespace are refused"
            );
        }
        let mut served = self.parts.served.lock();
        let place = served
            .entry(cookie)
            .or_insert_with(|| Place { namespace: Arc::clone(namespace), listeners: Vec::new() });
        place.listeners.push(status::Listener { netns_cookie: cookie, address });
    }

    /// Nobody lives in it any more, and what is open in it would keep it.
    fn close(&mut self, identity: Identity) {
        let Some(Open { cookie, .. }) = self.open.remove(&identity) else { return };
        self.paths.retain(|_, other| *other != identity);
        self.is_full = false;
        let place = self.parts.served.lock().remove(&cookie);
        if let Err(error) = self.parts.published.retain(|published| published != cookie) {
            let error: &dyn StdError = &error;
            tracing::error!(
                error,
                "a listener that is closed stays published; connects in its namespace fail"
            );
        }
        self.parts.own_sockets.leave(cookie);
        self.parts.server.forget(cookie);
        for listener in place.into_iter().flat_map(|place| place.listeners) {
            self.parts.manager.forget(&handover::name_elsewhere(cookie, listener.address));
            tracing::info!(netns_cookie = cookie, address = %listener.address, "closed a listener, since nobody lives in its network namespace any more");
        }
    }

    fn families(&self, cookie: u64) -> [bool; 2] {
        self.parts.served.lock().get(&cookie).map_or([false; 2], Place::families)
    }
}
