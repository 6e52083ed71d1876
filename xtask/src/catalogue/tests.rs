use super::*;
use std::env;

fn workspace() -> PathBuf {
    PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap()).parent().unwrap().to_owned()
}

/// A source directory with one weak write, one alternative and a scope that is on no page.
fn source(endpoints: &str) -> source::Source {
    let openapi = r#"{"paths": {"/v2/a/{id}": {"get": {"operationId": "a"}}}}"#;
    source_with(endpoints, openapi)
}

fn source_with(endpoints: &str, openapi: &str) -> source::Source {
    source::Source {
        openapi: openapi::OpenApi::new(serde_json::from_str(openapi).unwrap()).unwrap(),
        endpoints: serde_json::from_str(endpoints).unwrap(),
        scopes: serde_json::from_str(
            r#"[{"scope": "pa:read", "resource": "pa", "action": "read", "description": "read"},
                {"scope": "pa:update", "resource": "pa", "action": "update", "description": null}]"#,
        )
        .unwrap(),
        commit: "0".repeat(40),
    }
}

fn endpoint(method: &str, scopes: &str, more: &str) -> String {
    format!(
        r#"[{{"method": "{method}", "path": "/v2/a/{{id}}", "operation_id": "a", "tag": "A", "scopes": {scopes},
            "path_params": [{{"name": "id", "resource": "a", "type": "integer"}}],
            "conditional_scopes": []{more}}}]"#
    )
}

#[test]
fn the_generated_file_is_up_to_date() {
    let mut out = Vec::new();
    let result = run(&Arguments { from: None, check: true }, &workspace(), &mut out);
    print!("{}", String::from_utf8(out).unwrap());
    result.unwrap();
}

#[test]
fn a_stale_file_is_reported_with_its_line() {
    assert_eq!(first_difference("a\nb\n", "a\nc\n"), "line 2 should be `c`");
    assert_eq!(first_difference("a\n", "a\nc\n"), "line 2 should be `c`");
    assert_eq!(first_difference("a\nb\n", "a\n"), "it has lines too many");
}

#[test]
fn an_absent_source_skips_the_check_and_fails_the_generation() {
    let empty = Some(env::temp_dir().join("tidegate-no-such-directory"));
    let mut out = Vec::new();
    run(&Arguments { from: empty.clone(), check: true }, &workspace(), &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().starts_with("catalogue: skipped"));
    run(&Arguments { from: empty, check: false }, &workspace(), &mut Vec::new()).unwrap_err();
}

#[test]
fn a_write_for_a_read_scope_is_hardened() {
    let text = render::render(&source(&endpoint("PATCH", r#"["pa:read"]"#, ""))).unwrap();
    assert!(text.contains(r#"scopes = ["pa:read"], hardened = ["pa:update"] }"#), "{text}");
    let text = render::render(&source(&endpoint("GET", r#"["pa:read"]"#, ""))).unwrap();
    assert!(!text.contains("hardened ="), "{text}");
}

#[test]
fn an_answer_with_credentials_says_so() {
    let filters = |kind| {
        format!(r#", "response_filters": [{{"kind": "{kind}", "pointer": "/p", "requires": ["pa:update"]}}]"#)
    };
    let text = render::render(&source(&endpoint("GET", r#"["pa:read"]"#, &filters("credential")))).unwrap();
    assert!(text.contains(r#"{ credentials = ["/p"], needs = "pa:update" }"#), "{text}");
    let text = render::render(&source(&endpoint("GET", r#"["pa:read"]"#, &filters("field")))).unwrap();
    assert!(text.contains(r#"{ fields = ["/p"], needs = "pa:update" }"#), "{text}");
}

#[test]
fn aliases_are_dropped_and_implications_become_alternatives() {
    let more = r#", "alias_scopes": ["api:read"], "scope_implied_by": {"pa:read": ["pa:update"]}"#;
    let text = render::render(&source(&endpoint("GET", r#"["api:read", "pa:read"]"#, more))).unwrap();
    assert!(text.contains(r#"any_of = [["pa:read"], ["pa:update"]]"#), "{text}");
}

#[test]
fn what_the_source_must_not_hold_is_an_error() {
    for (scopes, more) in [
        (r#"["pa:delete"]"#, ""),
        (r#"["api:read"]"#, r#", "alias_scopes": ["api:read"]"#),
        (r#"["pa:read"]"#, r#", "server": {"url": "http://a"}"#),
    ] {
        render::render(&source(&endpoint("GET", scopes, more))).unwrap_err();
    }
}
