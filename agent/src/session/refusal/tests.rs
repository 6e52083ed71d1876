use super::*;
use crate::{classify::Scope, decide::Entry};
use test_case::test_case;

fn decision(reason: Reason, missing: &[&str]) -> Decision {
    let missing: Vec<Scope> = missing.iter().map(|scope| Scope::parse(scope).unwrap()).collect();
    Decision {
        effect: Effect::Deny,
        reason,
        rule: Entry::Default,
        note: None,
        limits: Vec::new(),
        withheld: Vec::new(),
        required: missing.iter().cloned().collect(),
        missing,
        dry_run: false,
    }
}

fn denied<'a>(decision: &'a Decision, operation: Option<&'a str>, contact: Option<&'a str>) -> Denied<'a> {
    let path = "/v2/droplets/3164444";
    let (workload, policy, method) = ("run", "read-only", &Method::DELETE);
    Denied { workload, policy, contact, decision, instead: None, method, path, operation }
}

fn message(decision: &Decision, operation: Option<&str>, contact: Option<&str>) -> String {
    denied(decision, operation, contact).message()
}

#[test]
fn a_denial_names_workload_operation_scope_policy_and_rule() {
    let decision = decision(Reason::MissingScope, &["droplet:delete"]);
    assert_eq!(
        message(&decision, Some("droplets_destroy"), None),
        "workload \"run\" may not call droplets_destroy (DELETE /v2/droplets/3164444): \
         missing scope droplet:delete; policy \"read-only\", rule default"
    );
}

#[test]
fn several_scopes_a_note_and_a_contact_are_named_too() {
    let mut decision = decision(Reason::DeniedScope, &["droplet:delete", "image:delete"]);
    decision.rule = Entry::Rule(3);
    decision.note = Some("never in production".to_owned());
    assert_eq!(
        message(&decision, Some("x"), Some("ops@example.com")),
        "workload \"run\" may not call x (DELETE /v2/droplets/3164444): denied scopes droplet:delete, image:delete \
         (never in production); policy \"read-only\", rule rule[3]; contact ops@example.com"
    );
}

#[test]
fn what_is_allowed_in_its_place_is_told() {
    let decision = decision(Reason::ResourceNotAllowed, &["droplet:delete"]);
    let instead = Some("allowed for droplet 1 only");
    assert_eq!(
        Denied { instead, ..denied(&decision, Some("x"), None) }.message(),
        "workload \"run\" may not call x (DELETE /v2/droplets/3164444): droplet:delete is not allowed for this \
         resource; allowed for droplet 1 only; policy \"read-only\", rule default"
    );
}

#[test]
fn an_unknown_operation_is_called_by_its_request() {
    assert!(message(&decision(Reason::Unclassified, &[]), None, None).starts_with(
        "workload \"run\" may not call DELETE /v2/droplets/3164444: it is not in the catalogue"
    ));
}

#[test]
fn a_long_path_is_cut_in_the_message() {
    let decision = decision(Reason::Unclassified, &[]);
    let denied = Denied {
        workload: "run",
        policy: "p",
        contact: None,
        decision: &decision,
        instead: None,
        method: &Method::GET,
        path: &"/a".repeat(5000),
        operation: None,
    };
    assert!(denied.message().len() < 500);
}

#[test_case(Reason::MissingScope, 403, "forbidden")]
#[test_case(Reason::AuthorityMismatch, 421, "misdirected_request")]
#[test_case(Reason::MalformedRequest, 400, "bad_request")]
#[test_case(Reason::BodyTimeout, 408, "request_timeout")]
#[test_case(Reason::TooManyConnections, 429, "too_many_requests")]
#[test_case(Reason::RateLimited, 429, "too_many_requests")]
#[test_case(Reason::UpstreamNotHost, 502, "bad_gateway")]
#[test_case(Reason::AuditUnavailable, 503, "service_unavailable")]
#[test_case(Reason::UpstreamTimeout, 504, "gateway_timeout")]
fn an_answer_has_the_shape_of_the_api(reason: Reason, status: u16, id: &str) {
    let answer = answer(reason, Effect::Deny, "a \"quoted\" line\nand another", "0123");
    assert_eq!(answer.status().as_u16(), status);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["x-tidegate-decision"], format!("deny; reason={}", reason.code()).as_str());
    let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
    let expected = serde_json::json!({
        "id": id, "message": "tidegate: a \"quoted\" line\nand another", "request_id": "0123"
    });
    assert_eq!(body, expected);
}

#[test]
fn a_failure_of_an_allowed_request_does_not_claim_to_be_a_denial() {
    let answer = answer(Reason::UpstreamFailed, Effect::Allow, "x", "0");
    assert_eq!(answer.headers()["x-tidegate-decision"], "allow; reason=upstream_failed");
}

#[test]
fn the_last_bytes_of_a_connection_are_a_whole_answer() {
    let answer = answer(Reason::MalformedRequest, Effect::Deny, "x", "0");
    let bytes = last_bytes(&answer);
    let mut headers = [httparse::EMPTY_HEADER; 8];
    let mut parsed = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = parsed.parse(&bytes).unwrap() else { panic!("incomplete head") };
    assert_eq!(parsed.code, Some(400));
    let field = |name: &str| parsed.headers.iter().find(|field| field.name == name).unwrap().value;
    assert_eq!(field("connection"), b"close");
    assert_eq!(field("content-length"), (bytes.len() - head).to_string().as_bytes());
    assert_eq!(&bytes[head..], &answer.body()[..]);
}
