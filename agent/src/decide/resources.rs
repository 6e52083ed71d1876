//! Which resources a rule is about: `resources = { droplet = ["3164444"], domain = ["*.example.com"] }`.
//!
//! A request is matched by what it says: the ids, names and slugs in its path, query and body. An allow rule asks
//! whether it may, so that what it does not understand does not fit; a deny rule asks whether it touches, so that
//! what it does not understand fits.

use super::grant::Access;
use crate::classify::{
    Catalogue, Operation,
    condition::Place,
    needs::{self, Named, Naming, Where},
    operation::Form,
};
use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

/// The resources of a rule: for each kind the patterns, of which any one may fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources(BTreeMap<String, (Spelling, Vec<Pattern>)>);

/// An id, name or slug, in which `*` stands for any run of characters and `?` for any one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

/// How a kind's values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    /// An integer; names of things not made yet may stand in its place.
    Integer,
    /// A UUID, whatever its case; some operations take a name in its place.
    Uuid,
    /// Whatever its case: domains, tags.
    AnyCase,
    /// Addresses, however they are written.
    Address,
    /// As it is.
    Exact,
}

/// Kinds whose values are compared whatever their case.
const ANY_CASE: [&str; 2] = ["domain", "tag"];
/// Kinds that can have tags, by which some writes select them.
const TAGGED: [&str; 6] = ["droplet", "volume", "image", "snapshot", "volume_snapshot", "database_cluster"];
/// Kinds whose values are addresses.
const ADDRESSES: [&str; 2] = ["reserved_ip", "reserved_ipv6"];

impl Resources {
    /// Adds a kind. Nothing is checked against the catalogue here.
    pub fn insert(&mut self, kind: &str, patterns: Vec<String>, catalogue: &Catalogue) {
        let patterns = patterns.into_iter().map(Pattern).collect();
        self.0.insert(kind.to_owned(), (Spelling::of(kind, catalogue), patterns));
    }

    /// The kinds.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The patterns of each kind, as they are written.
    pub fn entries(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = &str>)> {
        self.0
            .iter()
            .map(|(kind, (_, patterns))| (kind.as_str(), patterns.iter().map(|pattern| pattern.0.as_str())))
    }

    /// Whether an allow rule may give its scopes to a request that names these: of every kind there is at least
    /// one, and each fits.
    pub fn cover(&self, named: &[Named<'_, '_>]) -> bool {
        self.0.iter().all(|(kind, (spelling, patterns))| {
            let mut values = named.iter().filter(|named| named.kind == *kind).peekable();
            values.peek().is_some()
                && values.all(|named| {
                    if named.value == needs::ALL {
                        return patterns.iter().any(Pattern::is_all);
                    }
                    let value = spelling.canonical(&named.value);
                    patterns.iter().any(|pattern| spelling.allows(&pattern.0, &value, &named.place))
                })
        })
    }

    /// Whether a deny rule fits a request that names these: any one of any kind fits. A write that says by a tag
    /// in its query what it is for may be for any resource that can have tags.
    pub fn touch(&self, named: &[Named<'_, '_>], access: Access) -> bool {
        let is_selector =
            |named: &Named<'_, '_>| named.kind == "tag" && matches!(named.place, Where::At(Place::Query(_)));
        let by_tag = access == Access::Write && named.iter().any(is_selector);
        self.0.iter().any(|(kind, (spelling, patterns))| {
            if by_tag && TAGGED.contains(&kind.as_str()) {
                return true;
            }
            let mut values = named.iter().filter(|named| named.kind == *kind);
            values.any(|named| {
                if named.value == needs::ALL {
                    return !patterns.is_empty();
                }
                let value = lowered(spelling.canonical(&named.value));
                // The name that a new thing is to have is no other spelling of an id.
                let is_new = is_new_name(&named.place);
                patterns.iter().any(|pattern| spelling.touches(&pattern.0, &value, is_new))
            })
        })
    }

    /// Whether the body may name such a resource in this operation.
    pub fn read_body_of(&self, operation: &Operation) -> bool {
        let in_body = |target: &&needs::Target| matches!(target.place, Place::Body(_));
        let mut targets = operation.targets.iter().filter(in_body);
        targets.any(|target| self.kinds().any(|kind| target.naming.may_be(kind)))
    }
}

/// Whether a request for the operation can name a resource of the kind.
pub fn can_name(operation: &Operation, kind: &str) -> bool {
    operation.parameters.iter().any(|parameter| parameter.resource == kind)
        || operation.targets.iter().any(|target| target.naming.may_be(kind))
}

impl Naming {
    /// Whether it can be a resource of the kind. A URN can be one of any.
    fn may_be(&self, kind: &str) -> bool {
        match self {
            Self::Kind(own) => **own == *kind,
            Self::Urn | Self::Beside(_) => true,
        }
    }
}

impl Spelling {
    fn of(kind: &str, catalogue: &Catalogue) -> Self {
        if ANY_CASE.contains(&kind) {
            return Self::AnyCase;
        }
        if ADDRESSES.contains(&kind) {
            return Self::Address;
        }
        match catalogue.kinds().find(|(known, _)| *known == kind).map(|(_, form)| form) {
            Some(Form::Integer) => Self::Integer,
            Some(Form::Uuid) => Self::Uuid,
            Some(Form::Text | Form::TextWithSlashes) | None => Self::Exact,
        }
    }

    /// Whether a pattern fits what is the canonical spelling of a value at a place.
    fn allows(self, pattern: &str, value: &str, place: &Where<'_>) -> bool {
        match self {
            // The name that a new thing is to have is no id, even if it looks like one.
            Self::Integer if is_digits(pattern) => {
                !is_name(place) && is_digits(value) && self.canonical(pattern) == value
            }
            Self::Integer | Self::Exact => fits(pattern, value),
            Self::Uuid | Self::AnyCase | Self::Address => fits(&self.canonical(pattern), value),
        }
    }

    /// Whether a pattern fits what is the canonical spelling of a value in lower case, or cannot be compared with
    /// it.
    fn touches(self, pattern: &str, value: &str, is_new: bool) -> bool {
        let odd = match self {
            _ if is_new => false,
            Self::Integer => is_digits(pattern) && !is_digits(value),
            Self::Uuid => is_uuid(pattern) && !is_uuid(value),
            Self::Address => value.parse::<IpAddr>().is_err(),
            Self::AnyCase | Self::Exact => false,
        };
        odd || fits(&lowered(self.canonical(pattern)), value)
    }

    /// One spelling for all that mean the same.
    fn canonical(self, value: &str) -> Cow<'_, str> {
        match self {
            Self::Exact => value.into(),
            Self::Uuid => lowered(value.into()),
            Self::AnyCase => lowered(value.strip_suffix('.').unwrap_or(value).into()),
            Self::Address => match value.parse::<IpAddr>() {
                Ok(address) => address.to_string().into(),
                Err(_) => lowered(value.into()),
            },
            Self::Integer if is_digits(value) => match value.trim_start_matches('0') {
                "" => "0".into(),
                significant => significant.into(),
            },
            Self::Integer => value.into(),
        }
    }
}

impl Pattern {
    /// Whether every value fits.
    fn is_all(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*')
    }
}

fn lowered(text: Cow<'_, str>) -> Cow<'_, str> {
    let is_low = text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
    if is_low { text } else { text.to_lowercase().into() }
}

/// Whether a whole value fits a pattern, in time proportional to the product of the lengths at worst.
fn fits(pattern: &str, value: &str) -> bool {
    if !pattern.bytes().any(|byte| matches!(byte, b'*' | b'?')) {
        return pattern == value;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let value: Vec<char> = value.chars().collect();
    let (mut at, mut place) = (0, 0);
    // Where to go on after a mismatch: behind the last `*`, with one character more for it.
    let mut retry = None;
    while let Some(character) = value.get(place) {
        match pattern.get(at) {
            Some('*') => {
                at += 1;
                retry = Some((at, place));
            }
            Some(wanted) if *wanted == '?' || wanted == character => (at, place) = (at + 1, place + 1),
            Some(_) | None => {
                let Some((after, from)) = retry else { return false };
                retry = Some((after, from + 1));
                (at, place) = (after, from + 1);
            }
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|character| *character == '*')
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Whether a place holds the name of a thing, in a request that may make it.
fn is_name(place: &Where<'_>) -> bool {
    matches!(place, Where::At(place) if place.is_name())
}

/// Whether a place holds the name that a request gives to a new thing, or a thing's new name.
fn is_new_name(place: &Where<'_>) -> bool {
    matches!(place, Where::At(place @ Place::Body(_)) if place.is_name())
}

#[cfg(test)]
mod tests;
