//! One request: classified, decided, recorded, forwarded or refused.

use super::{
    Connection, Treatment, filtering,
    judge::{Judge, Passage, Stop},
    limiter::Taken,
    outcome::Outcome,
    refusal,
    reply::{Reply, chain},
    waiting::Waiting,
};
use crate::{
    decide::Effect,
    forward::{
        Key,
        body::{Fault, Progress},
        guard::Watch,
        headers,
        ratelimit::Budget,
    },
    reason::Reason,
    record::fingerprint::LastToken,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Version, header, request};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::timeout;

/// A refused request's body up to this size is read to its end, so that the connection can go on.
const MAX_DRAINED_BYTES: u64 = 64 * 1024;
/// How long that may take.
const DRAIN_PATIENCE: Duration = Duration::from_millis(500);
/// As much of it is read over HTTP/2, and so long.
const MAX_DRAINED_HTTP2_BYTES: u64 = 16 * 1024 * 1024;
const DRAIN_HTTP2_PATIENCE: Duration = Duration::from_secs(2);

/// What the requests of one connection share.
#[derive(Debug)]
pub(super) struct Context {
    /// The connection.
    pub(super) connection: Arc<Connection>,
    /// What the guard under an HTTP/1 server saw.
    pub(super) watch: Option<Arc<Watch>>,
    /// Requests so far.
    pub(super) requests: AtomicU64,
    /// Its count is that of the requests under way, and one.
    pub(super) active: Arc<()>,
    /// The answers that wait for the client; none where each of its writes is waited for.
    pub(super) waiting: Option<Arc<Waiting>>,
    /// Whose the last request was.
    pub(super) last_token: LastToken,
    /// What the upstream connections for it are kept under.
    pub(super) key: Key,
}

/// Answers one request. The record is written before the answer's end, or when this is dropped.
pub(super) async fn serve(context: Arc<Context>, request: Request<Incoming>) -> Response<Reply> {
    let active = Arc::clone(&context.active);
    context.requests.fetch_add(1, Relaxed);
    let (mut head, body) = request.into_parts();
    // The server's own marks (a pending upgrade) mean nothing to the upstream's connection.
    head.extensions.clear();
    // Whatever is loaded meanwhile, the request ends under what it began with.
    let governing = context.connection.policies.current();
    let mut outcome = match Outcome::of_request(&context.connection, &governing, &head, &context.last_token) {
        Ok(outcome) => outcome,
        Err(error) => {
            let refusal = refusal::answer(Reason::AuditUnavailable, Effect::Deny, &chain(&error), "");
            return refusal.map(|body| Reply::Own(Some(body)));
        }
    };
    let watch = context.watch.as_deref();
    let judge = Judge::new(&context.connection, &governing.parties, &head, body, watch, &mut outcome);
    let passage = match judge.judge().await {
        Ok(passage) => passage,
        Err((stop, rest)) => return Box::pin(refuse(stop, outcome, &head, rest)).await,
    };
    match record_intent(&context.connection, &head.method, &mut outcome).await {
        Ok(()) => forward(&context, passage, head, outcome, active).await,
        Err(stop) => {
            give_back(&context.connection, passage.taken);
            Box::pin(refuse(stop, outcome, &head, Some(passage.body))).await
        }
    }
}

/// What never left counts for no limit.
fn give_back(connection: &Connection, taken: Vec<Taken>) {
    for taken in taken {
        connection.services.limiter.give_back(taken);
    }
}

/// A write is in the log before its first byte goes out; a read is counted.
async fn record_intent(connection: &Connection, method: &Method, outcome: &mut Outcome) -> Result<(), Stop> {
    let recorder = &connection.services.recorder;
    let recorded = if *method == Method::GET || *method == Method::HEAD {
        recorder.check().inspect(|()| outcome.begin_read())
    } else {
        recorder.intent(&outcome.intent()).await
    };
    recorded.map_err(|error| Stop::new(Reason::AuditUnavailable, &error))
}

async fn forward(
    context: &Context,
    passage: Passage,
    mut head: request::Parts,
    mut outcome: Outcome,
    active: Arc<()>,
) -> Response<Reply> {
    let connection = &context.connection;
    let services = &connection.services;
    let Passage { verdict, path_and_query, body: outgoing, taken, withheld } = passage;
    let progress = outgoing.progress();
    outcome.sending(verdict, Arc::clone(&progress));
    let refused_head = bare_head(&head);
    let method = head.method.clone();
    if !withheld.is_empty() {
        headers::ask_for_filterable(&mut head.headers);
    }
    let request = Request::from_parts(head, outgoing);
    let sent = services.forwarder.send(&context.key, path_and_query, request).await;
    match sent {
        Ok(answered) => {
            let (mut head, answer) = answered.response.into_parts();
            let edge = headers::is_edge_answer(head.status, &head.headers).then_some(Reason::EdgeRefused);
            outcome.answered(head.status, answered.waited, edge);
            if connection.treatment == Treatment::Protected && edge.is_none() {
                outcome.told(Budget::of(&head.headers));
            }
            let share = services.forwarder.memory().share();
            match filtering::clear(withheld, &method, &mut head, answer, share).await {
                Ok(cleared) => {
                    let body = Reply::cleared(cleared, outcome, context.waiting.as_ref(), active);
                    Response::from_parts(head, body)
                }
                Err(stop) => {
                    let rest = progress.has_ended().then(Empty::<Bytes>::new);
                    Box::pin(refuse(stop, outcome, &refused_head, rest)).await
                }
            }
        }
        Err(error) => {
            let stop = client_fault(context, &progress).unwrap_or_else(|| Stop::new(error.reason(), &error));
            let stop = Stop { arrived: error.may_have_arrived(), ..stop };
            if !stop.arrived {
                give_back(connection, taken);
            }
            Box::pin(refuse(stop, outcome, &refused_head, None::<Incoming>)).await
        }
    }
}

/// What the client did, where that is why the upstream has no whole request.
fn client_fault(context: &Context, progress: &Progress) -> Option<Stop> {
    let fault = progress.fault()?;
    let violation = context.watch.as_ref().and_then(|watch| watch.violation());
    Some(match (violation.filter(|violation| violation.in_body), fault) {
        (Some(violation), _) => Stop::new(Reason::MalformedRequest, &violation.rule),
        (None, Fault::Timeout(_)) => Stop::new(Reason::BodyTimeout, fault),
        (None, Fault::Gone(_)) => Stop::new(Reason::ClientGone, fault),
        (None, Fault::Trailers) => Stop::new(Reason::MalformedRequest, fault),
    })
}

async fn refuse(
    stop: Stop,
    mut outcome: Outcome,
    head: &request::Parts,
    body: Option<impl Body<Data = Bytes> + Unpin>,
) -> Response<Reply> {
    let Stop { reason, message, is_error, arrived, retry } = stop;
    let mut response = refusal::answer(reason, outcome.effect(), &message, outcome.request_id());
    if let Some(retry) = retry {
        retry.mark(response.headers_mut());
    }
    let detail = is_error.then_some(message);
    outcome.refused(reason, response.status(), detail, response.body().len(), arrived);
    if !drain(head, body).await && head.version != Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|body: Bytes| Reply::Own(Some(body)))
}

/// Reads what is left of a body to its end, within limits; false where the connection cannot go on because of
/// what is left then.
async fn drain(head: &request::Parts, body: Option<impl Body<Data = Bytes> + Unpin>) -> bool {
    let Some(mut body) = body else { return false };
    if body.is_end_stream() {
        return true;
    }
    // Whoever waits for `100 Continue` must get the refusal instead, and sends no body.
    if head.headers.contains_key(header::EXPECT) {
        return false;
    }
    // Over HTTP/1 the connection can be ended behind the answer. Over HTTP/2 the stream would be reset, and curl
    // for one then gives up the answer with the upload.
    let (mut left, patience) = match head.version {
        Version::HTTP_2 => (MAX_DRAINED_HTTP2_BYTES, DRAIN_HTTP2_PATIENCE),
        _ if body.size_hint().lower() > MAX_DRAINED_BYTES => return false,
        _ => (MAX_DRAINED_BYTES, DRAIN_PATIENCE),
    };
    let read = async {
        while let Some(frame) = body.frame().await {
            let length = frame.ok().map_or(u64::MAX, |frame| frame.data_ref().map_or(0, Bytes::len) as u64);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return false,
            }
        }
        true
    };
    timeout(patience, read).await.unwrap_or(false)
}

/// What a refusal needs of a head that has gone to the upstream.
fn bare_head(head: &request::Parts) -> request::Parts {
    let mut request = Request::new(());
    *request.version_mut() = head.version;
    request.into_parts().0
}
