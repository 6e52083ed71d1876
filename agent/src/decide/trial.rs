//! A request made up by hand, classified and decided without a connection: for `explain` and for case tables.

use super::{
    Caller, Decision, Policy, Request,
    account::{Considered, account},
    decide, depends_on_body,
};
use crate::classify::{Classified, Needs, Operation, Scope, body, catalogue::Catalogue, classify};
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
    /// Where it does not: the operation of which this would be an action.
    pub action_of: Option<&'a Operation>,
    /// What it needs by its query and body, and the resources that it names.
    pub needs: Needs<'a, 'static>,
    /// The answer.
    pub decision: Decision,
    /// How the answer came about.
    pub account: Vec<Considered>,
}

impl Trial<'_> {
    /// Why the request needs a scope.
    pub fn why(&self, scope: &Scope) -> String {
        let of_operation =
            self.operation.is_some_and(|operation| operation.scopes.iter().flatten().any(|own| own == scope));
        let extra = self.needs.extras.iter().find(|extra| extra.scope == scope);
        match (of_operation, extra) {
            (true, _) => "the operation's own".to_owned(),
            (false, Some(extra)) => format!("because of {}", extra.condition),
            (false, None) => "the operation's own are too weak for what it does".to_owned(),
        }
    }

    /// The parts of the answer that would be taken out of it, sorted.
    pub fn withheld(&self) -> Vec<String> {
        let filters = self.operation.map_or(&[][..], |operation| &operation.filters);
        let withheld = self.decision.withheld.iter().filter_map(|index| filters.get(*index));
        let mut pointers: Vec<String> = withheld.map(|filter| filter.pointer.to_string()).collect();
        pointers.sort();
        pointers.dedup();
        pointers
    }
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
#[derive(Clone, Copy, Debug)]
pub struct Imagined<'a> {
    /// The method.
    pub method: &'a str,
    /// A whole URL, or a path with an optional query.
    pub url: &'a str,
    /// The body, if any; it counts as JSON.
    pub body: Option<&'a [u8]>,
    /// Who asks.
    pub caller: Caller<'a>,
    /// When.
    pub now: SystemTime,
}

impl<'a> Imagined<'a> {
    /// A request of which nothing matters but its method and URL, at a fixed time.
    pub fn new(method: &'a str, url: &'a str) -> Self {
        Self { method, url, body: None, caller: Caller::default(), now: SystemTime::UNIX_EPOCH }
    }
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
    match classify(catalogue, &method, &uri, &HeaderMap::new()) {
        Ok(classified) => Ok(judge(policy, method, classified, imagined)),
        Err(error) => {
            let path = uri.path().to_owned();
            Ok(refused(method, path, None, Decision::refusal(error.reason(), error.to_string())))
        }
    }
}

/// As the proxy would judge it: the body is looked at only where the decision depends on it.
fn judge<'a>(
    policy: &Policy,
    method: Method,
    classified: Classified<'a, '_>,
    imagined: Imagined<'_>,
) -> Trial<'a> {
    let path = classified.path.as_str().to_owned();
    let query = classified.query;
    let operation = classified.route.as_ref().map(|route| route.operation);
    let bytes = imagined.body.filter(|_| depends_on_body(policy, operation));
    let names = policy.names_in_body(operation);
    let body = match bytes.map(|bytes| body::parse(bytes, operation, &names)).transpose() {
        Ok(body) => body.flatten(),
        Err(error) => {
            let decision = Decision::refusal(error.reason(), error.to_string());
            return refused(method, path, operation, decision);
        }
    };
    let route = classified.route.as_ref();
    let (needs, unknown) = match route.map(|route| Needs::of(route, query, body.as_ref())) {
        None => (Needs::default(), None),
        Some(Ok(needs)) => (needs, None),
        Some(Err(unknown)) => (
            route.map(|route| Needs::of_unknown_action(route, query, body.as_ref())).unwrap_or_default(),
            Some(unknown.to_string()),
        ),
    };
    let headers = HeaderMap::new();
    let request = Request {
        path: &path,
        query,
        action_is_unknown: unknown.is_some(),
        needs: needs.clone(),
        body: body.as_ref(),
        caller: imagined.caller,
        now: imagined.now,
        ..Request::new(&method, &headers, operation)
    };
    let decision = decide(policy, &request);
    let account = account(policy, &request, &decision.required);
    let (operation, action_of) = if unknown.is_some() { (None, operation) } else { (operation, None) };
    let note = decision.note.clone().or(unknown);
    let needs = needs.into_owned();
    Trial { path, method, operation, action_of, needs, decision: Decision { note, ..decision }, account }
}

fn refused<'a>(
    method: Method,
    path: String,
    operation: Option<&'a Operation>,
    decision: Decision,
) -> Trial<'a> {
    Trial { method, path, operation, action_of: None, needs: Needs::default(), decision, account: Vec::new() }
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
        let trial =
            try_request(&policy, Catalogue::embedded(), Imagined::new("GET", "/v2//droplets")).unwrap();
        assert_eq!(trial.decision.effect, Effect::Deny);
        assert_eq!(trial.decision.reason.code(), "path_not_canonical");
    }

    #[test_case("", "unknown_allowed"; "by the widest grant")]
    #[test_case("deny = [\"droplet:update\"]", "denied_scope"; "unless the operation's scope is denied")]
    #[test_case("[[rule]]\neffect = \"deny\"\noperations = [\"dropletActions_post\"]", "denied_by_rule"; "or the operation")]
    #[test_case("[[rule]]\neffect = \"deny\"\nresources = { droplet = [1] }", "denied_by_rule"; "or the resource")]
    fn an_unknown_action_of_a_known_operation_passes(denial: &str, reason: &str) {
        let catalogue = Catalogue::embedded();
        let text = format!("unknown = \"allow\"\nallow = [\"api:write\"]\n{denial}");
        let policy =
            super::super::document::parse("p", &text, std::path::Path::new("p.toml"), catalogue).unwrap();
        let imagined = Imagined {
            body: Some(br#"{"type":"new_thing"}"#),
            ..Imagined::new("POST", "/v2/droplets/1/actions")
        };
        let trial = try_request(&policy, catalogue, imagined).unwrap();
        assert_eq!(trial.decision.reason.code(), reason);
        assert_eq!(trial.decision.effect == Effect::Allow, reason == "unknown_allowed");
        assert_eq!(trial.action_of.map(|operation| operation.name.as_str()), Some("dropletActions_post"));
    }
}
