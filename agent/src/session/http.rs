//! The HTTP server on a terminated connection: HTTP/1 with a guard under it, or HTTP/2.

use super::{
    Connection,
    outcome::Outcome,
    refusal,
    request::{self, Context},
    waiting::Waiting,
};
use crate::{
    forward::{
        behind::behind,
        gather::Gathered,
        guard::{
            Guard, Patience, Watch,
            grammar::{MAX_HEAD_BYTES, Rule, Violation},
        },
        stall::Stall,
    },
    reason::Reason,
    record::fingerprint::LastToken,
};
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    error::Error,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, interval, timeout},
};

/// Longer than clients keep an idle connection, so that it is they who close it.
const KEEP_ALIVE: Duration = Duration::from_secs(120);
/// How long a client may take to read the last answer and to close, and how much it may send meanwhile.
const LINGER: Duration = Duration::from_secs(2);
const MAX_LINGERING_BYTES: u64 = 16 * 1024 * 1024;
/// Requests at once on an HTTP/2 connection.
const MAX_STREAMS: u32 = 100;
/// Loopback is fast: small windows are enough, and bound what a client can make the proxy hold.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How often HTTP/2 asks whether the client is there, and how long that may take.
const PING: Duration = Duration::from_secs(20);
/// How often an HTTP/2 connection is looked at for idleness.
const IDLE_CHECK: Duration = Duration::from_secs(5);

/// What a connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The requests, each with its record: zero means that the connection itself has none yet.
    pub requests: u64,
}

/// Serves the requests of a connection until either side ends it, or until it is to end.
pub async fn serve<S>(stream: S, is_http2: bool, connection: Arc<Connection>) -> Served
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = Stall::new(stream, connection.services.limits.body_idle_timeout);
    let requests = if is_http2 {
        // Clients of HTTP/1 have many connections, and none has to have room for the other protocol.
        Box::pin(serve_http2(stream, connection)).await
    } else {
        serve_http1(stream, connection).await
    };
    Served { requests }
}

fn context(
    connection: Arc<Connection>,
    watch: Option<Arc<Watch>>,
    waiting: Option<Arc<Waiting>>,
) -> Arc<Context> {
    let key = connection.key();
    let (requests, active, last_token) = (AtomicU64::new(0), Arc::new(()), LastToken::default());
    Arc::new(Context { connection, watch, requests, active, waiting, last_token, key })
}

async fn serve_http1<S>(stream: S, connection: Arc<Connection>) -> u64
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let patience = Patience { head: connection.services.limits.head_timeout, idle: KEEP_ALIVE };
    let guard = Box::new(Guard::new(stream, patience));
    let watch = guard.watch();
    let context = context(connection, Some(Arc::clone(&watch)), None);
    let service = service_fn(|request| {
        let context = Arc::clone(&context);
        Box::pin(async move { Ok::<_, Infallible>(request::serve(context, request).await) })
    });
    let mut server = http1::Builder::new()
        .half_close(true)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(guard), service);
    let ended = tokio::select! {
        ended = poll_fn(|cx| server.poll_without_shutdown(cx)) => Some(ended),
        () = context.connection.is_to_end(|| context.requests.load(Relaxed) > 0) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            Pin::new(&mut server).graceful_shutdown();
            poll_fn(|cx| server.poll_without_shutdown(cx)).await
        }
    };
    let mut stream = server.into_parts().io.into_inner().into_inner();
    if let Some(last) = last_record(&context, &watch, ended) {
        // The client may be gone, and has been told all that it can be.
        let _ = timeout(LINGER, stream.write_all(&last)).await;
    }
    let _ = timeout(LINGER, linger(stream)).await;
    context.requests.load(Relaxed)
}

/// Records what broke the request stream, where that was no request's own record, and answers it.
fn last_record(context: &Context, watch: &Watch, ended: hyper::Result<()>) -> Option<Vec<u8>> {
    let parse_error = ended.err().filter(hyper::Error::is_parse);
    let (violation, reason) = match (watch.violation(), &parse_error) {
        (Some(violation), _) if violation.in_body => return None,
        (Some(violation), _) if violation.rule == Rule::HeadTimeout => {
            (violation.clone(), Reason::HeadTimeout)
        }
        (Some(violation), _) => (violation.clone(), Reason::MalformedRequest),
        // What hyper refuses beyond the guard it has answered itself.
        (None, Some(_)) => {
            let rule = Rule::RequestLine;
            (Violation { rule, in_body: false, request_line: None }, Reason::MalformedRequest)
        }
        (None, None) => return None,
    };
    context.requests.fetch_add(1, Relaxed);
    let mut outcome = match Outcome::of_violation(&context.connection, &violation) {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::error!(%error, "a violation is not recorded");
            return None;
        }
    };
    let detail = parse_error.as_ref().map_or_else(|| violation.to_string(), ToString::to_string);
    let answer = refusal::answer(reason, outcome.effect(), &detail, outcome.request_id());
    outcome.refused(reason, answer.status(), Some(detail), answer.body().len(), false);
    parse_error.is_none().then(|| refusal::last_bytes(&answer))
}

/// Ends the connection without a reset, which would take the last answer from the client: what the client
/// still sends is read, within limits.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(MAX_LINGERING_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}

async fn serve_http2<S>(stream: S, connection: Arc<Connection>) -> u64
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let head_timeout = connection.services.limits.head_timeout;
    let waiting = Arc::<Waiting>::default();
    let context = context(connection, None, Some(Arc::clone(&waiting)));
    let service = service_fn(|request| {
        let context = Arc::clone(&context);
        Box::pin(async move { Ok::<_, Infallible>(request::serve(context, request).await) })
    });
    let stream = Gathered::new(stream);
    let mut server = pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD_BYTES as u32)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(STREAM_WINDOW as usize)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .auto_date_header(false)
            .serve_connection(TokioIo::new(stream.clone()), service)
    );
    let patience = context.connection.services.limits.body_idle_timeout;
    let served = tokio::select! {
        served = behind(stream.after(server.as_mut())) => Some(served),
        () = context.connection.is_to_end(|| context.requests.load(Relaxed) > 0) => None,
        () = idleness(&context, head_timeout, KEEP_ALIVE) => None,
        // The answers that are cut off with it have records of their own.
        () = stalled(&waiting, patience) => return context.requests.load(Relaxed),
    };
    let served = match served {
        Some(served) => served,
        // What is under way is served to its end; a client that then does not close is left.
        None => {
            server.as_mut().graceful_shutdown();
            tokio::select! {
                served = behind(stream.after(server)) => served,
                () = idleness(&context, LINGER, LINGER) => Ok(Ok(())),
                () = stalled(&waiting, patience) => Ok(Ok(())),
            }
        }
    };
    if let Err(error) = served.map_err(Box::<dyn Error>::from).and_then(|served| Ok(served?)) {
        tracing::debug!(error, "HTTP/2 connection ended");
    }
    context.requests.load(Relaxed)
}

/// Returns when the client has left an answer waiting for its patience.
async fn stalled(waiting: &Waiting, patience: Duration) {
    let mut check = interval(IDLE_CHECK.min(patience));
    while waiting.longest() < patience {
        check.tick().await;
    }
}

/// Returns when no request was under way for the patience: `first` before the first request.
async fn idleness(context: &Context, first: Duration, later: Duration) {
    let mut check = interval(IDLE_CHECK.min(first));
    let mut busy = (Instant::now(), context.requests.load(Relaxed));
    loop {
        check.tick().await;
        let requests = context.requests.load(Relaxed);
        if Arc::strong_count(&context.active) > 1 || requests != busy.1 {
            busy = (Instant::now(), requests);
        }
        let patience = if requests == 0 { first } else { later };
        if busy.0.elapsed() >= patience {
            return;
        }
    }
}
