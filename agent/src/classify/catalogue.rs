//! The catalogue: every operation of the API with the scopes that it needs, and every scope.

mod entry;

use super::{
    Operation, Scope,
    operation::{Form, Parameter},
    path::CanonicalPath,
    router::{Route, Router, Template},
    scope::InvalidScope,
};
use entry::{Document, Entry};
use http::Method;
use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

const EMBEDDED: &str = include_str!("../../catalogue/digitalocean.toml");

/// The operations, searchable by name and by request.
#[derive(Debug, Default)]
pub struct Catalogue {
    operations: Vec<Operation>,
    by_name: HashMap<String, usize>,
    scopes: BTreeMap<String, ScopeEntry>,
    router: Router,
    kinds: BTreeMap<String, Form>,
}

/// A scope and what it lets a token do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeEntry {
    /// The scope.
    pub scope: Scope,
    /// What it is for, in a few words.
    pub description: String,
}

/// Why a text is no catalogue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no TOML of the catalogue's shape.
    #[error("the catalogue is not of the expected shape")]
    Document(#[source] toml::de::Error),
    /// A word in place of a scope.
    #[error("`{place}` of the catalogue names no scope")]
    Scope {
        /// The operation, or `scopes`.
        place: String,
        /// What is wrong with it.
        #[source]
        source: InvalidScope,
    },
    /// An operation that contradicts itself or another part of the catalogue.
    #[error("operation `{operation}` of the catalogue {problem}")]
    Operation {
        /// Its name.
        operation: String,
        /// What is wrong with it, as the rest of the sentence.
        problem: String,
    },
}

impl Catalogue {
    /// The catalogue that is compiled in. Were it unreadable, it would be empty and every request
    /// unclassified, so denied; a test keeps that from being released.
    pub fn embedded() -> &'static Self {
        static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
            Catalogue::parse(EMBEDDED).unwrap_or_else(|error| {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the embedded catalogue is unreadable: every request is unclassified");
                Catalogue::default()
            })
        });
        &CATALOGUE
    }

    /// Parses a catalogue; agent/catalogue/README.md explains the keys.
    ///
    /// # Errors
    /// When it has unknown keys, names a thing twice or names a thing that it does not define.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let document: Document = toml::from_str(text).map_err(Error::Document)?;
        let mut catalogue = Self::default();
        for (word, description) in document.scopes {
            let scope =
                Scope::parse(&word).map_err(|source| Error::Scope { place: "scopes".into(), source })?;
            catalogue.scopes.insert(word, ScopeEntry { scope, description });
        }
        catalogue.kinds = document.resources;
        for entry in document.operations {
            catalogue.insert(entry)?;
        }
        Ok(catalogue)
    }

    /// Every operation, in the order of the spec.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The operation of that name.
    pub fn operation(&self, name: &str) -> Option<&Operation> {
        self.by_name.get(name).and_then(|index| self.operations.get(*index))
    }

    /// Every scope, sorted.
    pub fn scopes(&self) -> impl Iterator<Item = &ScopeEntry> {
        self.scopes.values()
    }

    /// The scope of that name.
    pub fn scope(&self, word: &str) -> Option<&ScopeEntry> {
        self.scopes.get(word)
    }

    /// Every kind of resource that requests can name, with the form of its identifiers in paths, sorted.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, Form)> {
        self.kinds.iter().map(|(kind, form)| (kind.as_str(), *form))
    }

    /// The operation that a request is for. `host` is `None` for the API's own host. HEAD is read as the GET
    /// whose head it asks for.
    ///
    /// Where two templates fit, the one with a literal at the first place where they differ wins, as long as
    /// it has the method.
    pub fn route<'r>(
        &self,
        host: Option<&str>,
        method: &Method,
        path: CanonicalPath<'r>,
    ) -> Option<Route<'_, 'r>> {
        let found = self.router.find(host, method, path)?;
        Route::new(self.operations.get(found.index)?, &found.values)
    }

    /// The operation that a careless server may take the request for: one that ignores case or a file name
    /// extension.
    pub(super) fn route_carelessly(&self, method: &Method, path: CanonicalPath<'_>) -> Option<&Operation> {
        self.operations.get(self.router.find_carelessly(method, path)?)
    }

    fn insert(&mut self, entry: Entry) -> Result<(), Error> {
        let name = entry.name.clone();
        let fail = |problem: String| Error::Operation { operation: name.clone(), problem };
        let operation = self.operation_from(entry)?;
        let template = Template::parse(&operation.path).map_err(|problem| fail(problem.to_string()))?;
        let index = self.operations.len();
        if self.router.insert(operation.host.as_deref(), &operation.method, &template, index).is_some() {
            return Err(fail(format!("has the method and path `{}` of an earlier one", operation.path)));
        }
        if self.by_name.insert(name.clone(), index).is_some() {
            return Err(fail("stands there twice".into()));
        }
        self.operations.push(operation);
        Ok(())
    }

    fn operation_from(&self, entry: Entry) -> Result<Operation, Error> {
        let fail = |problem: String| Error::Operation { operation: entry.name.clone(), problem };
        let sets = match (&entry.scopes, &entry.any_of) {
            (Some(set), None) if set.is_empty() => Vec::new(),
            (Some(set), None) => vec![self.known(set).map_err(&fail)?],
            (None, Some(sets)) if sets.len() > 1 && sets.iter().all(|set| !set.is_empty()) => {
                sets.iter().map(|set| self.known(set)).collect::<Result<_, _>>().map_err(&fail)?
            }
            _ => return Err(fail("must have `scopes`, or `any_of` with several sets".into())),
        };
        let method =
            Method::from_bytes(entry.method.as_bytes()).ok().filter(|method| METHODS.contains(method));
        let template = Template::parse(&entry.path).map_err(|problem| fail(problem.to_string()))?;
        Ok(Operation {
            scopes: sets,
            conditions: entry.conditions(self).map_err(&fail)?,
            variants: entry.variants().map_err(&fail)?,
            targets: entry.targets(self).map_err(&fail)?,
            wholes: entry.wholes(self).map_err(&fail)?,
            filters: entry.filters(self).map_err(&fail)?.into(),
            maps: entry.maps().map_err(&fail)?,
            hardened: self.known(&entry.hardened).map_err(&fail)?,
            method: method.ok_or_else(|| fail(format!("has the unknown method `{}`", entry.method)))?,
            parameters: parameters(&template, &entry.resources, &self.kinds).map_err(&fail)?,
            name: entry.name,
            path: entry.path,
            host: entry.host,
            lists: entry.lists,
            read_post: entry.read,
            destructive: entry.destructive,
        })
    }

    /// Turns words into scopes that the catalogue describes; a problem is the rest of a sentence.
    fn known(&self, words: &[String]) -> Result<Vec<Scope>, String> {
        let scopes = words.iter().map(|word| match self.scopes.get(word) {
            Some(entry) => Ok(entry.scope.clone()),
            None => Err(format!("needs `{word}`, which `scopes` does not list")),
        });
        scopes.collect()
    }
}

const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

fn parameters(
    template: &Template<'_>,
    named: &[String],
    resources: &BTreeMap<String, Form>,
) -> Result<Vec<Parameter>, String> {
    let names: Vec<&str> = template.parameters().collect();
    if names.len() != named.len() {
        return Err(format!("has {} placeholders and {} resources", names.len(), named.len()));
    }
    let parameters = names.into_iter().zip(named).map(|(name, resource)| {
        let form =
            *resources.get(resource).ok_or_else(|| format!("has the unknown resource `{resource}`"))?;
        Ok(Parameter { name: name.to_owned(), resource: resource.clone(), form })
    });
    parameters.collect()
}

#[cfg(test)]
mod tests;
