//! How the process that serves comes to be: by the service manager, as a service of its own, or as a child.

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, socketpair};
use std::{
    env, io,
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The variable that names the service manager's socket: whoever connects to it has such a process at the other end.
const SOCKET: &str = "TIDEGATE_PROXY_SOCKET";
/// What a child may know of its surroundings.
const VARIABLES: [&str; 3] = ["TIDEGATE_LOG", "SSL_CERT_FILE", "SSL_CERT_DIR"];
/// How long a child that has said its last word may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// A child.
#[derive(Debug)]
pub(super) struct Spawned(Child);

/// The other end's socket, and the process where it is a child.
pub(super) fn spawn() -> io::Result<(OwnedFd, Option<Spawned>)> {
    if let Some(path) = env::var_os(SOCKET) {
        let path = PathBuf::from(path);
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let connected = SocketAddrUnix::new(&path).and_then(|address| connect(&socket, &address));
        connected.map_err(|errno| {
            io::Error::other(format!("{SOCKET}: cannot connect to `{}`: {errno}", path.display()))
        })?;
        return Ok((socket, None));
    }
    let (own, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let variables = VARIABLES.into_iter().filter_map(|name| Some((name, env::var_os(name)?)));
    let child = Command::new("/proc/self/exe")
        .arg("proxy")
        .env_clear()
        .envs(variables)
        .stdin(Stdio::from(other))
        .stdout(Stdio::null())
        .spawn()?;
    Ok((own, Some(Spawned(child))))
}

impl Spawned {
    /// Waits until it is gone, and ends it where it stays.
    pub(super) fn end(mut self) {
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.0.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                // It is gone already where this fails.
                let _ended = self.0.kill().and_then(|()| self.0.wait());
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
