//! Scopes: DigitalOcean's permission words, `resource:action`.

use std::{fmt, sync::Arc};

/// A permission word of the catalogue, such as `droplet:create`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(Arc<str>);

/// A text that is not of the form `resource:action`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not of the form `resource:action`")]
pub struct InvalidScope(String);

impl Scope {
    /// Parses `resource:action`, each part of lower-case letters, digits and `_`.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn parse(text: &str) -> Result<Self, InvalidScope> {
        let part = |s: &str| {
            !s.is_empty() && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        match text.split_once(':') {
            Some((resource, action)) if part(resource) && part(action) => Ok(Self(text.into())),
            _ => Err(InvalidScope(text.to_owned())),
        }
    }

    /// The whole word.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the colon.
    pub fn resource(&self) -> &str {
        self.0.split_once(':').map_or("", |(resource, _)| resource)
    }

    /// The part after the colon.
    pub fn action(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, action)| action)
    }

    /// Whether all that it lets a token do is to look (`*:read` and `nfs:list`).
    pub fn is_read(&self) -> bool {
        self.action() == "read" || self.as_str() == "nfs:list"
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("droplet:read", Some(("droplet", "read")))]
    #[test_case("block_storage_action:create", Some(("block_storage_action", "create")))]
    #[test_case("", None; "empty")]
    #[test_case("droplet", None; "no action")]
    #[test_case("droplet:", None; "empty action")]
    #[test_case(":read", None; "empty resource")]
    #[test_case("droplet:read:all", None; "two colons")]
    #[test_case("Droplet:read", None; "upper case")]
    #[test_case("droplet:*", None; "wildcard, which belongs to policies")]
    #[test_case("droplet: read", None; "blank")]
    #[test_case("droplét:read", None; "not ascii")]
    fn scopes_are_two_words(text: &str, expected: Option<(&str, &str)>) {
        let scope = Scope::parse(text).ok();
        assert_eq!(scope.as_ref().map(|scope| (scope.resource(), scope.action())), expected);
        assert!(scope.is_none_or(|scope| scope.as_str() == text));
    }
}
