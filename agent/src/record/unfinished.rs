//! How many reads have gone out and have no record yet, kept in a file, so that an agent that was killed leaves a
//! number behind. Writes need none: their intent is in the log before they go out.
//!
//! The file never has less than there are. It may have more for a moment: under load the number goes up and down with
//! every read, and the file follows only upwards at once.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::{runtime::Handle, time::sleep};

/// How long the file may have more than there are.
const SETTLES: Duration = Duration::from_millis(100);

/// The number, in the file as 8 bytes. It survives the process, and needs not survive the machine.
#[derive(Debug, Default)]
pub struct Unfinished {
    file: OnceLock<File>,
    count: Mutex<Count>,
}

#[derive(Debug, Default)]
struct Count {
    now: u64,
    /// What the file has.
    kept: u64,
    /// Whether somebody will make the file right.
    is_settling: bool,
}

/// A read without a record. Drop it once the record is written.
#[derive(Debug)]
pub struct Begun(Arc<Unfinished>);

/// The duty to make the file right. Wherever it is dropped, with a runtime that ends for one, it is done.
struct Settling(Arc<Unfinished>);

impl Unfinished {
    /// From now on the number is kept in the file at `path`; answers what an earlier agent left there. Only one agent
    /// may be at work with it.
    ///
    /// # Errors
    /// When the file cannot be opened, read or written.
    pub fn keep_in(&self, path: &Path) -> io::Result<u64> {
        self.keep_in_file(open(path)?)
    }

    /// As [`Self::keep_in`], in a file that is open already.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn keep_in_file(&self, mut file: File) -> io::Result<u64> {
        let mut bytes = Vec::with_capacity(8);
        Read::by_ref(&mut file).take(8).read_to_end(&mut bytes)?;
        let left = bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let mut count = self.lock();
        // A second file would be a mistake of the caller's; the first stays.
        let file = self.file.get_or_init(|| file);
        file.write_all_at(&count.now.to_le_bytes(), 0)?;
        count.kept = count.now;
        Ok(left)
    }

    /// Counts one more, before it goes out.
    ///
    /// # Errors
    /// When the file cannot be written; nothing is counted then.
    pub fn begin(self: &Arc<Self>) -> io::Result<Begun> {
        let mut count = self.lock();
        let next = count.now + 1;
        if next > count.kept {
            self.store(&mut count, next)?;
        }
        count.now = next;
        drop(count);
        Ok(Begun(Arc::clone(self)))
    }

    fn store(&self, count: &mut Count, number: u64) -> io::Result<()> {
        if let Some(file) = self.file.get() {
            file.write_all_at(&number.to_le_bytes(), 0)?;
        }
        count.kept = number;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the file for the number, and makes it where there is none.
///
/// # Errors
/// As open(2).
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path)
}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut count = self.0.lock();
        count.now = count.now.saturating_sub(1);
        if count.is_settling || self.0.file.get().is_none() {
            return;
        }
        count.is_settling = true;
        drop(count);
        let settling = Settling(Arc::clone(&self.0));
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                sleep(SETTLES).await;
                drop(settling);
            });
        }
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        let mut count = self.0.lock();
        count.is_settling = false;
        let now = count.now;
        if now == count.kept {
            return;
        }
        if let Err(error) = self.0.store(&mut count, now) {
            tracing::error!(%error, "cannot count reads as recorded: the next start will report them as lost");
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
        assert_eq!(unfinished.lock().now, 0);
    }

    fn in_file(path: &Path) -> u64 {
        u64::from_le_bytes(std::fs::read(path).unwrap().try_into().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn the_file_follows_up_at_once_and_down_soon() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("unfinished");
        let (unfinished, _) = kept_in(&path);
        let begin = || unfinished.begin().unwrap();
        let held = begin();
        drop((begin(), begin()));
        assert_eq!(in_file(&path), 3, "as many as there were");
        let more = [begin(), begin(), begin()];
        assert_eq!(in_file(&path), 4);
        sleep(2 * SETTLES).await;
        assert_eq!(in_file(&path), 4, "all are there still");
        drop(more);
        sleep(2 * SETTLES).await;
        assert_eq!(in_file(&path), 1);
        drop(held);
        sleep(2 * SETTLES).await;
        assert_eq!(in_file(&path), 0);
    }

    #[test]
    fn a_runtime_that_ends_leaves_the_file_right() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("unfinished");
        let (unfinished, _) = kept_in(&path);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let later = runtime.block_on(async {
            drop(unfinished.begin().unwrap());
            unfinished.begin().unwrap()
        });
        drop(runtime);
        assert_eq!(in_file(&path), 1);
        drop(later);
        assert_eq!(in_file(&path), 0);
    }
}
