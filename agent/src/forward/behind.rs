//! Tasks that let all others go first.
//!
//! Over HTTP/2 many requests share a connection, and each of them wakes the task that writes for all. That would run at
//! once, and so write each alone: a TLS record and a system call, here and at the other end, for every few bytes.

use hyper::rt::Executor;
use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

/// As the future, but whenever it is woken, all tasks that are ready then have their turn before it.
pub async fn behind<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut has_waited = false;
    poll_fn(|cx| {
        has_waited = !has_waited;
        if has_waited {
            // A task that wakes itself goes behind all that are ready.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        future.as_mut().poll(cx)
    })
    .await
}

/// Spawns what a connection is made of, to run [`behind`] all else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behind;

impl<F> Executor<F> for Behind
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        // Of the kinds of futures that come here the smallest is the most frequent, and has the size of the largest.
        tokio::spawn(behind(Box::pin(future)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };
    use tokio::sync::mpsc;

    /// With one worker, as on one core: there a task that is woken is the next to run.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_others_say_at_once_is_taken_together() {
        let taken = tokio::spawn(async {
            let (sender, mut receiver) = mpsc::unbounded_channel();
            let polls = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&polls);
            let writer = tokio::spawn(behind(async move {
                let mut batch = Vec::new();
                while receiver.recv_many(&mut batch, 100).await > 0 {
                    counted.fetch_add(1, Relaxed);
                }
                batch.len()
            }));
            tokio::task::yield_now().await;
            let senders: Vec<_> = (0..10)
                .map(|number| {
                    let sender = sender.clone();
                    tokio::spawn(async move { sender.send(number) })
                })
                .collect();
            drop(sender);
            for sender in senders {
                sender.await.unwrap().unwrap();
            }
            (writer.await.unwrap(), polls.load(Relaxed))
        });
        assert_eq!(taken.await.unwrap(), (10, 1));
    }

    #[tokio::test]
    async fn what_is_ready_at_once_is_answered() {
        assert_eq!(behind(async { 7 }).await, 7);
    }
}
