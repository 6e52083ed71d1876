//! One request: classified, decided, recorded, forwarded or refused.

use super::{
    Connection, Treatment,
    outcome::Outcome,
    refusal::{self, Denied},
    reply::{Reply, chain},
    waiting::Waiting,
};
use crate::{
    classify::{self, authority, form},
    decide::{self, Effect},
    forward::{
        Outgoing,
        body::{Fault, Progress},
        guard::Watch,
        headers,
    },
    reason::Reason,
    record::Verdict,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Version, header, request, uri::PathAndQuery};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use std::{
    error,
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
    /// The answers that wait for the client.
    pub(super) waiting: Arc<Waiting>,
}

/// How a request that may go on does.
struct Passage {
    verdict: Verdict,
    path_and_query: PathAndQuery,
    /// Whether the body could be read as a form, so that it is looked at first.
    is_form: bool,
}

/// Why a request stops here.
struct Stop {
    reason: Reason,
    message: String,
    /// Whether the message is an error's text, rather than the policy's, which the record's other keys tell.
    is_error: bool,
    /// Whether the upstream may have got the request.
    arrived: bool,
}

impl Stop {
    fn new(reason: Reason, error: &dyn error::Error) -> Self {
        Self::because(reason, &chain(error))
    }

    fn because(reason: Reason, message: &str) -> Self {
        Self { reason, message: message.to_owned(), is_error: true, arrived: false }
    }
}

/// Answers one request. The record is written before the answer's end, or when this is dropped.
pub(super) async fn serve(context: Arc<Context>, request: Request<Incoming>) -> Response<Reply> {
    let active = Arc::clone(&context.active);
    context.requests.fetch_add(1, Relaxed);
    let (mut head, body) = request.into_parts();
    // The server's own marks (a pending upgrade) mean nothing to the upstream's connection.
    head.extensions.clear();
    let mut outcome = match Outcome::of_request(&context.connection, &head) {
        Ok(outcome) => outcome,
        Err(error) => {
            let refusal = refusal::answer(Reason::AuditUnavailable, Effect::Deny, &chain(&error), "");
            return refusal.map(|body| Reply::Own(Some(body)));
        }
    };
    let has_body = !body.is_end_stream() && body.size_hint().exact() != Some(0);
    match judge(&context.connection, &head, has_body, &mut outcome) {
        Ok(passage) => {
            let patience = context.connection.services.limits.body_idle_timeout;
            let body = match look_through(passage.is_form, body, patience).await {
                Ok(body) => body,
                Err(stop) => {
                    outcome.allowed(Effect::Deny, stop.reason);
                    return refuse(stop, outcome, &head, None::<Incoming>).await;
                }
            };
            match record_intent(&context.connection, &head.method, &outcome).await {
                Ok(()) => forward(&context, passage, head, body, outcome, active).await,
                Err(stop) => refuse(stop, outcome, &head, Some(body)).await,
            }
        }
        Err(stop) => refuse(stop, outcome, &head, Some(body)).await,
    }
}

fn judge(
    connection: &Connection,
    head: &request::Parts,
    has_body: bool,
    outcome: &mut Outcome,
) -> Result<Passage, Stop> {
    headers::check(head).map_err(|error| Stop::new(Reason::MalformedRequest, &error))?;
    let port = connection.port();
    authority::check(&connection.host, port, head.version, &head.uri, &head.headers)
        .map_err(|mismatch| Stop::new(mismatch.reason(), &mismatch))?;
    match connection.treatment {
        Treatment::Protected => judge_protected(connection, head, has_body, outcome),
        Treatment::Neighbour => judge_neighbour(head, outcome),
    }
}

fn judge_protected(
    connection: &Connection,
    head: &request::Parts,
    has_body: bool,
    outcome: &mut Outcome,
) -> Result<Passage, Stop> {
    let catalogue = connection.services.catalogue;
    let classified = classify::classify(catalogue, &head.method, &head.uri, &head.headers)
        .map_err(|error| Stop::new(error.reason(), &error))?;
    outcome.classified(&classified);
    let target = match &classified.query {
        Some(query) => format!("{}?{query}", classified.path.as_str()),
        None => classified.path.as_str().to_owned(),
    };
    let path_and_query =
        PathAndQuery::try_from(target).map_err(|error| Stop::new(Reason::MalformedRequest, &error))?;
    let operation = classified.route.as_ref().map(|route| route.operation);
    let policy = &connection.policy;
    let decision = decide::decide(policy, &head.method, operation);
    outcome.decided(&decision);
    let verdict = match (decision.effect, decision.dry_run) {
        (Effect::Allow, _) => Verdict::Forwarded,
        (Effect::Deny, true) => Verdict::WouldRefuse,
        (Effect::Deny, false) => {
            let denied = Denied {
                workload: &connection.principal.workload,
                policy: &policy.name,
                contact: policy.contact.as_deref(),
                decision: &decision,
                method: &head.method,
                path: classified.path.as_str(),
                operation: operation.map(|operation| operation.name.as_str()),
            };
            let message = denied.message();
            return Err(Stop { reason: decision.reason, message, is_error: false, arrived: false });
        }
    };
    // After the decision, whose refusal tells more.
    let is_form = match classify::is_form(&head.method, &head.headers) {
        Ok(is_form) => has_body && is_form,
        Err(_) if !has_body => false,
        Err(error) => {
            outcome.allowed(Effect::Deny, error.reason());
            return Err(Stop::new(error.reason(), &error));
        }
    };
    Ok(Passage { verdict, path_and_query, is_form })
}

/// The name was checked; beyond that only what the proxy cannot carry is refused.
fn judge_neighbour(head: &request::Parts, outcome: &mut Outcome) -> Result<Passage, Stop> {
    let target = head.uri.path_and_query().cloned();
    let carried = head.method != Method::CONNECT && !head.headers.contains_key(header::UPGRADE);
    let Some(path_and_query) = target.filter(|_| carried) else {
        let message = "CONNECT and upgrades are not supported".to_owned();
        return Err(Stop { reason: Reason::MethodRefused, message, is_error: true, arrived: false });
    };
    outcome.allowed(Effect::Allow, Reason::NeighbourHost);
    Ok(Passage { verdict: Verdict::Passed, path_and_query, is_form: false })
}

/// The body for the upstream. One that could be read as a form is read to its end and looked through first; what
/// was looked through is what is sent.
async fn look_through(is_form: bool, body: Incoming, patience: Duration) -> Result<Outgoing, Stop> {
    if !is_form {
        return Ok(Outgoing::new(body, patience));
    }
    let collected = timeout(patience, Limited::new(body, form::MAX_FORM_BYTES).collect()).await;
    let whole = match collected {
        Err(_) => return Err(Stop::because(Reason::BodyTimeout, "the request body took too long")),
        Ok(Err(error)) => return Err(Stop::new(Reason::MethodOverride, &*error)),
        Ok(Ok(collected)) if collected.trailers().is_some() => {
            return Err(Stop::new(Reason::MalformedRequest, &Fault::Trailers));
        }
        Ok(Ok(collected)) => collected.to_bytes(),
    };
    if form::overrides_method(&whole) {
        return Err(Stop::new(Reason::MethodOverride, &classify::Error::MethodOverride("_method")));
    }
    Ok(Outgoing::whole(whole, patience))
}

/// A write is in the log before its first byte goes out.
async fn record_intent(connection: &Connection, method: &Method, outcome: &Outcome) -> Result<(), Stop> {
    let recorder = &connection.services.recorder;
    let recorded = if *method == Method::GET || *method == Method::HEAD {
        recorder.check()
    } else {
        recorder.intent(&outcome.intent()).await
    };
    recorded.map_err(|error| Stop::new(Reason::AuditUnavailable, &error))
}

async fn forward(
    context: &Context,
    passage: Passage,
    head: request::Parts,
    outgoing: Outgoing,
    mut outcome: Outcome,
    active: Arc<()>,
) -> Response<Reply> {
    let connection = &context.connection;
    let services = &connection.services;
    let progress = outgoing.progress();
    outcome.sending(passage.verdict, Arc::clone(&progress));
    let refused_head = bare_head(&head);
    let request = Request::from_parts(head, outgoing);
    let sent = services.forwarder.send(&connection.key(), passage.path_and_query, request).await;
    match sent {
        Ok(answered) => {
            let (head, answer) = answered.response.into_parts();
            let edge = headers::is_edge_answer(head.status, &head.headers).then_some(Reason::EdgeRefused);
            outcome.answered(head.status, answered.waited, edge);
            Response::from_parts(head, Reply::upstream(answer, outcome, &context.waiting, active))
        }
        Err(error) => {
            let stop = client_fault(context, &progress).unwrap_or_else(|| Stop::new(error.reason(), &error));
            let stop = Stop { arrived: error.may_have_arrived(), ..stop };
            refuse(stop, outcome, &refused_head, None::<Incoming>).await
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
    let Stop { reason, message, is_error, arrived } = stop;
    let mut response = refusal::answer(reason, outcome.effect(), &message, outcome.request_id());
    let detail = is_error.then_some(message);
    outcome.refused(reason, response.status(), detail, response.body().len(), arrived);
    if head.version != Version::HTTP_2 && !drain(head, body).await {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|body: Bytes| Reply::Own(Some(body)))
}

/// Reads a small body to its end; false where the connection cannot go on because of what is left.
async fn drain(head: &request::Parts, body: Option<impl Body<Data = Bytes> + Unpin>) -> bool {
    let Some(mut body) = body else { return false };
    if body.is_end_stream() {
        return true;
    }
    // Whoever waits for `100 Continue` must get the refusal instead, and sends no body.
    if body.size_hint().lower() > MAX_DRAINED_BYTES || head.headers.contains_key(header::EXPECT) {
        return false;
    }
    let read = async {
        let mut left = MAX_DRAINED_BYTES;
        while let Some(frame) = body.frame().await {
            let length = frame.ok().map_or(u64::MAX, |frame| frame.data_ref().map_or(0, Bytes::len) as u64);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return false,
            }
        }
        true
    };
    timeout(DRAIN_PATIENCE, read).await.unwrap_or(false)
}

/// What a refusal needs of a head that has gone to the upstream.
fn bare_head(head: &request::Parts) -> request::Parts {
    let mut request = Request::new(());
    *request.version_mut() = head.version;
    request.into_parts().0
}
