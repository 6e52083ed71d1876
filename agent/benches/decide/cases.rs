//! The policies and requests that benchmarks of classify and decide share, and `tests/hot_path` with them.

use super::policy_text::text;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde_json::{Value, json};
use std::{path::Path, time::SystemTime};
use tidegate::{
    classify::{Catalogue, Needs, classify},
    decide::{Caller, Decision, Policy, Request, decide, document},
};

/// What is asked for.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Option<Value>,
    /// Whether the policy's rules have conditions.
    pub(crate) conditions: bool,
}

impl Case {
    /// Every request that is measured.
    pub(crate) fn all() -> Vec<Self> {
        let case = |name, method, uri, headers: fn() -> HeaderMap| Self {
            name,
            method,
            uri: Uri::from_static(uri),
            headers: headers(),
            body: None,
            conditions: false,
        };
        let body = json!({"name": "a", "region": "nyc3", "size": "s-1vcpu-1gb", "image": "debian-12-x64"});
        let create = |name| Self {
            body: Some(body.clone()),
            ..case(name, Method::POST, "/v2/droplets", usual_headers)
        };
        vec![
            case("get", Method::GET, "/v2/droplets/3164444", HeaderMap::new),
            case("get_with_headers", Method::GET, "/v2/droplets/3164444", usual_headers),
            case("get_with_query", Method::GET, "/v2/droplets?page=2&per_page=200", usual_headers),
            case("delete_of_resource", Method::DELETE, "/v2/droplets/3164444", usual_headers),
            case("denied", Method::POST, "/v2/firewalls", usual_headers),
            create("create"),
            Self { conditions: true, ..create("create_with_conditions") },
        ]
    }

    /// What the policy says of it: what the proxy does for each request.
    pub(crate) fn answer(&self, policy: &Policy) -> Decision {
        let classified = classify(Catalogue::embedded(), &self.method, &self.uri, &self.headers)
            .expect("a canonical request");
        let route = classified.route.as_ref().expect("a known operation");
        let (query, body) = (classified.query, self.body.as_ref());
        let request = Request {
            path: classified.path.as_str(),
            query,
            needs: Needs::of(route, query, body).expect("a known action"),
            body,
            caller: Caller { workload: "ci", ..Caller::default() },
            now: SystemTime::UNIX_EPOCH,
            ..Request::new(&self.method, &self.headers, Some(route.operation))
        };
        decide(policy, &request)
    }
}

/// The policy with this number.
pub(crate) fn policy(number: usize, conditions: bool) -> Policy {
    let text = text(number, conditions);
    document::parse(&format!("p{number}"), &text, Path::new("p.toml"), Catalogue::embedded())
        .expect("a valid policy")
}

/// What the API's own client libraries send.
fn usual_headers() -> HeaderMap {
    let headers = [
        ("host", "api.digitalocean.com"),
        ("user-agent", "azsdk-python-pydo/0.18.0 Python/3.13.5 (Linux-6.12)"),
        ("accept-encoding", "gzip, deflate"),
        ("accept", "application/json"),
        ("connection", "keep-alive"),
        ("content-type", "application/json"),
        ("content-length", "88"),
        ("x-request-id", "0b1f3a1e-5d8a-4d0e-9d53-5b1f7a2c7f10"),
        ("authorization", "Bearer dop_v1_0123456789abcdef"),
    ];
    let headers =
        headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    headers.into_iter().collect()
}
