//! A terminal that a test looks at and types in: tmux, with a server of its own.

use crate::{process::patience, programs};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// What the terminal's shell shows when it waits for a command.
pub const PROMPT: &str = "ready> ";

const SETTINGS: &str = "settings.sh";
const LIMIT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The terminal, with a shell in it. It ends with this value.
#[derive(Debug)]
pub struct Terminal {
    folder: TempDir,
    socket: PathBuf,
}

impl Terminal {
    /// Opens one of so many columns and rows.
    ///
    /// # Errors
    /// When there is no tmux, or its shell does not come up.
    pub fn open(columns: u16, rows: u16) -> Result<Self> {
        let folder = TempDir::new()?;
        let terminal = Self { socket: folder.path().join("tmux"), folder };
        // What an interactive shell reads first; a prompt in the environment is not taken by every shell.
        fs::write(terminal.folder().join(SETTINGS), format!("PS1='{PROMPT}'\n"))?;
        let (columns, rows) = (columns.to_string(), rows.to_string());
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows, "exec sh"])?;
        terminal.wait("the shell's prompt", |screen| screen.starts_with(PROMPT.trim_end()))?;
        Ok(terminal)
    }

    /// A directory of the test's own.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Types a command and the key that sends it.
    ///
    /// # Errors
    /// When tmux does not do it.
    pub fn run(&self, command: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", command])?;
        self.press("Enter")
    }

    /// Presses a key, by tmux's name of it.
    ///
    /// # Errors
    /// When tmux does not do it.
    pub fn press(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", key]).map(drop)
    }

    /// Gives it another size.
    ///
    /// # Errors
    /// When tmux does not do it.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &rows]).map(drop)
    }

    /// What it shows, without colours.
    ///
    /// # Errors
    /// When tmux does not tell.
    pub fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// What it shows, with the sequences that make its colours.
    ///
    /// # Errors
    /// When tmux does not tell.
    pub fn coloured(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Waits until what it shows is as wanted, and answers with that.
    ///
    /// # Errors
    /// When it takes too long; shows the screen then.
    pub fn wait(&self, what: &str, is_shown: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + LIMIT * patience();
        let mut before = String::new();
        loop {
            let screen = self.screen()?;
            // A look can fall into the middle of a drawing.
            if is_shown(&screen) && screen == before {
                return Ok(screen);
            }
            if Instant::now() > deadline {
                bail!("the terminal does not show {what}, but:\n{screen}");
            }
            before = screen;
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until the shell is asked for its next command, as the last thing that is shown.
    ///
    /// # Errors
    /// When it takes too long.
    pub fn wait_for_prompt(&self) -> Result<String> {
        self.wait("the prompt", |screen| screen.trim_end().ends_with(&format!("\n{}", PROMPT.trim_end())))
    }

    /// Fails where a program has left the terminal otherwise than it found it.
    ///
    /// # Errors
    /// Says in what.
    pub fn ensure_clean(&self) -> Result<()> {
        let state = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"])?;
        ensure!(state.trim() == "0 1", "the other screen is shown, or no cursor: {state}");
        self.run("clear; stty -a")?;
        let settings = self.wait("its settings", |screen| screen.contains("icanon"))?;
        for setting in ["icanon", "echo", "isig", "opost"] {
            let is_set = settings.split_whitespace().any(|word| word == setting);
            ensure!(is_set, "the terminal has no {setting}:\n{settings}");
        }
        Ok(())
    }

    /// The process that the shell has started.
    ///
    /// # Errors
    /// When there is none.
    pub fn process(&self) -> Result<i32> {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"])?;
        let shell = shell.trim();
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))?;
        let child = children.split_whitespace().next().context("the shell runs nothing")?;
        Ok(child.parse()?)
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("tmux");
        programs::plain_environment(&mut command, self.folder.path());
        command
            .env("ENV", self.folder().join(SETTINGS))
            .env("TERM", "screen")
            .arg("-u")
            .arg("-S")
            .arg(&self.socket);
        let output = command.args(arguments).output();
        let output = output.context("tmux is missing: run `cargo xtask test` once, which installs it")?;
        ensure!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing is left to end where it did not come up.
        let _ = self.tmux(&["kill-server"]);
    }
}
