//! The policies in force: loaded all or none, replaced as a whole, and named in the records by their digest.

mod file;

pub use file::{FileError, PolicyFile, Reading};

use super::{Policy, document};
use crate::{
    classify::Catalogue,
    identify::Workload,
    toml_file::{Error as LoadError, Source},
};
use aws_lc_rs::digest::{Context, SHA256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{Arc, PoisonError, RwLock},
};

/// What the paths of policies end with that come from objects rather than from files.
pub const OBJECT: &str = "yaml";

/// Policies that were loaded together.
#[derive(Clone, Debug)]
pub struct PolicySet {
    policies: BTreeMap<String, Arc<Policy>>,
    /// Those of them that come from objects, which may go.
    passing: BTreeSet<String>,
    digest: Arc<str>,
}

impl PolicySet {
    /// The policies of these files and objects, each named by its path.
    ///
    /// # Errors
    /// With all that is wrong in the first file that is not in order.
    pub fn load(sources: &[Source], catalogue: &Catalogue) -> Result<Self, LoadError> {
        let (mut policies, mut passing) = (BTreeMap::new(), BTreeSet::new());
        for source in sources {
            let is_object = source.path.extension().is_some_and(|extension| extension == OBJECT);
            let policy = match is_object {
                true => document::read_object(source, catalogue)?,
                false => document::read(source, catalogue)?,
            };
            if is_object {
                passing.insert(policy.name.clone());
            }
            if policies.contains_key(&policy.name) {
                return Err(source.invalid(0..0, &format!("policy `{}` is there twice", policy.name)));
            }
            policies.insert(policy.name.clone(), Arc::new(policy));
        }
        Ok(Self { policies, passing, digest: digest(sources) })
    }

    /// The one policy that is built in.
    ///
    /// # Errors
    /// As [`document::read_only`].
    pub fn built_in(catalogue: &Catalogue) -> Result<Self, LoadError> {
        Self::load(&[document::read_only_source()?], catalogue)
    }

    /// SHA-256, in hexadecimal, of the names and contents; their order changes nothing.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The first policy that the other set would have to have, and has not.
    fn missing_in(&self, other: &Self) -> Option<Missing> {
        let needed = self.policies.keys().filter(|name| !self.passing.contains(*name));
        let mut missing = needed.filter(|name| other.policy(name).is_none());
        missing.next().map(|name| Missing { name: name.clone() })
    }

    /// The names of the policies, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.policies.keys().map(String::as_str)
    }

    /// The policy of this name.
    pub fn policy(&self, name: &str) -> Option<&Arc<Policy>> {
        self.policies.get(name)
    }
}

/// What [`PolicySet::digest`] is of these files.
pub fn digest<'a>(sources: impl IntoIterator<Item = &'a Source>) -> Arc<str> {
    let mut files: Vec<(&[u8], &[u8])> = sources
        .into_iter()
        .map(|source| {
            let name = source.path.file_name().unwrap_or_default();
            (name.as_encoded_bytes(), source.text.as_bytes())
        })
        .collect();
    files.sort_unstable();
    let mut context = Context::new(&SHA256);
    for part in files.into_iter().flat_map(|(name, text)| [name, text]) {
        // With its length before each part, no two sets have the same bytes.
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut hex = String::with_capacity(64);
    for byte in context.finish().as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex.into()
}

/// A set that lacks a policy which the one in force has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy `{name}` is missing, and a workload needs it; put its file back")]
pub struct Missing {
    /// The policy's name.
    pub name: String,
}

/// What a replacement has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The digest of the set that was in force.
    pub before: Arc<str>,
    /// The digest of the one that is.
    pub after: Arc<str>,
    /// The policies that are new, say something else, or are gone.
    pub policies: Vec<String>,
}

/// Holds the set in force, and swaps it.
#[derive(Debug)]
pub struct Store {
    current: RwLock<Arc<PolicySet>>,
}

impl Store {
    /// With this set in force.
    pub fn new(set: PolicySet) -> Self {
        Self { current: RwLock::new(Arc::new(set)) }
    }

    /// The set in force. Whoever holds it keeps it, whatever comes after.
    pub fn current(&self) -> Arc<PolicySet> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether another set could be put in force.
    ///
    /// # Errors
    /// When a policy would be gone.
    pub fn check(&self, set: &PolicySet) -> Result<(), Missing> {
        self.current().missing_in(set).map_or(Ok(()), Err)
    }

    /// Puts another set in force.
    ///
    /// # Errors
    /// When a policy would be gone; the set in force stays.
    pub fn replace(&self, mut set: PolicySet) -> Result<Change, Missing> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(missing) = current.missing_in(&set) {
            return Err(missing);
        }
        let gone = current.names().filter(|name| set.policy(name).is_none());
        let mut changed: Vec<String> = gone.map(str::to_owned).collect();
        for (name, policy) in &mut set.policies {
            match current.policy(name) {
                Some(old) if old == policy => *policy = Arc::clone(old),
                Some(_) | None => changed.push(name.clone()),
            }
        }
        let change =
            Change { before: Arc::clone(&current.digest), after: Arc::clone(&set.digest), policies: changed };
        *current = Arc::new(set);
        Ok(change)
    }
}

/// What governs one request, from its beginning to its end.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The policies that must all allow it; never empty.
    pub parties: Vec<Party>,
    /// The digest of the set that they come from.
    pub digest: Arc<str>,
}

/// A workload with the policy that governs it.
#[derive(Clone, Debug)]
pub struct Party {
    /// The workload's name.
    pub workload: Arc<str>,
    /// Its policy.
    pub policy: Arc<Policy>,
}

/// The policies of a connection's workloads, whichever set is in force.
#[derive(Clone, Debug)]
pub struct Handle {
    store: Arc<Store>,
    workloads: Arc<[Workload]>,
}

impl Handle {
    /// For the policies of these workloads.
    pub fn new(store: Arc<Store>, workloads: Arc<[Workload]>) -> Self {
        Self { store, workloads }
    }

    /// What governs a request that begins now. A policy that is in no set denies everything, and so does no workload.
    pub fn current(&self) -> InForce {
        let set = self.store.current();
        let denies_all = |name: &str| Arc::new(Policy { name: name.to_owned(), ..Policy::default() });
        let mut parties: Vec<Party> = self
            .workloads
            .iter()
            .map(|Workload { name, policy }| Party {
                workload: Arc::clone(name),
                policy: set.policy(policy).map_or_else(|| denies_all(policy), Arc::clone),
            })
            .collect();
        if parties.is_empty() {
            parties.push(Party { workload: "".into(), policy: denies_all("") });
        }
        InForce { parties, digest: Arc::clone(&set.digest) }
    }
}

#[cfg(test)]
mod tests;
