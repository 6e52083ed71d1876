//! The answers of the API: realistic where clients look, and bent by the query where a test needs it.

mod bent;
mod droplets;

pub(super) use droplets::Account;
use droplets::no_content;

use super::{
    connection::{Facts, Server},
    log::{Entry, Request as Logged},
};
use aws_lc_rs::digest;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::{io, sync::Arc};

pub(super) type Answer = Response<BoxBody<Bytes, io::Error>>;

const ACCOUNT: &str = include_str!("../../fixtures/api/account.json");
const REGIONS: &str = include_str!("../../fixtures/api/regions.json");
const SIZES: &str = include_str!("../../fixtures/api/sizes.json");
const DOMAIN: &str = include_str!("../../fixtures/api/domain.json");
const RECORDS: &str = include_str!("../../fixtures/api/records.json");

/// Logs a request, and answers it.
pub(super) async fn answer(
    request: Request<Incoming>,
    facts: Facts,
    server: Arc<Server>,
) -> Result<Answer, io::Error> {
    let (head, body) = request.into_parts();
    let number = server.log.next_number();
    server.log.write(&Entry::Request(logged(number, &head, facts))).map_err(io::Error::other)?;
    let received = Received::new(number, server.clone());
    let mut answer = match bent::answer(&head, body, received).await? {
        bent::Outcome::Answered(answer) => answer,
        bent::Outcome::Usual(body) => usual(&head, &body, &server.account),
    };
    let headers = answer.headers_mut();
    headers.insert("x-request-id", request_id(number));
    headers.insert("server", HeaderValue::from_static("cloudflare"));
    headers.insert("alt-svc", HeaderValue::from_static("h3=\":443\"; ma=86400"));
    headers.insert("ratelimit-limit", HeaderValue::from_static("5000"));
    headers.insert("ratelimit-remaining", HeaderValue::from_static("4816"));
    Ok(answer)
}

fn request_id(number: u64) -> HeaderValue {
    let id = format!("515cd24a-92f1-4b5c-b2c7-{number:012x}");
    HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("none"))
}

fn logged(number: u64, head: &Parts, facts: Facts) -> Logged {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let authority = head.uri.authority().map(ToString::to_string);
    Logged {
        number,
        local: Some(facts.local),
        peer: Some(facts.peer),
        protocol: match head.version {
            Version::HTTP_2 => "2".to_owned(),
            Version::HTTP_10 => "1.0".to_owned(),
            _ => "1.1".to_owned(),
        },
        server_name: facts.server_name,
        method: head.method.to_string(),
        target: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        authority: authority.or_else(|| head.headers.get(header::HOST).map(text)),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        ..Logged::default()
    }
}

/// Counts a request's body, and logs it when it ended or was given up.
struct Received {
    number: u64,
    bytes: u64,
    digest: digest::Context,
    complete: bool,
    server: Arc<Server>,
}

impl Received {
    fn new(number: u64, server: Arc<Server>) -> Self {
        Self { number, bytes: 0, digest: digest::Context::new(&digest::SHA256), complete: false, server }
    }

    fn add(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.digest.update(piece);
    }

    fn finish(&mut self) {
        self.complete = true;
    }

    fn sha256(&self) -> String {
        hexadecimal(self.digest.clone().finish().as_ref())
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let (number, bytes, complete) = (self.number, self.bytes, self.complete);
        // The log's reader notices a missing line; there is nobody to tell here.
        let _ = self.server.log.write(&Entry::Body { number, bytes, sha256: self.sha256(), complete });
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the API answers.
fn usual(head: &Parts, body: &[u8], account: &Account) -> Answer {
    let path = head.uri.path();
    if !path.starts_with("/v2/") {
        return error(
            StatusCode::NOT_FOUND,
            "not_found",
            "The resource you were accessing could not be found.",
        );
    }
    if !is_authenticated(&head.headers) {
        return error(StatusCode::UNAUTHORIZED, "Unauthorized", "Unable to authenticate you");
    }
    let fixture = |text: &'static str| respond(StatusCode::OK, Bytes::from_static(text.as_bytes()));
    match (&head.method, path) {
        (&Method::GET, "/v2/account") => fixture(ACCOUNT),
        (&Method::GET, "/v2/regions") => fixture(REGIONS),
        (&Method::GET, "/v2/sizes") => fixture(SIZES),
        (&Method::GET, "/v2/firewalls") => {
            json_answer(StatusCode::OK, &json!({ "firewalls": [], "links": {}, "meta": { "total": 0 } }))
        }
        (&Method::GET, "/v2/domains/example.com") => fixture(DOMAIN),
        (&Method::GET, "/v2/domains/example.com/records") => fixture(RECORDS),
        (&Method::POST, "/v2/domains/example.com/records") => added_record(body),
        (&Method::DELETE, "/v2/domains/example.com/records/28448429") => no_content(),
        _ => droplets::answer(head, body, account).unwrap_or_else(|| {
            error(StatusCode::NOT_FOUND, "not_found", "The resource you were accessing could not be found.")
        }),
    }
}

fn is_authenticated(headers: &HeaderMap) -> bool {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.strip_prefix("Bearer ").is_some_and(|token| !token.is_empty()))
}

fn added_record(body: &[u8]) -> Answer {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(mut record)) => {
            record.insert("id".to_owned(), json!(28_448_429));
            json_answer(StatusCode::CREATED, &json!({ "domain_record": record }))
        }
        _ => error(
            StatusCode::UNPROCESSABLE_ENTITY,
            "unprocessable_entity",
            "Record type is not included in the list",
        ),
    }
}

fn error(status: StatusCode, id: &str, message: &str) -> Answer {
    json_answer(status, &json!({ "id": id, "message": message }))
}

fn json_answer(status: StatusCode, value: &Value) -> Answer {
    respond(status, Bytes::from(value.to_string()))
}

fn respond(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body).map_err(|never| match never {}).boxed());
    *answer.status_mut() = status;
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}
