//! The way of one signal's records from the queue to the collector: again and again, until it takes them or refuses
//! them for good.

use super::{
    client::{Answer, Client, Error},
    counts::{Counts, Signal},
    logs,
    queue::{Bounds, Entry, Queue},
    traces,
};
use aws_lc_rs::rand;
use bytes::Bytes;
use http::StatusCode;
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceResponse, trace::v1::ExportTraceServiceResponse,
};
use prometheus_client::metrics::counter::Counter;
use prost::Message;
use std::{
    error::Error as StdError,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// Some minutes of a busy machine.
const BOUNDS: Bounds = Bounds { records: 8_192, bytes: 16 << 20, batch: 512 };

/// Between two attempts, at first and at most. A part of it is chance, so that not all machines come back at once.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What those who pass records on and the one who sends them share.
#[derive(Debug)]
pub(super) struct Shared {
    signal: Signal,
    queue: Queue,
    sent: Counter,
    lost: Counter,
    /// How many records are in the queue or on their way.
    pending: AtomicU64,
    /// How many were lost since the collector last took some.
    lost_since: AtomicU64,
}

impl Shared {
    pub(super) fn new(signal: Signal, counts: &Counts) -> Self {
        let (sent, lost) = counts.of(signal);
        let (pending, lost_since) = Default::default();
        Self { signal, queue: Queue::new(BOUNDS), sent, lost, pending, lost_since }
    }

    /// Puts a record into the queue, or counts it as lost.
    pub(super) fn offer(&self, entry: Entry) {
        self.pending.fetch_add(1, Relaxed);
        if !self.queue.offer(entry) {
            self.settle(1);
            self.lose(1, "too many wait already");
        }
    }

    /// So many are neither in the queue nor on their way any more. Never below none: they may be given up meanwhile.
    fn settle(&self, count: u64) {
        let less = |pending: u64| Some(pending.saturating_sub(count));
        let _ = self.pending.fetch_update(Relaxed, Relaxed, less);
    }

    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// Counts as lost what was not sent by now.
    pub(super) fn give_up(&self) {
        let left = self.pending.swap(0, Relaxed);
        if left > 0 {
            self.lose(left, "the agent ends");
        }
    }

    fn lose(&self, count: u64, why: &str) {
        self.lost.inc_by(count);
        if self.lost_since.fetch_add(count, Relaxed) == 0 {
            let signal = self.signal.word();
            tracing::error!(signal, why, "records do not get to the collector any more; the log has them");
        }
    }

    fn took(&self, count: u64) {
        self.sent.inc_by(count);
        let lost = self.lost_since.swap(0, Relaxed);
        if lost > 0 {
            let signal = self.signal.word();
            tracing::warn!(
                signal,
                lost,
                "the collector takes records again; the log has those that it lacks"
            );
        }
    }
}

/// Sends what is in the queue.
pub(super) struct Pipeline {
    shared: Arc<Shared>,
    client: Client,
    ended: watch::Receiver<bool>,
}

/// What is sent at once.
struct Batch {
    body: Bytes,
    /// How many records are in it.
    count: u64,
}

/// What came of an attempt.
enum Attempt {
    /// The collector has the records, but for so many.
    Taken { rejected: u64, why: String },
    /// It will never take them.
    Refused(String),
    /// It may take them later.
    Later { pause: Option<Duration>, why: String },
}

impl Pipeline {
    pub(super) fn new(shared: Arc<Shared>, client: Client, ended: watch::Receiver<bool>) -> Self {
        Self { shared, client, ended }
    }

    /// Ends when the queue is closed and empty, or the agent ends and the collector takes nothing.
    pub(super) async fn run(mut self) {
        loop {
            let entries = self.shared.queue.take().await;
            if entries.is_empty() {
                return;
            }
            let batch = encode(self.shared.signal, &entries);
            // A request of which the client records no trace leaves none here.
            if batch.count > 0 && !self.deliver(&batch).await {
                return;
            }
            self.shared.settle(entries.len() as u64);
        }
    }

    /// Whether something came of it.
    async fn deliver(&mut self, batch: &Batch) -> bool {
        let shared = Arc::clone(&self.shared);
        let signal = shared.signal.word();
        let mut pause = FIRST_PAUSE;
        let mut is_told = false;
        loop {
            let is_last = *self.ended.borrow();
            let answered = self.client.post(shared.signal.path(), batch.body.clone()).await;
            match attempt(shared.signal, answered) {
                Attempt::Taken { rejected, why } => {
                    let rejected = rejected.min(batch.count);
                    shared.took(batch.count - rejected);
                    if rejected > 0 {
                        shared.lose(rejected, &why);
                    }
                    return true;
                }
                Attempt::Refused(why) => {
                    shared.lose(batch.count, &why);
                    return true;
                }
                Attempt::Later { .. } if is_last => return false,
                Attempt::Later { pause: asked, why } => {
                    if !is_told {
                        tracing::warn!(signal, why, "the collector takes no records now; they wait");
                        is_told = true;
                    }
                    let wait = asked.map_or_else(|| with_chance(pause), |asked| asked.min(LONGEST_PAUSE));
                    self.rest(wait).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// The end of the agent is the end of every pause.
    async fn rest(&mut self, pause: Duration) {
        let ended = self.ended.wait_for(|ended| *ended);
        let _ = timeout(pause, ended).await;
    }
}

/// By the rules of [OTLP/HTTP](https://opentelemetry.io/docs/specs/otlp/#otlphttp-response).
fn attempt(signal: Signal, answered: Result<Answer, Error>) -> Attempt {
    let Answer { status, retry_after, body } = match answered {
        Ok(answer) => answer,
        Err(error) => return Attempt::Later { pause: None, why: told(&error) },
    };
    let why = || format!("the collector answers {status}");
    match status {
        status if status.is_success() => {
            let (rejected, why) = rejected(signal, &body);
            Attempt::Taken { rejected, why }
        }
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Attempt::Later { pause: retry_after, why: why() },
        _ => Attempt::Refused(why()),
    }
}

/// How many the collector says that it did not take of what it took, and why. What cannot be read says nothing.
fn rejected(signal: Signal, body: &[u8]) -> (u64, String) {
    let (count, message) = match signal {
        Signal::Logs { .. } => {
            let answer = ExportLogsServiceResponse::decode(body).unwrap_or_default();
            answer.partial_success.map(|partial| (partial.rejected_log_records, partial.error_message))
        }
        Signal::Traces => {
            let answer = ExportTraceServiceResponse::decode(body).unwrap_or_default();
            answer.partial_success.map(|partial| (partial.rejected_spans, partial.error_message))
        }
    }
    .unwrap_or_default();
    (u64::try_from(count).unwrap_or_default(), format!("the collector says `{}`", message.escape_debug()))
}

fn encode(signal: Signal, entries: &[Entry]) -> Batch {
    let (body, count) = match signal {
        Signal::Logs { traced } => {
            let (request, count) = logs::request(entries, traced);
            (request.encode_to_vec(), count)
        }
        Signal::Traces => {
            let (request, count) = traces::request(entries);
            (request.encode_to_vec(), count)
        }
    };
    Batch { body: body.into(), count: count as u64 }
}

fn with_chance(pause: Duration) -> Duration {
    let mut bytes = [0];
    // Without random numbers all come back at once, which is no reason not to.
    let _ = rand::fill(&mut bytes);
    let [byte] = bytes;
    pause * (256 + u32::from(byte)) / 512
}

fn told(error: &dyn StdError) -> String {
    let causes = std::iter::successors(Some(error), |error| (**error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
