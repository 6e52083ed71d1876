//! The process that serves: `tidegate proxy`, whose standard input is the way to the one that has the rights.

use super::{
    elsewhere::Elsewhere,
    message::{Answer, Arrival, ConfigFile, Failed, Introduction, Order, Start, WhoseSent},
    sandbox,
};
use crate::{
    app::{
        Error,
        counts::Counts,
        engine::{Engine, Means},
    },
    capture::own_sockets::OwnSockets,
    classify::Catalogue,
    config::{Config, file},
    decide::store::{PolicySet, Store},
    identify::{Principal, Whose, Workload, runtime::witness::Witness},
    link::{Link, Message, Reply},
    run::limits::OpenFiles,
    session::{gate::Arrived, protected::ProtectedAddresses, proxies::ProxyAddresses},
    terminate::{Signer, Terminator, tickets::Tickets},
    toml_file::Source,
};
use rustix::{
    net::{SocketType, sockopt},
    process::geteuid,
};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ},
    flag,
};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    runtime::{Handle, Runtime},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::spawn_blocking,
};

/// How long the process may take to end when nobody is at the other end any more.
const LAST_SECONDS: Duration = Duration::from_secs(2);

/// Serves connections until whoever has started it says otherwise, or is gone.
///
/// # Errors
/// When its standard input is something else, or what it must give away cannot be given away.
pub fn main() -> Result<u8, Error> {
    let system = |action| move |source| Error::System { action, source };
    sandbox::enter().map_err(system("give away the privileges of the process that serves"))?;
    let socket = socket().map_err(system("use standard input: `tidegate daemon` starts this command"))?;
    // Whoever has started it decides when it ends; a terminal and the service manager tell everybody.
    for signal in [SIGHUP, SIGINT, SIGTERM, SIGXFSZ] {
        flag::register(signal, Arc::new(AtomicBool::new(false))).map_err(system("handle signals"))?;
    }
    OpenFiles::raise().map_err(system("raise the limit on open files"))?;
    let runtime = Runtime::new().map_err(system("start the runtime"))?;
    let status = runtime.block_on(serve(socket)).map_err(system("speak with the supervisor"))?;
    match status {
        // What tasks leave behind when they are dropped is a part of the end.
        0 => runtime.shutdown_timeout(LAST_SECONDS),
        // What still runs has nobody to answer to.
        _ => runtime.shutdown_background(),
    }
    Ok(status)
}

/// Root's alone: orders decide what passes.
fn socket() -> io::Result<OwnedFd> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    if sockopt::socket_type(&socket)? != SocketType::SEQPACKET {
        return Err(io::Error::other("it is no socket of the agent's"));
    }
    if !sockopt::socket_peercred(&socket)?.uid.is_root() {
        return Err(io::Error::other("its other end is not root's"));
    }
    Ok(socket)
}

async fn serve(socket: OwnedFd) -> io::Result<u8> {
    let served: Arc<OnceLock<Arc<Served>>> = Arc::default();
    let (pass_on, mut orders) = unbounded_channel();
    let (serving, runtime, end) = (Arc::clone(&served), Handle::current(), EndOfLink);
    let take = move |message: Message| {
        let _dropped_with_the_reader = &end;
        // Connections wait for nobody; all else keeps its order.
        let _entered = runtime.enter();
        match message.read() {
            Ok(Order::Connection(arrival)) => {
                if let Some(served) = serving.get() {
                    served.connection(arrival, message.descriptors);
                }
            }
            Ok(order) => drop(pass_on.send((order, message))),
            Err(error) => tracing::error!(%error, "an order is not understood"),
        }
    };
    let link = Arc::new(Link::start(socket, take)?);
    let ended = Arc::clone(&link);
    tokio::select! {
        status = obey(&mut orders, link, &served) => status,
        // Nobody is left who would give it anything, or could be answered to.
        () = ended.closed() => Ok(1),
    }
}

/// Is dropped by the thread that reads orders, when there are none to come.
struct EndOfLink;

impl Drop for EndOfLink {
    /// Whatever else this process does, or hangs in: it does not outlive whoever has the rights.
    fn drop(&mut self) {
        std::thread::sleep(LAST_SECONDS);
        std::process::exit(1);
    }
}

/// Follows orders until the last.
async fn obey(
    orders: &mut UnboundedReceiver<(Order, Message)>,
    link: Arc<Link>,
    served: &OnceLock<Arc<Served>>,
) -> io::Result<u8> {
    while let Some((order, mut message)) = orders.recv().await {
        let reply = message.reply.take();
        match (order, served.get()) {
            (Order::Hello, _) => {
                answer(reply, &Introduction { user: geteuid().as_raw(), pid: std::process::id() })?;
            }
            (Order::Start(start), None) => {
                let started = Served::start(*start, message.descriptors, &link);
                let told: Answer<()> = match started {
                    Ok(started) => {
                        let _is_first = served.set(Arc::new(started));
                        Ok(())
                    }
                    Err(error) => Err(Failed::of(&error)),
                };
                answer(reply, &told)?;
            }
            (Order::Drain(patience), Some(served)) => {
                let served = Arc::clone(served);
                tokio::spawn(async move {
                    served.engine.drain(patience).await;
                    let _is_heard = answer(reply, &());
                });
            }
            (Order::Policies(sources), Some(served)) => {
                let served = Arc::clone(served);
                // Of a thousand it takes long enough for connections to notice.
                let replaced = spawn_blocking(move || served.replace(&sources)).await;
                answer(reply, &replaced.map_err(io::Error::other)?)?;
            }
            (Order::Finish, Some(served)) => {
                served.engine.finish();
                answer(reply, &())?;
                return Ok(0);
            }
            (order, Some(served)) => served.follow(order, message.descriptors, reply)?,
            (_, None) => tracing::error!("an order before the first"),
        }
    }
    Ok(1)
}

fn answer<T: serde::Serialize>(reply: Option<Reply>, answer: &T) -> io::Result<()> {
    reply.map_or(Ok(()), |reply| reply.send(answer, &[]))
}

/// All that serves, and what it follows.
struct Served {
    engine: Arc<Engine>,
    store: Arc<Store>,
    addresses: Arc<ProtectedAddresses>,
    proxies: Arc<ProxyAddresses>,
    tickets: Arc<Tickets>,
    signer: Signer,
    elsewhere: Arc<Elsewhere>,
}

impl Served {
    fn start(start: Start, descriptors: Vec<OwnedFd>, link: &Arc<Link>) -> Result<Self, Error> {
        let invalid = |error: &dyn std::error::Error| Error::System {
            action: "read what the supervisor has sent",
            source: io::Error::other(error.to_string()),
        };
        let mut config = file::parse(&start.config).map_err(|error| invalid(&error))?;
        let policies = PolicySet::load(&start.policies, Catalogue::embedded());
        let policies = policies.map_err(|error| invalid(&error))?;
        // Open until everything is read: their paths are this process's descriptors.
        let files: Vec<_> = start.files.iter().copied().zip(&descriptors).collect();
        files.iter().for_each(|(which, file)| name(&mut config, *which, file));
        let elsewhere = Arc::new(Elsewhere::new(Arc::clone(link), config.audit.path.clone()));
        let tickets = Tickets::received(&start.tickets).map_err(|error| invalid(&error))?;
        let tickets = Arc::new(tickets);
        let terminator = Terminator::with_tickets(elsewhere.clone(), tickets.clone())?;
        let signer = terminator.signer();
        let resolve = elsewhere.resolve();
        let (hosts, edge) = (config.hosts.clone(), config.capture.edge_prefixes.clone());
        let addresses = Arc::new(ProtectedAddresses::new(hosts, edge, Arc::clone(&resolve)));
        addresses.follow(&start.protected);
        let proxies = Arc::new(ProxyAddresses::following(start.forward_proxies, Arc::clone(&resolve)));
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(start.roots.into_iter().map(CertificateDer::from));
        let means = Means {
            own_sockets: OwnSockets::opened_by(elsewhere.clone()),
            resolve,
            roots,
            terminator,
            log: elsewhere.clone(),
            clients: elsewhere.clone(),
            addresses: Arc::clone(&addresses),
            proxies: Arc::clone(&proxies),
        };
        let store = Arc::new(Store::new(policies));
        let engine = Engine::start(&config, (Arc::clone(&store), Arc::<Counts>::default()), means)?;
        let engine = Arc::new(engine);
        Ok(Self { engine, store, addresses, proxies, tickets, signer, elsewhere })
    }

    fn follow(&self, order: Order, descriptors: Vec<OwnedFd>, reply: Option<Reply>) -> io::Result<()> {
        let gate = &self.engine.gate;
        match order {
            Order::Refused(refusal, count) => gate.refused(refusal, count),
            Order::NoFlow(peer, count) => gate.no_flow(peer, count),
            Order::Unnamed(count) => gate.unnamed(None, count),
            Order::Recall(pods) => self.engine.recall(pods),
            Order::Forget(netns_cookie) => gate.forget(netns_cookie),
            Order::Protected(addresses) => self.addresses.follow(&addresses),
            Order::ForwardProxy(address) => self.proxies.follow(address),
            Order::Authority => self.signer.sign_with(self.elsewhere.clone()),
            Order::Tickets(keys) => match Tickets::received(&keys) {
                Ok(received) => self.tickets.follow(received),
                Err(error) => tracing::error!(%error, "the session tickets keep their old key"),
            },
            Order::Unfinished => answer(reply, &self.count_unfinished(descriptors))?,
            Order::Figures => answer(reply, &self.engine.figures())?,
            Order::Metrics => answer(reply, &self.engine.metrics())?,
            Order::Hello
            | Order::Start(_)
            | Order::Connection(_)
            | Order::Policies(_)
            | Order::Drain(_)
            | Order::Finish => tracing::error!("an order out of its turn"),
        }
        Ok(())
    }

    fn connection(&self, arrival: Arrival, descriptors: Vec<OwnedFd>) {
        let Arrival { destination, netns_cookie, whose, subject } = arrival;
        let mut descriptors = descriptors.into_iter();
        let stream = descriptors.next().map(std::net::TcpStream::from).map(TcpStream::from_std);
        let stream = match stream {
            Some(Ok(stream)) => stream,
            Some(Err(error)) => return tracing::error!(%error, "a connection cannot be served"),
            None => return tracing::error!("a connection came without its socket"),
        };
        let place = descriptors.next();
        let path = PathBuf::from(subject.executable.clone().unwrap_or_default());
        let witness = Some(Witness::of_parts(subject.pid, path, place));
        let whose = match whose {
            WhoseSent::Workloads(names) => {
                let named =
                    |(name, policy): (String, String)| Workload { name: name.into(), policy: policy.into() };
                let workloads: Vec<Workload> = names.into_iter().map(named).collect();
                Whose::Workloads(Principal::new(workloads.into(), subject))
            }
            WhoseSent::Nobody => Whose::Nobody(Arc::new(subject)),
            WhoseSent::Unknown => Whose::Unknown(Arc::new(subject)),
        };
        self.engine.serve(Arrived { stream, destination, netns_cookie, whose, witness });
    }

    fn count_unfinished(&self, descriptors: Vec<OwnedFd>) -> Answer<()> {
        let file = descriptors.into_iter().next().ok_or_else(|| Failed::missing("file"))?;
        self.engine.count_unfinished(file.into())?;
        Ok(())
    }

    fn replace(&self, sources: &[Source]) -> Answer<()> {
        let set = PolicySet::load(sources, Catalogue::embedded()).map_err(|error| Failed::of(&error))?;
        self.store.replace(set).map_err(|error| Failed::of(&error))?;
        Ok(())
    }
}

/// Lets the configuration name the file that came.
fn name(config: &mut Config, which: ConfigFile, file: &OwnedFd) {
    let path = Some(PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())));
    match (which, &mut config.audit.otlp) {
        (ConfigFile::ProxyCredentials, _) => config.upstream.proxy_credentials = path,
        (ConfigFile::CollectorHeaders, Some(otlp)) => otlp.headers = path,
        (ConfigFile::CollectorRoots, Some(otlp)) => otlp.ca_file = path,
        // Nobody would read it.
        (ConfigFile::CollectorHeaders | ConfigFile::CollectorRoots, None) => {}
    }
}
