//! An OpenTelemetry collector as a third place for records, by [OTLP] over HTTP with binary protobuf: each record as a
//! log record, and each request as a trace.
//!
//! The log is what counts, and nothing waits for the collector: records wait for it in a queue with an end, on a thread
//! of their own, and those that do not get there are counted.
//!
//! [OTLP]: https://opentelemetry.io/docs/specs/otlp/#otlphttp

mod client;
mod counts;
mod logs;
mod pipeline;
mod queue;
mod traces;
mod value;

use crate::{
    capture::own_sockets::OwnSockets,
    config::Otlp,
    record::{AuditRecord, Phase},
};
use client::{Client, SetupError};
use counts::{Counts, Signal};
use pipeline::{Pipeline, Shared};
use prometheus_client::registry::Registry;
use queue::Entry;
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{runtime, sync::watch, time::sleep};

/// How long the end of the agent may wait for the collector.
const FLUSH: Duration = Duration::from_secs(3);

/// Why the collector can get nothing, whatever it does.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Connections to it cannot be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// There is no thread to be had.
    #[error("cannot start the exporter's thread")]
    Thread(#[source] io::Error),
}

/// Passes records on to the collector.
#[derive(Debug)]
pub(super) struct Exporter {
    logs: Option<Arc<Shared>>,
    traces: Option<Arc<Shared>>,
    counts: Counts,
    ending: watch::Sender<bool>,
    /// Hears from the thread when it is done.
    done: Mutex<Receiver<()>>,
}

impl Exporter {
    /// Starts the thread; it connects with the first record.
    pub(super) fn start(settings: &Otlp, own_sockets: &OwnSockets) -> Result<Self, Error> {
        let client = Client::new(settings, own_sockets.clone())?;
        let counts = Counts::default();
        let (ending, ended) = watch::channel(false);
        let mut pipelines = Vec::new();
        let mut pipeline = |signal: Signal, is_wanted: bool| {
            is_wanted.then(|| {
                let shared = Arc::new(Shared::new(signal, &counts));
                pipelines.push(Pipeline::new(Arc::clone(&shared), client.another(), ended.clone()));
                shared
            })
        };
        let encoding = settings.traces;
        let logs = pipeline(Signal::Logs { traced: encoding }, settings.logs);
        let traces = pipeline(Signal::Traces, settings.traces);
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
        let (tell_done, done) = mpsc::channel();
        let work = move || {
            runtime.block_on(send_all(pipelines, ended));
            let _ = tell_done.send(());
            // A name that is being resolved would be waited for.
            runtime.shutdown_background();
        };
        thread::Builder::new().name("otlp".to_owned()).spawn(work).map_err(Error::Thread)?;
        tracing::info!(endpoint = %settings.endpoint, logs = settings.logs, traces = settings.traces, "OTLP");
        Ok(Self { logs, traces, counts, ending, done: Mutex::new(done) })
    }

    /// Passes a record on: `line` is how it stands in the log. Never waits.
    pub(super) fn tell(&self, record: &AuditRecord, line: &[u8]) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let observed_nanos = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
        let entry = Entry { line: line.into(), observed_nanos };
        if let Some(traces) = &self.traces
            && record.phase == Phase::Outcome
            && record.request.is_some()
        {
            traces.offer(entry.clone());
        }
        if let Some(logs) = &self.logs {
            logs.offer(entry);
        }
    }

    /// Takes no more, and waits, but not long, until the collector has what there is. The rest is lost.
    pub(super) fn finish(&self) {
        self.end();
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        // The thread ends by itself before that, unless the machine is too busy for it.
        let _ = done.recv_timeout(2 * FLUSH);
        self.shared().for_each(Shared::give_up);
    }

    fn end(&self) {
        self.shared().for_each(Shared::close);
        self.ending.send_replace(true);
    }

    fn shared(&self) -> impl Iterator<Item = &Shared> {
        [&self.logs, &self.traces].into_iter().flatten().map(Arc::as_ref)
    }

    /// Lets a registry tell what became of the records.
    pub(super) fn register(&self, registry: &mut Registry) {
        self.counts.register(registry);
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.end();
    }
}

/// Returns when everything is sent after the end has come, or that has taken too long.
async fn send_all(pipelines: Vec<Pipeline>, mut ended: watch::Receiver<bool>) {
    let mut tasks = tokio::task::JoinSet::new();
    for pipeline in pipelines {
        tasks.spawn(pipeline.run());
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    let end = async {
        let _ = ended.wait_for(|ended| *ended).await;
        sleep(FLUSH).await;
    };
    tokio::select! {
        () = all => {}
        () = end => {}
    }
}
