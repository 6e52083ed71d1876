//! The canary's process: it enters the cgroup, gives up what root may do, and tries.

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::{
    process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal},
    thread::set_no_new_privs,
};
use serde::{Deserialize, Serialize};
use std::{
    fmt, fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    process::ExitCode,
    time::Duration,
};

/// The hidden subcommand that runs [`main`] with the canary's cgroup; standard input tells what to try.
pub const SUBCOMMAND: &str = "__canary";

/// The user and group of nobody. What it may do as root ends before it touches the network.
const NOBODY: u32 = 65_534;

/// For a connect, and for an answer.
const PATIENCE: Duration = Duration::from_secs(1);

const MAX_TASK_BYTES: u64 = 16 << 10;

/// As much of an answer as is told.
const MAX_ANSWER_BYTES: u64 = 256;

/// How to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A TCP connection, which must be captured.
    Stream,
    /// A TCP connection, which must be refused.
    RefusedStream,
    /// A datagram from a socket without a destination of its own.
    Datagram,
    /// A datagram from a socket that has connected.
    ConnectedDatagram,
}

/// What to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Attempt {
    /// How.
    pub kind: Kind,
    /// Where.
    pub to: SocketAddr,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It connected and read this.
    Answered {
        /// Up to the end of the connection.
        text: String,
    },
    /// It was sent.
    Sent,
    /// It connected, and then nothing came.
    Silence,
    /// The kernel refused, with this error's number; 0 where it has none, as for an attempt that took too long.
    Failed {
        /// The number.
        errno: i32,
    },
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Stream | Kind::RefusedStream => "a TCP connection",
            Kind::Datagram => "a UDP datagram",
            Kind::ConnectedDatagram => "a datagram of a connected UDP socket",
        };
        write!(f, "{what} to {}", self.to)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { text } if text.is_empty() => f.write_str("it was closed without an answer"),
            Self::Answered { .. } => f.write_str("somebody else answered"),
            Self::Sent => f.write_str("it was sent"),
            Self::Silence => f.write_str("it was connected and got no answer"),
            Self::Failed { errno: 0 } => f.write_str("it took too long"),
            Self::Failed { errno } => write!(f, "{}", io::Error::from_raw_os_error(*errno)),
        }
    }
}

/// The process itself.
pub fn main(cgroup: &Path) -> ExitCode {
    match attempt_all(cgroup) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "tidegate: the canary cannot do its work: {error}");
            ExitCode::FAILURE
        }
    }
}

fn attempt_all(cgroup: &Path) -> io::Result<()> {
    let mut task = Vec::new();
    io::stdin().take(MAX_TASK_BYTES).read_to_end(&mut task)?;
    let attempts: Vec<Attempt> = serde_json::from_slice(&task)?;
    fs::write(cgroup.join("cgroup.procs"), "0")?;
    give_up_privileges()?;
    let outcomes: Vec<Outcome> = attempts.iter().map(attempt).collect();
    io::stdout().write_all(&serde_json::to_vec(&outcomes)?)
}

fn give_up_privileges() -> io::Result<()> {
    std::env::set_current_dir("/")?;
    setgroups(&[])?;
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    set_no_new_privs(true)?;
    // The word that it reads is nobody else's, not even that of other processes of this user.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // After the change of user, which would undo it.
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

fn attempt(attempt: &Attempt) -> Outcome {
    let result = match attempt.kind {
        Kind::Stream | Kind::RefusedStream => stream(attempt.to),
        Kind::Datagram => {
            socket(attempt.to).and_then(|socket| socket.send_to(b"canary", attempt.to)).map(sent)
        }
        Kind::ConnectedDatagram => socket(attempt.to)
            .and_then(|socket| socket.connect(attempt.to).and_then(|()| socket.send(b"canary")))
            .map(sent),
    };
    result.unwrap_or_else(|error| Outcome::Failed { errno: error.raw_os_error().unwrap_or(0) })
}

fn sent(_bytes: usize) -> Outcome {
    Outcome::Sent
}

fn socket(to: SocketAddr) -> io::Result<UdpSocket> {
    if to.is_ipv4() {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
    } else {
        UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
    }
}

fn stream(to: SocketAddr) -> io::Result<Outcome> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    let read = stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer);
    let is_silent = read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    if is_silent && answer.is_empty() {
        return Ok(Outcome::Silence);
    }
    Ok(Outcome::Answered { text: String::from_utf8_lossy(&answer).into_owned() })
}
