//! Passes on to the command the signals that reach tidegate, but for the hangup that asks tidegate to reload.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::{
    consts::signal,
    iterator::{Handle, SignalsInfo, exfiltrator::origin::WithOrigin},
    low_level::siginfo::{Cause, Origin, Sent},
};
use std::{
    fmt, fs, io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

/// Those that are passed on. Stop signals keep their default effect, so that job control stops tidegate together
/// with its command.
const FORWARDED: [i32; 9] = [
    signal::SIGHUP,
    signal::SIGINT,
    signal::SIGQUIT,
    signal::SIGTERM,
    signal::SIGUSR1,
    signal::SIGUSR2,
    signal::SIGALRM,
    signal::SIGWINCH,
    signal::SIGCONT,
];

/// Passes signals on as long as it lives.
pub struct Forwarder {
    handle: Handle,
    target: Arc<Mutex<Target>>,
    thread: Option<JoinHandle<()>>,
}

/// The command's process, and what came before there was one.
#[derive(Default)]
struct Target {
    command: Option<(i32, OwnedFd)>,
    waiting: Vec<Origin>,
}

impl Forwarder {
    /// Begins to catch signals; they wait until [`Self::attach`]. What the caller has ignored (nohup, a shell's
    /// background job) stays ignored, here and in the command. `on_hangup` is called for each SIGHUP that a
    /// process has sent, and answers whether it was meant for tidegate, so that the command does not get it.
    ///
    /// # Errors
    /// The handlers cannot be set.
    pub fn start(on_hangup: impl Fn() -> bool + Send + 'static) -> io::Result<Self> {
        let ignored = ignored(&fs::read_to_string("/proc/self/status")?);
        let signals = FORWARDED.iter().filter(|&&signal| ignored & (1 << (signal - 1)) == 0);
        let mut signals: SignalsInfo<WithOrigin> = SignalsInfo::new(signals)?;
        let handle = signals.handle();
        let target = Arc::new(Mutex::new(Target::default()));
        let shared = Arc::clone(&target);
        let thread = thread::Builder::new().name("signals".into()).spawn(move || {
            for origin in signals.forever() {
                if asks_to_reload(origin.signal, origin.cause) && on_hangup() {
                    continue;
                }
                let mut target = shared.lock().unwrap_or_else(PoisonError::into_inner);
                target.take(origin);
            }
        })?;
        Ok(Self { handle, target, thread: Some(thread) })
    }

    /// Names the command's process, a child that was not waited for yet.
    ///
    /// # Errors
    /// There is no such process.
    pub fn attach(&self, pid: u32) -> io::Result<()> {
        let raw = pid.cast_signed();
        let pid = Pid::from_raw(raw).ok_or(io::ErrorKind::InvalidInput)?;
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        target.command = Some((raw, handle));
        for origin in std::mem::take(&mut target.waiting) {
            target.take(origin);
        }
        Ok(())
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder").finish_non_exhaustive()
    }
}

impl Target {
    fn take(&mut self, origin: Origin) {
        let Some((pid, handle)) = &self.command else {
            self.waiting.push(origin);
            return;
        };
        let sender = origin.process.map(|process| process.pid);
        let signal = Signal::from_named_raw(origin.signal);
        if let Some(signal) = signal.filter(|_| is_news(origin.cause, sender, *pid)) {
            // A command that has ended needs no signal.
            let _ = pidfd_send_signal(handle, signal);
        }
    }
}

/// Whether a process has sent the signal by which daemons are told to read their files again. From the kernel it
/// means that the terminal is gone, which the command has been told as well.
fn asks_to_reload(signal: i32, cause: Cause) -> bool {
    signal == signal::SIGHUP && matches!(cause, Cause::Sent(Sent::User | Sent::TKill | Sent::Queue))
}

/// Whether the command has not had the signal itself. The terminal sends to the whole foreground group, and the
/// command knows what it has sent.
fn is_news(cause: Cause, sender: Option<i32>, command: i32) -> bool {
    cause != Cause::Kernel && sender != Some(command)
}

/// The `SigIgn` line of `/proc/PID/status`: bit n-1 is signal n.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case(Cause::Kernel, None, false; "from the terminal")]
    #[test_case(Cause::Sent(Sent::User), Some(1), true; "from another process")]
    #[test_case(Cause::Sent(Sent::User), Some(42), false; "from the command")]
    #[test_case(Cause::Sent(Sent::Queue), Some(1), true; "queued")]
    #[test_case(Cause::Unknown, None, true; "unknown")]
    fn only_what_the_command_has_not_had_is_passed_on(cause: Cause, sender: Option<i32>, expected: bool) {
        assert_eq!(is_news(cause, sender, 42), expected);
    }

    #[test_case(signal::SIGHUP, Cause::Sent(Sent::User), true; "kill")]
    #[test_case(signal::SIGHUP, Cause::Sent(Sent::TKill), true; "tkill")]
    #[test_case(signal::SIGHUP, Cause::Sent(Sent::Queue), true; "sigqueue")]
    #[test_case(signal::SIGHUP, Cause::Kernel, false; "the terminal is gone")]
    #[test_case(signal::SIGHUP, Cause::Unknown, false; "unknown")]
    #[test_case(signal::SIGUSR1, Cause::Sent(Sent::User), false; "another signal")]
    fn a_hangup_that_a_process_sends_asks_to_reload(signal: i32, cause: Cause, expected: bool) {
        assert_eq!(asks_to_reload(signal, cause), expected);
    }

    #[test]
    fn the_ignored_signals_are_read() {
        let ignored = ignored("Name:\tx\nSigBlk:\tffff\nSigIgn:\t0000000000001001\nSigCgt:\t0\n");
        assert_eq!(ignored, 1 << (signal::SIGHUP - 1) | 1 << (signal::SIGPIPE - 1));
    }
}
