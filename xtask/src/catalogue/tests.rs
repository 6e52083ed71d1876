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

/// An API with a list of things, the things, and the actions that each can be told to do.
const THINGS: &str = r##"{
  "components": {"schemas": {"thing": {"properties": {
    "id": {"type": "integer", "readOnly": true},
    "name": {"type": "string"},
    "size": {"type": "integer"},
    "labels": {"type": "object"},
    "parts": {"type": "array", "items": {"$ref": "#/components/schemas/thing"}},
    "droplet_ids": {"type": "array", "items": {"type": "integer"}},
    "links": {"type": "object", "readOnly": true, "properties": {"droplet_id": {"type": "integer"}}}
  }}}},
  "paths": {
    "/v2/things": {
      "get": {"operationId": "list", "parameters": [
        {"in": "query", "name": "name", "schema": {"type": "string"}},
        {"in": "query", "name": "states", "schema": {"type": "array"}},
        {"in": "header", "name": "tag_name", "schema": {"type": "string"}}
      ]},
      "post": {"operationId": "create", "requestBody": {"content": {"application/json": {"schema": {"allOf": [
        {"$ref": "#/components/schemas/thing"}, {"properties": {"tags": {"type": "array", "items": {"type": "string"}}}}
      ]}}}}, "responses": {"201": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/thing"}}}}}}
    },
    "/v2/things/{id}/actions": {"post": {"operationId": "act", "requestBody": {"content": {"application/json": {"schema": {
      "discriminator": {"propertyName": "type", "mapping": {"stop": "", "go": ""}},
      "properties": {"type": {"type": "string"}, "id": {"type": "string"}, "name": {"type": "string"}}
    }}}}}},
    "/v2/things/{id}": {"get": {"operationId": "get"}}
  }
}"##;

fn rendered(name: &str, method: &str, path: &str, more: &str) -> anyhow::Result<String> {
    let parameters = if path.contains("{id}") {
        r#"[{"name": "id", "resource": "thing", "type": "integer"}]"#
    } else {
        "[]"
    };
    let endpoints = format!(
        r#"[{{"method": "{method}", "path": "{path}", "operation_id": "{name}", "tag": "A", "scopes": ["pa:update"],
             "path_params": {parameters}, "conditional_scopes": [{more}]}},
            {{"method": "GET", "path": "/v2/things/{{id}}", "operation_id": "get", "tag": "B", "scopes": ["pa:read"],
             "path_params": [{{"name": "id", "resource": "thing", "type": "integer"}}], "conditional_scopes": []}}]"#
    );
    let text = render::render(&source_with(&endpoints, THINGS))?;
    let (_, entry) = text.split_once("# --- A\n").unwrap();
    Ok(entry.split_once("  # --- B").unwrap().0.to_owned())
}

#[test]
fn what_is_made_and_named_is_found_by_rule() {
    let entry = rendered("create", "POST", "/v2/things", "").unwrap();
    assert!(entry.contains(r#"maps = ["/labels", "/parts/*/labels"]"#), "{entry}");
    assert!(entry.contains(r#"{ kind = "thing", at = ["/name"] }"#), "{entry}");
    assert!(
        entry.contains(r#"{ kind = "droplet", at = ["/droplet_ids/*", "/parts/*/droplet_ids/*"] }"#),
        "{entry}"
    );
    assert!(entry.contains(r#"{ kind = "tag", at = ["/tags/*"] }"#), "{entry}");
    assert!(!entry.contains("links") && !entry.contains("size") && !entry.contains("/id"), "{entry}");
}

#[test]
fn query_parameters_name_resources_and_may_be_lists() {
    let entry = rendered("list", "GET", "/v2/things", "").unwrap();
    assert!(entry.contains(r#"lists = ["states"], targets"#), "{entry}");
    assert!(entry.contains(r#"{ kind = "thing", at = ["?name"] }"#), "{entry}");
    assert!(!entry.contains("tag_name"), "a header is no parameter: {entry}");
}

#[test]
fn actions_are_the_specs_choice_and_the_conditions_values() {
    let when = |test| format!(r#"{{"when": {{"pointer": "/type", {test}}}, "requires": ["pa:read"]}}"#);
    let path = "/v2/things/{id}/actions";
    let entry = rendered("act", "POST", path, &when(r#""equals": "wait""#)).unwrap();
    assert!(entry.contains(r#"{ at = "/type", is = ["go", "stop", "wait"] }"#), "{entry}");
    assert!(entry.contains(r#"{ at = "/type", is = "wait", needs = ["pa:read"] }"#), "{entry}");
    assert!(entry.contains(r#"{ kind = "thing", at = ["/id"] }"#), "a placeholder's name: {entry}");
    assert!(!entry.contains("/name"), "an action makes nothing: {entry}");
    for broken in [when(r#""pattern": "go$""#), when(r#""pattern": "^(a|b)""#), when(r#""param": "a""#)] {
        rendered("act", "POST", path, &broken).unwrap_err();
    }
    let both = format!("{}, {}", when(r#""equals": "wait""#), when(r#""pattern": "^go""#));
    rendered("act", "POST", path, &both).unwrap_err();
    rendered("create", "POST", "/v2/things/actions", "").unwrap_err();
    rendered("nobody", "POST", "/v2/things", "").unwrap_err();
}

#[test]
fn filters_are_told_by_kind_and_misspelt_fields_twice() {
    let filters = r#", "response_filters": [
        {"kind": "field", "pointer": "/resources/imgages", "requires": ["pa:read"]},
        {"kind": "items", "pointer": "/r/*", "requires": ["pa:read"], "when": {"pointer": "/r/*/urn", "pattern": "^do:a:"}}]"#;
    let text = render::render(&source(&endpoint("GET", r#"["pa:read"]"#, filters))).unwrap();
    assert!(text.contains(r#"fields = ["/resources/{images,imgages}"], needs"#), "{text}");
    assert!(
        text.contains(r#"{ items = "/r/*", where = "urn", begins = "do:a:", needs = "pa:read" }"#),
        "{text}"
    );
    for broken in [
        r#"{"kind": "items", "pointer": "/r/*", "requires": ["pa:read"]}"#,
        r#"{"kind": "items", "pointer": "/r/*", "requires": ["pa:read"], "when": {"pointer": "/s/*/urn", "pattern": "^a"}}"#,
        r#"{"kind": "rows", "pointer": "/r", "requires": ["pa:read"]}"#,
        r#"{"kind": "field", "pointer": "/r", "requires": ["pa:read", "pa:update"]}"#,
    ] {
        let filters = format!(r#", "response_filters": [{broken}]"#);
        render::render(&source(&endpoint("GET", r#"["pa:read"]"#, &filters))).err().unwrap();
    }
}
