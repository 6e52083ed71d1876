//! Private worlds for kernel tests: a network and a mount namespace, a cgroup and a directory, all of which end
//! with the test, however it ends.
//!
//! In a world every address is local (routes of type `local` on `lo`), so nothing leaves the machine and a
//! stand-in can have any address. Names come from the world's own `/etc/hosts`; `/run`, `/var/lib` and
//! `/sys/fs/bpf` are the world's own too.

pub mod addresses;

use crate::{cgroup::Cgroup, programs};
use anyhow::{Context as _, Result, ensure};
use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    net::IpAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// Sets the namespaces up, says so, and waits for its standard input to end: then, and also when the test was
/// killed, it ends every process of the world and removes cgroup and directory. $1 cgroup, $2 directory, $3 IPv6.
const HOLDER: &str = r#"
set -eu
trap '' INT TERM HUP
mount --bind "$2/hosts" /etc/hosts
if [ -e /etc/nsswitch.conf ]; then
    printf 'passwd: files\ngroup: files\nhosts: files\n' >"$2/nsswitch.conf"
    mount --bind "$2/nsswitch.conf" /etc/nsswitch.conf
fi
mount -t tmpfs tmpfs /run
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmpfs /var/lib
ip link set lo up
ip address add 198.18.0.1/32 dev lo
ip route add local default dev lo src 198.18.0.1
if [ "$3" = yes ]; then
    echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind
    ip address add 2001:db8:ffff::1/128 dev lo nodad
    ip -6 route add local default dev lo src 2001:db8:ffff::1
fi
echo ready
while read -r line; do :; done
set +e
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    find "$1" -name cgroup.procs -exec cat {} + | xargs -r kill -KILL 2>/dev/null
    find "$1" -depth -type d -exec rmdir {} + 2>/dev/null
    if [ ! -d "$1" ]; then break; fi
    sleep 0.05
done
rm -rf "$2"
[ ! -d "$1" ]
"#;

/// Moves itself into the cgroup $1, and becomes the rest of its arguments.
const ENTER: &str = r#"echo 0 >"$1/cgroup.procs" || exit 125; shift; exec "$@""#;

/// A private world.
#[derive(Debug)]
pub struct World {
    holder: Child,
    cgroup: Cgroup,
    neighbours: Cgroup,
    directory: PathBuf,
    ipv6: bool,
}

impl World {
    /// A world with IPv4 and IPv6 and the names of [`addresses::NAMES`].
    ///
    /// # Errors
    /// When the caller is not root or the machine lacks what a world needs.
    pub fn new() -> Result<Self> {
        Self::with_ipv6(true)
    }

    /// As [`World::new`], without a route of IPv6.
    ///
    /// # Errors
    /// As [`World::new`].
    pub fn ipv4_only() -> Result<Self> {
        Self::with_ipv6(false)
    }

    fn with_ipv6(ipv6: bool) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "this test needs root (namespaces, cgroups and eBPF): run it as root, or leave it out by name"
        );
        let directory = tempfile::Builder::new().prefix("tidegate-test-").tempdir()?.keep();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // A slice's name, so that what looks like a unit in it is one.
        let cgroup = Cgroup::create(&format!("tidegate-test-{}-{number}.slice", std::process::id()))?;
        let neighbours = cgroup.child("neighbours")?;
        fs::write(directory.join("hosts"), hosts_file(addresses::NAMES, ipv6)?)?;
        let holder = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private", "--", "sh", "-c", HOLDER, "world"])
            .args([cgroup.path(), &directory])
            .arg(if ipv6 { "yes" } else { "no" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Its own process group: an interrupt from the keyboard must not keep it from cleaning up.
            .process_group(0)
            .spawn()
            .context("starting `unshare` (package util-linux)")?;
        let mut world = Self { holder, cgroup, neighbours, directory, ipv6 };
        let stdout = world.holder.stdout.take().context("the world's standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line == "ready\n", "the private world could not be set up; its messages are above");
        Ok(world)
    }

    /// A directory of the world's own.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The tree of files as the world's processes see it.
    pub fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.holder.id()).into()
    }

    /// The cgroup that all of the world's processes are in or below.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Whether IPv6 addresses have a route.
    pub fn has_ipv6(&self) -> bool {
        self.ipv6
    }

    /// Writes a file into the world's directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.directory.join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Changes what names resolve to, also for programs that run already.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_names(&self, names: &[(IpAddr, &str)]) -> Result<()> {
        // Written in place: a bind mount follows the inode.
        Ok(fs::write(self.directory.join("hosts"), hosts_file(names, self.ipv6)?)?)
    }

    /// A command in the world that no agent captures.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        self.command_in(&self.neighbours, arguments)
    }

    /// A command in the world, in this cgroup.
    pub fn command_in<S: AsRef<OsStr>>(&self, cgroup: &Cgroup, arguments: &[S]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.holder.id()))
            .args(["--net", "--mount", "--", "sh", "-c", ENTER, "enter"])
            .arg(cgroup.path())
            .args(arguments);
        programs::plain_environment(&mut command, &self.directory);
        command
    }

    /// Ends the world as dropping it does, and says when something was left behind.
    ///
    /// # Errors
    /// When a process or cgroup of the world could not be removed.
    pub fn close(mut self) -> Result<()> {
        let status = self.end()?;
        ensure!(status.success(), "the world left its cgroup {} behind", self.cgroup.path().display());
        Ok(())
    }

    fn end(&mut self) -> std::io::Result<std::process::ExitStatus> {
        drop(self.holder.stdin.take());
        self.holder.wait()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.end();
        // Only where the holder never came as far as its own clean-up.
        let _ = fs::remove_dir(self.neighbours.path());
        let _ = fs::remove_dir(self.cgroup.path());
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn hosts_file(names: &[(IpAddr, &str)], ipv6: bool) -> Result<String> {
    let mut text = String::from("127.0.0.1 localhost\n");
    if ipv6 {
        text.push_str("::1 localhost\n");
    }
    for (address, name) in names.iter().filter(|(address, _)| ipv6 || address.is_ipv4()) {
        writeln!(text, "{address} {name}")?;
    }
    Ok(text)
}
