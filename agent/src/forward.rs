//! Stage 7: the allowed request goes to the original destination, and the answer comes back.
//!
//! The address is where the workload meant to go; that the protected host is there is proven by its
//! certificate alone.

pub mod behind;
pub mod body;
pub mod filter;
pub mod gather;
pub mod guard;
pub mod headers;
mod own_proxy;
mod pool;
pub mod ratelimit;
pub mod stall;
pub mod upstream;
pub mod via;

pub use body::{Answer, Outgoing};
pub use upstream::Offer;
pub use via::Via;

use crate::{capture::own_sockets::OwnSockets, config, host::HostName, reason::Reason};
use body::Progress;
use http::{Request, Response, StatusCode, uri::PathAndQuery};
use hyper::body::{Body as _, Incoming};
use pool::{Lease, Pool};
use std::{error, fmt, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};

/// How often a request that never reached the upstream is sent again; the last time on a new connection.
const MAX_ATTEMPTS: u32 = 3;

/// Whose connections to where: requests of different keys never share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The cookie of the workload's network namespace.
    pub netns_cookie: u64,
    /// Where the workload meant to go.
    pub destination: SocketAddr,
    /// The tunnel to ask for there, where that is a forward proxy.
    pub via: Option<Arc<Via>>,
    /// The name that the certificate must prove.
    pub host: HostName,
    /// The protocols to offer.
    pub offer: Offer,
    /// The workload's name.
    pub workload: Arc<str>,
}

impl Key {
    fn port(&self) -> u16 {
        self.via.as_ref().map_or(self.destination.port(), |via| via.port)
    }
}

/// Why no answer, or not all of one, came from the upstream.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Neither the original destination nor another address took a connection.
    #[error("`{host}` cannot be reached; the last address tried was {address}")]
    Unreachable {
        /// The host.
        host: HostName,
        /// The last address tried.
        address: SocketAddr,
        /// What connecting came to.
        source: Arc<io::Error>,
    },
    /// The certificate there is not the host's.
    #[error("the certificate at {address} does not prove `{host}`")]
    NotHost {
        /// The host.
        host: HostName,
        /// Where it was presented.
        address: SocketAddr,
        /// What the verifier says.
        source: rustls::Error,
    },
    /// No connection was ready in time.
    #[error("the upstream did not {what} within {after:?}")]
    SlowToConnect {
        /// What it had to do.
        what: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// The upstream has the request, and did not go on with its answer in time.
    #[error("the upstream did not {what} within {after:?}")]
    SlowToAnswer {
        /// What it had to do.
        what: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// The forward proxy did not open the tunnel.
    #[error("the forward proxy at {address} answered {status} instead of opening a tunnel")]
    Proxy {
        /// The proxy.
        address: SocketAddr,
        /// The status of its answer.
        status: u16,
    },
    /// The connection could not be set up.
    #[error("the connection to `{host}` failed")]
    Failed {
        /// The host.
        host: HostName,
        /// How.
        source: Arc<dyn error::Error + Send + Sync>,
    },
    /// The upstream broke the connection or HTTP's grammar.
    #[error("the exchange with the upstream broke off")]
    Broken(#[source] Arc<hyper::Error>),
    /// The upstream answered with a change of protocol that nobody asked for.
    #[error("the upstream switched protocols unasked")]
    Switched,
    /// The head cannot be written for the upstream.
    #[error("the request head cannot be sent on")]
    Head(#[source] Arc<headers::Error>),
}

impl Error {
    fn failed(host: &HostName, source: impl error::Error + Send + Sync + 'static) -> Self {
        Self::Failed { host: host.clone(), source: Arc::new(source) }
    }

    /// The code for the record and the refusal.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unreachable { .. } => Reason::UpstreamUnreachable,
            Self::NotHost { .. } => Reason::UpstreamNotHost,
            Self::SlowToConnect { .. } | Self::SlowToAnswer { .. } => Reason::UpstreamTimeout,
            Self::Proxy { .. } => Reason::ProxyRefused,
            Self::Failed { .. } | Self::Broken(_) | Self::Switched => Reason::UpstreamFailed,
            Self::Head(_) => Reason::MalformedRequest,
        }
    }

    /// Whether the upstream may have got the request, or a part of it.
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::SlowToAnswer { .. } | Self::Broken(_) | Self::Switched => true,
            Self::Unreachable { .. }
            | Self::NotHost { .. }
            | Self::SlowToConnect { .. }
            | Self::Proxy { .. }
            | Self::Failed { .. }
            | Self::Head(_) => false,
        }
    }
}

/// The answer's head, its body on its way, and how long the head took.
#[derive(Debug)]
pub struct Answered {
    /// The answer, without connection-level fields.
    pub response: Response<Answer>,
    /// From the first byte to the upstream to the head of its answer.
    pub waited: Duration,
}

/// Sends requests to upstreams.
pub struct Forwarder {
    pool: Arc<Pool>,
    memory: filter::Memory,
    response_timeout: Duration,
    body_idle_timeout: Duration,
}

impl Forwarder {
    /// A forwarder with an empty pool. To be called within the runtime, which the pool's sweeper needs.
    ///
    /// # Errors
    /// When TLS cannot be set up, or the agent's own proxy not be used.
    pub fn start(
        settings: &config::Upstream,
        body_idle_timeout: Duration,
        roots: rustls::RootCertStore,
        resolve: upstream::Resolve,
        own_sockets: OwnSockets,
    ) -> Result<Self, upstream::SetupError> {
        let dialer = upstream::Dialer::new(settings, roots, resolve, own_sockets)?;
        let response_timeout = settings.response_timeout;
        let memory = filter::Memory::new(filter::MAX_TOTAL_BYTES);
        Ok(Self { pool: Pool::start(dialer), memory, response_timeout, body_idle_timeout })
    }

    /// What the answers may hold together that cannot be streamed.
    pub fn memory(&self) -> &filter::Memory {
        &self.memory
    }

    /// Closes the idle connections of a network namespace, which would keep it.
    pub fn forget(&self, netns_cookie: u64) {
        self.pool.forget(netns_cookie);
    }

    /// Has a connection ready, so that an unreachable upstream shows before the client's handshake.
    ///
    /// # Errors
    /// When no connection can be had.
    pub async fn prepare(&self, key: &Key) -> Result<(), Error> {
        self.pool.lease(key).await?.give_back();
        Ok(())
    }

    /// As [`Forwarder::prepare`], on a stream that leads to the key's host already: the tunnel that its
    /// forward proxy has just opened.
    ///
    /// # Errors
    /// When the host is not there.
    pub async fn adopt(&self, key: &Key, stream: TcpStream) -> Result<(), Error> {
        self.pool.adopt(key, stream).await?.give_back();
        Ok(())
    }

    /// Sends the request with the path and query that were judged, and waits for the head of the answer.
    /// It is sent again only where nothing of it can have reached the upstream.
    ///
    /// # Errors
    /// When no answer came. Whether the client's body was the cause, its [`Progress`] tells.
    pub async fn send(
        &self,
        key: &Key,
        path_and_query: PathAndQuery,
        mut request: Request<Outgoing>,
    ) -> Result<Answered, Error> {
        let progress = request.body().progress();
        for attempt in 1.. {
            let last = attempt == MAX_ATTEMPTS;
            let mut lease = if last { self.pool.dial(key).await? } else { self.pool.lease(key).await? };
            let ready = for_upstream(request, key, &lease, path_and_query.clone())
                .map_err(|source| Error::Head(Arc::new(source)))?;
            let began = Instant::now();
            match self.exchange(&mut lease, ready, &progress, began).await? {
                Ok(response) => return self.answered(response, lease, began.elapsed()),
                Err((error, Some(unsent))) if !last && !progress.has_begun() => {
                    tracing::debug!(%error, attempt, "the request never left; sending it again");
                    request = unsent;
                }
                Err((error, _)) => return Err(Error::Broken(Arc::new(error))),
            }
        }
        Err(Error::Switched)
    }

    /// Waits for the head of the answer, `response_timeout` from the last piece of the request on.
    async fn exchange(
        &self,
        lease: &mut Lease,
        request: Request<Outgoing>,
        progress: &Progress,
        began: Instant,
    ) -> Result<Result<Response<Incoming>, Unsent>, Error> {
        let mut sending = std::pin::pin!(lease.send(request));
        loop {
            let deadline = began.max(progress.last()) + self.response_timeout;
            tokio::select! {
                sent = &mut sending => return Ok(sent.map_err(|mut error| {
                    let unsent = error.take_message();
                    (error.into_error(), unsent)
                })),
                () = sleep_until(deadline) => {
                    if deadline >= began.max(progress.last()) + self.response_timeout {
                        return Err(Error::SlowToAnswer { what: "answer", after: self.response_timeout });
                    }
                }
            }
        }
    }

    fn answered(
        &self,
        response: Response<Incoming>,
        lease: Lease,
        waited: Duration,
    ) -> Result<Answered, Error> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::Switched);
        }
        let (mut head, body) = response.into_parts();
        headers::to_client(&mut head);
        let body = Answer::new(body, self.body_idle_timeout, lease);
        Ok(Answered { response: Response::from_parts(head, body), waited })
    }
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder").field("response_timeout", &self.response_timeout).finish_non_exhaustive()
    }
}

/// Why a request was not answered, and the request itself where it never left.
type Unsent = (hyper::Error, Option<Request<Outgoing>>);

fn for_upstream(
    request: Request<Outgoing>,
    key: &Key,
    lease: &Lease,
    path_and_query: PathAndQuery,
) -> Result<Request<Outgoing>, headers::Error> {
    let (mut head, body) = request.into_parts();
    let authority = headers::authority(&key.host, key.port())?;
    let has_body = !body.is_end_stream();
    headers::to_upstream(&mut head, lease.version(), &authority, path_and_query, has_body)?;
    Ok(Request::from_parts(head, body))
}
