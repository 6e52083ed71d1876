//! From method and canonical path to the operation of the catalogue.
//!
//! Templates overlap (`/v2/droplets/{droplet_id}` and `/v2/droplets/actions`). The template with a literal at
//! the first place where two differ wins if it has the request's method; otherwise the request falls to the
//! next one. Where templates cross (`/v2/droplets/autoscale/{autoscale_pool_id}` and
//! `/v2/droplets/{droplet_id}/actions`) a server might choose the other one; that one then names a resource by
//! a word where its identifiers are numbers or UUIDs (`autoscale` for a Droplet), so it can reach nothing.
//!
//! The form of a value never decides, except for an escaped slash: a request that is spelt strangely must not
//! become unclassified and so escape the rules for the operation that a server may still take it for.

use super::{
    Operation,
    operation::Form,
    path::{CanonicalPath, cut, decode, holds_slash},
};
use crate::few::Few;
use http::Method;
use smallvec::SmallVec;
use std::{borrow::Cow, collections::HashMap};

/// A classified request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route<'a, 'r> {
    /// The operation.
    pub operation: &'a Operation,
    /// The name of each placeholder with the decoded value that the request has in its place.
    pub parameters: Few<(&'a str, Cow<'r, str>)>,
}

impl<'a, 'r> Route<'a, 'r> {
    /// None where a placeholder that cannot hold a slash has a value with an escaped one.
    pub(super) fn new(operation: &'a Operation, values: &[&'r str]) -> Option<Self> {
        let parameters = operation.parameters.iter().zip(values).map(|(parameter, value)| {
            let fits = parameter.form == Form::TextWithSlashes || !holds_slash(value);
            fits.then(|| (parameter.name.as_str(), decode(value)))
        });
        Some(Self { operation, parameters: parameters.collect::<Option<_>>()? })
    }
}

/// A path template, cut at its slashes.
#[derive(Debug)]
pub(super) struct Template<'a>(Vec<Part<'a>>);

#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Literal(&'a str),
    Placeholder(&'a str),
}

fn is_placeholder(part: &str) -> bool {
    part.starts_with('{')
}

impl<'a> Template<'a> {
    /// Parses `/literal/{placeholder}`.
    pub(super) fn parse(path: &'a str) -> Result<Self, &'static str> {
        let rest = path.strip_prefix('/').ok_or("has a path that does not begin with `/`")?;
        let parts = rest.split('/').map(|part| {
            let name = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')).unwrap_or(part);
            match name {
                "" => Err("has an empty part in its path"),
                _ if name.contains(['{', '}', '%']) => {
                    Err("has a broken placeholder or an escape in its path")
                }
                _ if is_placeholder(part) => Ok(Part::Placeholder(name)),
                _ => Ok(Part::Literal(name)),
            }
        });
        Ok(Self(parts.collect::<Result<_, _>>()?))
    }

    /// The names of the placeholders.
    pub(super) fn parameters(&self) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Placeholder(name) => Some(*name),
        })
    }
}

/// The templates of each host, as a tree over their parts. Operations are indices into the catalogue.
#[derive(Debug, Default)]
pub(super) struct Router {
    api: Node,
    others: HashMap<String, Node>,
}

/// What a request is for: the operation's index, and what stands in the places of its placeholders, still escaped.
#[derive(Debug)]
pub(super) struct Found<'r> {
    pub(super) index: usize,
    pub(super) values: Values<'r>,
}

type Values<'r> = SmallVec<[&'r str; 4]>;

/// How literals are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Exact,
    Careless,
}

#[derive(Debug, Default)]
struct Node {
    literals: Literals,
    placeholder: Option<Box<Node>>,
    methods: Vec<(Method, usize)>,
}

/// The nodes below one, by their literals.
#[derive(Debug, Default)]
struct Literals {
    /// Of each, in the order of `nodes`: ascending, so that few of them are looked at, and those side by side.
    keys: Vec<u64>,
    nodes: Vec<(Box<str>, Node)>,
}

impl Literals {
    /// The length and the first seven bytes, which tell most literals apart.
    fn key(literal: &str) -> u64 {
        let first = literal.bytes().take(7).fold(0, |key, byte| key << 8 | u64::from(byte));
        first << 8 | literal.len() as u64 & 0xff
    }

    /// Where the literal is, or would be.
    fn find(&self, literal: &str) -> Result<usize, usize> {
        let key = Self::key(literal);
        let mut index = self.keys.partition_point(|other| *other < key);
        while self.keys.get(index) == Some(&key) {
            if self.nodes.get(index).is_some_and(|(other, _)| **other == *literal) {
                return Ok(index);
            }
            index += 1;
        }
        Err(index)
    }

    fn get(&self, literal: &str) -> Option<&Node> {
        self.nodes.get(self.find(literal).ok()?).map(|(_, node)| node)
    }

    #[expect(clippy::indexing_slicing, reason = "the place was found, or made")]
    fn entry(&mut self, literal: &str) -> &mut Node {
        let index = self.find(literal).unwrap_or_else(|index| {
            self.keys.insert(index, Self::key(literal));
            self.nodes.insert(index, (literal.into(), Node::default()));
            index
        });
        let (_, node) = &mut self.nodes[index];
        node
    }
}

impl Router {
    /// Adds an operation; answers with the one that has the same host, method and template, if any.
    pub(super) fn insert(
        &mut self,
        host: Option<&str>,
        method: &Method,
        template: &Template<'_>,
        index: usize,
    ) -> Option<usize> {
        let mut node = match host {
            None => &mut self.api,
            Some(host) => self.others.entry(host.to_owned()).or_default(),
        };
        for part in &template.0 {
            node = match part {
                Part::Literal(literal) => node.literals.entry(literal),
                Part::Placeholder(_) => node.placeholder.get_or_insert_default(),
            };
        }
        let present = node.method(method);
        node.methods.push((method.clone(), index));
        present
    }

    /// Finds the operation of a request at the API's host, or at another one.
    pub(super) fn find<'r>(
        &self,
        host: Option<&str>,
        method: &Method,
        path: CanonicalPath<'r>,
    ) -> Option<Found<'r>> {
        let root = match host {
            None => &self.api,
            Some(host) => self.others.get(host)?,
        };
        let mut values = Values::new();
        let index = root.find(as_get(method), path.behind_root(), Reading::Exact, &mut values)?;
        Some(Found { index, values })
    }

    /// As [`Self::find`] at the API's host, for a reader that ignores case and a file name extension.
    pub(super) fn find_carelessly(&self, method: &Method, path: CanonicalPath<'_>) -> Option<usize> {
        self.api.find(as_get(method), path.behind_root(), Reading::Careless, &mut Values::new())
    }
}

/// HEAD asks for the head of a GET's answer.
fn as_get(method: &Method) -> &Method {
    if *method == Method::HEAD { &Method::GET } else { method }
}

impl Node {
    fn method(&self, method: &Method) -> Option<usize> {
        self.methods.iter().find(|(present, _)| present == method).map(|(_, index)| *index)
    }

    /// Depth first, literals before the placeholder, so that the first hit is the one with the earliest
    /// literal. The depth is bounded by the templates', not by the request. `values` gets those of the placeholders
    /// on the way.
    fn find<'r>(
        &self,
        method: &Method,
        path: &'r str,
        reading: Reading,
        values: &mut Values<'r>,
    ) -> Option<usize> {
        if path.is_empty() {
            return self.method(method);
        }
        let (segment, rest) = cut(path);
        let rest = rest.unwrap_or_default();
        let literal = self.literals.get(segment).and_then(|node| node.find(method, rest, reading, values));
        literal.or_else(|| self.find_respelled(method, segment, rest, reading)).or_else(|| {
            let placeholder = self.placeholder.as_ref()?;
            values.push(segment);
            let found = placeholder.find(method, rest, reading, values);
            if found.is_none() {
                values.pop();
            }
            found
        })
    }

    /// Of such a path no values are of use, since it is refused.
    fn find_respelled(&self, method: &Method, segment: &str, rest: &str, reading: Reading) -> Option<usize> {
        if reading == Reading::Exact {
            return None;
        }
        let stem = segment.split_once('.').map_or(segment, |(stem, _)| stem);
        let fitting = self.literals.nodes.iter().filter(|(literal, _)| literal.eq_ignore_ascii_case(stem));
        fitting.filter_map(|(_, node)| node.find(method, rest, reading, &mut Values::new())).min()
    }
}

#[cfg(test)]
mod tests;
