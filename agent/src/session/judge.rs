//! From a request's head, and its body where that decides, to leave to go on or a reason to stop.

mod count;

use super::{
    Connection, Treatment,
    limiter::Taken,
    outcome::Outcome,
    refusal::{Denied, limited::Retry},
    reply::chain,
};
use crate::{
    classify::{self, Classified, Filter, Needs, authority, body, form},
    decide::{self, Caller, Decision, Effect, Policy, policy::Mode, store::Party},
    forward::{Outgoing, body::Fault, guard::Watch, headers},
    reason::Reason,
    record::Verdict,
};
use bytes::Bytes;
use http::{header, request, uri::PathAndQuery};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use serde_json::Value;
use std::{collections::BTreeSet, error, time::SystemTime};
use tokio::time::timeout;

/// How a request that may go on does.
pub(super) struct Passage {
    pub(super) verdict: Verdict,
    pub(super) path_and_query: PathAndQuery,
    pub(super) body: Outgoing,
    /// What limits have counted of it.
    pub(super) taken: Vec<Taken>,
    /// The filters of the parts that the answer must not show.
    pub(super) withheld: Vec<&'static Filter>,
}

/// Why a request stops here.
pub(super) struct Stop {
    pub(super) reason: Reason,
    pub(super) message: String,
    /// Whether the message is an error's text, rather than the policy's, which the record's other keys tell.
    pub(super) is_error: bool,
    /// Whether the upstream may have got the request.
    pub(super) arrived: bool,
    /// Where waiting helps: when to try again.
    pub(super) retry: Option<Retry>,
}

impl Stop {
    pub(super) fn new(reason: Reason, error: &dyn error::Error) -> Self {
        Self::because(reason, &chain(error))
    }

    pub(super) fn because(reason: Reason, message: &str) -> Self {
        Self { reason, message: message.to_owned(), is_error: true, arrived: false, retry: None }
    }
}

/// The body while it is judged: as it comes, or read to its end. What was read is what is sent.
enum Held {
    Coming(Incoming),
    Read(Bytes),
    /// It broke off while it was read, so that nothing of it can be used.
    Lost,
}

/// How much of a request is known when the engine is asked.
#[derive(Clone, Copy)]
enum Known<'a> {
    /// Its head, before a body that decides is read.
    Head,
    /// All that counts.
    All(Option<&'a Value>),
}

/// A request that is judged.
pub(super) struct Judge<'a> {
    connection: &'a Connection,
    parties: &'a [Party],
    head: &'a request::Parts,
    outcome: &'a mut Outcome,
    /// What the guard under an HTTP/1 server saw.
    watch: Option<&'a Watch>,
    body: Held,
    taken: Vec<Taken>,
    withheld: Vec<&'static Filter>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        parties: &'a [Party],
        head: &'a request::Parts,
        body: Incoming,
        watch: Option<&'a Watch>,
        outcome: &'a mut Outcome,
    ) -> Self {
        let body = Held::Coming(body);
        Self { connection, parties, head, outcome, watch, body, taken: Vec::new(), withheld: Vec::new() }
    }

    /// Judges it. With a stop comes what was not read of the body.
    pub(super) async fn judge(mut self) -> Result<Passage, (Stop, Option<Incoming>)> {
        match self.passage().await {
            Ok((verdict, path_and_query)) => {
                let patience = self.connection.services.limits.body_idle_timeout;
                let body = match self.body {
                    Held::Coming(body) => Outgoing::new(body, patience),
                    Held::Read(bytes) => Outgoing::whole(bytes, patience),
                    Held::Lost => {
                        let stop = Stop::because(Reason::ClientGone, "the request body was lost");
                        return Err((stop, None));
                    }
                };
                Ok(Passage { verdict, path_and_query, body, taken: self.taken, withheld: self.withheld })
            }
            Err(stop) => {
                let rest = if let Held::Coming(body) = self.body { Some(body) } else { None };
                Err((stop, rest))
            }
        }
    }

    async fn passage(&mut self) -> Result<(Verdict, PathAndQuery), Stop> {
        let head = self.head;
        headers::check(head).map_err(|error| Stop::new(Reason::MalformedRequest, &error))?;
        let port = self.connection.port();
        authority::check(&self.connection.host, port, head.version, &head.uri, &head.headers)
            .map_err(|mismatch| Stop::new(mismatch.reason(), &mismatch))?;
        match self.connection.treatment {
            Treatment::Protected => self.protected().await,
            Treatment::Neighbour => self.neighbour(),
        }
    }

    async fn protected(&mut self) -> Result<(Verdict, PathAndQuery), Stop> {
        let catalogue = self.connection.services.catalogue;
        let head = self.head;
        let classified = classify::classify(catalogue, &head.method, &head.uri, &head.headers)
            .map_err(|error| Stop::new(error.reason(), &error))?;
        self.outcome.classified(&classified);
        let path_and_query = target(&classified)?;
        let document = self.document(&classified).await?;
        let decisions = self.decide(&classified, document.as_ref())?;
        self.withheld = self.withheld(&classified, &decisions);
        // After the decision, whose refusal tells more.
        self.look_for_form().await?;
        // Last, since only what goes out counts.
        let verdict = self.count(&classified, &decisions)?;
        Ok((verdict, path_and_query))
    }

    /// The body, where the decision depends on it.
    async fn document(&mut self, classified: &Classified<'_, '_>) -> Result<Option<Value>, Stop> {
        let operation = classified.route.as_ref().map(|route| route.operation);
        let parties = self.parties;
        if !self.has_body() || !parties.iter().any(|party| decide::depends_on_body(&party.policy, operation))
        {
            return Ok(None);
        }
        for party in parties {
            if let Some(decision) = self.ask(party, classified, Known::Head, decide::decide_by_head) {
                self.rule(party, classified, &decision)?;
            }
        }
        let stop = |error: body::Error| Stop::new(error.reason(), &error);
        let checked = body::check_head(&self.head.headers).map_err(stop);
        let parsed = match checked {
            Ok(()) => {
                let limit = self.connection.services.limits.body_inspect;
                let bytes = Box::pin(self.read(limit, Reason::BodyTooLarge)).await?;
                let names: Vec<&str> =
                    parties.iter().flat_map(|party| party.policy.names_in_body(operation)).collect();
                body::parse(&bytes, operation, &names).map_err(stop)
            }
            Err(stop) => Err(stop),
        };
        parsed.inspect_err(|stop| self.outcome.allowed(Effect::Deny, stop.reason))
    }

    /// What every policy says, in the order of the parties, if none of them stops the request.
    fn decide(
        &mut self,
        classified: &Classified<'_, '_>,
        document: Option<&Value>,
    ) -> Result<Vec<Decision>, Stop> {
        let parties = self.parties;
        let mut decisions = Vec::with_capacity(parties.len());
        for party in parties {
            let decision = self.ask(party, classified, Known::All(document), decide::decide);
            self.rule(party, classified, &decision)?;
            decisions.push(decision);
        }
        self.outcome.agreed(&decisions);
        // A denial that is only recorded tells more than the others' leave.
        let mut ruled = parties.iter().zip(&decisions);
        if let Some((party, denial)) = ruled.find(|(_, decision)| decision.effect == Effect::Deny) {
            self.outcome.decided(denial);
            self.outcome.ruled_by(&party.policy.name);
        }
        Ok(decisions)
    }

    /// Puts the request to the engine.
    fn ask<D>(
        &mut self,
        party: &Party,
        classified: &Classified<'_, '_>,
        known: Known<'_>,
        engine: fn(&Policy, &decide::Request<'_>) -> D,
    ) -> D {
        let query = classified.query;
        let (body, whole) = match known {
            Known::Head => (None, false),
            Known::All(body) => (body, true),
        };
        let route = classified.route.as_ref();
        let needs = route.map(|route| match whole {
            true => Needs::of(route, query, body),
            false => Ok(Needs::of_head(route, query)),
        });
        let (needs, action_is_unknown) = match (route, needs) {
            (_, Some(Ok(needs))) => (needs, false),
            (Some(route), Some(Err(_))) => (Needs::of_unknown_action(route, query, body), true),
            (None, _) | (_, None) => (Needs::default(), false),
        };
        let operation = route.map(|route| route.operation);
        self.outcome.names(&needs.resources);
        let subject = &self.connection.principal.subject;
        let request = decide::Request {
            method: &self.head.method,
            path: classified.path.as_str(),
            query,
            headers: &self.head.headers,
            operation,
            action_is_unknown,
            needs,
            body,
            caller: Caller {
                workload: &party.workload,
                pid: subject.pid,
                uid: subject.uid,
                executable: subject.executable.as_deref(),
                cgroup: subject.cgroup.as_deref(),
                token_type: self.outcome.token_type(),
            },
            now: SystemTime::now(),
        };
        engine(&party.policy, &request)
    }

    /// Stops the request where the decision is a refusal.
    fn rule(
        &mut self,
        party: &Party,
        classified: &Classified<'_, '_>,
        decision: &Decision,
    ) -> Result<(), Stop> {
        self.outcome.decided(decision);
        if decision.effect == Effect::Allow || decision.dry_run {
            return Ok(());
        }
        let policy = &party.policy;
        self.outcome.ruled_by(&policy.name);
        let instead = decision.instead(policy);
        let denied = Denied {
            workload: &party.workload,
            policy: &policy.name,
            contact: policy.contact.as_deref(),
            decision,
            instead: instead.as_deref(),
            method: &self.head.method,
            path: classified.path.as_str(),
            operation: classified.route.as_ref().map(|route| route.operation.name.as_str()),
        };
        let message = denied.message();
        Err(Stop { reason: decision.reason, message, is_error: false, arrived: false, retry: None })
    }

    /// The filters of the parts that the answer must not show.
    ///
    /// A policy in dry-run changes nothing for the client, and so not its answers either. A single rule's
    /// dry-run is about that rule's denials: what the policy as a whole does not show stays hidden.
    fn withheld(&self, classified: &Classified<'static, '_>, decisions: &[Decision]) -> Vec<&'static Filter> {
        let Some(route) = &classified.route else { return Vec::new() };
        let enforced =
            self.parties.iter().zip(decisions).filter(|(party, _)| party.policy.mode == Mode::Enforce);
        let indexes: BTreeSet<usize> =
            enforced.flat_map(|(_, decision)| decision.withheld.iter().copied()).collect();
        indexes.into_iter().filter_map(|index| route.operation.filters.get(index)).collect()
    }

    /// The name was checked; beyond that only what the proxy cannot carry is refused.
    fn neighbour(&mut self) -> Result<(Verdict, PathAndQuery), Stop> {
        let head = self.head;
        let target = head.uri.path_and_query().cloned();
        let carried = head.method != http::Method::CONNECT && !head.headers.contains_key(header::UPGRADE);
        let Some(path_and_query) = target.filter(|_| carried) else {
            let message = "CONNECT and upgrades are not supported";
            return Err(Stop::because(Reason::MethodRefused, message));
        };
        self.outcome.allowed(Effect::Allow, Reason::NeighbourHost);
        Ok((Verdict::Passed, path_and_query))
    }

    fn has_body(&self) -> bool {
        match &self.body {
            Held::Coming(body) => !body.is_end_stream() && body.size_hint().exact() != Some(0),
            Held::Read(bytes) => !bytes.is_empty(),
            Held::Lost => false,
        }
    }

    /// A body that could be read as a form is read to its end and looked through first.
    async fn look_for_form(&mut self) -> Result<(), Stop> {
        if !self.has_body() {
            return Ok(());
        }
        let looked = match classify::is_form(&self.head.method, &self.head.headers) {
            Ok(false) => return Ok(()),
            Ok(true) => {
                let read = Box::pin(self.read(form::MAX_FORM_BYTES, Reason::MethodOverride)).await;
                read.and_then(|bytes| {
                    if form::overrides_method(&bytes) {
                        return Err(Stop::new(
                            Reason::MethodOverride,
                            &classify::Error::MethodOverride("_method"),
                        ));
                    }
                    Ok(())
                })
            }
            Err(error) => Err(Stop::new(error.reason(), &error)),
        };
        looked.inspect_err(|stop| self.outcome.allowed(Effect::Deny, stop.reason))
    }

    /// Reads the body to its end, once.
    async fn read(&mut self, limit: usize, too_large: Reason) -> Result<Bytes, Stop> {
        let mut body = match std::mem::replace(&mut self.body, Held::Lost) {
            Held::Coming(body) => body,
            Held::Read(bytes) => {
                self.body = Held::Read(bytes.clone());
                return Ok(bytes);
            }
            Held::Lost => return Err(Stop::because(Reason::ClientGone, "the request body was lost")),
        };
        let patience = self.connection.services.limits.body_idle_timeout;
        // What says that it is too large is not waited for.
        if body.size_hint().lower() > limit as u64 {
            self.body = Held::Coming(body);
            return Err(too_large_stop(too_large, limit));
        }
        let bytes = match timeout(patience, Limited::new(&mut body, limit).collect()).await {
            Err(_) => return Err(Stop::because(Reason::BodyTimeout, "the request body took too long")),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                // The rest is only there to be left unread.
                self.body = Held::Coming(body);
                return Err(too_large_stop(too_large, limit));
            }
            Ok(Err(error)) => return Err(self.broken_off(&*error)),
            Ok(Ok(collected)) if collected.trailers().is_some() => {
                return Err(Stop::new(Reason::MalformedRequest, &Fault::Trailers));
            }
            Ok(Ok(collected)) => collected.to_bytes(),
        };
        self.body = Held::Read(bytes.clone());
        Ok(bytes)
    }

    /// Why the body ended too early. To hyper, what the guard does not let through is an end, too.
    fn broken_off(&self, error: &(dyn error::Error + 'static)) -> Stop {
        match self.watch.and_then(Watch::violation).filter(|violation| violation.in_body) {
            Some(violation) => Stop::new(Reason::MalformedRequest, &violation.rule),
            None => Stop::new(Reason::ClientGone, error),
        }
    }
}

fn too_large_stop(reason: Reason, limit: usize) -> Stop {
    Stop::because(
        reason,
        &format!("the request body has to be read before it is sent, and is larger than {limit} bytes"),
    )
}

/// What is asked of the upstream: the path and query that were judged.
fn target(classified: &Classified<'_, '_>) -> Result<PathAndQuery, Stop> {
    let target = match classified.query {
        Some(query) => format!("{}?{query}", classified.path.as_str()),
        None => classified.path.as_str().to_owned(),
    };
    PathAndQuery::try_from(target).map_err(|error| Stop::new(Reason::MalformedRequest, &error))
}
