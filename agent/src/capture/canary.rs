//! The canary: proof that what a subject sends is captured, by a subject of the agent's own that tries.
//!
//! In each network namespace that has a listener, a process without privileges enters a cgroup that is listed as a
//! subject, and connects to where only the gate can answer. The gate knows its connections by that cgroup, which
//! no workload can choose, and answers with a word that nobody else knows.

pub mod probe;

use super::{Captured, address::plain};
use aws_lc_rs::rand;
use probe::{Attempt, Kind, Outcome};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, retry_on_intr},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tidegate_ebpf_common::Flow;
use tokio::io::AsyncWriteExt;

/// The cgroup's name, below the one that the programs are attached to.
pub const CGROUP: &str = "tidegate-canary";

/// For the whole process; each of its attempts has less.
const PATIENCE: Duration = Duration::from_secs(10);

/// More than the outcomes of all attempts.
const MAX_OUTPUT_BYTES: usize = 16 << 10;

/// A port that nobody needs to reach at a protected address, unless it is captured.
const DISCARD: u16 = 9;

/// The agent's own subject.
#[derive(Debug)]
pub struct Canary {
    cgroup: PathBuf,
    cgroup_id: u64,
    program: PathBuf,
    /// Empty while nothing is being tried.
    word: Mutex<String>,
    turn: Mutex<()>,
}

/// What to try in a network namespace.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// The namespace; None is the calling thread's.
    pub namespace: Option<BorrowedFd<'a>>,
    /// Whether it has a listener for IPv4.
    pub v4: bool,
    /// Whether it has a listener for IPv6.
    pub v6: bool,
    /// The captured ports.
    pub ports: &'a [u16],
    /// Whether these count only at protected addresses.
    pub targeted: bool,
    /// Addresses of which every other port is refused, if any is known.
    pub protected: &'a [IpAddr],
}

/// Why capture cannot be relied upon.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A connection did not come to this agent.
    #[error("{attempt} did not come to this agent: {outcome}")]
    NotCaptured {
        /// What was tried.
        attempt: Attempt,
        /// What came of it.
        outcome: Outcome,
    },
    /// What must be refused was not.
    #[error("{attempt} was not refused: {outcome}")]
    NotRefused {
        /// What was tried.
        attempt: Attempt,
        /// What came of it.
        outcome: Outcome,
    },
    /// Nothing could be tried.
    #[error("cannot {action}, so nobody knows whether subjects are captured")]
    NotTried {
        /// What failed.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// In targeted mode, nothing is captured before an address is known.
    #[error("no address of a protected host is known, so nothing is captured in targeted mode")]
    NoTarget,
}

impl Failure {
    /// Whether nothing at all leaves from there, to the gate or past it.
    pub fn is_shut(&self) -> bool {
        let Self::NotCaptured { outcome: Outcome::Failed { errno }, .. } = self else { return false };
        [Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::NETDOWN]
            .iter()
            .any(|shut| shut.raw_os_error() == *errno)
    }
}

impl Canary {
    /// Makes the canary's cgroup below `root`, where the programs are attached, or takes the one that is there.
    /// It must then be made a subject.
    ///
    /// # Errors
    /// When the cgroup cannot be made.
    pub fn new(root: &Path) -> io::Result<Self> {
        Self::with_program(root, "/proc/self/exe".into())
    }

    /// As [`Canary::new`], for a process that is not `tidegate` itself but knows where it is.
    ///
    /// # Errors
    /// As [`Canary::new`].
    pub fn with_program(root: &Path, program: PathBuf) -> io::Result<Self> {
        let cgroup = root.join(CGROUP);
        match fs::create_dir(&cgroup) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let cgroup_id = fs::metadata(&cgroup)?.ino();
        Ok(Self { cgroup, cgroup_id, program, word: Mutex::default(), turn: Mutex::default() })
    }

    /// Removes the cgroup of a canary below `root`, for when nothing is to be proven any more; none is fine.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(root: &Path) -> io::Result<()> {
        match fs::remove_dir(root.join(CGROUP)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The cgroup to make a subject.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Whether a connection, or a refusal of the kernel side, is the canary's and no workload's.
    pub fn is_own(&self, flow: &Flow) -> bool {
        flow.origin.cgroup_id == self.cgroup_id
    }

    /// Answers one of the canary's connections, and closes it.
    pub async fn answer(&self, mut captured: Captured) {
        let word = self.word().clone();
        let line = if word.is_empty() { String::new() } else { answer(&word, captured.destination.0) };
        let told = async {
            captured.stream.write_all(line.as_bytes()).await?;
            captured.stream.shutdown().await
        };
        if let Err(error) = told.await {
            tracing::debug!(%error, "the canary does not listen");
        }
    }

    /// Tries everything that the plan says. It blocks, for milliseconds where all is well and for seconds where
    /// not, and the gate must be answering meanwhile. One namespace is tried at a time.
    ///
    /// # Errors
    /// With the first attempt that did not end as it must.
    pub fn probe(&self, plan: &Plan<'_>) -> Result<(), Failure> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let not_tried = |action| move |source| Failure::NotTried { action, source };
        let mut random = [0; 32];
        rand::fill(&mut random).map_err(|_| not_tried("have random bytes")(io::Error::other("none")))?;
        let (word, address) = random.split_at(16);
        let word: String = word.iter().map(|byte| format!("{byte:02x}")).collect();
        let attempts = attempts(plan, address)?;

        self.word().clone_from(&word);
        let outcomes = self.run(plan.namespace, &attempts);
        self.word().clear();
        let outcomes = outcomes.map_err(not_tried("run the canary"))?;
        if outcomes.len() != attempts.len() {
            return Err(not_tried("understand the canary")(io::Error::other("it left something out")));
        }
        attempts.into_iter().zip(outcomes).try_for_each(|(attempt, outcome)| judge(attempt, outcome, &word))
    }

    fn word(&self) -> std::sync::MutexGuard<'_, String> {
        self.word.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the process from a thread of the namespace, which it inherits.
    fn run(&self, namespace: Option<BorrowedFd<'_>>, attempts: &[Attempt]) -> io::Result<Vec<Outcome>> {
        thread::scope(|scope| {
            let attempt = || {
                if let Some(namespace) = namespace {
                    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
                }
                let mut child = Command::new(&self.program)
                    .arg(probe::SUBCOMMAND)
                    .arg(&self.cgroup)
                    .env_clear()
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()?;
                let told = converse(&mut child, &serde_json::to_vec(attempts)?);
                Ok((child, told))
            };
            let attempted = scope.spawn(attempt).join();
            let (mut child, told) =
                attempted.unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))?;
            end(&mut child)?;
            Ok(serde_json::from_slice(&told?)?)
        })
    }
}

/// Whatever it does now matters no more. The thread that has made it is gone, with which the kernel ends it; until it has
/// asked for that it is of the agent's own user, who can end it himself.
fn end(child: &mut Child) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            return child.kill().and_then(|()| child.wait()).map(drop);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Gives the process its task and reads its answer to the end.
fn converse(child: &mut Child, task: &[u8]) -> io::Result<Vec<u8>> {
    let missing = || io::Error::other("it has no pipes");
    // Far less than a pipe holds, so this does not wait.
    child.stdin.take().ok_or_else(missing)?.write_all(task)?;
    let mut output = child.stdout.take().ok_or_else(missing)?;
    let deadline = Instant::now() + PATIENCE;
    let mut told = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut watched = [PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN)];
        if retry_on_intr(|| poll(&mut watched, Some(&left)))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let read = output.read(&mut buffer)?;
        told.extend(buffer.get(..read).unwrap_or_default());
        if read == 0 {
            return Ok(told);
        }
        if told.len() > MAX_OUTPUT_BYTES {
            return Err(io::Error::other("it says too much"));
        }
    }
}

/// What the gate answers: the word, and where it understood that the connection was meant to go.
fn answer(word: &str, destination: SocketAddr) -> String {
    format!("{word} {destination}\n")
}

/// What must land on the listener, and what must be refused.
fn attempts(plan: &Plan<'_>, random: &[u8]) -> Result<Vec<Attempt>, Failure> {
    let port = *plan.ports.first().unwrap_or(&443);
    let is_free = |port: &u16| !plan.ports.contains(port);
    let mut attempts = Vec::new();
    for (v6, there) in [(false, plan.v4), (true, plan.v6)] {
        if !there {
            continue;
        }
        let protected = plan.protected.iter().copied().map(plain).find(|address| address.is_ipv6() == v6);
        // Nothing answers at the first, so that a leak is told by its refusal: in strict mode nothing needs to
        // leave this machine for it.
        let target = match (plan.targeted, v6) {
            (true, _) => protected,
            (false, false) => Some(unused_v4(random)),
            (false, true) => Some(Ipv6Addr::LOCALHOST.into()),
        };
        if let Some(ip) = target {
            let to = SocketAddr::new(ip, port);
            attempts.extend(
                [Kind::Stream, Kind::Datagram, Kind::ConnectedDatagram].map(|kind| Attempt { kind, to }),
            );
            if let IpAddr::V4(ip) = ip {
                let to = SocketAddr::new(ip.to_ipv6_mapped().into(), port);
                attempts.extend([Kind::Stream, Kind::Datagram].map(|kind| Attempt { kind, to }));
            }
        }
        if let (Some(ip), Some(port)) = (protected, (DISCARD..u16::MAX).find(is_free)) {
            let to = SocketAddr::new(ip, port);
            attempts.extend([Kind::RefusedStream, Kind::Datagram].map(|kind| Attempt { kind, to }));
        }
    }
    // What matters most is told first.
    attempts.sort_by_key(|attempt| attempt.kind != Kind::Stream);
    let is_blind = plan.targeted && attempts.is_empty() && (plan.v4 || plan.v6);
    if is_blind { Err(Failure::NoTarget) } else { Ok(attempts) }
}

/// An address of this machine's loopback network at which nobody expects anything.
fn unused_v4(random: &[u8]) -> IpAddr {
    // From 1 to 254 each, so that it is neither the usual 127.0.0.x nor a network's or broadcast address.
    let byte = |index: usize| random.get(index).map_or(77, |byte| byte % 254 + 1);
    Ipv4Addr::new(127, byte(0), byte(1), byte(2)).into()
}

fn judge(attempt: Attempt, outcome: Outcome, word: &str) -> Result<(), Failure> {
    let is_good = match (&attempt.kind, &outcome) {
        // Where sockets of the family cannot be made, there is nothing to capture.
        (_, Outcome::Failed { errno }) if *errno == Errno::AFNOSUPPORT.raw_os_error() => attempt.to.is_ipv6(),
        (Kind::Stream, Outcome::Answered { text }) => {
            let meant = SocketAddr::new(plain(attempt.to.ip()), attempt.to.port());
            *text == answer(word, meant)
        }
        (Kind::Stream, _) => false,
        (Kind::RefusedStream | Kind::Datagram | Kind::ConnectedDatagram, Outcome::Failed { errno }) => {
            *errno == Errno::PERM.raw_os_error()
        }
        (Kind::RefusedStream | Kind::Datagram | Kind::ConnectedDatagram, _) => false,
    };
    match attempt.kind {
        _ if is_good => Ok(()),
        Kind::Stream => Err(Failure::NotCaptured { attempt, outcome }),
        Kind::RefusedStream | Kind::Datagram | Kind::ConnectedDatagram => {
            Err(Failure::NotRefused { attempt, outcome })
        }
    }
}

#[cfg(test)]
mod tests;
