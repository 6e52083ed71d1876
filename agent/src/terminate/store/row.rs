//! The row of generations in its directory: read and changed under its lock.

use super::{
    super::files,
    Error, LIFETIME,
    generation::{self, Generation, UNFINISHED, number_of},
};
use crate::host::HostName;
use std::{
    fs::{self, File},
    io,
    path::Path,
    time::SystemTime,
};

/// The row of generations, which nobody else changes meanwhile.
pub(super) struct Row<'a> {
    directory: &'a Path,
    /// Closing the file gives the lock back.
    _lock: File,
}

impl<'a> Row<'a> {
    /// To change it; the directory is made where there is none.
    pub(super) fn lock(directory: &'a Path) -> Result<Self, Error> {
        files::private_directory(directory)?;
        let path = directory.join("lock");
        match files::write_new(&path, b"") {
            Err(files::Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        let lock = File::open(&path).map_err(files::failed("open", &path))?;
        lock.lock().map_err(files::failed("lock", &path))?;
        let row = Self { directory, _lock: lock };
        for name in row.names()?.iter().filter(|name| name.starts_with(UNFINISHED)) {
            generation::sweep(&directory.join(name))?;
        }
        Ok(row)
    }

    /// To read it; None where there is none.
    pub(super) fn watch(directory: &'a Path) -> Result<Option<Self>, Error> {
        match files::check_directory(directory) {
            Err(error) if files::is_missing(&error) => return Ok(None),
            checked => checked?,
        }
        let path = directory.join("lock");
        let lock = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(files::failed("open", &path))?,
        };
        lock.lock_shared().map_err(files::failed("lock", &path))?;
        Ok(Some(Self { directory, _lock: lock }))
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let failed = || files::failed("read", self.directory);
        let mut names = Vec::new();
        for entry in fs::read_dir(self.directory).map_err(failed())? {
            names.extend(entry.map_err(failed())?.file_name().into_string());
        }
        Ok(names)
    }

    pub(super) fn read(&self) -> Result<Vec<Generation>, Error> {
        let names = self.names()?;
        let names = names.iter().filter(|name| number_of(name).is_some());
        let generations: Result<Vec<_>, _> =
            names.map(|name| Generation::load(&self.directory.join(name))).collect();
        let mut generations = generations?;
        generations.sort_by_key(|generation| generation.number);
        Ok(generations)
    }

    pub(super) fn add(
        &self,
        generations: &[Generation],
        domains: &[HostName],
        now: SystemTime,
        signs_from: SystemTime,
    ) -> Result<Generation, Error> {
        let number = generations.last().map_or(1, |newest| newest.number.saturating_add(1));
        let made = Generation::make(self.directory, number, domains, (now, signs_from), LIFETIME)?;
        if number == 1 {
            tracing::info!(id = made.id, "made a local CA");
        } else {
            let signs_in = signs_from.duration_since(now).unwrap_or_default();
            tracing::warn!(
                generation = number,
                id = made.id,
                ?signs_in,
                "made the next local CA; where the earlier one is installed, run `tidegate ca install` again"
            );
        }
        Ok(made)
    }
}
