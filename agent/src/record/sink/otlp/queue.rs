//! Records that wait for the collector: at most so many, and so many bytes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// How long a record may wait for others to be sent with.
const LINGER: Duration = Duration::from_secs(1);

/// A record as it stands in the log, and when it came.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) line: Arc<[u8]>,
    pub(super) observed_nanos: u64,
}

/// How much may wait, and how much is sent at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) records: usize,
    pub(super) bytes: usize,
    pub(super) batch: usize,
}

/// What waits, the oldest first.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    bounds: Bounds,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    bytes: usize,
    is_closed: bool,
}

impl Queue {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { waiting: Mutex::default(), bounds, news: Notify::new() }
    }

    /// Whether there was room. The oldest stay, since they show how it began.
    pub(super) fn offer(&self, entry: Entry) -> bool {
        let mut waiting = self.waiting();
        let bytes = waiting.bytes + entry.line.len();
        if waiting.is_closed || waiting.entries.len() >= self.bounds.records || bytes > self.bounds.bytes {
            return false;
        }
        waiting.bytes = bytes;
        waiting.entries.push_back(entry);
        drop(waiting);
        self.news.notify_one();
        true
    }

    /// The next to be sent together; none when the queue is closed and empty. For one caller at a time.
    pub(super) async fn take(&self) -> Vec<Entry> {
        self.wait_for(1).await;
        let _ = timeout_at(Instant::now() + LINGER, self.wait_for(self.bounds.batch)).await;
        let mut waiting = self.waiting();
        let count = waiting.entries.len().min(self.bounds.batch);
        let batch: Vec<Entry> = waiting.entries.drain(..count).collect();
        waiting.bytes -= batch.iter().map(|entry| entry.line.len()).sum::<usize>();
        batch
    }

    /// Until so many wait, or none come any more.
    async fn wait_for(&self, count: usize) {
        loop {
            let is_enough = {
                let waiting = self.waiting();
                waiting.is_closed || waiting.entries.len() >= count
            };
            if is_enough {
                return;
            }
            self.news.notified().await;
        }
    }

    /// Takes no more.
    pub(super) fn close(&self) {
        self.waiting().is_closed = true;
        self.news.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { records: 4, bytes: 100, batch: 3 };

    fn entry(number: u64, length: usize) -> Entry {
        Entry { line: vec![b'.'; length].into(), observed_nanos: number }
    }

    fn numbers(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.observed_nanos).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_stay_and_go_first() {
        let queue = Queue::new(BOUNDS);
        let taken: Vec<bool> = (0..6).map(|number| queue.offer(entry(number, 1))).collect();
        assert_eq!(taken, [true, true, true, true, false, false]);
        assert_eq!(numbers(&queue.take().await), [0, 1, 2]);
        assert!(queue.offer(entry(6, 1)));
        assert_eq!(numbers(&queue.take().await), [3, 6], "after a while, since there are no more");
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_count_until_they_are_taken() {
        let queue = Queue::new(BOUNDS);
        assert!(queue.offer(entry(0, 60)));
        assert!(!queue.offer(entry(1, 41)));
        assert!(queue.offer(entry(2, 40)));
        assert_eq!(numbers(&queue.take().await), [0, 2]);
        assert!(queue.offer(entry(3, 100)));
        assert!(!queue.offer(entry(4, 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_queue_gives_what_it_has_at_once_and_then_nothing() {
        let queue = Queue::new(BOUNDS);
        let began = Instant::now();
        assert!(queue.offer(entry(0, 1)));
        queue.close();
        assert!(!queue.offer(entry(1, 1)));
        assert_eq!(numbers(&queue.take().await), [0]);
        assert!(queue.take().await.is_empty());
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_batch_waits_for_nobody() {
        let queue = Arc::new(Queue::new(BOUNDS));
        let offering = Arc::clone(&queue);
        tokio::spawn(async move {
            for number in 0..3 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                offering.offer(entry(number, 1));
            }
        });
        let began = Instant::now();
        assert_eq!(numbers(&queue.take().await), [0, 1, 2]);
        assert_eq!(began.elapsed(), Duration::from_millis(300));
    }
}
