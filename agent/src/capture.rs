//! Stage 1: connections of subjects, taken from the kernel with what they originally asked for.

pub mod address;
pub mod attached;
pub mod canary;
pub mod connections;
pub mod event;
pub mod layout;
pub mod listener;
pub mod log;
pub mod maps;
pub mod netns;
pub mod own_sockets;
pub mod pins;
pub mod program;
pub(crate) mod readable;
mod sock_diag;
pub mod standing;
pub mod sys;
mod uid_ranges;

use attached::Attached;
use layout::Layout;
use maps::{Exempt, FlowTable, ForwardProxies, Listeners, Protected, SettingsMap, Sticky, Subjects};
use pins::{Pins, lock::Lock};
use program::Need;
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};
use tidegate_ebpf_common::Flow;
use tokio::net::TcpStream;

/// Where a workload meant to go, as the kernel saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OriginalDestination(pub SocketAddr);

/// An accepted connection and the connect that led to it.
#[derive(Debug)]
pub struct Captured {
    /// The workload's end.
    pub stream: TcpStream,
    /// Where it meant to go.
    pub destination: OriginalDestination,
    /// Who connected, and from which namespace.
    pub flow: Flow,
}

/// Why capture could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object was refused before any program was loaded.
    #[error("cannot load the eBPF object; `tidegate doctor` says what this kernel lacks")]
    Object(#[source] Box<aya::EbpfError>),
    /// A program or map that the object should contain is not there.
    #[error("the eBPF object has no {kind} `{name}`")]
    Missing {
        /// `program` or `map`.
        kind: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// A program was refused.
    #[error(
        "cannot load and attach the eBPF program `{name}`; `tidegate doctor` says what this kernel lacks"
    )]
    Program {
        /// Its name.
        name: &'static str,
        /// The kernel's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A link could not be pinned.
    #[error("cannot pin the link of `{name}` at {path}; is a bpffs mounted there?")]
    Pin {
        /// The program's name.
        name: &'static str,
        /// Where.
        path: std::path::PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The kernel's structures are not known, which sticky tags read.
    #[error("sticky tags cannot be had; set capture.sticky_tags = false to do without")]
    Layout(#[from] layout::Error),
    /// What earlier agents left cannot be adopted.
    #[error(transparent)]
    Pins(#[from] pins::Error),
    /// A map could not be used.
    #[error("cannot use the eBPF map `{name}`")]
    Map {
        /// Its name.
        name: &'static str,
        /// The kernel's answer.
        #[source]
        source: aya::maps::MapError,
    },
    /// A file or socket of the capture could not be used.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The kernel's log could not be read.
    #[error("cannot read the kernel side's log")]
    Log(#[source] aya_log::Error),
}

/// What to capture and where.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The cgroup2 directory to attach at.
    pub cgroup: &'a Path,
    /// Where maps and links are pinned.
    pub pins: &'a Pins,
    /// Whether processes stay subjects wherever they go. Its programs see every process of the machine.
    pub sticky_tags: bool,
    /// Whether subjects get no packet sockets. Its program sees every socket of the machine; only where the kernel
    /// runs BPF LSM programs.
    pub packet_sockets: bool,
    /// The captured ports.
    pub ports: &'a [u16],
    /// The forward proxies that are known so far.
    pub forward_proxies: &'a [SocketAddr],
    /// Room for this many redirected sockets.
    pub flows: u32,
}

/// The kernel side, attached and pinned.
pub struct Capture {
    /// The list of subjects.
    pub subjects: Subjects,
    /// The addresses of protected hosts.
    pub protected: Protected,
    /// The agent's own sockets.
    pub exempt: Exempt,
    /// What holds for all hooks.
    pub settings: SettingsMap,
    /// Threads that stay subjects.
    pub sticky: Sticky,
    /// The list of captured forward proxies.
    pub forward_proxies: ForwardProxies,
    /// Where the agent listens.
    pub listeners: Listeners,
    /// The flows of connections not yet accepted.
    pub flows: FlowTable,
    /// What the kernel refused.
    pub events: event::Events,
    /// The programs' log lines.
    pub log: log::Log,
    /// The programs at their hooks.
    pub attached: Attached,
}

impl Capture {
    /// Loads and attaches the programs, with no subject and no listener yet, or with those that an earlier agent left in
    /// shared pins, whose programs are replaced without an instant in which none runs.
    ///
    /// # Errors
    /// Says which program or map the kernel refused, what of an earlier agent cannot be adopted, or which other agent is
    /// at work.
    pub fn start(options: &Options<'_>) -> Result<Self, Error> {
        options.pins.prepare()?;
        let lock = options.pins.base().map(|base| Lock::take(&[base, options.cgroup])).transpose()?;
        let layout = options.sticky_tags.then(Layout::of_kernel).transpose()?;
        let (mut programs, declared) = program::load(options.flows, Some(options.pins), layout.as_ref())?;
        let is_needed = |need| match need {
            Need::Always => true,
            Need::StickyTags => options.sticky_tags,
            Need::PacketSockets => options.packet_sockets,
        };
        // Each map stays open until the programs that name it are loaded.
        let mut ports = maps::Ports::take(&mut programs)?;
        ports.set(options.ports)?;
        let mut forward_proxies = ForwardProxies::take(&mut programs)?;
        for proxy in options.forward_proxies {
            forward_proxies.add(*proxy)?;
        }
        Ok(Self {
            forward_proxies,
            subjects: Subjects::take(&mut programs)?,
            protected: Protected::take(&mut programs)?,
            exempt: Exempt::take(&mut programs)?,
            settings: SettingsMap::take(&mut programs)?,
            sticky: Sticky::take(&mut programs)?,
            listeners: Listeners::take(&mut programs)?,
            flows: FlowTable::take(&mut programs)?,
            events: event::Events::take(&mut programs)?,
            log: log::Log::take(&mut programs)?,
            attached: Attached::start(
                &mut programs,
                &declared,
                options.cgroup,
                options.pins,
                is_needed,
                lock,
            )?,
        })
    }
}

/// Room for this many redirected sockets of one workload, many more than its limit of connections.
pub const DEFAULT_FLOWS: u32 = 65_536;

/// How long a flow may wait for its accept.
pub const FLOW_LIFETIME: Duration = Duration::from_secs(60);

/// The original destination of a flow.
pub fn destination(flow: &Flow) -> OriginalDestination {
    let ip = IpAddr::V6(Ipv6Addr::from(flow.address)).to_canonical();
    OriginalDestination(SocketAddr::new(ip, flow.port))
}
