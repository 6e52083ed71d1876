//! The record of one request: built while it goes through the stages, written exactly once, also when the
//! request is abandoned anywhere on its way.

use super::Connection;
use crate::{
    classify::{
        Classified,
        condition::Place,
        needs::{Named, Where},
    },
    decide::{Decision, Effect, store::InForce},
    forward::{body::Progress, guard::grammar::Violation, ratelimit::Budget},
    identify::Subject,
    reason::Reason,
    record::{
        self, AuditRecord, Destination, Durations, Phase, Ratelimit, RequestFacts, SCHEMA, Verdict,
        fingerprint::{LastToken, RandomUnavailable},
        trace_parent::TraceParent,
        unfinished::Begun,
    },
};
use http::{HeaderValue, StatusCode, Version, header, request};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// A request's record on its way. Dropping it writes it.
#[derive(Debug)]
pub(super) struct Outcome {
    connection: Arc<Connection>,
    /// Apart, since this is handed on often, and a record is large.
    record: Box<AuditRecord>,
    began: Instant,
    progress: Option<Arc<Progress>>,
    /// What is to be said if nothing more happens; none when the request is complete.
    pending: Option<Reason>,
    written: bool,
    /// Given back after the record is written.
    begun: Option<Begun>,
}

impl Outcome {
    /// The record of a request whose head was read.
    pub(super) fn of_request(
        connection: &Arc<Connection>,
        governing: &InForce,
        head: &request::Parts,
        last_token: &LastToken,
    ) -> Result<Self, RandomUnavailable> {
        let authorization = head.headers.get(header::AUTHORIZATION);
        let token = connection.services.recorder.token_facts(last_token, authorization);
        let user_agent = head.headers.get(header::USER_AGENT).map(HeaderValue::as_bytes);
        Self::new(
            connection,
            governing,
            RequestFacts {
                method: head.method.to_string(),
                path: head.uri.path().to_owned(),
                query: head.uri.query().map(str::to_owned),
                protocol: protocol(head.version),
                user_agent: user_agent.map(|value| String::from_utf8_lossy(value).into_owned()),
                trace: TraceParent::of(&head.headers),
                token_type: token.token_type,
                token_fingerprint: token.fingerprint,
                ..RequestFacts::default()
            },
        )
    }

    /// The record of a request whose head was never whole. Of its fields nothing can be said.
    pub(super) fn of_violation(
        connection: &Arc<Connection>,
        violation: &Violation,
    ) -> Result<Self, RandomUnavailable> {
        let (method, target) = violation.request_line.clone().unwrap_or_default();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (target, None),
        };
        let protocol = protocol(Version::HTTP_11);
        let facts =
            RequestFacts { method, path, query, protocol, token_type: "none", ..RequestFacts::default() };
        Self::new(connection, &connection.policies.current(), facts)
    }

    fn new(
        connection: &Arc<Connection>,
        governing: &InForce,
        request: RequestFacts,
    ) -> Result<Self, RandomUnavailable> {
        let policy_digest = Some(governing.digest.as_ref().to_owned());
        let mut destination = Destination::new(connection.destination);
        destination.host = Some(connection.host.as_str().to_owned());
        let record = AuditRecord {
            timestamp: record::timestamp(SystemTime::now()),
            schema: SCHEMA,
            phase: Phase::Outcome,
            request_id: record::request_id()?,
            subject: Subject { policy_digest, ..Subject::clone(&connection.principal.subject) },
            destination,
            request: Some(request),
            decision: Effect::Deny,
            reason: Reason::ClientGone,
            rule: None,
            verdict: Some(Verdict::Closed),
            status: None,
            ratelimit: Ratelimit::default(),
            detail: None,
            runtime: None,
            hint: None,
            count: None,
            bytes_in: 0,
            bytes_out: 0,
            durations: Durations::default(),
        };
        Ok(Self {
            connection: Arc::clone(connection),
            record: Box::new(record),
            began: Instant::now(),
            progress: None,
            pending: Some(Reason::ClientGone),
            written: false,
            begun: None,
        })
    }

    /// The id that both lines of a write, and a refusal, carry.
    pub(super) fn request_id(&self) -> &str {
        &self.record.request_id
    }

    /// The token's type.
    pub(super) fn token_type(&self) -> &'static str {
        self.record.request.as_ref().map_or("none", |request| request.token_type)
    }

    /// The token's fingerprint, where there is a token.
    pub(super) fn token_fingerprint(&self) -> Option<&str> {
        self.record.request.as_ref()?.token_fingerprint.as_deref()
    }

    /// It goes out as a read, whose record comes only behind it.
    pub(super) fn begin_read(&mut self) {
        self.begun = self.connection.services.recorder.begin_read();
    }

    /// What was decided; a denial until then.
    pub(super) fn effect(&self) -> Effect {
        self.record.decision
    }

    /// What the catalogue says of the request.
    pub(super) fn classified(&mut self, classified: &Classified<'_, '_>) {
        if let Some(request) = &mut self.record.request {
            request.path = classified.path.as_str().to_owned();
            request.operation = classified.route.as_ref().map(|route| route.operation.name.clone());
        }
    }

    /// Which resources it names. Of a body's content nothing goes into a record but ids; a kind that it also
    /// names in words is left out, so that what is recorded of a kind is all of it.
    pub(super) fn names(&mut self, named: &[Named<'_, '_>]) {
        let in_words = |named: &&Named<'_, '_>| match named.place {
            // What is to be a new thing's name is a word, also where it looks like an id.
            Where::At(place @ Place::Body(_)) => place.is_name() || !is_id(&named.value),
            Where::At(Place::Query(_)) | Where::Path(_) => false,
        };
        let hidden: Vec<_> = named.iter().filter(in_words).map(|named| &named.kind).collect();
        let told = named.iter().filter(|named| !hidden.contains(&&named.kind));
        if let Some(request) = &mut self.record.request {
            request.resources = told.map(ToString::to_string).collect();
        }
    }

    /// That one of several policies alone is why it stops.
    pub(super) fn ruled_by(&mut self, policy: &str) {
        policy.clone_into(&mut self.record.subject.policy);
    }

    /// What the policies say of it, that do not stop it.
    pub(super) fn agreed(&mut self, decisions: &[Decision]) {
        let Some(first) = decisions.first() else { return };
        self.decided(first);
        if decisions.len() > 1 {
            let rules: Vec<String> = decisions.iter().map(|decision| decision.rule.to_string()).collect();
            self.record.rule = Some(rules.join("+"));
        }
    }

    /// What a policy says of it.
    pub(super) fn decided(&mut self, decision: &Decision) {
        let words = |scopes: &[crate::classify::Scope]| scopes.iter().map(ToString::to_string).collect();
        if let Some(request) = &mut self.record.request {
            request.required = words(&decision.required);
            request.missing = words(&decision.missing);
        }
        self.record.rule = Some(decision.rule.to_string());
        self.allowed(decision.effect, decision.reason);
    }

    /// An answer of the engine, or one that needs none.
    pub(super) fn allowed(&mut self, effect: Effect, reason: Reason) {
        self.record.decision = effect;
        self.record.reason = reason;
        self.record.durations.decide = Some(micros(self.began.elapsed()));
    }

    /// That limit of the policy has no room for it.
    pub(super) fn limited(&mut self, index: usize) {
        self.record.rule = Some(format!("limit[{index}]"));
        self.allowed(Effect::Deny, Reason::RateLimited);
    }

    /// The line that is to be in the log before the request's first byte goes out.
    pub(super) fn intent(&self) -> AuditRecord {
        let mut record = AuditRecord::clone(&self.record);
        record.phase = Phase::Intent;
        record.verdict = None;
        record.durations.total = micros(self.began.elapsed());
        record
    }

    /// From here on the upstream may get the request.
    pub(super) fn sending(&mut self, verdict: Verdict, progress: Arc<Progress>) {
        self.record.verdict = Some(verdict);
        self.progress = Some(progress);
    }

    /// The head of the upstream's answer is there. `reason` where the answer itself gives one.
    pub(super) fn answered(&mut self, status: StatusCode, waited: Duration, reason: Option<Reason>) {
        self.record.status = Some(status.as_u16());
        self.record.durations.upstream = Some(micros(waited));
        self.record.reason = reason.unwrap_or(self.record.reason);
    }

    /// What the API says in its answer of the token's budget.
    pub(super) fn told(&mut self, budget: Budget) {
        let Budget { limit, remaining, reset } = budget;
        self.record.ratelimit = Ratelimit { limit, remaining, reset };
        if let Some(token) = self.token_fingerprint() {
            self.connection.services.budgets.keep(token, budget, Instant::now());
        }
    }

    /// These parts were taken out of the upstream's answer.
    pub(super) fn filtered(&mut self, pointers: Vec<String>) {
        if let Some(request) = &mut self.record.request {
            request.filtered = pointers;
        }
    }

    /// The client gets tidegate's own answer of `length` bytes. `arrived`: the upstream may have the request.
    pub(super) fn refused(
        &mut self,
        reason: Reason,
        status: StatusCode,
        detail: Option<String>,
        length: usize,
        arrived: bool,
    ) {
        if !arrived {
            self.record.verdict = Some(Verdict::Refused);
        }
        self.record.reason = reason;
        self.record.status = Some(status.as_u16());
        self.record.detail = detail;
        self.record.bytes_out = length as u64;
        self.complete();
    }

    /// So many bytes of the answer went to the client.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.record.bytes_out += bytes as u64;
    }

    /// The answer broke off.
    pub(super) fn failed(&mut self, reason: Reason, detail: String) {
        self.pending = Some(reason);
        self.record.detail = Some(detail);
        self.write();
    }

    /// Nothing is missing.
    pub(super) fn complete(&mut self) {
        self.pending = None;
        self.write();
    }

    fn write(&mut self) {
        if self.written {
            return;
        }
        self.written = true;
        if let Some(reason) = self.pending {
            self.record.reason = reason;
        }
        if let Some(progress) = &self.progress {
            self.record.bytes_in = progress.bytes();
        }
        self.record.durations.total = micros(self.began.elapsed());
        let recorder = &self.connection.services.recorder;
        match self.begun.take() {
            Some(begun) => recorder.read_outcome(&self.record, begun),
            None => recorder.outcome(&self.record),
        }
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        self.write();
    }
}

/// A number or a UUID, which say nothing but which.
fn is_id(value: &str) -> bool {
    let uuid = value.len() == 36 && value.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    uuid || (!value.is_empty() && value.len() <= 20 && value.bytes().all(|byte| byte.is_ascii_digit()))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}
