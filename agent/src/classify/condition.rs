//! Scopes that only some requests of an operation need, by what stands in their query or body.

use super::{Pointer, Scope, pointer::Step};
use serde_json::Value;
use std::fmt;

/// A rule of the catalogue: where the test is true of a request, it needs further scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Where to look.
    pub place: Place,
    /// What to look for.
    pub test: Test,
    /// What the request then needs as well.
    pub requires: Vec<Scope>,
}

/// A place in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The query parameter of that name.
    Query(Box<str>),
    /// A place in the body, or several.
    Body(Pointer),
}

/// What is looked for at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// Anything at all.
    Given,
    /// This string.
    Equals(Box<str>),
    /// A string that begins so.
    StartsWith(Box<str>),
}

impl Test {
    /// Whether it is true of a value of the body. `null`, `""` and `[]`, which clients send for what was not
    /// given, say nothing, except where the request `replaces` what is there: to empty is to change.
    pub fn of(&self, value: &Value, replaces: bool) -> bool {
        match self {
            Self::Given => {
                replaces
                    || match value {
                        Value::Null => false,
                        Value::String(text) => !text.is_empty(),
                        Value::Array(items) => !items.is_empty(),
                        Value::Bool(_) | Value::Number(_) | Value::Object(_) => true,
                    }
            }
            Self::Equals(_) | Self::StartsWith(_) => value.as_str().is_some_and(|text| self.of_text(text)),
        }
    }

    /// Whether it is true of a parameter's decoded value.
    pub fn of_text(&self, text: &str) -> bool {
        match self {
            Self::Given => true,
            Self::Equals(expected) => **expected == *text,
            Self::StartsWith(prefix) => text.starts_with(&**prefix),
        }
    }
}

impl Place {
    /// Whether it holds the name of a thing, rather than an id: where a request makes one, the name that it gives.
    pub fn is_name(&self) -> bool {
        match self {
            Self::Query(name) => **name == *"name",
            Self::Body(pointer) => pointer
                .steps()
                .iter()
                .any(|step| matches!(step, Step::Field(name) if **name == *"name" || **name == *"names")),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(name) => write!(f, "query {name}"),
            Self::Body(pointer) => write!(f, "body {pointer}"),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.test {
            Test::Given => write!(f, "{}", self.place),
            Test::Equals(expected) => write!(f, "{} = {expected}", self.place),
            Test::StartsWith(prefix) => write!(f, "{} = {prefix}…", self.place),
        }
    }
}
