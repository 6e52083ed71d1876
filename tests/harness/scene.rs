//! A world with everybody in it: what nearly every kernel test begins with.

use crate::{
    agent::Tidegate,
    client::{self, Answer},
    netns::World,
    process::Process,
    standin::{Request, Served},
};
use anyhow::Result;
use std::{path::Path, time::Duration};

/// A world and the stand-in that serves in it. Fields drop in this order.
#[derive(Debug)]
pub struct Scene {
    /// Everybody of [`crate::netns::addresses`].
    pub standin: Served,
    /// The world.
    pub world: World,
}

impl Scene {
    /// A new world, with its stand-in ready.
    ///
    /// # Errors
    /// As [`World::new`] and [`Served::start`].
    pub fn new() -> Result<Self> {
        Self::of(World::new()?)
    }

    /// This world, with its stand-in ready.
    ///
    /// # Errors
    /// As [`Served::start`].
    pub fn of(world: World) -> Result<Self> {
        Ok(Self { standin: Served::everybody(&world)?, world })
    }

    /// `tidegate run` at a cgroup with this name.
    ///
    /// # Errors
    /// As [`Tidegate::new`].
    pub fn tidegate(&self, name: &str) -> Result<Tidegate<'_>> {
        Tidegate::new(&self.world, &self.standin, name)
    }

    /// What a client that no agent captures gets; it trusts the stand-in.
    ///
    /// # Errors
    /// When it gets no answer.
    pub fn ask_directly(&self, line: &[String]) -> Result<Answer> {
        let mut command = self.world.command(line);
        client::trust(&mut command, &self.standin.ca_file());
        Answer::of(&Process::run(&mut command, self.world.directory(), Duration::from_secs(30))?)
    }

    /// The requests that reached the stand-in.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn requests(&self) -> Result<Vec<Request>> {
        self.standin.log().requests()
    }

    /// The world's directory.
    pub fn directory(&self) -> &Path {
        self.world.directory()
    }
}
