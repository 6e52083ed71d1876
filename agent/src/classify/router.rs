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
    path::{CanonicalPath, decode, holds_slash},
};
use http::Method;
use std::collections::HashMap;

/// A classified request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route<'a> {
    /// The operation.
    pub operation: &'a Operation,
    /// The name of each placeholder with the decoded value that the request has in its place.
    pub parameters: Vec<(&'a str, String)>,
}

impl<'a> Route<'a> {
    /// None where a placeholder that cannot hold a slash has a value with an escaped one.
    pub(super) fn new(operation: &'a Operation, path: &CanonicalPath) -> Option<Self> {
        let values =
            operation.path.split('/').skip(1).zip(path.segments()).filter(|(part, _)| is_placeholder(part));
        let parameters = operation.parameters.iter().zip(values).map(|(parameter, (_, value))| {
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

/// How literals are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Exact,
    Careless,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, Node>,
    placeholder: Option<Box<Node>>,
    methods: Vec<(Method, usize)>,
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
                Part::Literal(literal) => node.literals.entry((*literal).into()).or_default(),
                Part::Placeholder(_) => node.placeholder.get_or_insert_default(),
            };
        }
        let present = node.method(method);
        node.methods.push((method.clone(), index));
        present
    }

    /// Finds the operation of a request at the API's host, or at another one.
    pub(super) fn find(&self, host: Option<&str>, method: &Method, path: &CanonicalPath) -> Option<usize> {
        let root = match host {
            None => &self.api,
            Some(host) => self.others.get(host)?,
        };
        root.find(as_get(method), path.behind_root(), Reading::Exact)
    }

    /// As [`Self::find`] at the API's host, for a reader that ignores case and a file name extension.
    pub(super) fn find_carelessly(&self, method: &Method, path: &CanonicalPath) -> Option<usize> {
        self.api.find(as_get(method), path.behind_root(), Reading::Careless)
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
    /// literal. The depth is bounded by the templates', not by the request.
    fn find(&self, method: &Method, path: &str, reading: Reading) -> Option<usize> {
        if path.is_empty() {
            return self.method(method);
        }
        let (segment, rest) = path.split_once('/').unwrap_or((path, ""));
        let literal = self.literals.get(segment).and_then(|node| node.find(method, rest, reading));
        literal.or_else(|| self.find_respelled(method, segment, rest, reading)).or_else(|| {
            let placeholder = self.placeholder.as_ref()?;
            placeholder.find(method, rest, reading)
        })
    }

    fn find_respelled(&self, method: &Method, segment: &str, rest: &str, reading: Reading) -> Option<usize> {
        if reading == Reading::Exact {
            return None;
        }
        let stem = segment.split_once('.').map_or(segment, |(stem, _)| stem);
        let fitting = self.literals.iter().filter(|(literal, _)| literal.eq_ignore_ascii_case(stem));
        fitting.filter_map(|(_, node)| node.find(method, rest, reading)).min()
    }
}

#[cfg(test)]
mod tests;
