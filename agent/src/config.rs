//! The configuration, validated: no `Option` here means "default".

pub mod cgroup_pattern;
mod duration;
pub mod file;
pub mod forward_proxy;
mod matching;
pub mod otlp;
pub mod pods;
mod run_by;
pub mod selection;

pub use cgroup_pattern::{CgroupPattern, CgroupPatternSet};
pub use forward_proxy::{ForwardProxies, ForwardProxy};
pub use otlp::Otlp;
pub use pods::{ContainerPattern, PodPattern};
pub use run_by::RunBy;
pub use selection::Selection;

use crate::host::HostName;
use ipnet::IpNet;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// The directory of the control socket and of what lives as long as the agent.
pub const RUN_DIR: &str = "/run/tidegate";
/// The directory of what outlives the agent.
pub const STATE_DIR: &str = "/var/lib/tidegate";

/// Everything that an administrator can set.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where policies are read from, non-recursively.
    pub policy_dir: PathBuf,
    /// The protected hosts; never empty.
    pub hosts: Vec<HostName>,
    /// The `[[workload]]` tables.
    pub workloads: Vec<Workload>,
    /// `[capture]`.
    pub capture: Capture,
    /// `[upstream]`.
    pub upstream: Upstream,
    /// `[audit]`.
    pub audit: Audit,
    /// `[ca]`.
    pub ca: Ca,
    /// `[limits]`.
    pub limits: Limits,
    /// `[health]`.
    pub health: Health,
    /// `[containers]`.
    pub containers: Containers,
    /// `[kubernetes]`.
    pub kubernetes: Kubernetes,
}

/// A workload's name and policy, and how the daemon tells it from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its name, unique in the configuration.
    pub name: String,
    /// The name of a file in `policy_dir`, without `.toml`.
    pub policy: String,
    /// What it is: one of these, beside what `tidegate run --workload` runs.
    pub matches: Vec<Match>,
    /// What it is not, for all that.
    pub except: Vec<Match>,
    /// Who may run commands as it, without root.
    pub run_by: Vec<RunBy>,
}

/// One table of `match` or `except`: all of its keys must fit. `cgroup`, `pod`, `container`, `user`,
/// `group` or `any` is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Match {
    /// In or below these cgroups.
    pub cgroup: Option<CgroupPattern>,
    /// Run by this user, named or numbered, or with one of the user's subordinate ids.
    pub user: Option<String>,
    /// Run by a member of this group, as `user` has it.
    pub group: Option<String>,
    /// Whoever it is; alone.
    pub any: bool,
    /// The program's file.
    pub exe: Option<PathBuf>,
    /// In these pods.
    pub pod: Option<PodPattern>,
    /// In these containers.
    pub container: Option<ContainerPattern>,
}

/// `[health]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Where health is told over HTTP, if anywhere.
    pub listen: Option<SocketAddr>,
}

/// `[containers]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Containers {
    /// Where the runtime listens for NRI plugins.
    pub nri: PathBuf,
    /// The CRI's socket; none means the usual places.
    pub cri: Option<PathBuf>,
    /// The socket of an engine that speaks Docker's protocol; none means the usual places.
    pub engine: Option<PathBuf>,
}

impl Default for Containers {
    fn default() -> Self {
        Self { nri: "/var/run/nri/nri.sock".into(), cri: None, engine: None }
    }
}

/// `[kubernetes]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// Whether what the API server knows counts.
    pub watch: bool,
    /// The directory in which `tidegate cluster` writes that, and the daemon reads it.
    pub directory: PathBuf,
    /// The namespaces whose pods go free as long as nothing is known.
    pub spared_namespaces: Vec<String>,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            watch: false,
            directory: "/run/tidegate-cluster".into(),
            spared_namespaces: vec!["kube-system".to_owned()],
        }
    }
}

/// What to do with a connection whose name cannot be trusted to be the whole truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Close at protected addresses and within `edge_prefixes`; pass on elsewhere.
    DenyAtEdge,
    /// Close everywhere.
    Deny,
    /// Pass on, except at addresses that protected hosts resolve to.
    Pass,
}

/// Whose connections to captured ports are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All of a subject's.
    Strict,
    /// A subject's to addresses of protected hosts.
    Targeted,
}

/// `[capture]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Capture {
    /// Which connections are taken.
    pub mode: Mode,
    /// Whether a process stays a subject wherever it moves. Its programs see every process of the machine.
    pub sticky_tags: bool,
    /// The cgroup2 directory to attach at (`run` makes its cgroup below it). None: found at start.
    pub cgroup_root: Option<PathBuf>,
    /// TCP ports whose connections are expected to begin with a ClientHello.
    pub tls_ports: Vec<u16>,
    /// TCP ports on which the CDN in front of the API answers plain HTTP.
    pub plain_ports: Vec<u16>,
    /// A ClientHello without a server name.
    pub no_sni: Treatment,
    /// A ClientHello with encrypted client hello.
    pub ech: Treatment,
    /// Another host's name at a protected address.
    pub foreign_sni: Treatment,
    /// Names that are passed on unread, whatever their address.
    pub passthrough_hosts: Vec<HostName>,
    /// The published ranges of the CDN in front of the API.
    pub edge_prefixes: Vec<IpNet>,
    /// The HTTP proxies through which protected hosts may be reached.
    pub forward_proxies: ForwardProxies,
    /// How long a first byte, and a whole ClientHello, may take.
    pub peek_timeout: Duration,
}

/// `[upstream]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// PEM certificates to trust beside the system's roots.
    pub ca_file: Option<PathBuf>,
    /// The HTTP proxy that the agent's own connections to protected hosts go through, if any.
    pub proxy: Option<ForwardProxy>,
    /// A file that holds `user:password` for that proxy.
    pub proxy_credentials: Option<PathBuf>,
    /// For TCP and TLS, each address.
    pub connect_timeout: Duration,
    /// From the end of the request to the head of the answer.
    pub response_timeout: Duration,
}

/// When the audit log cannot be written. Writes to the API are refused in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAuditFailure {
    /// Reads go on.
    RefuseWrites,
    /// Reads are refused too.
    RefuseAll,
}

/// `[audit]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// The log; `-` is standard error.
    pub path: PathBuf,
    /// What to do with reads when it cannot be written.
    pub on_failure: OnAuditFailure,
    /// fsync before a write goes to the upstream.
    pub sync: bool,
    /// The key that heads of its hash chain are signed with.
    pub key: PathBuf,
    /// How long the file may become before it is moved aside.
    pub max_size_mib: u64,
    /// How old.
    pub max_age_days: u64,
    /// How many such files are kept.
    pub keep_files: usize,
    /// Whether the systemd journal gets the records, too.
    pub journald: bool,
    /// The OpenTelemetry collector that gets them, too, if any.
    pub otlp: Option<Otlp>,
}

/// `[ca]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ca {
    /// Keep the key in memory only.
    pub ephemeral: bool,
    /// Where it is kept otherwise.
    pub dir: PathBuf,
    /// An authority of the user's own, in the place of one that tidegate makes.
    pub brought: Option<BroughtCa>,
    /// How long a new authority is announced before it signs, so that programs that trust it have started by then.
    pub overlap: Duration,
    /// What kind of key leaves have.
    pub leaf_key: LeafKey,
}

/// The files of an authority that the user brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BroughtCa {
    /// The certificate that signs leaves, and behind it those above it, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM. None: the systemd credential `ca-key`.
    pub key: Option<PathBuf>,
}

/// What kind of key leaves have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafKey {
    /// ECDSA on the curve P-256.
    Ecdsa,
    /// RSA with 2048 bits, for clients that know nothing else.
    Rsa,
}

/// `[limits]`, each per workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once.
    pub connections: usize,
    /// TLS handshakes under way at once.
    pub handshakes: usize,
    /// For a request's head, and for the TLS handshake.
    pub head_timeout: Duration,
    /// Between two pieces of a body, in either direction.
    pub body_idle_timeout: Duration,
    /// The most that is read of a request's body where it decides, in bytes.
    pub body_inspect: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy_dir: "/etc/tidegate/policies".into(),
            hosts: HostName::parse("api.digitalocean.com").into_iter().collect(),
            workloads: Vec::new(),
            capture: Capture::default(),
            upstream: Upstream {
                ca_file: None,
                proxy: None,
                proxy_credentials: None,
                connect_timeout: Duration::from_secs(10),
                response_timeout: Duration::from_secs(120),
            },
            audit: Audit {
                path: "/var/log/tidegate/audit.jsonl".into(),
                on_failure: OnAuditFailure::RefuseWrites,
                sync: false,
                key: format!("{STATE_DIR}/audit.key").into(),
                max_size_mib: 100,
                max_age_days: 7,
                keep_files: 14,
                journald: false,
                otlp: None,
            },
            ca: Ca {
                ephemeral: false,
                dir: format!("{STATE_DIR}/ca").into(),
                brought: None,
                overlap: Duration::from_hours(24),
                leaf_key: LeafKey::Ecdsa,
            },
            limits: Limits {
                connections: 256,
                handshakes: 32,
                head_timeout: Duration::from_secs(10),
                body_idle_timeout: Duration::from_secs(60),
                body_inspect: 1 << 20,
            },
            health: Health::default(),
            containers: Containers::default(),
            kubernetes: Kubernetes::default(),
        }
    }
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            mode: Mode::Strict,
            sticky_tags: true,
            cgroup_root: None,
            tls_ports: vec![443, 2053, 2083, 2087, 2096, 8443],
            plain_ports: vec![80, 8080, 8880, 2052, 2082, 2086, 2095],
            no_sni: Treatment::DenyAtEdge,
            ech: Treatment::DenyAtEdge,
            foreign_sni: Treatment::DenyAtEdge,
            passthrough_hosts: Vec::new(),
            edge_prefixes: EDGE_PREFIXES.iter().filter_map(|prefix| prefix.parse().ok()).collect(),
            forward_proxies: ForwardProxies::FromEnvironment,
            peek_timeout: Duration::from_secs(3),
        }
    }
}

/// The ranges that Cloudflare publishes at cloudflare.com/ips.
const EDGE_PREFIXES: [&str; 22] = [
    "173.245.48.0/20",
    "103.21.244.0/22",
    "103.22.200.0/22",
    "103.31.4.0/22",
    "141.101.64.0/18",
    "108.162.192.0/18",
    "190.93.240.0/20",
    "188.114.96.0/20",
    "197.234.240.0/22",
    "198.41.128.0/17",
    "162.158.0.0/15",
    "104.16.0.0/13",
    "104.24.0.0/14",
    "172.64.0.0/13",
    "131.0.72.0/22",
    "2400:cb00::/32",
    "2606:4700::/32",
    "2803:f800::/32",
    "2405:b500::/32",
    "2405:8100::/32",
    "2a06:98c0::/29",
    "2c0f:f248::/32",
];
