//! One entry of the catalogue.

use super::{
    Condition, Pointer, Scope,
    filter::Filters,
    needs::{Target, Variants, Whole},
};
use crate::few::Few;
use http::Method;
use serde::Deserialize;

/// An operation of the API: a method on a path template, and the scopes it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// The spec's operation id, such as `droplets_create`; unique in the catalogue.
    pub name: String,
    /// The method.
    pub method: Method,
    /// The path template, such as `/v2/droplets/{droplet_id}`.
    pub path: String,
    /// The placeholders of the path template, in order.
    pub parameters: Vec<Parameter>,
    /// The host that serves it where that is not the API's (such operations are unreachable at the API's host).
    pub host: Option<String>,
    /// The sets of scopes of which any one suffices; empty where the spec names no scope.
    pub scopes: Vec<Vec<Scope>>,
    /// Scopes that the operation needs in some requests.
    pub conditions: Vec<Condition>,
    /// What makes it one of several actions.
    pub variants: Vec<Variants>,
    /// Where the query and body name resources; the path's placeholders do so by themselves.
    pub targets: Vec<Target>,
    /// Lists in the body of which some elements mean all things of a kind.
    pub wholes: Vec<Whole>,
    /// Scopes that tidegate demands beyond the spec, whose own are too weak for the effect.
    pub hardened: Vec<Scope>,
    /// The parts of its answer that take further scopes.
    pub filters: Filters,
    /// Objects of its body whose keys are the client's own, such as labels.
    pub maps: Vec<Pointer>,
    /// The query parameters that may stand there several times.
    pub lists: Vec<String>,
    /// Whether it is a read that the API spells as another method, so that `api:read` covers it.
    pub read_post: bool,
    /// What it destroys, if anything (`destroy`, `detach` …).
    pub destructive: Option<String>,
}

/// Scopes that together suffice.
pub type Set<'a> = Few<&'a Scope>;

/// Sets of which any one suffices.
pub type Sets<'a> = Few<Set<'a>>;

/// A placeholder of a path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in the template, such as `droplet_id`.
    pub name: String,
    /// What it stands for, such as `droplet`; the same thing has several names in the API's templates.
    pub resource: String,
    /// The form of its values. Routing depends on it for escaped slashes only.
    pub form: Form,
}

/// The form of a placeholder's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Form {
    /// Digits.
    #[serde(rename = "integer")]
    Integer,
    /// A UUID.
    #[serde(rename = "uuid")]
    Uuid,
    /// Any text without a slash.
    #[serde(rename = "text")]
    Text,
    /// Any text; a slash in it is sent as `%2F`.
    #[serde(rename = "text with slashes")]
    TextWithSlashes,
}

impl Operation {
    /// Whether `api:read` may cover it: a GET, or a read that is spelt POST.
    pub fn is_read(&self) -> bool {
        self.method == Method::GET || self.read_post
    }

    /// The sets of scopes of which any one must be held in full, hardened scopes included.
    /// Empty where the operation has no scope at all.
    pub fn alternatives(&self) -> Vec<Vec<Scope>> {
        self.sets().into_iter().map(|set| set.into_iter().cloned().collect()).collect()
    }

    /// As [`Self::alternatives`], without copies.
    pub fn sets(&self) -> Sets<'_> {
        let mut sets: Sets<'_> = self.scopes.iter().map(|set| self.with_hardened(set)).collect();
        if sets.is_empty() && !self.hardened.is_empty() {
            sets.push(self.with_hardened(&[]));
        }
        sets
    }

    fn with_hardened<'a>(&'a self, own: &'a [Scope]) -> Set<'a> {
        // As most sets are.
        if self.hardened.is_empty() && own.is_sorted_by(|one, next| one < next) {
            return own.iter().collect();
        }
        let mut set = Set::new();
        for scope in own.iter().chain(&self.hardened) {
            if !set.contains(&scope) {
                set.push(scope);
            }
        }
        set.sort();
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn scopes(words: &[&str]) -> Vec<Scope> {
        words.iter().map(|word| Scope::parse(word).unwrap()).collect()
    }

    #[test_case(&[], &[], &[]; "no scope at all")]
    #[test_case(&[&["a:b"]], &[], &[&["a:b"]]; "one set")]
    #[test_case(&[&["a:x"], &["a:y"]], &["a:z"], &[&["a:x", "a:z"], &["a:y", "a:z"]]; "extras join every set")]
    #[test_case(&[], &["a:z"], &[&["a:z"]]; "extras alone make a set")]
    #[test_case(&[&["t:r", "a:x"]], &["t:r"], &[&["a:x", "t:r"]]; "sets are sorted and hold nothing twice")]
    fn alternatives_hold_all_that_one_set_needs(sets: &[&[&str]], hardened: &[&str], expected: &[&[&str]]) {
        let operation = Operation {
            scopes: sets.iter().map(|set| scopes(set)).collect(),
            hardened: scopes(hardened),
            ..Operation::default()
        };
        let expected: Vec<Vec<Scope>> = expected.iter().map(|set| scopes(set)).collect();
        assert_eq!(operation.alternatives(), expected);
    }
}
