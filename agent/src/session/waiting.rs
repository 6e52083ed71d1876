//! Answers that wait for their client. Over HTTP/2 a client can stop one answer while the connection's bytes
//! flow on, so that no stalled write would ever tell.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Since when which answers of a connection wait.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Answers>);

#[derive(Debug, Default)]
struct Answers {
    next: u64,
    since: HashMap<u64, Instant>,
}

impl Waiting {
    /// How long the answer waits that waits longest.
    pub(super) fn longest(&self) -> Duration {
        self.lock().since.values().min().map(Instant::elapsed).unwrap_or_default()
    }

    /// No code panics while it holds the lock, and each change leaves the map whole.
    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One answer's place among those that wait, where that is kept. Dropping it gives it up.
#[derive(Debug)]
pub(super) struct Turn(Option<(Arc<Waiting>, u64)>);

impl Turn {
    /// A new answer's, for which it is the client's turn.
    pub(super) fn of_client(waiting: Option<&Arc<Waiting>>) -> Self {
        Self(waiting.map(|waiting| {
            let mut answers = waiting.lock();
            let id = answers.next;
            answers.next += 1;
            answers.since.insert(id, Instant::now());
            drop(answers);
            (Arc::clone(waiting), id)
        }))
    }

    /// The client has room for more.
    pub(super) fn to_upstream(&self) {
        if let Self(Some((waiting, id))) = self {
            waiting.lock().since.remove(id);
        }
    }

    /// The client has to take what there is.
    pub(super) fn to_client(&self) {
        if let Self(Some((waiting, id))) = self {
            waiting.lock().since.insert(*id, Instant::now());
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.to_upstream();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_the_client_has_to_take_waits() {
        let waiting = Arc::<Waiting>::default();
        let (first, second) = (Turn::of_client(Some(&waiting)), Turn::of_client(Some(&waiting)));
        let waits_after = async |seconds| {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            waiting.longest().as_secs()
        };
        assert_eq!(waits_after(3).await, 3);
        first.to_upstream();
        second.to_client();
        assert_eq!(waits_after(2).await, 2);
        drop(second);
        assert_eq!(waiting.longest(), Duration::ZERO);
    }
}
