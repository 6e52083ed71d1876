//! Which resources a rule is about: `resources = { droplet = ["3164444"], domain = ["*.example.com"] }`.

use crate::classify::{Operation, needs::Named};
use std::collections::BTreeMap;

/// The resources of a rule: for each kind the ids, names, slugs or globs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources(BTreeMap<String, Vec<Pattern>>);

/// An id, name or slug, in which `*` stands for any run of characters and `?` for any one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Resources {
    /// Whether an allow rule may give its scopes to a request that names these: of every kind there is at least one,
    /// and each fits.
    pub fn cover(&self, named: &[Named<'_>]) -> bool {
        let _ = named;
        false
    }

    /// Whether a deny rule fits a request that names these: any one of any kind fits.
    pub fn touch(&self, named: &[Named<'_>]) -> bool {
        let _ = named;
        true
    }

    /// Whether the body may name such a resource in this operation.
    pub fn read_body_of(&self, operation: &Operation) -> bool {
        let _ = operation;
        true
    }
}
