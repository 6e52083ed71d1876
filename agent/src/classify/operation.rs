//! One entry of the catalogue.

use super::Scope;
use http::Method;

/// An operation of the API: a method on a path template, and the scopes it needs.
#[derive(Debug)]
pub struct Operation {
    /// The spec's operation id, such as `droplets_create`; unique in the catalogue.
    pub name: String,
    /// The method.
    pub method: Method,
    /// The path template, such as `/v2/droplets/{droplet_id}`.
    pub path: String,
    /// The host that serves it where that is not the API's (such operations are unreachable at the API's host).
    pub host: Option<String>,
    /// The sets of scopes of which any one suffices; empty where the spec names no scope.
    pub scopes: Vec<Vec<Scope>>,
    /// Scopes that the operation needs in some requests; until conditions are evaluated, in every request.
    pub conditional: Vec<Scope>,
    /// Scopes that tidegate demands beyond the spec, whose own are too weak for the effect.
    pub hardened: Vec<Scope>,
    /// Whether it is a read that the API spells as another method, so that `api:read` covers it.
    pub read_post: bool,
    /// What it destroys, if anything (`destroy`, `detach` …).
    pub destructive: Option<String>,
}

impl Operation {
    /// Whether `api:read` may cover it: a GET, or a read that is spelt POST.
    pub fn is_read(&self) -> bool {
        self.method == Method::GET || self.read_post
    }

    /// The sets of scopes of which any one must be held in full, conditional and hardened scopes included.
    /// Empty where the operation has no scope at all.
    pub fn alternatives(&self) -> Vec<Vec<Scope>> {
        let extra = || self.conditional.iter().chain(&self.hardened).cloned();
        let mut sets: Vec<Vec<Scope>> =
            self.scopes.iter().map(|set| set.iter().cloned().chain(extra()).collect()).collect();
        if sets.is_empty() && extra().next().is_some() {
            sets.push(extra().collect());
        }
        for set in &mut sets {
            set.sort();
            set.dedup();
        }
        sets
    }
}
