//! Policies and bindings as Kubernetes has them: manifests of the group `tidegate.dev`.
//!
//! A `ScopePolicy` has in its `spec` what a policy file has, under the same keys. A `ScopeBinding` says for which pods a
//! ScopePolicy is. deploy/kubernetes/crds holds their schemas, which a test makes of the types here.

mod binding;

pub use binding::Binding;

use crate::{
    classify::Catalogue,
    decide::{Policy, document, lint},
    toml_file::{Error, Findings, Problem, Source},
    yaml::{self, Node},
};
use std::ops::Range;

/// What manifests say they are of.
pub const API_VERSION: &str = "tidegate.dev/v1alpha1";
/// The kind that is a policy.
pub const POLICY: &str = "ScopePolicy";
/// The kind that says for whom one is.
pub const BINDING: &str = "ScopeBinding";

/// What may stand at a manifest's top.
const KEYS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// One manifest.
#[derive(Clone, Debug, PartialEq)]
pub enum Manifest {
    /// A policy.
    Policy(Box<Policy>),
    /// For whom one is.
    Binding(Binding),
}

/// Whether a file with this name is read as manifests.
pub fn is_manifest(path: &std::path::Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// Reads every manifest of a file.
///
/// # Errors
/// With all that is wrong in them.
pub fn read(source: &Source, catalogue: &Catalogue) -> Result<Vec<Manifest>, Error> {
    let mut findings = Findings::new(source);
    let documents = yaml::documents(source)?;
    if documents.is_empty() {
        findings.add(0..0, "there is no manifest in it");
    }
    let mut manifests = Vec::new();
    for document in &documents {
        match manifest(document, source, catalogue) {
            Ok(manifest) => manifests.push(manifest),
            Err(error) => findings.extend(error.problems()),
        }
    }
    findings.finish(manifests)
}

/// What is valid in the policies of a file, and doubtful all the same.
///
/// # Errors
/// As [`read`].
pub fn doubts(source: &Source, catalogue: &Catalogue) -> Result<Vec<Problem>, Error> {
    let mut doubts = Vec::new();
    let manifests = read(source, catalogue)?;
    for (document, manifest) in yaml::documents(source)?.iter().zip(manifests) {
        let (Manifest::Policy(policy), Some(spec)) = (manifest, document.get("spec")) else { continue };
        let lines = document::spec_lines(spec, source);
        doubts.extend(lint::doubts(&policy, catalogue).into_iter().map(|doubt| Problem {
            line: lines.get(&doubt.entry).copied().unwrap_or_else(|| source.line(spec.span.start)),
            column: 0,
            message: format!("{}: {}", doubt.entry, doubt.message),
        }));
    }
    Ok(doubts)
}

fn manifest(document: &Node, source: &Source, catalogue: &Catalogue) -> Result<Manifest, Error> {
    let mut findings = Findings::new(source);
    let is_policy = kind(document, &mut findings);
    for key in document.entries().map(|(key, _)| key).filter(|key| !KEYS.contains(key)) {
        let message = format!("unknown key `{key}`, expected one of `{}`", KEYS.join("`, `"));
        findings.add(place(document, key), message);
    }
    let name = name(document, is_policy == Some(true), &mut findings);
    let spec = document.get("spec").filter(|spec| spec.is_mapping());
    if spec.is_none() {
        let span = document.get("spec").map_or(document.span.clone(), |spec| spec.span.clone());
        findings.add(span, "`spec` is missing, or has no keys");
    }
    // What is wrong with the spec is told beside the rest.
    let read = match (is_policy, spec) {
        (Some(true), Some(spec)) => {
            let policy = document::read_spec(&name, spec, source, catalogue);
            Some(policy.map(|policy| Manifest::Policy(Box::new(policy))))
        }
        (Some(false), Some(spec)) => Some(binding::read(&name, spec, source).map(Manifest::Binding)),
        _ => None,
    };
    match read {
        Some(Ok(manifest)) => findings.finish(manifest),
        Some(Err(error)) => {
            findings.extend(error.problems());
            findings.fail()
        }
        None => findings.fail(),
    }
}

/// Whether it is a policy; None where it is nothing of tidegate's.
fn kind(document: &Node, findings: &mut Findings<'_>) -> Option<bool> {
    let text = |key: &str| document.get(key).and_then(Node::text).unwrap_or_default().to_owned();
    let (version, kind) = (text("apiVersion"), text("kind"));
    if version != API_VERSION {
        let message = format!("`apiVersion: {version}` is not read; write `{API_VERSION}`");
        findings.add(place(document, "apiVersion"), message);
        return None;
    }
    match kind.as_str() {
        POLICY => Some(true),
        BINDING => Some(false),
        other => {
            let message = format!("unknown kind `{other}`, expected `{POLICY}` or `{BINDING}`");
            findings.add(place(document, "kind"), message);
            None
        }
    }
}

/// Both kinds belong to the cluster, so that whoever may change one namespace cannot grant himself anything.
fn name(document: &Node, is_policy: bool, findings: &mut Findings<'_>) -> String {
    let metadata = document.get("metadata");
    let node = metadata.and_then(|metadata| metadata.get("name"));
    let name = node.and_then(Node::text).unwrap_or_default();
    let span = node.map_or_else(|| place(document, "metadata"), |node| node.span.clone());
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = !name.is_empty() && name.len() <= 64 && name.bytes().all(is_allowed);
    if !is_name || name.starts_with('-') || name.ends_with('-') {
        let of = if is_policy { "a policy's name" } else { "a name" };
        let message =
            format!("`{name}` cannot be {of}; use 1 to 64 small letters, digits and `-` between them");
        findings.add(span, message);
    }
    if let Some(namespace) = metadata.and_then(|metadata| metadata.get("namespace")) {
        findings
            .add(namespace.span.clone(), "it belongs to the cluster, and has no namespace; remove the key");
    }
    name.to_owned()
}

fn place(document: &Node, key: &str) -> Range<usize> {
    document.place_of(key).unwrap_or(document.span.start..document.span.start)
}

#[cfg(test)]
mod crd;
#[cfg(test)]
mod tests;
