//! How every refusal and failure looks to the client: DigitalOcean's own error shape, so that its tools
//! show it properly. Pure, and the only place that chooses a status.

pub mod limited;

#[cfg(test)]
mod tests;

use crate::{
    decide::{Decision, Effect},
    forward::headers::DECISION,
    reason::Reason,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde::Serialize;
use std::fmt::Write;

/// The most of a path that is repeated in a message.
const MAX_PATH_CHARS: usize = 256;

/// Why a request may not be made, in the words of the policy.
#[derive(Clone, Copy, Debug)]
pub struct Denied<'a> {
    /// The workload.
    pub workload: &'a str,
    /// The policy.
    pub policy: &'a str,
    /// Whom to ask for more.
    pub contact: Option<&'a str>,
    /// What the engine answered.
    pub decision: &'a Decision,
    /// What the policy would allow in its place.
    pub instead: Option<&'a str>,
    /// The request's method.
    pub method: &'a Method,
    /// Its path.
    pub path: &'a str,
    /// The catalogue's name for it, where it has one.
    pub operation: Option<&'a str>,
}

impl Denied<'_> {
    /// The sentence for the client.
    pub fn message(&self) -> String {
        let Self { workload, policy, contact, decision, instead, method, path, operation } = *self;
        let mut message = call(workload, method, path, operation);
        // Writing to a string cannot fail.
        let _ = write!(message, ": {}", self.cause());
        if let Some(note) = &decision.note {
            let _ = write!(message, " ({note})");
        }
        if let Some(instead) = instead {
            let _ = write!(message, "; {instead}");
        }
        let _ = write!(message, "; policy \"{policy}\", rule {}", decision.rule);
        if let Some(contact) = contact {
            let _ = write!(message, "; contact {contact}");
        }
        message
    }

    fn cause(&self) -> String {
        let scopes: Vec<&str> = self.decision.missing.iter().map(|scope| scope.as_str()).collect();
        let plural = if scopes.len() == 1 { "" } else { "s" };
        let scopes = scopes.join(", ");
        let reason = self.decision.reason;
        if reason == Reason::MissingScope {
            format!("missing scope{plural} {scopes}")
        } else if reason == Reason::DeniedScope {
            format!("denied scope{plural} {scopes}")
        } else if reason == Reason::ResourceNotAllowed {
            format!("{scopes} is not allowed for this resource")
        } else if reason == Reason::ConditionNotMet {
            format!("{scopes} is not allowed under this condition")
        } else if reason == Reason::ConditionFailed {
            "a condition of the policy has no answer for this request".to_owned()
        } else if reason == Reason::DeniedByRule {
            "denied by a rule".to_owned()
        } else if reason == Reason::NoScopeDefined {
            "the operation has no scope, so that the policy must name it in `operations`".to_owned()
        } else if reason == Reason::Unclassified {
            "it is not in the catalogue of the API's operations".to_owned()
        } else {
            reason.code().to_owned()
        }
    }
}

/// Who may not do what: how every denial's message begins.
fn call(workload: &str, method: &Method, path: &str, operation: Option<&str>) -> String {
    let path: String = path.chars().take(MAX_PATH_CHARS).collect();
    match operation {
        Some(operation) => format!("workload \"{workload}\" may not call {operation} ({method} {path})"),
        None => format!("workload \"{workload}\" may not call {method} {path}"),
    }
}

/// tidegate's own answer. `message` says what, where and what to do, without the name of the program.
pub fn answer(reason: Reason, effect: Effect, message: &str, request_id: &str) -> Response<Bytes> {
    #[derive(Serialize)]
    struct Body<'a> {
        id: &'a str,
        message: String,
        request_id: &'a str,
    }
    let (status, id) = status(reason);
    let body = Body { id, message: format!("tidegate: {message}"), request_id };
    // A struct of strings always serialises.
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let effect = match effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
    };
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(decision) = HeaderValue::try_from(format!("{effect}; reason={reason}")) {
        headers.insert(DECISION, decision);
    }
    response
}

/// The answer as the last bytes of an HTTP/1 connection, for a stream that no server can read on.
pub fn last_bytes(response: &Response<Bytes>) -> Vec<u8> {
    let status = response.status();
    let mut head =
        format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default());
    for (name, value) in response.headers() {
        let _ = write!(head, "{name}: {}\r\n", value.to_str().unwrap_or_default());
    }
    let _ = write!(head, "content-length: {}\r\nconnection: close\r\n\r\n", response.body().len());
    [head.as_bytes(), response.body()].concat()
}

/// The status and DigitalOcean's word for it. Reasons that never lead to an answer of tidegate's own would be
/// a mistake of the session's, which the client sees as such.
fn status(reason: Reason) -> (StatusCode, &'static str) {
    match reason {
        Reason::MissingScope
        | Reason::DeniedScope
        | Reason::DeniedByRule
        | Reason::NoScopeDefined
        | Reason::Unclassified
        | Reason::ResourceNotAllowed
        | Reason::ConditionNotMet
        | Reason::ConditionFailed
        | Reason::PlainHttp => (StatusCode::FORBIDDEN, "forbidden"),
        Reason::AuthorityMismatch => (StatusCode::MISDIRECTED_REQUEST, "misdirected_request"),
        Reason::MalformedRequest
        | Reason::PathNotCanonical
        | Reason::MethodOverride
        | Reason::MethodRefused
        | Reason::BodyMalformed
        | Reason::QueryAmbiguous
        | Reason::ClientGone => (StatusCode::BAD_REQUEST, "bad_request"),
        Reason::BodyUnreadable => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
        Reason::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
        Reason::HeadTimeout | Reason::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "request_timeout"),
        Reason::TooManyConnections | Reason::TooManyHandshakes | Reason::RateLimited => {
            (StatusCode::TOO_MANY_REQUESTS, "too_many_requests")
        }
        Reason::UpstreamUnreachable
        | Reason::UpstreamNotHost
        | Reason::UpstreamFailed
        | Reason::Unfilterable
        | Reason::ProxyRefused => (StatusCode::BAD_GATEWAY, "bad_gateway"),
        Reason::UpstreamTimeout => (StatusCode::GATEWAY_TIMEOUT, "gateway_timeout"),
        Reason::AuditUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "service_unavailable"),
        Reason::NoListener
        | Reason::FlowTableFull
        | Reason::QuicRefused
        | Reason::ProtocolRefused
        | Reason::AddressRefused
        | Reason::NotThroughProxy
        | Reason::ListenerPort
        | Reason::NoFlow
        | Reason::Unidentified
        | Reason::RefusalFlood
        | Reason::RecordsLost
        | Reason::OtherHost
        | Reason::PassthroughHost
        | Reason::NotTls
        | Reason::Silence
        | Reason::NoSni
        | Reason::Ech
        | Reason::ForeignSni
        | Reason::HelloMalformed
        | Reason::HelloTooLarge
        | Reason::HelloTimeout
        | Reason::ClientRejectedCa
        | Reason::HandshakeFailed
        | Reason::HandshakeTimeout
        | Reason::NoRequest
        | Reason::ScopesAllowed
        | Reason::OperationAllowed
        | Reason::UnknownAllowed
        | Reason::NeighbourHost
        | Reason::EdgeRefused => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
    }
}
