//! The daemon's listeners: its own, and those that the daemon before it has left in other network namespaces.

use crate::{
    app::{
        agent::Agent,
        handover::{self, Manager},
        succession::{self, Inheritance, Turn},
    },
    capture::{
        self,
        listener::{self, Listener},
        netns,
    },
};

/// What earlier daemons have left open.
pub(super) struct Left {
    /// What the service manager has kept.
    pub(super) kept: Vec<Listener>,
    /// What the one before has given away, and the right to follow it.
    pub(super) turn: Turn,
}

impl Left {
    /// All of it that is of use. No other daemon may be at work.
    pub(super) fn listeners(
        self,
        published: &capture::maps::Listeners,
    ) -> (Vec<Listener>, Option<Inheritance>) {
        let Self { mut kept, mut turn } = self;
        let given = turn.inheritance.as_mut().map(Inheritance::listeners).unwrap_or_default();
        let place = |listener: &Listener| (listener.netns_cookie, listener.address.is_ipv6());
        let mut given = succession::published(given, published);
        given.retain(|listener| kept.iter().all(|other| place(other) != place(listener)));
        kept.extend(given);
        (kept, turn.inheritance)
    }
}

/// The listeners that were handed over, and new ones for the families that have none; and those that were handed over of
/// other network namespaces. All are kept for the next agent.
pub(super) fn of(
    kept: Vec<Listener>,
    ports: &[u16],
    agent: &Agent,
    published: &capture::maps::Listeners,
    flows: &mut capture::maps::FlowTable,
    manager: &Manager,
) -> Result<(Vec<Listener>, Vec<Listener>), capture::Error> {
    let own_cookie = netns::own_cookie();
    let own_cookie = own_cookie.map_err(|source| capture::Error::Io {
        action: "learn the network namespace's cookie".to_owned(),
        source,
    })?;
    let (mut listeners, elsewhere): (Vec<_>, Vec<_>) =
        kept.into_iter().partition(|listener| listener.netns_cookie == own_cookie);
    if listeners.is_empty() && elsewhere.is_empty() {
        let cleared = flows.clear();
        tracing::debug!(cleared, "flows of connections that nobody will accept");
    }
    let avoid = [ports, agent.proxies.ports()].concat();
    let has = listener::families(listeners.iter());
    let new = listener::bind(&agent.own_sockets, &avoid, has, |cookie, v6| published.port(cookie, v6))?;
    for listener in &new {
        tracing::info!(address = %listener.address, "listening");
        manager.keep(listener, &handover::name(listener.address));
    }
    listeners.extend(new);
    if listeners.is_empty() {
        tracing::warn!(
            "no global route, neither of IPv4 nor of IPv6: every connection to a captured port is refused"
        );
    }
    Ok((listeners, elsewhere))
}
