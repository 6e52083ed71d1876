use super::*;
use crate::{
    classify::{
        Needs,
        needs::{Named, Naming, Where},
    },
    decide::Caller,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value as Json, json};
use std::time::{Duration, SystemTime};
use test_case::test_case;

mod agreement;
mod evaluation;
mod limits;
mod refusal;

/// Compiles for operations of the embedded catalogue.
fn compile(text: &str, operations: &str) -> Result<When, CompileError> {
    let catalogue = Catalogue::embedded();
    let operations = operations.split_whitespace().map(|name| catalogue.operation(name).unwrap());
    When::compile(text, catalogue, &Vec::from_iter(operations))
}

/// A request that owns what it is made of.
#[derive(Clone)]
struct Asked {
    method: Method,
    path: &'static str,
    operation: &'static str,
    query: Option<String>,
    headers: HeaderMap,
    body: Option<Json>,
    caller: Caller<'static>,
    resources: Vec<(&'static str, &'static str)>,
    /// Seconds after 1970.
    unix: u64,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            method: Method::POST,
            path: "/v2/droplets",
            operation: "droplets_create",
            query: None,
            headers: HeaderMap::new(),
            body: None,
            caller: Caller { workload: "ci", token_type: "dop", ..Caller::default() },
            resources: Vec::new(),
            unix: 0,
        }
    }
}

impl Asked {
    fn with_body(body: Json) -> Self {
        Self { body: Some(body), ..Self::default() }
    }

    fn for_operation(operation: &'static str, body: Json) -> Self {
        Self { operation, ..Self::with_body(body) }
    }

    fn with_query(query: &str) -> Self {
        Self { query: Some(query.to_owned()), ..Self::default() }
    }

    fn with_headers(headers: &[(&str, &[u8])]) -> Self {
        let pair = |(name, value): &(&str, &[u8])| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value).unwrap())
        };
        Self { headers: headers.iter().map(pair).collect(), ..Self::default() }
    }

    /// `true`, `false` or the error.
    fn answer(&self, when: &When) -> String {
        let named = self.resources.iter().map(|(kind, value)| Named {
            kind: (*kind).into(),
            value: (*value).into(),
            place: Where::Path("id"),
        });
        let request = Request {
            method: &self.method,
            path: self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            operation: Catalogue::embedded().operation(self.operation),
            action_is_unknown: false,
            needs: Needs { resources: named.collect(), ..Needs::default() },
            body: self.body.as_ref(),
            caller: self.caller,
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(self.unix),
        };
        when.holds(&request).map_or_else(|error| error.to_string(), |truth| truth.to_string())
    }

    fn asked(&self, text: &str) -> String {
        self.answer(&compile(text, self.operation).unwrap())
    }
}

#[test]
fn a_condition_is_known_by_its_text() {
    let one = compile("request.method == 'GET'", "droplets_create").unwrap();
    let same = compile("request.method == 'GET'", "droplets_list").unwrap();
    let other = compile("request.method == 'PUT'", "droplets_create").unwrap();
    assert_eq!(one, same);
    assert_ne!(one, other);
    assert_eq!(one.clone().text(), "request.method == 'GET'");
    assert_eq!(format!("{one:?}"), r#"When("request.method == 'GET'")"#);
    fn is_shared<T: Send + Sync + 'static>(_: &T) {}
    is_shared(&one);
}

#[test]
fn resources_of_an_operation_that_names_none_in_bodies_need_no_body() {
    assert!(!compile("resource.domain.size() > 0", "domains_get").unwrap().reads_body());
}

#[test_case("request.method == 'GET'", false, ""; "the head only")]
#[test_case("request.body.size == 'x'", true, "size"; "a field")]
#[test_case("request.body.backup_policy.hour > 3", true, "backup_policy hour"; "a field of a field")]
#[test_case("has(request.body.region)", true, "region"; "a test for a field")]
#[test_case("has(request.body)", true, ""; "a test for the body")]
#[test_case("'body' == request.path", false, ""; "a word in a text")]
#[test_case("request.body['name'] == ''", true, "name"; "a field by index")]
#[test_case("resource.droplet.size() > 0", true, ""; "resources of an operation that names some in bodies")]
fn what_it_reads_of_the_body_is_known(text: &str, reads_body: bool, names: &str) {
    let when = compile(text, "droplets_create").unwrap();
    assert_eq!(when.reads_body(), reads_body);
    assert_eq!(when.names().iter().map(|name| &**name).collect::<Vec<_>>().join(" "), names);
}

#[test]
fn fields_of_elements_are_known_as_well() {
    let when = compile("request.body.grants.all(g, g.bucket == 'b')", "spacesKey_create").unwrap();
    assert_eq!(when.names().iter().map(|name| &**name).collect::<Vec<_>>(), ["bucket", "grants"]);
}

#[test]
fn resources_that_a_body_names_make_the_answer_depend_on_it() {
    let pointer = crate::classify::Pointer::parse("/volumes/*").unwrap();
    let naming = Naming::Kind("volume".into());
    let operation = Operation {
        name: "attach".to_owned(),
        targets: vec![Target { place: Place::Body(pointer), naming }],
        ..Operation::default()
    };
    let when = When::compile("'1' in resource.volume", Catalogue::embedded(), &[&operation]).unwrap();
    assert!(when.reads_body());
}
