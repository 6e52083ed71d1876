//! Scopes: DigitalOcean's permission words, `resource:action`.

use std::{cmp::Ordering, fmt, hash, sync::Arc};

/// A permission word of the catalogue, such as `droplet:create`.
#[derive(Clone)]
pub struct Scope {
    word: Arc<str>,
    tag: Tag,
    resource_tag: Tag,
    is_read: bool,
}

/// A number for a word, by which most other words are told from it without a look at either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(u32);

impl Tag {
    /// The word's number, which few other words share (FNV-1a).
    pub fn of(word: &str) -> Self {
        let step = |tag: u32, byte: u8| (tag ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        Self(word.bytes().fold(0x811c_9dc5, step))
    }

    /// It, as a number whose bits are spread evenly.
    pub fn number(self) -> u32 {
        self.0
    }
}

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
            Some((resource, action)) if part(resource) && part(action) => {
                let is_read = action == "read" || text == "nfs:list";
                Ok(Self { word: text.into(), tag: Tag::of(text), resource_tag: Tag::of(resource), is_read })
            }
            _ => Err(InvalidScope(text.to_owned())),
        }
    }

    /// The whole word.
    pub fn as_str(&self) -> &str {
        &self.word
    }

    /// The part before the colon.
    pub fn resource(&self) -> &str {
        self.word.split_once(':').map_or("", |(resource, _)| resource)
    }

    /// The part after the colon.
    pub fn action(&self) -> &str {
        self.word.split_once(':').map_or("", |(_, action)| action)
    }

    /// Whether all that it lets a token do is to look (`*:read` and `nfs:list`).
    pub fn is_read(&self) -> bool {
        self.is_read
    }

    /// Whether it is another scope of the same resource.
    pub fn is_beside(&self, other: &Self) -> bool {
        self.resource_tag == other.resource_tag && self.resource() == other.resource() && self != other
    }

    /// Of the whole word.
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// Of the part before the colon.
    pub fn resource_tag(&self) -> Tag {
        self.resource_tag
    }
}

impl PartialEq for Scope {
    fn eq(&self, other: &Self) -> bool {
        self.tag == other.tag && (Arc::ptr_eq(&self.word, &other.word) || self.word == other.word)
    }
}

impl Eq for Scope {}

impl PartialOrd for Scope {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scope {
    fn cmp(&self, other: &Self) -> Ordering {
        self.word.cmp(&other.word)
    }
}

impl hash::Hash for Scope {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.word.hash(state);
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word)
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
