use super::{fingerprint::Fingerprinter, redact::Redactor, *};
use serde_json::{Map, Value, json};
use std::time::Duration;
use test_case::test_case;

const TOKEN: &str = "dop_v1_aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd";

/// A record in which everything is there.
pub(super) fn record() -> AuditRecord {
    AuditRecord {
        timestamp: timestamp(UNIX_EPOCH),
        schema: SCHEMA,
        phase: Phase::Outcome,
        request_id: "00112233445566778899aabbccddeeff".to_owned(),
        subject: Subject {
            workload: "ci".to_owned(),
            policy: "read-only".to_owned(),
            policy_digest: Some("fedcba".to_owned()),
            cgroup: Some("/ci.slice".to_owned()),
            container: None,
            pid: Some(42),
            executable: Some("/usr/bin/curl".to_owned()),
            comm: Some("curl".to_owned()),
            uid: Some(1000),
        },
        destination: Destination {
            host: Some("api.digitalocean.com".to_owned()),
            ..Destination::new("[::ffff:192.0.2.1]:443".parse().unwrap())
        },
        request: Some(RequestFacts {
            method: "DELETE".to_owned(),
            path: "/v2/droplets/1".to_owned(),
            query: Some("a=b".to_owned()),
            protocol: "2",
            user_agent: Some("curl/8".to_owned()),
            trace: Some(TraceParent {
                trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
                span_id: "00f067aa0ba902b7".to_owned(),
                trace_flags: "01".to_owned(),
            }),
            operation: Some("droplets_destroy".to_owned()),
            required: vec!["droplet:delete".to_owned()],
            missing: vec!["droplet:delete".to_owned()],
            resources: vec!["droplet:1".to_owned()],
            filtered: Vec::new(),
            token_type: "dop",
            token_fingerprint: Some("0123456789abcdef".to_owned()),
        }),
        decision: Effect::Deny,
        reason: Reason::MissingScope,
        rule: Some("default".to_owned()),
        verdict: Some(Verdict::Refused),
        status: Some(403),
        ratelimit: Ratelimit { limit: Some(5000), remaining: Some(4816), reset: Some(1_700_000_000) },
        detail: Some("because".to_owned()),
        runtime: None,
        hint: None,
        count: None,
        bytes_in: 1,
        bytes_out: 2,
        durations: Durations { total: 3, decide: Some(1), upstream: Some(2) },
    }
}

fn redactor() -> Redactor {
    Redactor::new(Fingerprinter::from_key(&[7; 32]))
}

fn text_of(record: &AuditRecord) -> String {
    String::from_utf8(record.to_line(&redactor()).unwrap()).unwrap()
}

fn json_of(record: &AuditRecord) -> Map<String, Value> {
    serde_json::from_str(&text_of(record)).unwrap()
}

#[test]
fn a_full_record_has_exactly_these_keys_and_values() {
    let mut expected = json!({
        "timestamp": "1970-01-01T00:00:00.000000Z",
        "tidegate.schema": 1,
        "tidegate.phase": "outcome",
        "tidegate.request.id": "00112233445566778899aabbccddeeff",
        "tidegate.workload": "ci",
        "tidegate.policy": "read-only",
        "tidegate.policy.digest": "fedcba",
        "tidegate.cgroup": "/ci.slice",
        "process.pid": 42,
        "process.executable.path": "/usr/bin/curl",
        "process.executable.name": "curl",
        "process.user.id": 1000,
        "destination.address": "192.0.2.1",
        "destination.port": 443,
        "server.address": "api.digitalocean.com",
        "http.request.method": "DELETE",
        "url.path": "/v2/droplets/1",
        "url.query": "a=b",
        "network.protocol.version": "2",
        "user_agent.original": "curl/8",
        "tidegate.operation": "droplets_destroy",
        "tidegate.scopes.required": ["droplet:delete"],
        "tidegate.resources": ["droplet:1"],
        "tidegate.scopes.missing": ["droplet:delete"],
        "tidegate.token.type": "dop",
        "tidegate.token.fingerprint": "0123456789abcdef",
        "tidegate.decision": "deny",
        "tidegate.reason": "missing_scope",
        "tidegate.rule": "default",
        "tidegate.verdict": "refused",
        "http.response.status_code": 403,
        "tidegate.ratelimit.limit": 5000,
        "tidegate.ratelimit.remaining": 4816,
        "tidegate.ratelimit.reset": 1_700_000_000,
        "tidegate.detail": "because",
        "tidegate.bytes.in": 1,
        "tidegate.bytes.out": 2,
        "tidegate.duration_us.total": 3,
        "tidegate.duration_us.decide": 1,
        "tidegate.duration_us.upstream": 2,
    });
    // One macro takes no more keys than those.
    expected["trace_id"] = "4bf92f3577b34da6a3ce929d0e0e4736".into();
    expected["span_id"] = "00f067aa0ba902b7".into();
    expected["trace_flags"] = "01".into();
    assert_eq!(Value::Object(json_of(&record())), expected);
}

#[test]
fn a_client_that_refused_the_ca_is_told_with_its_runtime_and_a_hint() {
    let record = AuditRecord { runtime: Some(Runtime::OpenSsl), hint: Some("set it"), ..record() };
    let json = json_of(&record);
    assert_eq!(
        (&json["tidegate.client.runtime"], &json["tidegate.hint"]),
        (&json!("openssl"), &json!("set it"))
    );
}

#[test]
fn parts_that_were_taken_out_of_an_answer_are_named() {
    let mut record = record();
    record.request.as_mut().unwrap().filtered = vec!["/database/connection/password".to_owned()];
    assert_eq!(json_of(&record)["tidegate.filtered"], json!(["/database/connection/password"]));
}

#[test]
fn a_connection_without_a_request_has_only_what_is_known() {
    let record = AuditRecord {
        subject: Subject::default(),
        destination: Destination::default(),
        request: None,
        rule: None,
        verdict: Some(Verdict::Closed),
        status: None,
        ratelimit: Ratelimit::default(),
        detail: None,
        durations: Durations::default(),
        ..record()
    };
    let keys: Vec<_> = json_of(&record).into_iter().map(|(key, _)| key).collect();
    let expected = [
        "tidegate.bytes.in",
        "tidegate.bytes.out",
        "tidegate.decision",
        "tidegate.duration_us.total",
        "tidegate.phase",
        "tidegate.policy",
        "tidegate.reason",
        "tidegate.request.id",
        "tidegate.schema",
        "tidegate.verdict",
        "tidegate.workload",
        "timestamp",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn no_string_of_a_record_keeps_a_token() {
    let secret = || format!("x {TOKEN} y");
    let full = record();
    let poisoned = AuditRecord {
        timestamp: secret(),
        request_id: secret(),
        subject: Subject {
            workload: secret(),
            policy: secret(),
            policy_digest: Some(secret()),
            cgroup: Some(secret()),
            executable: Some(secret()),
            comm: Some(secret()),
            ..full.subject.clone()
        },
        destination: Destination { host: Some(secret()), ..full.destination.clone() },
        request: full.request.clone().map(|request| RequestFacts {
            method: secret(),
            path: secret(),
            query: Some(secret()),
            user_agent: Some(secret()),
            operation: Some(secret()),
            required: vec![secret()],
            missing: vec![secret(), secret()],
            token_fingerprint: Some(secret()),
            ..request
        }),
        rule: Some(secret()),
        detail: Some(format!("quoted \"{TOKEN}\"\n{TOKEN}\\")),
        ..full
    };
    let text = text_of(&poisoned);
    let strings = 21;
    assert!(!text.contains("aaaaaaaa"), "{text}");
    assert_eq!(text.matches("dop_v1_[redacted:").count(), strings, "{text}");
    json_of(&poisoned);
}

#[test]
fn a_line_holds_no_character_that_steers_a_terminal() {
    let detail = "a\nb\u{1b}[2J\u{9b}2J\u{7f}\u{202e}\u{2028}\"\\é😀";
    let record = AuditRecord { detail: Some(detail.to_owned()), ..record() };
    let text = text_of(&record);
    let line = text.strip_suffix('\n').unwrap();
    assert!(!line.contains(redact::is_steering), "{line:?}");
    assert_eq!(json_of(&record)["tidegate.detail"], detail);
}

#[test_case(0, 0, "1970-01-01T00:00:00.000000Z")]
#[test_case(1_790_000_000, 123_456_789, "2026-09-21T14:13:20.123456Z"; "nanoseconds are cut")]
#[test_case(4_102_444_799, 999_999_999, "2099-12-31T23:59:59.999999Z")]
fn timestamps_have_microseconds_in_utc(seconds: u64, nanoseconds: u32, expected: &str) {
    assert_eq!(timestamp(UNIX_EPOCH + Duration::new(seconds, nanoseconds)), expected);
}

#[test]
fn request_ids_are_32_digits_and_differ() {
    let (one, two) = (request_id().unwrap(), request_id().unwrap());
    assert!(one.len() == 32 && one.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_ne!(one, two);
}
