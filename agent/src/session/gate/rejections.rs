//! Clients that refused the local CA: what they are made of, and what would help, found out beside everybody's way.

use crate::identify::runtime::{
    Guess,
    witness::{Known, Witness},
};
use std::{
    collections::HashSet,
    fmt,
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
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

/// Finds out what a client is made of.
pub trait Clients: fmt::Debug + Send + Sync {
    /// What it is, if that can be found out. It may take as long as it likes.
    fn look(self: Arc<Self>, witness: Witness) -> Looking;
}

/// A look at a client.
pub type Looking = Pin<Box<dyn Future<Output = Option<Guess>> + Send>>;

/// Looks at clients itself, which takes the right to look into every process.
#[derive(Debug)]
pub struct OwnEyes {
    turns: Arc<Semaphore>,
    known: Arc<Known>,
}

impl Default for OwnEyes {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)), known: Arc::default() }
    }
}

impl Clients for OwnEyes {
    fn look(self: Arc<Self>, witness: Witness) -> Looking {
        Box::pin(async move {
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
        })
    }
}

/// Tells of clients that refused, and of each executable once.
#[derive(Debug)]
pub(super) struct Rejections {
    patience: Duration,
    clients: Arc<dyn Clients>,
    told: Mutex<HashSet<PathBuf>>,
}

impl Rejections {
    pub(super) fn new(clients: Arc<dyn Clients>) -> Self {
        Self { patience: PATIENCE, clients, told: Mutex::default() }
    }

    /// What the client is; unknown where that cannot be found out in time.
    pub(super) async fn guess(&self, witness: Witness) -> Guess {
        let path = witness.path().to_owned();
        let looking = Arc::clone(&self.clients).look(witness);
        let guess = timeout(self.patience, looking).await.ok().flatten().unwrap_or_default();
        if self.is_new(&path) {
            let (executable, runtime, hint) = (path.display(), guess.runtime.name(), guess.hint());
            tracing::warn!(%executable, runtime, hint, "a program does not trust the local CA, so it is refused");
        }
        guess
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
        let eyes = Arc::new(OwnEyes::default());
        let clients: Arc<dyn Clients> = eyes.clone();
        let rejections = Rejections { patience: Duration::from_secs(60), ..Rejections::new(clients) };
        let (first, second, third) =
            tokio::join!(rejections.guess(own()), rejections.guess(own()), rejections.guess(own()));
        assert_eq!([first.runtime, second.runtime, third.runtime], [Runtime::Rust; 3]);
        assert_eq!(eyes.turns.available_permits(), AT_ONCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_does_not_wait_for_ever() {
        let eyes = Arc::new(OwnEyes::default());
        let rejections = Rejections::new(eyes.clone());
        let _taken = eyes.turns.acquire_many(AT_ONCE as u32).await.unwrap();
        assert_eq!(rejections.guess(own()).await, Guess::default());
    }

    #[test]
    fn each_executable_is_told_of_once_and_not_without_end() {
        let rejections = Rejections::new(Arc::<OwnEyes>::default());
        assert!(rejections.is_new(Path::new("/usr/bin/a")));
        assert!(!rejections.is_new(Path::new("/usr/bin/a")));
        let new = (0..2 * MAX_TOLD).filter(|number| rejections.is_new(Path::new(&number.to_string())));
        assert_eq!(new.count(), MAX_TOLD - 1);
    }
}
