//! A request made up by hand, classified and decided without a connection: for `explain` and for case tables.

use super::{Caller, Decision, Policy, Request, decide};
use crate::classify::{Classified, Needs, Operation, body, catalogue::Catalogue, classify};
use crate::reason::Reason;
use http::{HeaderMap, Method, Uri, uri::Scheme};
use std::time::SystemTime;

/// The host whose catalogue is embedded.
pub const API_HOST: &str = "api.digitalocean.com";

/// What would become of a request.
#[derive(Debug)]
pub struct Trial<'a> {
    /// The method.
    pub method: Method,
    /// The canonical path, or the given one where it is not canonical; without the query.
    pub path: String,
    /// The operation, where the catalogue knows one.
    pub operation: Option<&'a Operation>,
    /// The answer.
    pub decision: Decision,
}

/// Why a method and URL are no request to the protected host.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No HTTP method.
    #[error("`{0}` is not an HTTP method; write GET, POST, PUT, PATCH, DELETE or HEAD")]
    Method(String),
    /// Neither a URL nor a path.
    #[error("`{0}` is not a URL; write https://{API_HOST}/v2/… or a path that begins with `/`")]
    Url(String),
    /// Another host.
    #[error(
        "`{0}` is not a protected host, so no policy applies to it; only requests to {API_HOST} are decided"
    )]
    OtherHost(String),
    /// Not HTTPS on its own port.
    #[error("`{0}` is refused whatever the policy says: {API_HOST} is reached by https on port 443 only")]
    NotHttps(String),
}

/// A request made up by hand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Imagined<'a> {
    /// The method.
    pub method: &'a str,
    /// A whole URL, or a path with an optional query.
    pub url: &'a str,
    /// The body, if any.
    pub body: Option<&'a [u8]>,
}

/// Classifies and decides a request.
///
/// # Errors
/// When it is not one to the protected host.
pub fn try_request<'a>(
    policy: &Policy,
    catalogue: &'a Catalogue,
    imagined: Imagined<'_>,
) -> Result<Trial<'a>, Error> {
    let method = parse_method(imagined.method)?;
    let uri = parse_url(imagined.url)?;
    let headers = HeaderMap::new();
    let (path, operation, decision) = match classify(catalogue, &method, &uri, &headers) {
        Ok(classified) => {
            let path = classified.path.as_str().to_owned();
            let operation = classified.route.as_ref().map(|route| route.operation);
            let decision = judge(policy, &method, &classified, &headers, imagined.body);
            (path, operation, decision)
        }
        Err(error) => (uri.path().to_owned(), None, Decision::refusal(error.reason(), error.to_string())),
    };
    Ok(Trial { method, path, operation, decision })
}

fn judge(
    policy: &Policy,
    method: &Method,
    classified: &Classified<'_>,
    headers: &HeaderMap,
    body: Option<&[u8]>,
) -> Decision {
    let operation = classified.route.as_ref().map(|route| route.operation);
    let body = match body.map(|body| body::parse(body, operation, &[])).transpose() {
        Ok(body) => body.flatten(),
        Err(error) => return Decision::refusal(Reason::BodyMalformed, error.to_string()),
    };
    let query = classified.query.as_deref();
    let needs = classified.route.as_ref().map(|route| Needs::of(route, query, body.as_ref())).transpose();
    let (operation, needs) = match needs {
        Ok(needs) => (operation, needs.unwrap_or_default()),
        Err(_unknown) => (None, Needs::default()),
    };
    let request = Request {
        method,
        path: classified.path.as_str(),
        query,
        headers,
        operation,
        needs,
        body: body.as_ref(),
        caller: Caller::default(),
        now: SystemTime::now(),
    };
    decide(policy, &request)
}

/// Methods are compared by case, so that `get` would silently be another one than `GET`.
fn parse_method(text: &str) -> Result<Method, Error> {
    let is_upper = text.bytes().all(|byte| byte.is_ascii_uppercase());
    Method::from_bytes(text.as_bytes())
        .ok()
        .filter(|_| is_upper)
        .ok_or_else(|| Error::Method(text.to_owned()))
}

/// The origin form of the URL, as a client would send it to the protected host.
fn parse_url(text: &str) -> Result<Uri, Error> {
    let malformed = || Error::Url(text.to_owned());
    let uri: Uri = text.parse().map_err(|_| malformed())?;
    match (uri.scheme(), uri.authority()) {
        (None, None) if text.starts_with('/') => return Ok(uri),
        (Some(scheme), Some(authority)) => {
            if authority.as_str().contains('@') {
                return Err(malformed());
            }
            let host = authority.host().to_ascii_lowercase();
            if host.strip_suffix('.').unwrap_or(&host) != API_HOST {
                return Err(Error::OtherHost(authority.host().to_owned()));
            }
            if *scheme != Scheme::HTTPS || authority.port().is_some_and(|port| port.as_u16() != 443) {
                return Err(Error::NotHttps(text.to_owned()));
            }
        }
        _ => return Err(malformed()),
    }
    let path = uri.path_and_query().map_or("/", |path_and_query| path_and_query.as_str());
    path.parse().map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::{super::Effect, *};
    use test_case::test_case;

    #[test_case("/v2/droplets?page=2", Some("/v2/droplets?page=2"); "path and query")]
    #[test_case("https://api.digitalocean.com/v2/droplets", Some("/v2/droplets"); "whole URL")]
    #[test_case("HTTPS://API.DigitalOcean.com.:443/v2/droplets", Some("/v2/droplets"); "another spelling")]
    #[test_case("https://api.digitalocean.com", Some("/"); "no path")]
    #[test_case("http://api.digitalocean.com/v2/droplets", None; "plain http")]
    #[test_case("https://api.digitalocean.com:8443/v2/droplets", None; "another port")]
    #[test_case("https://inference.do-ai.run/v1/models", None; "another host")]
    #[test_case("https://api.digitalocean.com@evil.example/", None; "user information")]
    #[test_case("https://me@api.digitalocean.com/v2", None; "user information before the host")]
    #[test_case("api.digitalocean.com/v2", None; "no scheme")]
    #[test_case("api.digitalocean.com", None; "authority form")]
    #[test_case("v2/droplets", None; "relative path")]
    #[test_case("*", None; "asterisk form")]
    #[test_case("", None; "empty")]
    fn urls_become_origin_form(url: &str, expected: Option<&str>) {
        assert_eq!(parse_url(url).ok().map(|uri| uri.to_string()).as_deref(), expected);
    }

    #[test_case("GET", true)]
    #[test_case("PURGE", true; "unknown but well formed")]
    #[test_case("get", false; "lower case")]
    #[test_case("GE T", false; "blank")]
    #[test_case("", false; "empty")]
    fn methods_are_upper_case(method: &str, expected: bool) {
        assert_eq!(parse_method(method).is_ok(), expected);
    }

    #[test]
    fn a_path_that_is_not_canonical_is_denied_before_any_policy() {
        let policy = Policy { allow: vec![super::super::grant::Grant::ApiWrite], ..Policy::default() };
        let trial = try_request(
            &policy,
            Catalogue::embedded(),
            Imagined { method: "GET", url: "/v2//droplets", body: None },
        )
        .unwrap();
        assert_eq!(trial.decision.effect, Effect::Deny);
        assert_eq!(trial.decision.reason.code(), "path_not_canonical");
    }
}
