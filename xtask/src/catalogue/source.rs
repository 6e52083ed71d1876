//! The facts as they lie in the source directory: one JSON object an operation, one a scope.

use anyhow::Context;
use serde::{Deserialize, de::DeserializeOwned};
use std::{collections::BTreeMap, fs, path::Path};

/// Everything that the catalogue is made from.
pub(crate) struct Source {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) scopes: Vec<Scope>,
    /// The commit of github.com/digitalocean/openapi that the facts come from.
    pub(crate) commit: String,
}

/// One operation. Fields that the catalogue does not use are not listed.
#[derive(Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) operation_id: String,
    tag: Tag,
    pub(crate) scopes: Vec<String>,
    #[serde(default)]
    pub(crate) alias_scopes: Vec<String>,
    #[serde(default)]
    pub(crate) security_alternatives: Vec<Vec<String>>,
    #[serde(default)]
    pub(crate) scope_implied_by: BTreeMap<String, Vec<String>>,
    pub(crate) path_params: Vec<Parameter>,
    pub(crate) conditional_scopes: Vec<Condition>,
    #[serde(default)]
    pub(crate) response_filters: Vec<Filter>,
    pub(crate) destructive_kind: Option<String>,
    pub(crate) server: Option<Server>,
}

/// The heading that the spec files an operation under; one operation has two.
#[derive(Deserialize)]
#[serde(untagged)]
enum Tag {
    One(String),
    Several(Vec<String>),
}

/// One placeholder of a path.
#[derive(Deserialize)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) resource: String,
    #[serde(rename = "type")]
    pub(crate) value_type: String,
    pub(crate) format: Option<String>,
}

/// Scopes that some requests of an operation need.
#[derive(Deserialize)]
pub(crate) struct Condition {
    pub(crate) requires: Vec<String>,
}

/// A part of an answer that the API shows only with further scopes.
#[derive(Deserialize)]
pub(crate) struct Filter {
    pub(crate) kind: String,
    pub(crate) requires: Vec<String>,
}

/// The server of an operation that the API's own host does not serve.
#[derive(Deserialize)]
pub(crate) struct Server {
    pub(crate) url: String,
}

/// One scope.
#[derive(Deserialize)]
pub(crate) struct Scope {
    pub(crate) scope: String,
    pub(crate) resource: String,
    pub(crate) action: String,
    pub(crate) description: Option<String>,
}

impl Endpoint {
    /// The heading that the spec files it under first.
    pub(crate) fn heading(&self) -> &str {
        match &self.tag {
            Tag::One(tag) => tag,
            Tag::Several(tags) => tags.first().map_or("", String::as_str),
        }
    }
}

impl Source {
    /// Reads the directory's endpoints.json and scopes.json, and the commit from its README.md.
    pub(crate) fn load(directory: &Path) -> anyhow::Result<Self> {
        let readme = read(&directory.join("README.md"))?;
        let commit = readme
            .split_once("digitalocean/openapi, commit ")
            .and_then(|(_, rest)| rest.get(..40))
            .filter(|commit| commit.bytes().all(|b| b.is_ascii_hexdigit()))
            .with_context(|| {
                format!("`{}/README.md` names no commit of digitalocean/openapi", directory.display())
            })?;
        Ok(Self {
            endpoints: json(&directory.join("endpoints.json"))?,
            scopes: json(&directory.join("scopes.json"))?,
            commit: commit.to_owned(),
        })
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

fn json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    serde_json::from_str(&read(path)?).with_context(|| format!("`{}` has another shape", path.display()))
}
