//! What becomes of a connection, by how it began and where it was going. Pure.

use super::Treatment as HostTreatment;
use crate::{
    config::{Capture, Treatment},
    host::HostName,
    peek::{Peeked, client_hello::ClientHello},
    reason::Reason,
};

/// What is known of the original destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// A protected host resolves to this address.
    pub protected: bool,
    /// It lies within the ranges of the CDN in front of the API.
    pub edge: bool,
}

/// What becomes of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Its TLS is finished here.
    Terminate(HostName, HostTreatment),
    /// Its bytes are passed on unread.
    Pass(Reason),
    /// Its bytes are passed on while no plain HTTP in them asks for a protected host, and unless the address
    /// is protected itself.
    Watch(Reason),
    /// It is closed.
    Close(Reason),
}

/// The names that the rules speak of.
#[derive(Clone, Debug)]
pub struct Names {
    hosts: Vec<HostName>,
    domains: Vec<HostName>,
}

impl Names {
    /// For these protected hosts.
    pub fn new(hosts: &[HostName]) -> Self {
        let mut domains: Vec<HostName> = hosts.iter().map(HostName::registrable_domain).collect();
        domains.sort();
        domains.dedup();
        Self { hosts: hosts.to_vec(), domains }
    }

    /// The registrable domains, to which the local CA is constrained.
    pub fn domains(&self) -> &[HostName] {
        &self.domains
    }

    /// Whether the name is a protected host's.
    pub fn is_protected(&self, name: &HostName) -> bool {
        self.hosts.contains(name)
    }

    fn is_neighbour(&self, name: &HostName) -> bool {
        self.domains.iter().any(|domain| name.is_within(domain))
    }
}

/// Chooses, by how the connection began.
pub fn route(peeked: &Peeked, place: Place, names: &Names, rules: &Capture) -> Route {
    match peeked {
        Peeked::Tls(hello) => route_hello(hello, place, names, rules),
        Peeked::NotTls => Route::Watch(Reason::NotTls),
        Peeked::Silence if !place.protected => Route::Watch(Reason::Silence),
        Peeked::Silence => Route::Close(Reason::Silence),
        // These begin like TLS and hide the name that they ask for, which no ordinary client does.
        Peeked::HelloMalformed(_) => Route::Close(Reason::HelloMalformed),
        Peeked::HelloTooLarge => Route::Close(Reason::HelloTooLarge),
        Peeked::HelloTimeout => Route::Close(Reason::HelloTimeout),
        Peeked::Closed => Route::Close(Reason::NoRequest),
    }
}

/// What becomes of a connection within a tunnel that was asked for by name, or by address (None), when its
/// bytes alone would be routed so. A protected name counts only in a tunnel to that very name, and nothing else
/// passes in such a tunnel: which host answers at the far end is the forward proxy's choice.
pub fn confine(route: Route, tunnel: Option<&HostName>, names: &Names) -> Route {
    match &route {
        Route::Terminate(host, _) if tunnel == Some(host) => route,
        Route::Terminate(..) => Route::Close(Reason::ForeignSni),
        Route::Pass(_) if tunnel.is_some_and(|name| names.is_protected(name)) => {
            Route::Close(Reason::ForeignSni)
        }
        Route::Pass(_) | Route::Watch(_) | Route::Close(_) => route,
    }
}

fn route_hello(hello: &ClientHello, place: Place, names: &Names, rules: &Capture) -> Route {
    let Some(name) = &hello.sni else {
        return weigh(rules.no_sni, place, Reason::NoSni);
    };
    if names.is_protected(name) {
        return Route::Terminate(name.clone(), HostTreatment::Protected);
    }
    if rules.passthrough_hosts.contains(name) {
        return Route::Pass(Reason::PassthroughHost);
    }
    if names.is_neighbour(name) {
        return Route::Terminate(name.clone(), HostTreatment::Neighbour);
    }
    if hello.ech {
        // The outer name says nothing about the inner one.
        return weigh(rules.ech, place, Reason::Ech);
    }
    // The CDN's addresses serve many names, so that only a known address of a protected host speaks against one.
    if denies(rules.foreign_sni, Place { edge: false, ..place }) {
        Route::Close(Reason::ForeignSni)
    } else {
        Route::Pass(Reason::OtherHost)
    }
}

fn weigh(treatment: Treatment, place: Place, reason: Reason) -> Route {
    if denies(treatment, place) { Route::Close(reason) } else { Route::Pass(reason) }
}

fn denies(treatment: Treatment, place: Place) -> bool {
    match treatment {
        Treatment::Deny => true,
        Treatment::DenyAtEdge => place.protected || place.edge,
        Treatment::Pass => place.protected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    const ELSEWHERE: Place = Place { protected: false, edge: false };
    const EDGE: Place = Place { protected: false, edge: true };
    const PROTECTED: Place = Place { protected: true, edge: true };

    fn name(text: &str) -> HostName {
        HostName::parse(text).unwrap()
    }

    fn hello(sni: Option<&str>, ech: bool) -> Peeked {
        Peeked::Tls(ClientHello { sni: sni.map(name), alpn: Vec::new(), ech })
    }

    fn routed(peeked: &Peeked, place: Place, change: impl FnOnce(&mut Capture)) -> Route {
        let mut rules = Capture::default();
        change(&mut rules);
        route(peeked, place, &Names::new(&[name("api.digitalocean.com")]), &rules)
    }

    #[test_case(ELSEWHERE, false; "whatever the address")]
    #[test_case(EDGE, true; "whatever else the hello holds")]
    #[test_case(PROTECTED, false; "at its own address")]
    fn a_protected_name_is_terminated(place: Place, ech: bool) {
        let expected = Route::Terminate(name("api.digitalocean.com"), HostTreatment::Protected);
        assert_eq!(routed(&hello(Some("api.digitalocean.com"), ech), place, |_| ()), expected);
    }

    #[test]
    fn another_name_of_the_domain_is_terminated_as_a_neighbour() {
        let expected = Route::Terminate(name("registry.digitalocean.com"), HostTreatment::Neighbour);
        assert_eq!(routed(&hello(Some("registry.digitalocean.com"), true), PROTECTED, |_| ()), expected);
    }

    #[test]
    fn a_passthrough_host_is_passed_at_any_address() {
        let list = |rules: &mut Capture| rules.passthrough_hosts = vec![name("registry.digitalocean.com")];
        let route = routed(&hello(Some("registry.digitalocean.com"), false), PROTECTED, list);
        assert_eq!(route, Route::Pass(Reason::PassthroughHost));
    }

    #[test_case(hello(Some("example.com"), false), ELSEWHERE, Route::Pass(Reason::OtherHost); "another host")]
    #[test_case(hello(Some("example.com"), false), EDGE, Route::Pass(Reason::OtherHost); "another host of the CDN")]
    #[test_case(hello(Some("example.com"), false), PROTECTED, Route::Close(Reason::ForeignSni); "another name at the API")]
    #[test_case(hello(Some("example.com"), true), ELSEWHERE, Route::Pass(Reason::Ech); "ech elsewhere")]
    #[test_case(hello(Some("example.com"), true), EDGE, Route::Close(Reason::Ech); "ech at the CDN")]
    #[test_case(hello(None, false), ELSEWHERE, Route::Pass(Reason::NoSni); "no name elsewhere")]
    #[test_case(hello(None, false), EDGE, Route::Close(Reason::NoSni); "no name at the CDN")]
    #[test_case(Peeked::NotTls, EDGE, Route::Watch(Reason::NotTls); "no tls")]
    #[test_case(Peeked::NotTls, PROTECTED, Route::Watch(Reason::NotTls); "no tls at the API")]
    #[test_case(Peeked::Silence, ELSEWHERE, Route::Watch(Reason::Silence); "silence")]
    #[test_case(Peeked::Silence, PROTECTED, Route::Close(Reason::Silence); "silence at the API")]
    #[test_case(Peeked::HelloTimeout, ELSEWHERE, Route::Close(Reason::HelloTimeout); "half a hello")]
    #[test_case(Peeked::HelloMalformed("x"), ELSEWHERE, Route::Close(Reason::HelloMalformed); "a broken hello")]
    #[test_case(Peeked::HelloTooLarge, ELSEWHERE, Route::Close(Reason::HelloTooLarge); "an endless hello")]
    fn by_default(peeked: Peeked, place: Place, expected: Route) {
        assert_eq!(routed(&peeked, place, |_| ()), expected);
    }

    #[test_case("api.digitalocean.com", Some("api.digitalocean.com"), None; "the same protected host")]
    #[test_case("api.digitalocean.com", Some("registry.digitalocean.com"), Some(Reason::ForeignSni); "in a tunnel to a neighbour")]
    #[test_case("api.digitalocean.com", Some("example.com"), Some(Reason::ForeignSni); "in a tunnel to another host")]
    #[test_case("api.digitalocean.com", None, Some(Reason::ForeignSni); "in a tunnel to an address")]
    #[test_case("registry.digitalocean.com", Some("registry.digitalocean.com"), None; "the same neighbour")]
    #[test_case("registry.digitalocean.com", Some("api.digitalocean.com"), Some(Reason::ForeignSni); "a neighbour in a tunnel to the API")]
    #[test_case("cdn.digitalocean.com", Some("api.digitalocean.com"), Some(Reason::ForeignSni); "a passthrough host in a tunnel to the API")]
    #[test_case("example.com", Some("api.digitalocean.com"), Some(Reason::ForeignSni); "another host in a tunnel to the API")]
    #[test_case("example.com", Some("example.com"), None; "another host")]
    #[test_case("example.com", Some("alias.example"), None; "another host by another name")]
    #[test_case("example.com", None, None; "another host by its address")]
    fn in_a_tunnel_the_names_must_agree(sni: &str, tunnel: Option<&str>, closed: Option<Reason>) {
        let pass = |rules: &mut Capture| rules.passthrough_hosts = vec![name("cdn.digitalocean.com")];
        let route = routed(&hello(Some(sni), false), ELSEWHERE, pass);
        let names = Names::new(&[name("api.digitalocean.com")]);
        let expected = closed.map_or(route.clone(), Route::Close);
        assert_eq!(confine(route, tunnel.map(name).as_ref(), &names), expected);
    }

    #[test_case(Treatment::Deny, ELSEWHERE, true)]
    #[test_case(Treatment::DenyAtEdge, ELSEWHERE, false)]
    #[test_case(Treatment::DenyAtEdge, PROTECTED, true)]
    #[test_case(Treatment::Pass, EDGE, false)]
    #[test_case(Treatment::Pass, PROTECTED, true; "a protected address is never spliced")]
    fn treatments_are_as_configured(treatment: Treatment, place: Place, closed: bool) {
        let set = |rules: &mut Capture| {
            (rules.no_sni, rules.ech, rules.foreign_sni) = (treatment, treatment, treatment);
        };
        for peeked in
            [hello(None, false), hello(Some("example.com"), true), hello(Some("example.com"), false)]
        {
            assert_eq!(matches!(routed(&peeked, place, set), Route::Close(_)), closed, "{peeked:?}");
        }
    }
}
