//! Where everything is measured: a private world with one upstream, cores for each side, and cgroups for each role.

use anyhow::{Context as _, Result};
use rcgen::{CertificateParams, DnType, KeyPair};
use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};
use tidegate_tests::{
    certificates::Authority,
    cgroup::Cgroup,
    netns::{
        World,
        addresses::{API, API_NAME, OTHER, OTHER_NAME},
    },
    process::{Process, wait_until},
};

/// The only core that a proxy has.
const PROXY_CORE: &str = "0";
/// The name of the certificate that peers show and that which signs it.
const AUTHORITY: &str = "tidegate benchmark CA";

/// The body of the smallest answer.
const SMALL: &str = "/v2/droplets";
/// Of 1 MiB.
const MEDIUM: &str = "/v2/images";
/// Of 100 MiB.
const LARGE: &str = "/v2/snapshots";

/// What a request asks for.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Kib,
    Mib,
    HundredMib,
}

impl Answer {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Kib => SMALL,
            Self::Mib => MEDIUM,
            Self::HundredMib => LARGE,
        }
    }

    fn bytes(self) -> u64 {
        match self {
            Self::Kib => 1 << 10,
            Self::Mib => 1 << 20,
            Self::HundredMib => 100 << 20,
        }
    }
}

/// Who belongs where.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    /// Clients that no agent captures.
    Load,
    /// Clients that tidegate captures.
    Workload,
    /// A peer, and tidegate.
    Proxy,
}

/// The world, its upstream and the files that peers need.
pub(crate) struct Place {
    upstream: Process,
    world: World,
    /// What tidegate is attached at, so that its hooks cost the peers nothing.
    gate: Cgroup,
    load: Cgroup,
    workload: Cgroup,
    proxy: Cgroup,
    pub(crate) mitmdump: Option<PathBuf>,
}

impl Place {
    pub(crate) fn new(mitmdump: Option<PathBuf>) -> Result<Self> {
        let world = World::ipv4_only()?;
        let cgroup = world.cgroup().clone();
        let gate = cgroup.child("gate")?;
        let [load, behind] = ["load", "upstream"].map(|name| cgroup.child(name));
        let [workload, proxy] = ["workload", "proxy"].map(|name| gate.child(name));
        certificates(world.directory())?;
        // Peers that give up root still read their files.
        fs::set_permissions(world.directory(), fs::Permissions::from_mode(0o755))?;
        let (load, behind) = (load?, behind?);
        // Connections that have ended would otherwise take all ports.
        // nginx makes directories there whatever it is told, and the world's is empty.
        let ports = "mkdir /var/lib/nginx; echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse; \
                     echo '1024 65000' >/proc/sys/net/ipv4/ip_local_port_range; \
                     echo 16384 >/proc/sys/net/core/somaxconn";
        let set = world.command(&["sh", "-ec", ports]).status().context("setting the world's ports")?;
        anyhow::ensure!(set.success(), "the world's ports cannot be set");
        let upstream = upstream(&world, &behind)?;
        Ok(Self { upstream, gate, load, workload: workload?, proxy: proxy?, world, mitmdump })
    }

    /// The world's directory.
    pub(crate) fn directory(&self) -> &Path {
        self.world.directory()
    }

    /// A file below it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        self.world.write(name, content)
    }

    /// What tidegate is attached at.
    pub(crate) fn gate(&self) -> &Cgroup {
        &self.gate
    }

    /// What its workload is.
    pub(crate) fn workload(&self) -> &Cgroup {
        &self.workload
    }

    /// All processes of the peer that is being measured.
    pub(crate) fn proxy(&self) -> &Cgroup {
        &self.proxy
    }

    /// A command on its role's core.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, role: Role, line: &[S]) -> Command {
        let (cgroup, cores) = match role {
            Role::Load => (&self.load, other_cores()),
            Role::Workload => (&self.workload, other_cores()),
            Role::Proxy => (&self.proxy, PROXY_CORE.to_owned()),
        };
        pinned(&self.world, cgroup, &cores, line)
    }

    /// As [`Place::command`], of this program's own subcommands.
    pub(crate) fn own(&self, role: Role, line: &[&str]) -> Result<Command> {
        let program = env::current_exe().context("finding this program's own path")?;
        let mut words = vec![program.as_os_str()];
        words.extend(line.iter().map(OsStr::new));
        Ok(self.command(role, &words))
    }

    /// Whether the upstream is still there.
    pub(crate) fn check(&mut self) -> Result<()> {
        anyhow::ensure!(self.upstream.ended()?.is_none(), "the upstream ended: {}", self.upstream.stderr()?);
        Ok(())
    }

    /// Ends everything, and says what was left behind.
    pub(crate) fn close(mut self) -> Result<()> {
        self.check()?;
        drop(self.upstream);
        self.world.close()
    }
}

fn pinned<S: AsRef<OsStr>>(world: &World, cgroup: &Cgroup, cores: &str, line: &[S]) -> Command {
    let mut command = world.command_in(cgroup, &["taskset", "--cpu-list", cores]);
    command.args(line);
    command
}

/// Those that no proxy runs on.
fn other_cores() -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 { PROXY_CORE.to_owned() } else { format!("1-{}", cores - 1) }
}

/// `ca.pem`, `upstream.pem` and `upstream.key` for both names, `static.pem` with its key, and `signing.pem`, an
/// authority with its key.
fn certificates(directory: &Path) -> Result<()> {
    let authority = Authority::new(AUTHORITY)?;
    fs::write(directory.join("ca.pem"), authority.pem())?;
    let issue = |names: &[&str]| -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.use_authority_key_identifier_extension = true;
        Ok((params.signed_by(&key, authority.issuer())?.pem(), key.serialize_pem()))
    };
    let (certificate, key) = issue(&[API_NAME, OTHER_NAME])?;
    fs::write(directory.join("upstream.pem"), certificate)?;
    fs::write(directory.join("upstream.key"), key)?;
    let (certificate, key) = issue(&[API_NAME])?;
    fs::write(directory.join("static.pem"), certificate + &key)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, AUTHORITY);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key)?.pem();
    fs::write(directory.join("signing-ca.pem"), &certificate)?;
    Ok(fs::write(directory.join("signing.pem"), certificate + &key.serialize_pem())?)
}

/// nginx as the API and as another host.
fn upstream(world: &World, cgroup: &Cgroup) -> Result<Process> {
    let directory = world.directory().display().to_string();
    let answers = [Answer::Kib, Answer::Mib, Answer::HundredMib];
    let mut locations = String::new();
    for answer in answers {
        let file = world.directory().join(format!("answer-{}", answer.bytes()));
        // Holes: what the bytes are does not matter to anybody here.
        File::create(&file)?.set_len(answer.bytes())?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
        locations += &format!("location = {} {{ alias {}; }}\n", answer.path(), file.display());
    }
    let config = UPSTREAM
        .replace("DIRECTORY", &directory)
        .replace("LOCATIONS", &locations)
        .replace("API:443", &format!("{API}:443"))
        .replace("OTHER:443", &format!("{OTHER}:443"));
    let config = world.write("upstream.conf", config)?.display().to_string();
    let line = ["nginx", "-e", "stderr", "-p", directory.as_str(), "-c", config.as_str()];
    let mut process = Process::start(&mut pinned(world, cgroup, &other_cores(), &line), world.directory())?;
    wait_until("an answer of the upstream", Duration::from_secs(20), || {
        anyhow::ensure!(process.ended()?.is_none(), "nginx ended: {}", process.stderr()?);
        let url = format!("https://{API_NAME}{SMALL}");
        let curl = world
            .command(&["curl", "--silent", "--fail", "--output", "/dev/null", "--insecure", &url])
            .status();
        Ok(curl?.success())
    })?;
    Ok(process)
}

const UPSTREAM: &str = r"
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid DIRECTORY/upstream.pid;
error_log stderr error;
events { worker_connections 19000; }
http {
    access_log off;
    default_type application/json;
    sendfile on;
    tcp_nopush on;
    open_file_cache max=16 inactive=1h;
    open_file_cache_valid 1h;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_header_timeout 1h;
    http2_max_concurrent_streams 1024;
    ssl_protocols TLSv1.3;
    ssl_certificate DIRECTORY/upstream.pem;
    ssl_certificate_key DIRECTORY/upstream.key;
    server {
        listen API:443 ssl http2 backlog=16384;
        LOCATIONS
    }
    server {
        listen OTHER:443 ssl http2 backlog=16384;
        LOCATIONS
    }
}
";
