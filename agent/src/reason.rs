//! The stable codes that say why something was decided, refused or closed; docs/reasons.md explains each.

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)+) => {
        /// Why a connection or request came to its verdict.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
        pub enum Reason { $($(#[$doc])* #[serde(rename = $code)] $name,)+ }

        impl Reason {
            /// Every reason, in the order of the path of a connection.
            pub const ALL: &[Reason] = &[$(Reason::$name,)+];

            /// The code as it stands in records and answers.
            pub fn code(self) -> &'static str {
                match self { $(Reason::$name => $code,)+ }
            }
        }
    };
}

reasons! {
    // capture
    /// The kernel refused a connect: no listener in the network namespace for that address family.
    NoListener = "no_listener",
    /// The kernel refused a connect: the flow table is full.
    FlowTableFull = "flow_table_full",
    /// The kernel refused a datagram to a captured port (QUIC), so that the client falls back to TCP.
    QuicRefused = "quic_refused",
    /// The kernel refused a way past the redirection: an MPTCP or raw socket, a stream other than TCP.
    ProtocolRefused = "protocol_refused",
    /// The kernel refused another port or protocol of an address of a protected host.
    AddressRefused = "address_refused",
    /// The kernel dropped a packet of a connection that does not lead through the proxy.
    NotThroughProxy = "not_through_proxy",
    /// The kernel refused a subject the listener's own port.
    ListenerPort = "listener_port",
    /// A connection reached the listener without a flow, so nobody knows whose it is.
    NoFlow = "no_flow",
    /// It cannot be told whose connection it is: its process and cgroup are gone, or nobody has told of its pod yet.
    Unidentified = "unidentified",
    /// Refusals came faster than they can be recorded one by one.
    RefusalFlood = "refusal_flood",
    /// The workload has as many connections open as its limit allows.
    TooManyConnections = "too_many_connections",
    /// The workload has as many TLS handshakes under way as its limit allows.
    TooManyHandshakes = "too_many_handshakes",

    // peek
    /// TLS for a host that is not protected.
    OtherHost = "other_host",
    /// TLS for a host listed in `capture.passthrough_hosts`.
    PassthroughHost = "passthrough_host",
    /// The first bytes are not TLS.
    NotTls = "not_tls",
    /// No first byte came within `capture.peek_timeout`.
    Silence = "silence",
    /// A ClientHello without a server name.
    NoSni = "no_sni",
    /// A ClientHello with encrypted client hello, which can hide the name.
    Ech = "ech",
    /// A name that is not protected, at an address of a protected host.
    ForeignSni = "foreign_sni",
    /// The bytes begin like a ClientHello and break its grammar.
    HelloMalformed = "hello_malformed",
    /// The ClientHello is larger than the peek reads.
    HelloTooLarge = "hello_too_large",
    /// The ClientHello did not arrive in full within `capture.peek_timeout`.
    HelloTimeout = "hello_timeout",
    /// Plain HTTP for a protected host.
    PlainHttp = "plain_http",

    // terminate
    /// The client does not trust the local CA.
    ClientRejectedCa = "client_rejected_ca",
    /// The TLS handshake with the client failed for another reason.
    HandshakeFailed = "handshake_failed",
    /// The TLS handshake with the client took too long.
    HandshakeTimeout = "handshake_timeout",
    /// The client ended the connection without a request.
    NoRequest = "no_request",

    // classify
    /// The request's bytes break HTTP's grammar, or can be read in two ways.
    MalformedRequest = "malformed_request",
    /// The request head did not arrive in time.
    HeadTimeout = "head_timeout",
    /// SNI, Host and `:authority` do not agree.
    AuthorityMismatch = "authority_mismatch",
    /// The path is not in canonical form, so two readers could understand it differently.
    PathNotCanonical = "path_not_canonical",
    /// A header or parameter that overrides the method.
    MethodOverride = "method_override",
    /// CONNECT, TRACE or an upgrade, which the API does not have, or a tunnel that would not be looked at.
    MethodRefused = "method_refused",
    /// The body decides what the request does, and is no strict JSON object.
    BodyMalformed = "body_malformed",
    /// The body decides what the request does, and its type or encoding is not plain JSON.
    BodyUnreadable = "body_unreadable",
    /// The body decides what the request does, and is larger than is read.
    BodyTooLarge = "body_too_large",
    /// A query parameter that decides stands there twice, or in a spelling that only some servers read.
    QueryAmbiguous = "query_ambiguous",

    // decide
    /// Every scope that the operation needs is allowed.
    ScopesAllowed = "scopes_allowed",
    /// The policy's `operations` names the operation, or an alias fits an operation that has no scope.
    OperationAllowed = "operation_allowed",
    /// The request is not in the catalogue and the policy says `unknown = "allow"` and holds `api:write`.
    UnknownAllowed = "unknown_allowed",
    /// A scope that the operation needs is not allowed.
    MissingScope = "missing_scope",
    /// A scope that the operation needs is allowed for other resources only.
    ResourceNotAllowed = "resource_not_allowed",
    /// A scope that the operation needs is allowed under a condition that is false.
    ConditionNotMet = "condition_not_met",
    /// A condition of the policy has no answer for this request.
    ConditionFailed = "condition_failed",
    /// A scope that the operation needs is denied by `deny`.
    DeniedScope = "denied_scope",
    /// A `[[rule]]` with `effect = "deny"` fits.
    DeniedByRule = "denied_by_rule",
    /// The operation has no scope and the policy does not name it.
    NoScopeDefined = "no_scope_defined",
    /// The request is not in the catalogue.
    Unclassified = "unclassified",
    /// A `[[limit]]` is used up.
    RateLimited = "rate_limited",
    /// Another name of the protected host's domain, checked and passed on unchanged.
    NeighbourHost = "neighbour_host",

    // forward
    /// No address of the upstream could be reached.
    UpstreamUnreachable = "upstream_unreachable",
    /// The upstream's certificate does not prove the protected name.
    UpstreamNotHost = "upstream_not_host",
    /// The upstream did not answer in time.
    UpstreamTimeout = "upstream_timeout",
    /// The upstream broke the connection or HTTP's grammar.
    UpstreamFailed = "upstream_failed",
    /// The forward proxy did not open the tunnel that it was asked for.
    ProxyRefused = "proxy_refused",
    /// The edge in front of the API answered instead of the API.
    EdgeRefused = "edge_refused",
    /// The answer has parts that the policy does not show, and they cannot be taken out of it.
    Unfilterable = "unfilterable",
    /// The request body stopped arriving.
    BodyTimeout = "body_timeout",
    /// The client went away before the answer was complete.
    ClientGone = "client_gone",

    // record
    /// The audit log cannot be written.
    AuditUnavailable = "audit_unavailable",
    /// The agent was killed while reads were on their way, and their records are lost.
    RecordsLost = "records_lost",
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../docs/reasons.md");

    #[test]
    fn the_document_explains_every_reason_in_order_and_no_other() {
        let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let documented: Vec<&str> = rows.map(|(code, _)| code).collect();
        let codes: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(documented, codes);
    }

    #[test]
    fn every_row_of_the_document_says_what_happened_and_what_to_do() {
        for line in DOCUMENT.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            assert!(cells.len() == 3 && cells.iter().all(|cell| cell.len() > 4), "{line}");
        }
    }
}
