//! The facts as they lie in the source directory: one JSON object an operation, one a scope.

use super::openapi::OpenApi;
use anyhow::{Context, bail};
use serde::{Deserialize, de::DeserializeOwned};
use std::{collections::BTreeMap, fs, path::Path};

/// Everything that the catalogue is made from.
pub(crate) struct Source {
    pub(crate) openapi: OpenApi,
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
    pub(crate) when: When,
    pub(crate) requires: Vec<String>,
}

/// What is looked for, and where.
#[derive(Clone, Deserialize)]
pub(crate) struct When {
    pub(crate) pointer: Option<String>,
    pub(crate) param: Option<String>,
    pub(crate) equals: Option<String>,
    pub(crate) pattern: Option<String>,
}

/// A part of an answer that the API shows only with further scopes.
#[derive(Deserialize)]
pub(crate) struct Filter {
    pub(crate) kind: String,
    pub(crate) pointer: String,
    pub(crate) requires: Vec<String>,
    pub(crate) when: Option<When>,
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

impl When {
    /// The place as the catalogue writes it.
    pub(crate) fn place(&self) -> anyhow::Result<String> {
        match (&self.pointer, &self.param) {
            (Some(pointer), None) => Ok(pointer.clone()),
            (None, Some(name)) => Ok(format!("?{name}")),
            _ => bail!("it has a condition without a place, or with two"),
        }
    }

    /// The literal that a value must begin with, where the facts give a pattern.
    pub(crate) fn prefix(&self) -> anyhow::Result<Option<&str>> {
        let Some(pattern) = &self.pattern else { return Ok(None) };
        let literal = pattern.strip_prefix('^').filter(|rest| !rest.is_empty());
        let literal =
            literal.filter(|rest| rest.chars().all(|c| c.is_ascii_alphanumeric() || "_:-".contains(c)));
        literal.map(Some).with_context(|| format!("its pattern `{pattern}` is not `^` and a literal"))
    }
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
    /// Reads the directory's endpoints.json, scopes.json and OpenAPI file, and the commit from its README.md.
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
            openapi: OpenApi::load(directory)?,
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
