//! What the targets share: an input's first line names an operation of the catalogue, and JSON as careless readers
//! have it.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;
use tidegate::classify::{Catalogue, Operation};

/// The operations that a target is about.
pub struct Choice(Vec<&'static Operation>);

impl Choice {
    /// Those of the API's own host that fit.
    pub fn of(fits: impl Fn(&Operation) -> bool) -> Self {
        let here = Catalogue::embedded().operations().iter().filter(|operation| operation.host.is_none());
        Self(here.filter(|operation| fits(operation)).collect())
    }

    /// The operation that the first line names, any one if it names none, and what follows the line.
    pub fn split<'i>(&self, input: &'i [u8]) -> (&'static Operation, &'i [u8]) {
        let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
        let (name, rest) = (&input[..end], input.get(end + 1..).unwrap_or_default());
        let named = self.0.iter().find(|operation| operation.name.as_bytes() == name);
        let sum = name.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        (named.unwrap_or(&self.0[sum % self.0.len()]), rest)
    }
}

/// Undoes escapes and `+`, by other means than the code under test.
pub fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        let byte = escape.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(byte.unwrap_or(if bytes[at] == b'+' { b' ' } else { bytes[at] }));
        at += if byte.is_some() { 3 } else { 1 };
    }
    decoded
}

/// A name as readers have it that ignore case, `_` and `-`.
pub fn folded(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// A JSON document in which a name may stand twice.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// An object's members, in order.
    Object(Vec<(String, Tree)>),
    /// An array's elements.
    Array(Vec<Tree>),
    /// A string.
    Text(String),
    /// Anything else.
    Other(serde_json::Value),
}

impl Tree {
    /// Whether an object holds a name twice at any depth.
    pub fn has_twins(&self) -> bool {
        match self {
            Self::Object(members) => members.iter().enumerate().any(|(index, (name, value))| {
                members[..index].iter().any(|(earlier, _)| earlier == name) || value.has_twins()
            }),
            Self::Array(items) => items.iter().any(Self::has_twins),
            Self::Text(_) | Self::Other(_) => false,
        }
    }

    /// How deep arrays and objects stand in each other.
    pub fn depth(&self) -> usize {
        match self {
            Self::Object(members) => 1 + members.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            Self::Array(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Text(_) | Self::Other(_) => 0,
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Other(serde_json::Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Other(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Other(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Other(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Other(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = elements.next_element()? {
                    items.push(item);
                }
                Ok(Tree::Array(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = entries.next_entry()? {
                    members.push(member);
                }
                Ok(Tree::Object(members))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
