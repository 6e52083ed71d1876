//! Clients that refused the local CA: what they are made of, and what would help, found out beside everybody's way.

use crate::identify::runtime::{
    Guess,
    witness::{Known, Witness},
};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};

/// So many processes are looked at at once: their files may lie on a filesystem that answers as it likes.
const AT_ONCE: usize = 2;
/// How long a record waits for the guess.
const PATIENCE: Duration = Duration::from_secs(2);
/// Of so many executables it is told in the log, once of each.
const MAX_TOLD: usize = 256;

/// Finds out about clients that refused, and tells of each executable once.
#[derive(Debug)]
pub(super) struct Rejections {
    patience: Duration,
    turns: Arc<Semaphore>,
    known: Arc<Known>,
    told: Mutex<HashSet<PathBuf>>,
}

impl Default for Rejections {
    fn default() -> Self {
        Self {
            patience: PATIENCE,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            known: Arc::default(),
            told: Mutex::default(),
        }
    }
}

impl Rejections {
    /// What the client is; unknown where that cannot be found out in time.
    pub(super) async fn guess(&self, witness: Witness) -> Guess {
        let path = witness.path().to_owned();
        let guess = timeout(self.patience, self.look(witness)).await.ok().flatten().unwrap_or_default();
        if self.is_new(&path) {
            let (executable, runtime, hint) = (path.display(), guess.runtime.name(), guess.hint());
            tracing::warn!(%executable, runtime, hint, "a program does not trust the local CA, so it is refused");
        }
        guess
    }

    async fn look(&self, witness: Witness) -> Option<Guess> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        let (answer, answered) = oneshot::channel();
        let known = Arc::clone(&self.known);
        // A thread of its own, since the runtime's end would wait for one of its own that reads for ever.
        let look = move || {
            let guess = witness.guess(&known);
            drop(turn);
            let _nobody_waits = answer.send(guess);
        };
        thread::Builder::new().name("look-at-client".to_owned()).spawn(look).ok()?;
        answered.await.ok()
    }

    /// Whether nothing has been told of this executable yet, and there is room to remember it.
    fn is_new(&self, path: &Path) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < MAX_TOLD && told.insert(path.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identify::{Subject, runtime::Runtime};

    fn own() -> Witness {
        let executable = Some(std::env::current_exe().unwrap().to_string_lossy().into_owned());
        Witness::of(&Subject { pid: Some(std::process::id()), executable, ..Subject::default() })
    }

    #[tokio::test]
    async fn a_burst_of_clients_is_looked_at_in_turn() {
        // This program is large, and unoptimised.
        let rejections = Rejections { patience: Duration::from_secs(60), ..Rejections::default() };
        let (first, second, third) =
            tokio::join!(rejections.guess(own()), rejections.guess(own()), rejections.guess(own()));
        assert_eq!([first.runtime, second.runtime, third.runtime], [Runtime::Rust; 3]);
        assert_eq!(rejections.turns.available_permits(), AT_ONCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_does_not_wait_for_ever() {
        let rejections = Rejections::default();
        let _taken = rejections.turns.acquire_many(AT_ONCE as u32).await.unwrap();
        assert_eq!(rejections.guess(own()).await, Guess::default());
    }

    #[test]
    fn each_executable_is_told_of_once_and_not_without_end() {
        let rejections = Rejections::default();
        assert!(rejections.is_new(Path::new("/usr/bin/a")));
        assert!(!rejections.is_new(Path::new("/usr/bin/a")));
        let new = (0..2 * MAX_TOLD).filter(|number| rejections.is_new(Path::new(&number.to_string())));
        assert_eq!(new.count(), MAX_TOLD - 1);
    }
}
