//! Host names and the registrable domain that the local CA is constrained to.

use std::fmt;

/// A DNS host name in lower case without a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Box<str>);

/// Why a text is no [`HostName`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not a DNS host name: {problem}")]
pub struct InvalidHostName {
    text: String,
    problem: &'static str,
}

impl HostName {
    /// Parses a name: LDH labels (and `_`) of 1 to 63 bytes, 253 bytes in all, at least one that is not a number.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidHostName> {
        let fail = |problem| Err(InvalidHostName { text: text.to_owned(), problem });
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() || name.len() > 253 {
            return fail("it must have 1 to 253 bytes");
        }
        for label in name.split('.') {
            if label.is_empty() || label.len() > 63 {
                return fail("each label must have 1 to 63 bytes");
            }
            if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
                return fail("a label holds letters, digits, `-` and `_` only");
            }
        }
        // Resolvers read a numeric last label as an IPv4 address in one of its legacy forms.
        let last = name.rsplit('.').next().unwrap_or(name);
        if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
            return fail("its last label is a number, so it would be read as an address");
        }
        Ok(Self(name.to_ascii_lowercase().into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain below the public suffix (`digitalocean.com` for `api.digitalocean.com`), or the name
    /// itself where it has none.
    pub fn registrable_domain(&self) -> HostName {
        psl::domain_str(&self.0).map_or_else(|| self.clone(), |domain| Self(domain.into()))
    }

    /// Whether this name is `domain` or below it.
    pub fn is_within(&self, domain: &HostName) -> bool {
        self == domain || self.0.strip_suffix(domain.as_str()).is_some_and(|prefix| prefix.ends_with('.'))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("API.DigitalOcean.com.", Some("api.digitalocean.com"); "case and root dot")]
    #[test_case("localhost", Some("localhost"); "one label")]
    #[test_case("", None; "empty")]
    #[test_case("a..b", None; "empty label")]
    #[test_case("127.0.0.1", None; "address")]
    #[test_case("a.0x7f", None; "hexadecimal last label")]
    #[test_case("exa mple.com", None; "blank")]
    #[test_case("exämple.com", None; "not ascii")]
    fn names_are_parsed_to_one_form(text: &str, expected: Option<&str>) {
        assert_eq!(HostName::parse(text).ok().as_ref().map(HostName::as_str), expected);
    }

    #[test_case("api.digitalocean.com", "digitalocean.com")]
    #[test_case("a.b.example.co.uk", "example.co.uk")]
    #[test_case("co.uk", "co.uk"; "a public suffix stays itself")]
    fn the_registrable_domain_is_below_the_public_suffix(name: &str, expected: &str) {
        assert_eq!(HostName::parse(name).unwrap().registrable_domain().as_str(), expected);
    }

    #[test]
    fn within_means_below_a_dot() {
        let domain = HostName::parse("digitalocean.com").unwrap();
        for (name, expected) in
            [("registry.digitalocean.com", true), ("digitalocean.com", true), ("evildigitalocean.com", false)]
        {
            assert_eq!(HostName::parse(name).unwrap().is_within(&domain), expected, "{name}");
        }
    }
}
