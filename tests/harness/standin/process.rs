//! The stand-in as a process in a world.

use super::{Config, Log};
use crate::{
    netns::{World, addresses},
    process::Process,
    programs,
};
use anyhow::{Context as _, Result};
use std::{
    path::{Path, PathBuf},
    process::{ChildStdin, Stdio},
    time::Duration,
};

/// A stand-in that serves in a world until it is dropped.
#[derive(Debug)]
pub struct Served {
    process: Process,
    // The stand-in ends when this closes.
    _stdin: ChildStdin,
    config: Config,
}

impl Served {
    /// Everybody of [`addresses`], in this world.
    ///
    /// # Errors
    /// As [`Served::start`].
    pub fn everybody(world: &World) -> Result<Self> {
        Self::start(world, addresses::everybody(world.directory(), world.has_ipv6()))
    }

    /// What the configuration says, in this world; every listener is bound when this answers.
    ///
    /// # Errors
    /// When the program was not built, or cannot bind.
    pub fn start(world: &World, config: Config) -> Result<Self> {
        let file = world.write("standin.json", serde_json::to_vec(&config)?)?;
        let program = programs::built("tidegate-standin")?;
        let mut command = world.command(&[program.as_path(), &file]);
        let mut process = Process::start(command.stdin(Stdio::piped()), world.directory())?;
        let stdin = process.take_stdin().context("the stand-in's standard input")?;
        process.wait_for_output("ready\n", Duration::from_secs(20)).context("starting the stand-in")?;
        Ok(Self { process, _stdin: stdin, config })
    }

    /// Where the authority's certificate is.
    pub fn ca_file(&self) -> PathBuf {
        self.config.ca_file()
    }

    /// Where the stand-in's files are.
    pub fn directory(&self) -> &Path {
        &self.config.directory
    }

    /// What reached it.
    pub fn log(&self) -> Log {
        self.config.log()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}
