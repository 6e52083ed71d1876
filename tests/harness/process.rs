//! Processes that a test watches: output in files, every wait bounded.

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fmt,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How many times longer than elsewhere everything may take: a virtual machine without KVM is that slow.
pub fn patience() -> u32 {
    if std::env::var_os("TIDEGATE_VM").is_some() { 10 } else { 1 }
}

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// What a process left.
#[derive(Clone)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, as far as it is text.
    pub stderr: String,
}

impl Process {
    /// Starts a command with its output in new files of this directory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command, directory: &Path) -> Result<Self> {
        let file = |kind: &str| -> Result<PathBuf> {
            let file = tempfile::Builder::new().prefix(kind).tempfile_in(directory);
            Ok(file.context("making a file for a process's output")?.into_temp_path().keep()?)
        };
        let (stdout, stderr) = (file("stdout-")?, file("stderr-")?);
        command.stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        Ok(Self { child, stdout, stderr })
    }

    /// Runs a command to its end with nothing on its standard input.
    ///
    /// # Errors
    /// When it cannot be started, or takes longer than this.
    pub fn run(command: &mut Command, directory: &Path, limit: Duration) -> Result<Finished> {
        Self::start(command.stdin(Stdio::null()), directory)?.finish(limit)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The end of its standard input, once, if it was piped.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Its standard output so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn stdout(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.stdout)?).into_owned())
    }

    /// Its standard error so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn stderr(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.stderr)?).into_owned())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, signal).with_context(|| format!("sending {signal} to {pid}"))
    }

    /// How it ended, where it has.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until its standard output holds this text.
    ///
    /// # Errors
    /// When the process ends before, or it takes longer than this.
    pub fn wait_for_output(&mut self, text: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit * patience();
        loop {
            let ended = self.child.try_wait()?;
            if self.stdout()?.contains(text) {
                return Ok(());
            }
            if let Some(status) = ended {
                bail!("ended ({status}) before it wrote `{text}`: {}{}", self.stdout()?, self.stderr()?);
            }
            if Instant::now() > deadline {
                bail!("did not write `{text}` within {limit:?}: {}{}", self.stdout()?, self.stderr()?);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it takes longer than this; then it is killed.
    pub fn finish(mut self, limit: Duration) -> Result<Finished> {
        let deadline = Instant::now() + limit * patience();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Finished { status, stdout: fs::read(&self.stdout)?, stderr: self.stderr()? });
            }
            if Instant::now() > deadline {
                bail!("still running after {limit:?}: {}{}", self.stdout()?, self.stderr()?);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Finished {
    /// Its standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl fmt::Debug for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.text().chars().take(2_000).collect();
        let (status, length) = (self.status, self.stdout.len());
        write!(f, "{status}, {length} bytes on standard output: {shown}\nstandard error: {}", self.stderr)
    }
}

/// Waits until something holds.
///
/// # Errors
/// When it does not within this time, or looking fails.
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + limit * patience();
    while !holds()? {
        if Instant::now() > deadline {
            bail!("not within {limit:?}: {what}");
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
