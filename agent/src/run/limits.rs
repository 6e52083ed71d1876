//! The limit on open files: tidegate needs many, and the command is to have what the caller had.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use std::io;

/// The soft limit that the caller gave; None is no limit.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct OpenFiles(Option<u64>);

impl OpenFiles {
    /// Raises this process's soft limit to its hard one.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn raise() -> io::Result<Self> {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
        Ok(Self(current))
    }

    /// Gives the calling process, on its way to become the command, what the caller had.
    pub(super) fn restore(self) -> io::Result<()> {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        Ok(setrlimit(Resource::Nofile, Rlimit { current: self.0, maximum })?)
    }
}
