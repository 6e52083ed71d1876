//! How many reads have gone out and have no record yet, kept in a file, so that an agent that was killed leaves a
//! number behind. Writes need none: their intent is in the log before they go out.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// The number, in the file as 8 bytes. It survives the process, and needs not survive the machine.
#[derive(Debug, Default)]
pub struct Unfinished {
    file: OnceLock<File>,
    count: Mutex<u64>,
}

/// A read without a record. Drop it once the record is written.
#[derive(Debug)]
pub struct Begun(Arc<Unfinished>);

impl Unfinished {
    /// From now on the number is kept in the file at `path`; answers what an earlier agent left there. Only one agent
    /// may be at work with it.
    ///
    /// # Errors
    /// When the file cannot be opened, read or written.
    pub fn keep_in(&self, path: &Path) -> io::Result<u64> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path)?;
        let mut bytes = Vec::with_capacity(8);
        Read::by_ref(&mut file).take(8).read_to_end(&mut bytes)?;
        let left = bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        // A second file would be a mistake of the caller's; the first stays.
        let file = self.file.get_or_init(|| file);
        file.write_all_at(&count.to_le_bytes(), 0)?;
        Ok(left)
    }

    /// Counts one more, before it goes out.
    ///
    /// # Errors
    /// When the file cannot be written; nothing is counted then.
    pub fn begin(self: &Arc<Self>) -> io::Result<Begun> {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        self.store(*count + 1)?;
        *count += 1;
        drop(count);
        Ok(Begun(Arc::clone(self)))
    }

    fn store(&self, count: u64) -> io::Result<()> {
        self.file.get().map_or(Ok(()), |file| file.write_all_at(&count.to_le_bytes(), 0))
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut count = self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.saturating_sub(1);
        if let Err(error) = self.0.store(*count) {
            tracing::error!(%error, "cannot count a read as recorded: the next start will report it as lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept_in(path: &Path) -> (Arc<Unfinished>, u64) {
        let unfinished = Arc::new(Unfinished::default());
        let left = unfinished.keep_in(path).unwrap();
        (unfinished, left)
    }

    #[test]
    fn what_was_begun_and_not_finished_is_found_by_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("unfinished");
        let (first, left) = kept_in(&path);
        assert_eq!(left, 0);
        let (one, two, three) = (first.begin().unwrap(), first.begin().unwrap(), first.begin().unwrap());
        drop(two);
        assert_eq!(kept_in(&path).1, 2);
        assert_eq!(kept_in(&path).1, 0, "it is reported once");
        drop((one, three));
    }

    #[test]
    fn half_a_number_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("unfinished");
        std::fs::write(&path, b"abc").unwrap();
        assert_eq!(kept_in(&path).1, 0);
    }

    #[test]
    fn without_a_file_nothing_is_kept() {
        let unfinished = Arc::new(Unfinished::default());
        drop(unfinished.begin().unwrap());
        assert_eq!(*unfinished.count.lock().unwrap(), 0);
    }
}
