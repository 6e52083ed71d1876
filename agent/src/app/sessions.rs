//! The connections that are open, each a task.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{task::JoinSet, time::timeout};

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<JoinSet<()>>);

impl Sessions {
    /// Begins one.
    pub(super) fn spawn(&self, session: impl Future<Output = ()> + Send + 'static) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while sessions.try_join_next().is_some() {}
        sessions.spawn(session);
    }

    /// Waits for all to end, and ends those that take longer than `patience`.
    pub(super) async fn finish(&self, patience: Duration) {
        let mut sessions = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = async { while sessions.join_next().await.is_some() {} };
        if timeout(patience, ended).await.is_err() {
            sessions.shutdown().await;
        }
    }
}
