//! Grants: the words of `allow`, `deny` and a rule's `scopes`, and which scopes each stands for.

use super::nearest::{is_near, nearest};
use crate::classify::{Operation, Scope, catalogue::Catalogue};
use http::Method;
use std::fmt;

/// One word of a policy. What it stands for depends on the side that it is on: see [`Grant::gives`] and
/// [`Grant::takes`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grant {
    /// A scope of the catalogue.
    Scope(Scope),
    /// `resource:*`: every scope of the resource.
    Resource(Box<str>),
    /// `api:read`.
    ApiRead,
    /// `api:write`.
    ApiWrite,
}

/// Why a word is no [`Grant`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnknownGrant {
    /// Neither `resource:action` nor `resource:*`.
    #[error("`{0}` is not a scope: write `resource:action`, `resource:*`, `api:read` or `api:write`")]
    Form(String),
    /// No such scope in the catalogue.
    #[error("unknown scope `{text}`{}", did_you_mean(.suggestion.as_deref()))]
    Scope {
        /// The word.
        text: String,
        /// The nearest known one.
        suggestion: Option<String>,
    },
    /// `resource:*` of a resource that has no scope in the catalogue.
    #[error("unknown resource in `{text}`{}", did_you_mean(.suggestion.as_deref()))]
    Resource {
        /// The word.
        text: String,
        /// The nearest known one.
        suggestion: Option<String>,
    },
    /// `api:*`, which has no meaning of its own.
    #[error("`api:*` is not a grant; write `api:read` or `api:write`")]
    ApiWildcard,
}

/// Whether a request looks or changes. The aliases differ by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// GET or HEAD, or a read that the API spells POST.
    Read,
    /// Everything else.
    Write,
}

impl Access {
    /// What a request for a known operation does.
    pub fn of(method: &Method, operation: &Operation) -> Self {
        let head_of_get = method == Method::HEAD && operation.method == Method::GET;
        if operation.is_read() && (*method == operation.method || head_of_get) {
            Self::Read
        } else {
            Self::Write
        }
    }

    /// What a request that is not in the catalogue does, as far as its method tells.
    pub fn of_unclassified(method: &Method) -> Self {
        if method == Method::GET || method == Method::HEAD { Self::Read } else { Self::Write }
    }
}

impl Grant {
    /// Parses a word and checks it against the catalogue.
    ///
    /// # Errors
    /// When the catalogue has no such scope or resource; the nearest one is suggested.
    pub fn parse(text: &str, catalogue: &Catalogue) -> Result<Self, UnknownGrant> {
        match text {
            "api:read" => return Ok(Self::ApiRead),
            "api:write" => return Ok(Self::ApiWrite),
            "api:*" => return Err(UnknownGrant::ApiWildcard),
            _ => {}
        }
        if let Some(resource) = text.strip_suffix(":*") {
            let known =
                || catalogue.scopes().map(|entry| entry.scope.resource()).filter(|name| *name != "api");
            if known().any(|name| name == resource) {
                return Ok(Self::Resource(resource.into()));
            }
            let suggestion = nearest(resource, known()).map(|name| format!("{name}:*"));
            return Err(UnknownGrant::Resource { text: text.to_owned(), suggestion });
        }
        let Ok(scope) = Scope::parse(text) else { return Err(UnknownGrant::Form(text.to_owned())) };
        catalogue.scope(text).map(|entry| Self::Scope(entry.scope.clone())).ok_or_else(|| {
            // Part by part, since most scopes have the same few actions.
            let near = catalogue.scopes().map(|entry| &entry.scope).filter(|known| {
                is_near(scope.resource(), known.resource()) && is_near(scope.action(), known.action())
            });
            let suggestion = nearest(text, near.map(Scope::as_str)).map(str::to_owned);
            UnknownGrant::Scope { text: text.to_owned(), suggestion }
        })
    }

    /// Whether it gives `scope` to a request, where it stands in `allow`.
    pub fn gives(&self, scope: &Scope, access: Access) -> bool {
        match self {
            Self::Scope(own) => own == scope,
            Self::Resource(resource) => **resource == *scope.resource(),
            Self::ApiRead => access == Access::Read && scope.is_read(),
            Self::ApiWrite => !hands_out_access(scope),
        }
    }

    /// Whether it takes `scope` from a request, where it stands in `deny`. The aliases split all requests in
    /// two: `api:read` takes every read, and `api:write` all that `api:read` does not give.
    pub fn takes(&self, scope: &Scope, access: Access) -> bool {
        match self {
            Self::Scope(own) => own == scope,
            Self::Resource(resource) => **resource == *scope.resource(),
            Self::ApiRead => access == Access::Read,
            Self::ApiWrite => access == Access::Write || !scope.is_read(),
        }
    }

    /// Whether it is the scope's own word, or its resource's, so that whoever wrote it thought of it.
    pub fn names(&self, scope: &Scope) -> bool {
        match self {
            Self::Scope(own) => own == scope,
            Self::Resource(resource) => **resource == *scope.resource(),
            Self::ApiRead | Self::ApiWrite => false,
        }
    }

    /// Whether it gives an operation that has no scope, where it stands in `allow`.
    pub fn gives_unscoped(&self, access: Access) -> bool {
        match self {
            Self::ApiRead => access == Access::Read,
            Self::ApiWrite => true,
            Self::Scope(_) | Self::Resource(_) => false,
        }
    }

    /// Whether it takes an operation that has no scope or is not known, where it stands in `deny`.
    pub fn takes_unscoped(&self, access: Access) -> bool {
        match self {
            Self::ApiRead => access == Access::Read,
            Self::ApiWrite => access == Access::Write,
            Self::Scope(_) | Self::Resource(_) => false,
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scope(scope) => scope.fmt(f),
            Self::Resource(resource) => write!(f, "{resource}:*"),
            Self::ApiRead => f.write_str("api:read"),
            Self::ApiWrite => f.write_str("api:write"),
        }
    }
}

/// The end of a message about an unknown word of the catalogue: what may have been meant, or where to look.
pub(super) fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(
        || "; `tidegate scopes` lists what there is".to_owned(),
        |known| format!("; did you mean `{known}`?"),
    )
}

/// Scopes whose use hands out access that tidegate cannot see afterwards (a kubeconfig, a password, a key, a
/// console), so that an alias never gives them.
pub(super) fn hands_out_access(scope: &Scope) -> bool {
    let action = scope.action();
    action.ends_with("_credentials") || action.starts_with("access_") || action == "admin"
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn scope(text: &str) -> Scope {
        Scope::parse(text).unwrap()
    }

    #[test_case(Grant::ApiRead, "droplet:read", Access::Read, true; "read alias, read scope, read")]
    #[test_case(Grant::ApiRead, "nfs:list", Access::Read, true; "read alias, list")]
    #[test_case(Grant::ApiRead, "byoip_prefix:list", Access::Read, false; "read alias, another list")]
    #[test_case(Grant::ApiRead, "droplet:read", Access::Write, false; "read alias, read scope, write")]
    #[test_case(Grant::ApiRead, "kubernetes:access_cluster", Access::Read, false; "read alias, kubeconfig")]
    #[test_case(Grant::ApiRead, "database:view_credentials", Access::Read, false; "read alias, credentials")]
    #[test_case(Grant::ApiRead, "function:admin", Access::Read, false; "read alias, admin")]
    #[test_case(Grant::ApiRead, "droplet:delete", Access::Read, false; "read alias, write scope on GET")]
    #[test_case(Grant::ApiWrite, "droplet:delete", Access::Write, true; "write alias, write")]
    #[test_case(Grant::ApiWrite, "droplet:read", Access::Read, true; "write alias, read")]
    #[test_case(Grant::ApiWrite, "byoip_prefix:write", Access::Write, true; "write alias, odd action")]
    #[test_case(Grant::ApiWrite, "kubernetes:access_cluster", Access::Read, false; "write alias, kubeconfig")]
    #[test_case(Grant::ApiWrite, "app:access_console", Access::Read, false; "write alias, console")]
    #[test_case(Grant::ApiWrite, "database:view_credentials", Access::Read, false; "write alias, password")]
    #[test_case(Grant::ApiWrite, "spaces_key:create_credentials", Access::Write, false; "write alias, key")]
    #[test_case(Grant::ApiWrite, "function:admin", Access::Write, false; "write alias, admin")]
    #[test_case(Grant::Resource("database".into()), "database:view_credentials", Access::Read, true; "wildcard")]
    #[test_case(Grant::Resource("spaces".into()), "spaces_key:read", Access::Read, false; "no prefix match")]
    fn a_grant_gives(grant: Grant, text: &str, access: Access, expected: bool) {
        assert_eq!(grant.gives(&scope(text), access), expected);
    }

    #[test_case(Grant::ApiRead, "kubernetes:access_cluster", Access::Read, true; "deny read takes every read")]
    #[test_case(Grant::ApiRead, "droplet:read", Access::Write, false; "deny read leaves writes")]
    #[test_case(Grant::ApiWrite, "kubernetes:access_cluster", Access::Read, true; "deny write takes kubeconfig")]
    #[test_case(Grant::ApiWrite, "droplet:read", Access::Write, true; "deny write takes a write by read scope")]
    #[test_case(Grant::ApiWrite, "droplet:read", Access::Read, false; "deny write leaves plain reads")]
    fn a_grant_takes(grant: Grant, text: &str, access: Access, expected: bool) {
        assert_eq!(grant.takes(&scope(text), access), expected);
    }

    #[test]
    fn what_deny_write_leaves_is_what_allow_read_gives() {
        for text in
            ["droplet:read", "nfs:list", "droplet:delete", "kubernetes:access_cluster", "function:admin"]
        {
            for access in [Access::Read, Access::Write] {
                let scope = scope(text);
                let (left, given) =
                    (!Grant::ApiWrite.takes(&scope, access), Grant::ApiRead.gives(&scope, access));
                assert_eq!(left, given, "{text} {access:?}");
            }
        }
    }
}
