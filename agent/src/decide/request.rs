//! What the engine is asked: one request, with all that a policy may speak of.

use crate::classify::{Needs, Operation};
use http::{HeaderMap, Method};
use serde_json::Value;
use std::time::SystemTime;

/// One request to decide. Everything that the answer depends on, besides the policy, is in here.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// The canonical path, without the query.
    pub path: &'a str,
    /// The query, as it will be sent.
    pub query: Option<&'a str>,
    /// The headers, as the client sent them.
    pub headers: &'a HeaderMap,
    /// The operation, where the catalogue knows it.
    pub operation: Option<&'a Operation>,
    /// Whether the request is for an action of the operation that the catalogue does not know. It is then no known
    /// request, but what is denied of the operation is denied of it all the same.
    pub action_is_unknown: bool,
    /// What it needs by its query and body, and the resources that it names.
    pub needs: Needs<'a, 'a>,
    /// The body: none where it was not read, or is empty.
    pub body: Option<&'a Value>,
    /// Who asks.
    pub caller: Caller<'a>,
    /// When.
    pub now: SystemTime,
}

impl<'a> Request<'a> {
    /// A request of which nothing but its method and operation is known yet.
    pub fn new(method: &'a Method, headers: &'a HeaderMap, operation: Option<&'a Operation>) -> Self {
        Self {
            method,
            path: "/",
            query: None,
            headers,
            operation,
            action_is_unknown: false,
            needs: Needs::default(),
            body: None,
            caller: Caller::default(),
            now: SystemTime::UNIX_EPOCH,
        }
    }
}

/// Who makes a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller<'a> {
    /// The workload's name.
    pub workload: &'a str,
    /// The process that connected, as its id.
    pub pid: Option<u32>,
    /// Its user.
    pub uid: Option<u32>,
    /// Its executable.
    pub executable: Option<&'a str>,
    /// Its cgroup below the cgroup2 mount.
    pub cgroup: Option<&'a str>,
    /// The token's type: `dop`, `doo`, `dor`, `other`, `none`.
    pub token_type: &'a str,
}
