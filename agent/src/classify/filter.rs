//! Parts of answers that the API shows only with a further scope, or should.

use super::{Pointer, Scope};

/// A part of an operation's answer, and the scope that shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The part: a field, or the elements of an array.
    pub pointer: Pointer,
    /// The scope that it takes to see it.
    pub requires: Scope,
    /// What kind of part it is.
    pub kind: Kind,
}

/// What a [`Filter`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A field, removed with its name.
    Field,
    /// As a field, and a secret: an alias such as `api:read` never gives it.
    Credential,
    /// Those elements of an array whose field (`urn`) begins with the prefix (`do:droplet:`).
    Items {
        /// The element's field that tells.
        field: Box<str>,
        /// How its value begins.
        prefix: Box<str>,
    },
}
