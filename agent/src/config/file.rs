//! The configuration as it is written: the TOML shape, and its checks.

mod ca;
mod kubernetes;
mod limits;
mod otlp;
mod upstream;
mod workloads;

use super::{Capture, Config, ForwardProxies, ForwardProxy, Mode, OnAuditFailure, Treatment, duration};
use crate::{
    host::HostName,
    toml_file::{Findings, Source},
};
use ca::CaTable;
use ipnet::IpNet;
use kubernetes::KubernetesTable;
use limits::LimitsTable;
use otlp::OtlpTable;
use serde::Deserialize;
use std::{
    fmt,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};
use toml::Spanned;
use upstream::UpstreamTable;
use workloads::WorkloadTable;

pub use crate::toml_file::Error;

/// Where every host that is protected answers, whatever other ports it has.
const HTTPS: u16 = 443;

type Words = Vec<Spanned<String>>;

/// Where the configuration is read from where no `--config` is given.
pub const DEFAULT_PATH: &str = "/etc/tidegate/tidegate.toml";

/// The keys of a configuration file at its top, by which it is told from a policy.
pub const TOP_KEYS: [&str; 11] = [
    "policy_dir",
    "hosts",
    "workload",
    "capture",
    "upstream",
    "audit",
    "ca",
    "limits",
    "health",
    "containers",
    "kubernetes",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    policy_dir: Option<Spanned<PathBuf>>,
    hosts: Option<Spanned<Words>>,
    #[serde(default)]
    workload: Vec<WorkloadTable>,
    #[serde(default)]
    capture: CaptureTable,
    #[serde(default)]
    upstream: UpstreamTable,
    #[serde(default)]
    audit: AuditTable,
    #[serde(default)]
    ca: CaTable,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    health: HealthTable,
    #[serde(default)]
    containers: ContainersTable,
    #[serde(default)]
    kubernetes: KubernetesTable,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaptureTable {
    cgroup_root: Option<Spanned<PathBuf>>,
    mode: Option<CaptureMode>,
    sticky_tags: Option<bool>,
    tls_ports: Option<Spanned<Vec<Spanned<u16>>>>,
    plain_ports: Option<Spanned<Vec<Spanned<u16>>>>,
    no_sni: Option<TreatmentWord>,
    ech: Option<TreatmentWord>,
    foreign_sni: Option<TreatmentWord>,
    passthrough_hosts: Option<Words>,
    edge_prefixes: Option<Spanned<Words>>,
    forward_proxies: Option<Words>,
    peek_timeout: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CaptureMode {
    Strict,
    Targeted,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TreatmentWord {
    DenyAtEdge,
    Deny,
    Pass,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditTable {
    path: Option<Spanned<PathBuf>>,
    on_failure: Option<OnFailureWord>,
    sync: Option<bool>,
    key: Option<Spanned<PathBuf>>,
    max_size_mib: Option<Spanned<u64>>,
    max_age_days: Option<Spanned<u64>>,
    journald: Option<bool>,
    otlp: Option<Spanned<OtlpTable>>,
    keep_files: Option<Spanned<u64>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OnFailureWord {
    RefuseWrites,
    RefuseAll,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HealthTable {
    listen: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContainersTable {
    nri: Option<Spanned<PathBuf>>,
    cri: Option<Spanned<PathBuf>>,
    engine: Option<Spanned<PathBuf>>,
}

impl From<TreatmentWord> for Treatment {
    fn from(word: TreatmentWord) -> Self {
        match word {
            TreatmentWord::DenyAtEdge => Self::DenyAtEdge,
            TreatmentWord::Deny => Self::Deny,
            TreatmentWord::Pass => Self::Pass,
        }
    }
}

/// Loads a configuration file.
///
/// # Errors
/// With all that is wrong with the file or in it.
pub fn load(path: &Path) -> Result<Config, Error> {
    parse(&Source::open(path)?)
}

/// Parses a configuration; keys that are not there have the defaults of [`Config::default`].
///
/// # Errors
/// With all that is wrong in it.
pub fn parse(source: &Source) -> Result<Config, Error> {
    let document: Document = source.parse()?;
    let mut reader = Reader { findings: Findings::new(source) };
    let config = reader.config(document);
    reader.findings.finish(config)
}

/// Turns the written shape into the configuration and notes what is wrong on the way.
struct Reader<'a> {
    findings: Findings<'a>,
}

impl Reader<'_> {
    fn config(&mut self, document: Document) -> Config {
        let mut config = Config::default();
        self.absolute(document.policy_dir, &mut config.policy_dir);
        if let Some(hosts) = &document.hosts {
            config.hosts = self.protected_hosts(hosts);
        }
        config.workloads = self.workloads(&document.workload);
        self.capture(document.capture, &config.hosts, &mut config.capture);
        self.upstream(document.upstream, &mut config.upstream);
        self.audit(document.audit, &mut config);
        self.ca(document.ca, &mut config.ca);
        self.limits(document.limits, &mut config.limits);
        let ContainersTable { nri, cri, engine } = document.containers;
        self.absolute(nri, &mut config.containers.nri);
        config.containers.cri = self.file(cri);
        config.containers.engine = self.file(engine);
        self.kubernetes(document.kubernetes, &mut config.kubernetes);
        config.health.listen = document.health.listen.and_then(|word| self.socket_address(&word));
        config
    }

    fn protected_hosts(&mut self, words: &Spanned<Words>) -> Vec<HostName> {
        let hosts = self.hosts(words.as_ref());
        if words.as_ref().is_empty() {
            self.findings
                .add(words.span(), "`hosts = []` would protect nothing; name one, or remove the key");
        }
        // One local CA is constrained to one registrable domain.
        let domain = hosts.first().map(|(_, host)| host.registrable_domain());
        for (word, host) in &hosts {
            if domain.as_ref().is_some_and(|domain| host.registrable_domain() != *domain) {
                let message =
                    format!("`{host}` lies in another domain than the first of `hosts`; keep to one");
                self.findings.add(word.span(), message);
            }
        }
        hosts.into_iter().map(|(_, host)| host).collect()
    }

    fn hosts<'w>(&mut self, words: &'w [Spanned<String>]) -> Vec<(&'w Spanned<String>, HostName)> {
        let mut hosts: Vec<(&Spanned<String>, HostName)> = Vec::new();
        for word in words {
            match HostName::parse(word.as_ref()) {
                Ok(host) if hosts.iter().any(|(_, other)| *other == host) => {
                    self.findings.add(word.span(), format!("`{host}` is named twice"));
                }
                Ok(host) => hosts.push((word, host)),
                Err(error) => self.findings.add(word.span(), error),
            }
        }
        hosts
    }

    fn capture(&mut self, table: CaptureTable, hosts: &[HostName], capture: &mut Capture) {
        capture.mode = match table.mode {
            Some(CaptureMode::Strict) => Mode::Strict,
            Some(CaptureMode::Targeted) => Mode::Targeted,
            None => capture.mode,
        };
        capture.sticky_tags = table.sticky_tags.unwrap_or(capture.sticky_tags);
        self.ports(&table, capture);
        capture.cgroup_root = table.cgroup_root.map(|root| {
            let mut path = PathBuf::new();
            self.absolute(Some(root), &mut path);
            path
        });
        let treatments = [
            (table.no_sni, &mut capture.no_sni),
            (table.ech, &mut capture.ech),
            (table.foreign_sni, &mut capture.foreign_sni),
        ];
        for (word, treatment) in treatments {
            *treatment = word.map_or(*treatment, Treatment::from);
        }
        if let Some(words) = &table.passthrough_hosts {
            let passed = self.hosts(words);
            for (word, host) in passed.iter().filter(|(_, host)| hosts.contains(host)) {
                let message = format!("`{host}` is protected by `hosts`, so it cannot be passed through");
                self.findings.add(word.span(), message);
            }
            capture.passthrough_hosts = passed.into_iter().map(|(_, host)| host).collect();
        }
        if let Some(words) = &table.edge_prefixes {
            if words.as_ref().is_empty() {
                let message =
                    "`edge_prefixes = []` would let hidden names pass; name ranges, or remove the key";
                self.findings.add(words.span(), message);
            }
            capture.edge_prefixes = words.as_ref().iter().filter_map(|word| self.prefix(word)).collect();
        }
        if let Some(words) = &table.forward_proxies {
            let proxies = words.iter().filter_map(|word| self.forward_proxy(word));
            capture.forward_proxies = ForwardProxies::Listed(proxies.collect());
        }
        self.duration(table.peek_timeout.as_ref(), &mut capture.peek_timeout);
    }

    fn ports(&mut self, table: &CaptureTable, capture: &mut Capture) {
        let lists = [
            ("tls_ports", &table.tls_ports, &mut capture.tls_ports),
            ("plain_ports", &table.plain_ports, &mut capture.plain_ports),
        ];
        for (key, words, ports) in lists {
            let Some(words) = words else { continue };
            for port in words.as_ref().iter().filter(|port| *port.as_ref() == 0) {
                self.findings.add(port.span(), format!("port 0 in `{key}`; write 1 to 65535"));
            }
            *ports = words.as_ref().iter().map(|port| *port.as_ref()).collect();
        }
        if let Some(words) = table.tls_ports.as_ref().filter(|_| !capture.tls_ports.contains(&HTTPS)) {
            let message = "`tls_ports` without 443 would leave the API open at its own port; add 443";
            self.findings.add(words.span(), message);
        }
        if let Some(port) = capture.tls_ports.iter().find(|port| capture.plain_ports.contains(port)) {
            let span = table.tls_ports.as_ref().or(table.plain_ports.as_ref()).map(Spanned::span);
            let message = format!("port {port} stands in both `tls_ports` and `plain_ports`");
            self.findings.add(span.unwrap_or(0..0), message);
        }
    }

    fn socket_address(&mut self, word: &Spanned<String>) -> Option<SocketAddr> {
        let text: &String = word.as_ref();
        let parsed = text.parse();
        if parsed.is_err() {
            let message =
                format!("`{text}` is not an address with a port; write for example `127.0.0.1:9090`");
            self.findings.add(word.span(), message);
        }
        parsed.ok()
    }

    fn forward_proxy(&mut self, word: &Spanned<String>) -> Option<ForwardProxy> {
        let parsed = ForwardProxy::parse(word.as_ref());
        parsed.map_err(|error| self.findings.add(word.span(), error)).ok()
    }

    fn prefix(&mut self, word: &Spanned<String>) -> Option<IpNet> {
        let text: &String = word.as_ref();
        match text.parse::<IpNet>() {
            Ok(prefix) if prefix.trunc() == prefix => return Some(prefix),
            Ok(prefix) => {
                let message =
                    format!("`{text}` has bits beyond its prefix; did you mean `{}`?", prefix.trunc());
                self.findings.add(word.span(), message);
            }
            Err(_) => {
                let message = format!("`{text}` is not an address range; write for example `104.16.0.0/13`");
                self.findings.add(word.span(), message);
            }
        }
        None
    }

    fn audit(&mut self, table: AuditTable, config: &mut Config) {
        let is_stderr = |path: &Spanned<PathBuf>| path.as_ref() == Path::new("-");
        if table.path.as_ref().is_some_and(is_stderr) {
            config.audit.path = "-".into();
        } else {
            self.absolute(table.path, &mut config.audit.path);
        }
        config.audit.on_failure = match table.on_failure {
            Some(OnFailureWord::RefuseWrites) => OnAuditFailure::RefuseWrites,
            Some(OnFailureWord::RefuseAll) => OnAuditFailure::RefuseAll,
            None => config.audit.on_failure,
        };
        config.audit.sync = table.sync.unwrap_or(config.audit.sync);
        config.audit.journald = table.journald.unwrap_or(config.audit.journald);
        config.audit.otlp = table.otlp.and_then(|table| self.otlp(table));
        self.absolute(table.key, &mut config.audit.key);
        self.number("max_size_mib", table.max_size_mib, &mut config.audit.max_size_mib, 1..=1 << 20);
        self.number("max_age_days", table.max_age_days, &mut config.audit.max_age_days, 1..=3_650);
        let mut keep_files = config.audit.keep_files as u64;
        self.number("keep_files", table.keep_files, &mut keep_files, 0..=10_000);
        config.audit.keep_files = usize::try_from(keep_files).unwrap_or(usize::MAX);
    }

    fn number<N>(&mut self, key: &str, word: Option<Spanned<N>>, number: &mut N, range: RangeInclusive<N>)
    where
        N: Copy + PartialOrd + fmt::Display,
    {
        let Some(word) = word else { return };
        if !range.contains(word.as_ref()) {
            let (first, last) = range.into_inner();
            let message = format!("`{key} = {}` is out of range; write {first} to {last}", word.as_ref());
            self.findings.add(word.span(), message);
        }
        *number = word.into_inner();
    }

    fn duration(&mut self, word: Option<&Spanned<String>>, duration: &mut Duration) {
        let Some(word) = word else { return };
        match duration::parse(word.as_ref()) {
            Ok(parsed) => *duration = parsed,
            Err(error) => self.findings.add(word.span(), error),
        }
    }

    /// A relative path would mean another file for each place that the agent is started from.
    fn absolute(&mut self, word: Option<Spanned<PathBuf>>, path: &mut PathBuf) {
        let Some(word) = word else { return };
        if !word.as_ref().is_absolute() {
            let message = format!("`{}` is not an absolute path; begin it with `/`", word.as_ref().display());
            self.findings.add(word.span(), message);
        }
        *path = word.into_inner();
    }
}

#[cfg(test)]
mod tests;
