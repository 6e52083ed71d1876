//! A connection whose workload, destination and host are known, and what it needs to serve its requests.

use super::{Recorder, limiter::Limiter};
use crate::{
    capture::own_sockets::OwnSockets,
    classify::Catalogue,
    config,
    decide::store::Handle,
    forward::{Forwarder, Key, Offer, Via, ratelimit::Budgets},
    host::HostName,
    identify::Principal,
    identify::Subject,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::sleep};

/// How long a connection of an agent that ends may take to its first request, and how often that is looked for: less
/// than the end takes at most.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(10);

/// What its host's name makes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// A protected host: every request is classified and decided.
    Protected,
    /// Another name of a protected host's domain: its requests must be for that name, and pass unchanged.
    Neighbour,
}

/// A terminated connection.
#[derive(Debug)]
pub struct Connection {
    /// Whose it is.
    pub principal: Principal,
    /// The policies that must all allow it: each request by what is in force when it begins.
    pub policies: Handle,
    /// Where the workload meant to go.
    pub destination: SocketAddr,
    /// The tunnel that it asked for, where `destination` is a forward proxy.
    pub via: Option<Arc<Via>>,
    /// The name that it asked for, and that the leaf was issued for.
    pub host: HostName,
    /// What that name makes of it.
    pub treatment: Treatment,
    /// The cookie of the workload's network namespace.
    pub netns_cookie: u64,
    /// The protocols to offer to the upstream.
    pub offer: Offer,
    /// What is shared with other connections.
    pub services: Arc<Services>,
    /// When it was accepted.
    pub accepted_at: Instant,
}

impl Connection {
    /// The port of the host that it meant to reach.
    pub fn port(&self) -> u16 {
        self.via.as_ref().map_or(self.destination.port(), |via| via.port)
    }

    /// What its upstream connections are kept under.
    pub fn key(&self) -> Key {
        Key {
            netns_cookie: self.netns_cookie,
            destination: self.destination,
            via: self.via.clone(),
            host: self.host.clone(),
            offer: self.offer,
            workload: Arc::clone(&self.principal.name),
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub struct Services {
    /// The API's operations.
    pub catalogue: &'static Catalogue,
    /// How connections are made that are nobody's but the agent's.
    pub own_sockets: OwnSockets,
    /// The way to the upstream.
    pub forwarder: Forwarder,
    /// The way to the audit log.
    pub recorder: Recorder,
    /// What the policies' limits have counted.
    pub limiter: Limiter,
    /// What the API says of each token's budget.
    pub budgets: Budgets,
    /// `[limits]`.
    pub limits: config::Limits,
    /// Turns true when connections are to end after the requests under way.
    pub drain: watch::Receiver<bool>,
    /// Whose connections are to end then, before others.
    pub recalls: watch::Receiver<Recalls>,
}

/// The pods that came to be governed by others, by their unique ids, and when: connections from before end after the
/// requests under way, so that the next request is of a connection that is whose it is now.
#[derive(Clone, Debug, Default)]
pub struct Recalls(BTreeMap<String, Instant>);

/// By then every connection from before has heard.
const RECALLED_WITHIN: Duration = Duration::from_secs(120);

impl Recalls {
    /// Recalls these, too.
    pub fn add(&mut self, pods: BTreeSet<String>, now: Instant) {
        self.0.retain(|_, at| now.saturating_duration_since(*at) < RECALLED_WITHIN);
        self.0.extend(pods.into_iter().map(|pod| (pod, now)));
    }

    /// Whether a connection of that time is one of those.
    pub(super) fn include(&self, subject: &Subject, accepted_at: Instant) -> bool {
        let container = subject.container.as_ref();
        let at = container.and_then(|container| self.0.get(container.pod_uid.as_ref()?));
        at.is_some_and(|at| *at >= accepted_at)
    }
}

impl Connection {
    /// Returns when it is to end after the requests under way; `has_begun`: whether there has been one.
    pub(super) async fn is_to_end(&self, has_begun: impl Fn() -> bool) {
        let (mut drain, mut recalls) = (self.services.drain.clone(), self.services.recalls.clone());
        let subject = &self.principal.subject;
        let drains = async {
            if drain.wait_for(|drain| *drain).await.is_err() {
                return false;
            }
            // Who has just been let in is about to ask, and could not tell why nobody answers.
            let until = Instant::now() + FIRST_REQUEST;
            while !has_begun() && Instant::now() < until {
                sleep(LOOK).await;
            }
            true
        };
        let recalled =
            async { recalls.wait_for(|recalls| recalls.include(subject, self.accepted_at)).await.is_ok() };
        tokio::select! {
            true = drains => {}
            true = recalled => {}
            // Whoever could ask for it is gone.
            else => pending().await,
        }
    }
}
