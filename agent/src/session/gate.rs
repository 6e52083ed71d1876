//! One captured connection: peek, choose, then terminate, pass on or close; recorded in every case.

mod ending;
mod proxied;
mod quotas;
mod rejections;
mod untouched;

use super::{
    Connection, Recorder, Services,
    protected::ProtectedAddresses,
    proxies::ProxyAddresses,
    refusal,
    reply::chain,
    route::{Names, Place, Route, confine, route},
    splice::{End, Inspection, Spliced, splice},
    watch::{Alarm, HostWatch},
};
use crate::{
    config,
    decide::{
        Effect,
        store::{Handle, Store},
    },
    forward::{Offer, Via},
    host::HostName,
    identify::{Principal, Whose, runtime::witness::Witness},
    peek::{self, Peeked, client_hello::ClientHello, rewind::Rewind},
    reason::Reason,
    record::{self, Verdict},
    session::{Treatment, http},
    terminate::{self, Terminator, opening::Opening},
};
use ending::Ending;
pub use ending::Refusal;
use quotas::Quotas;
use rejections::Rejections;
pub use rejections::{Clients, Looking, OwnEyes};
use rustls::HandshakeKind;
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

/// As much of a plain HTTP request as is read before it is passed on.
const MAX_PLAIN_HEAD: usize = 16 << 10;

/// A captured connection, and whose it is.
#[derive(Debug)]
pub struct Arrived {
    /// The workload's end.
    pub stream: TcpStream,
    /// Where it meant to go.
    pub destination: SocketAddr,
    /// The cookie of its network namespace.
    pub netns_cookie: u64,
    /// Whose it is.
    pub whose: Whose,
    /// Its process, where somebody else has taken hold of that already.
    pub witness: Option<Witness>,
}

/// What every captured connection goes through.
pub struct Gate {
    store: Arc<Store>,
    names: Names,
    rules: config::Capture,
    upstream: config::Upstream,
    addresses: Arc<ProtectedAddresses>,
    proxies: Arc<ProxyAddresses>,
    terminator: Terminator,
    services: Arc<Services>,
    quotas: Quotas,
    rejections: Rejections,
}

/// A connection on its way through the gate.
struct Passage {
    principal: Principal,
    witness: Mutex<Option<Witness>>,
    destination: SocketAddr,
    netns_cookie: u64,
    accepted_at: Instant,
    accepted: SystemTime,
}

/// Where a connection leads, as far as that is known.
struct Far {
    ip: Option<IpAddr>,
    port: u16,
    place: Place,
    /// Open already, where a forward proxy lies between.
    tunnel: Option<Tunnel>,
}

/// A tunnel that a forward proxy has opened.
struct Tunnel {
    stream: Rewind<TcpStream>,
    /// How it was asked for.
    via: Arc<Via>,
    /// The name that it was asked for by.
    host: Option<HostName>,
}

impl Gate {
    /// A gate for workloads whose policies the store has. `clients` finds out about those that refuse the CA.
    pub fn new(
        store: Arc<Store>,
        clients: Arc<dyn Clients>,
        names: Names,
        config: &config::Config,
        (addresses, proxies): (Arc<ProtectedAddresses>, Arc<ProxyAddresses>),
        terminator: Terminator,
        services: Arc<Services>,
    ) -> Self {
        Self {
            quotas: Quotas::new(&config.limits),
            store,
            names,
            rules: config.capture.clone(),
            upstream: config.upstream.clone(),
            addresses,
            proxies,
            terminator,
            services,
            rejections: Rejections::new(clients),
        }
    }

    /// The way to the audit log.
    pub fn recorder(&self) -> &Recorder {
        &self.services.recorder
    }

    /// Closes the idle upstream connections of a network namespace, which would keep it.
    pub fn forget(&self, netns_cookie: u64) {
        self.services.forwarder.forget(netns_cookie);
    }

    /// Takes a connection through; returns when it has ended and is recorded.
    pub async fn pass(&self, arrived: Arrived) {
        let Arrived { stream, destination, netns_cookie, whose, witness } = arrived;
        let principal = match whose {
            Whose::Workloads(principal) => principal,
            Whose::Nobody(subject) => {
                return self.untouched(&subject, stream, netns_cookie, destination).await;
            }
            Whose::Unknown(subject) => return self.unidentified(subject, destination),
        };
        let passage = Passage {
            principal,
            witness: Mutex::new(witness),
            destination,
            netns_cookie,
            accepted_at: Instant::now(),
            accepted: SystemTime::now(),
        };
        let Some(_permits) = self.quotas.connect(&passage.principal.workloads) else {
            return self.record(&passage, Ending::closed(Reason::TooManyConnections));
        };
        let (peeked, client) = peek::peek(stream, self.rules.peek_timeout).await;
        let (ip, port) = (passage.destination.ip(), passage.destination.port());
        let place = self.addresses.place(ip);
        let may_ask_proxy = matches!(peeked, Peeked::NotTls | Peeked::Silence) && !place.protected;
        let ending = if may_ask_proxy && self.proxies.contains(passage.destination) {
            // Few come this way, and all would have room for it.
            Box::pin(self.proxied(&passage, client)).await
        } else {
            self.lead(&passage, peeked, client, Far { ip: Some(ip), port, place, tunnel: None }).await
        };
        if let Some(ending) = ending {
            self.record(&passage, ending);
        }
    }

    /// Leads a connection on by how it began.
    async fn lead(
        &self,
        passage: &Passage,
        peeked: Peeked,
        client: Rewind<TcpStream>,
        far: Far,
    ) -> Option<Ending> {
        let mut chosen = route(&peeked, far.place, &self.names, &self.rules);
        if let Some(tunnel) = &far.tunnel {
            chosen = confine(chosen, tunnel.host.as_ref(), &self.names);
        }
        let ending = match chosen {
            Route::Terminate(host, treatment) => {
                self.terminate(passage, client, host, treatment, far.tunnel).await
            }
            Route::Pass(reason) => Some(self.forward(passage, client, reason, Inspection::None, far).await),
            Route::Watch(reason) => Some(self.watch(passage, client, reason, far).await),
            Route::Close(reason) => Some(Ending::closed(reason)),
        };
        let host = asked(&peeked).cloned();
        ending.map(|ending| Ending { host: ending.host.or(host), ..ending })
    }

    /// Finishes TLS and serves the requests, which have records of their own.
    async fn terminate(
        &self,
        passage: &Passage,
        client: Rewind<TcpStream>,
        host: HostName,
        treatment: Treatment,
        tunnel: Option<Tunnel>,
    ) -> Option<Ending> {
        // A burst of connections waits for its turn; only what waits too long is closed.
        let patience = self.services.limits.head_timeout;
        let waited = timeout(patience, self.quotas.handshake(&passage.principal.workloads)).await;
        let Ok(Some(permits)) = waited else {
            return Some(Ending::closed(Reason::TooManyHandshakes));
        };
        let connection = Arc::new(Connection {
            principal: passage.principal.clone(),
            policies: Handle::new(Arc::clone(&self.store), Arc::clone(&passage.principal.workloads)),
            destination: passage.destination,
            via: tunnel.as_ref().map(|tunnel| Arc::clone(&tunnel.via)),
            host: host.clone(),
            treatment,
            netns_cookie: passage.netns_cookie,
            offer: Offer::Http2OrHttp1,
            services: Arc::clone(&self.services),
            accepted_at: passage.accepted_at,
        });
        // A failure is not the end: the requests that are allowed get it as their answer.
        // What is needed until the connection is served is not kept as long as it lasts.
        let prepared = match tunnel.map(|tunnel| tunnel.stream.into_parts()) {
            Some((early, stream)) if early.is_empty() => {
                Box::pin(self.services.forwarder.adopt(&connection.key(), stream)).await
            }
            _ => Box::pin(self.services.forwarder.prepare(&connection.key())).await,
        };
        if let Err(error) = prepared {
            tracing::debug!(%host, error = &error as &dyn std::error::Error, "no upstream before the handshake");
        }
        // The client may be gone as soon as it has refused.
        let held = passage.witness.lock().unwrap_or_else(PoisonError::into_inner).take();
        let witness = held.unwrap_or_else(|| Witness::of(&passage.principal.subject));
        let handshake = Box::pin(self.terminator.accept(client, &host, self.services.limits.head_timeout));
        // On its way through the layers above it, TLS's state is moved and not copied.
        let accepted = handshake.await.map(Box::new);
        drop(permits);
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => return Some(self.failed(&error, witness).await),
        };
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        // A resumed session shows no certificate that could be refused.
        let is_shown = stream.get_ref().1.handshake_kind() != Some(HandshakeKind::Resumed);
        let (stream, refused) = Opening::new(stream, is_shown.then_some(witness));
        let served = http::serve(stream, is_http2, connection).await;
        if served.requests > 0 {
            return None;
        }
        Some(match refused.take() {
            Some((detail, Some(witness))) => {
                self.failed(&terminate::Error::ClientRejectedCa { detail }, witness).await
            }
            Some((_, None)) | None => Ending::closed(Reason::NoRequest),
        })
    }

    /// What becomes of a connection whose handshake failed.
    async fn failed(&self, error: &terminate::Error, witness: Witness) -> Ending {
        let ending = Ending::closed(error.reason()).detail(chain(error));
        if error.reason() != Reason::ClientRejectedCa {
            return ending;
        }
        Ending { guess: Some(self.rejections.guess(witness).await), ..ending }
    }

    /// Passes on what is no TLS, unless it asks for a protected host after all.
    async fn watch(
        &self,
        passage: &Passage,
        mut client: Rewind<TcpStream>,
        reason: Reason,
        far: Far,
    ) -> Ending {
        let watch = || HostWatch::new(self.names.clone());
        if reason == Reason::Silence {
            let late = Inspection::Late(Box::new(self.judge(&far)), watch());
            return self.forward(passage, client, reason, late, far).await;
        }
        // At a protected address nothing passes; it is read only to say why in HTTP.
        let ends_head = |bytes: &[u8]| bytes.windows(2).any(|pair| pair == b"\n\n" || pair == b"\n\r");
        if self.rules.plain_ports.contains(&far.port) {
            peek::more(&mut client, ends_head, MAX_PLAIN_HEAD, self.rules.peek_timeout).await;
        }
        match watch().feed(client.buffered()) {
            Some(Alarm::Host(host)) => refuse_plain(client, host).await,
            Some(Alarm::Tunnel) => Ending::closed(Reason::MethodRefused),
            None if far.place.protected => Ending::closed(reason),
            None => self.forward(passage, client, reason, Inspection::Http(watch()), far).await,
        }
    }

    /// Says why a ClientHello that came late must not pass, if so.
    fn judge(&self, far: &Far) -> impl Fn(&ClientHello) -> Option<Reason> + Send + use<> {
        let (names, rules, addresses) = (self.names.clone(), self.rules.clone(), Arc::clone(&self.addresses));
        let Far { ip, place, .. } = *far;
        move |hello| {
            let place = ip.map_or(place, |ip| addresses.place(ip));
            match route(&Peeked::Tls(hello.clone()), place, &names, &rules) {
                // Its server may have spoken already, so it is too late to stand in for it.
                Route::Terminate(..) => Some(Reason::Silence),
                Route::Close(reason) => Some(reason),
                Route::Pass(_) | Route::Watch(_) => None,
            }
        }
    }

    /// Passes the bytes on to the original destination, or through the tunnel.
    async fn forward(
        &self,
        passage: &Passage,
        client: Rewind<TcpStream>,
        reason: Reason,
        inspection: Inspection,
        far: Far,
    ) -> Ending {
        // No certificate is shown that the program could refuse.
        drop(passage.witness.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut upstream = match far.tunnel {
            Some(tunnel) => tunnel.stream,
            None => match self.dial(passage).await {
                Ok(upstream) => upstream,
                Err(ending) => return ending,
            },
        };
        let _best_effort = upstream.stream().set_nodelay(true);
        let Spliced { bytes_in, bytes_out, end } = splice(client, &mut upstream, inspection).await;
        let bytes = (bytes_in, bytes_out);
        let passed =
            Ending { effect: Effect::Allow, verdict: Verdict::Passed, bytes, ..Ending::closed(reason) };
        match end {
            End::Done => passed,
            End::Broken(error) => passed.detail(error.to_string()),
            End::Cut(reason) => Ending { bytes, ..Ending::closed(reason) },
        }
    }

    async fn dial(&self, passage: &Passage) -> Result<Rewind<TcpStream>, Ending> {
        let connecting = self.services.own_sockets.connect_from(passage.netns_cookie, passage.destination);
        match timeout(self.upstream.connect_timeout, connecting).await {
            Ok(Ok(upstream)) => Ok(Rewind::new(upstream)),
            Ok(Err(error)) => Err(Ending::closed(Reason::UpstreamUnreachable).detail(error.to_string())),
            Err(_) => Err(Ending::closed(Reason::UpstreamTimeout)),
        }
    }
}

/// The name that a connection began with.
fn asked(peeked: &Peeked) -> Option<&HostName> {
    if let Peeked::Tls(hello) = peeked { hello.sni.as_ref() } else { None }
}

/// Answers plain HTTP for a protected host as the API would refuse it; the token may already be on the wire
/// between the program and this host, and goes no further.
async fn refuse_plain(client: Rewind<TcpStream>, host: HostName) -> Ending {
    let message =
        format!("plain HTTP to {host} is refused, since it would show the token to the network; use https");
    let request_id = record::request_id().unwrap_or_default();
    let answer = refusal::answer(Reason::PlainHttp, Effect::Deny, &message, &request_id);
    let (_, mut stream) = client.into_parts();
    let sent = async {
        stream.write_all(&refusal::last_bytes(&answer)).await?;
        stream.shutdown().await
    };
    let detail = sent.await.err().map(|error| error.to_string());
    let status = Some(answer.status().as_u16());
    Ending {
        host: Some(host),
        verdict: Verdict::Refused,
        status,
        detail,
        ..Ending::closed(Reason::PlainHttp)
    }
}
