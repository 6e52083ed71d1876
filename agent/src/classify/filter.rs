//! Parts of answers that the API shows only with a further scope, or should.

use super::{Pointer, Scope};
use std::ops::{Deref, Range};

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

/// An operation's filters, in the order of the catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    list: Box<[Filter]>,
    /// Neighbours of which a policy shows either all or none.
    alike: Box<[Range<usize>]>,
}

impl Filters {
    /// One filter for all its neighbours of which a policy shows either all or none, with the indexes of these.
    pub fn alike(&self) -> impl Iterator<Item = (&Filter, Range<usize>)> {
        self.alike.iter().filter_map(|range| Some((self.list.get(range.start)?, range.clone())))
    }
}

impl From<Vec<Filter>> for Filters {
    fn from(list: Vec<Filter>) -> Self {
        let mut end = 0;
        let alike = list.chunk_by(are_shown_alike).map(|alike| {
            let begin = end;
            end += alike.len();
            begin..end
        });
        Self { alike: alike.collect(), list: list.into() }
    }
}

impl Deref for Filters {
    type Target = [Filter];

    fn deref(&self) -> &[Filter] {
        &self.list
    }
}

fn are_shown_alike(one: &Filter, other: &Filter) -> bool {
    let is_secret = |filter: &Filter| filter.kind == Kind::Credential;
    one.requires == other.requires && is_secret(one) == is_secret(other)
}
