//! The small process that takes the run down when tidegate was killed and could not do it itself.

use crate::run::{descriptors, directory::RunDirectory, sweep};
use nix::sys::signal::SigSet;
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, getppid, pidfd_open, pidfd_send_signal},
};
use std::{
    fmt,
    io::{self, BufRead, BufReader, Write},
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

/// The hidden subcommand that runs [`main`] with a run's directory.
pub const SUBCOMMAND: &str = "__reap";

/// What the reaper prints once it watches.
const READY: &str = "ready";
/// Between two attempts to start another reaper.
const RESTART_INTERVAL: Duration = Duration::from_millis(500);

/// Why there is no reaper.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be started or watched.
    #[error("cannot start the reaper, which would clean up after a killed tidegate")]
    Start(#[source] io::Error),
    /// It ended before it watched.
    #[error("the reaper, which would clean up after a killed tidegate, ended at once ({0})")]
    Ended(String),
}

/// A reaper at work, and the thread that starts another one should it die.
pub struct Reaper {
    current: Arc<Mutex<State>>,
    keeper: Option<JoinHandle<()>>,
}

struct State {
    /// Of the reaper at work.
    handle: Option<OwnedFd>,
    stopping: bool,
}

impl Reaper {
    /// Starts a reaper for the run at `directory` and returns once it watches.
    ///
    /// # Errors
    /// There is none.
    pub fn start(directory: &Path) -> Result<Self, Error> {
        let (child, handle) = spawn(directory)?;
        let current = Arc::new(Mutex::new(State { handle: Some(handle), stopping: false }));
        let (state, directory) = (Arc::clone(&current), directory.to_owned());
        let keeper = thread::Builder::new()
            .name("reaper-keeper".into())
            .spawn(move || keep(child, &directory, &state))
            .map_err(Error::Start)?;
        Ok(Self { current, keeper: Some(keeper) })
    }

    /// Ends the reaper, after the run was taken down or left for a sweep.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let mut state = locked(&self.current);
        state.stopping = true;
        if let Some(handle) = &state.handle {
            let _ = pidfd_send_signal(handle, Signal::KILL);
        }
        drop(state);
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Reaper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reaper").finish_non_exhaustive()
    }
}

/// The reaper process itself: waits for the end of its parent, then takes the run down.
pub fn main(directory: &Path) -> ExitCode {
    match reap(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(io::stderr(), "tidegate: the run {} stays: {message}", directory.display());
            ExitCode::FAILURE
        }
    }
}

fn reap(directory: &Path) -> Result<(), String> {
    // An own session and no signals: neither the terminal nor a stop of the unit ends the reaper before its job.
    let _ = nix::unistd::setsid();
    SigSet::all().thread_block().map_err(|error| error.to_string())?;
    descriptors::close_all().map_err(|error| error.to_string())?;
    let Some(run) = RunDirectory::join(directory).map_err(|error| chain(&error))? else { return Ok(()) };
    let record = run.record().map_err(|error| chain(&error))?;
    let watched = getppid().filter(|pid| record.is_none_or(|record| record.pid == pid.as_raw_pid()));
    if let Some(pid) = watched {
        wait_for_end(pid).map_err(|error| error.to_string())?;
    }
    sweep::teardown(&run).map_err(|error| chain(&error))
}

/// Returns at once where `pid`, the parent, has died before its handle was opened.
fn wait_for_end(pid: Pid) -> io::Result<()> {
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if getppid() != Some(pid) {
        return Ok(());
    }
    // tidegate may be gone by now; what matters is the handle.
    let _ = writeln!(io::stdout(), "{READY}");
    loop {
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], None) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn spawn(directory: &Path) -> Result<(Child, OwnedFd), Error> {
    let mut child = Command::new("/proc/self/exe")
        .arg(SUBCOMMAND)
        .arg(directory)
        // Tokens of the caller's environment have no place in a second process.
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Error::Start)?;
    let mut line = String::new();
    let read = child.stdout.take().map(|output| BufReader::new(output).read_line(&mut line));
    if line.trim_end() == READY
        && let Some(pid) = Pid::from_raw(child.id().cast_signed())
    {
        let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| Error::Start(errno.into()))?;
        return Ok((child, handle));
    }
    if let Some(Err(error)) = read {
        return Err(Error::Start(error));
    }
    let status = child.wait().map_err(Error::Start)?;
    Err(Error::Ended(status.to_string()))
}

fn keep(mut child: Child, directory: &Path, current: &Mutex<State>) {
    loop {
        let ended = child.wait();
        let mut state = locked(current);
        state.handle = None;
        if state.stopping {
            return;
        }
        tracing::warn!(?ended, "the reaper has died; starting another");
        loop {
            match spawn(directory) {
                Ok((next, handle)) => {
                    state.handle = Some(handle);
                    child = next;
                    break;
                }
                Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "no reaper"),
            }
            drop(state);
            thread::sleep(RESTART_INTERVAL);
            state = locked(current);
            if state.stopping {
                return;
            }
        }
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
