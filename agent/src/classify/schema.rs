//! What the JSON bodies of requests may hold, so that conditions on them can be checked before there is a request.

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    ops::BitOr,
    sync::LazyLock,
};

const EMBEDDED: &str = include_str!("../../catalogue/bodies.toml");

/// The shapes of the bodies, by operation.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Bodies(HashMap<String, Shape>);

impl Bodies {
    /// The shapes that are compiled in, read when they are first asked for. Were they unreadable, no body would
    /// have a field, and no condition on one would load; a test keeps that from being released.
    pub fn embedded() -> &'static Self {
        static BODIES: LazyLock<Bodies> = LazyLock::new(|| {
            toml::from_str(EMBEDDED).unwrap_or_else(|error| {
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    error,
                    "the embedded shapes of bodies are unreadable: no condition may use one"
                );
                Bodies::default()
            })
        });
        &BODIES
    }

    /// The shape of the bodies of an operation's requests; none where they have none, or none that is JSON.
    pub fn of(&self, operation: &str) -> Option<&Shape> {
        self.0.get(operation)
    }
}

/// Kinds of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// No value at all.
    pub const NONE: Self = Self(0);
    /// `null`.
    pub const NULL: Self = Self(1);
    /// `true` and `false`.
    pub const BOOL: Self = Self(1 << 1);
    /// Whole numbers.
    pub const INT: Self = Self(1 << 2);
    /// Whole numbers of a type without a sign.
    pub const UINT: Self = Self(1 << 3);
    /// Numbers with a fraction or exponent.
    pub const DOUBLE: Self = Self(1 << 4);
    /// Strings.
    pub const STRING: Self = Self(1 << 5);
    /// Lists.
    pub const LIST: Self = Self(1 << 6);
    /// Maps, which JSON calls objects.
    pub const MAP: Self = Self(1 << 7);
    /// Numbers of every type.
    pub const NUMBER: Self = Self(Self::INT.0 | Self::UINT.0 | Self::DOUBLE.0);
    /// Every kind.
    pub const ANY: Self = Self(u8::MAX);

    const NAMES: [(Self, &str); 8] = [
        (Self::BOOL, "a bool"),
        (Self::INT, "an int"),
        (Self::UINT, "a uint"),
        (Self::DOUBLE, "a double"),
        (Self::STRING, "a string"),
        (Self::LIST, "a list"),
        (Self::MAP, "a map"),
        (Self::NULL, "null"),
    ];

    /// Whether they have one in common.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Those that are among both.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those of these that are not among the others.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            "bool" => Self::BOOL,
            // Beyond an int's range, a whole number of JSON is a uint.
            "int" => Self::INT | Self::UINT,
            "number" => Self::NUMBER,
            "string" => Self::STRING,
            "any" => Self::ANY,
            _ => return None,
        })
    }
}

impl BitOr for Kinds {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// As a message names them. That a value may be null as well, or a uint where it may be an int, is not worth
/// telling.
impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = if *self == Self::NULL { *self } else { self.without(Self::NULL) };
        if told.meets(Self::INT) {
            told = told.without(Self::UINT);
        }
        let names = Self::NAMES.iter().filter(|(kind, _)| told.meets(*kind)).map(|(_, name)| *name);
        f.write_str(&Vec::from_iter(names).join(" or "))
    }
}

/// What a value may be. In a body anything may be null as well.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// The kinds that it may be of.
    pub kinds: Kinds,
    /// Its elements, where it may be a list.
    pub items: Option<Box<Shape>>,
    /// Its fields, where it may be a map.
    pub fields: BTreeMap<Box<str>, Shape>,
    /// All other fields, where it may have such.
    pub others: Option<Box<Shape>>,
}

impl Shape {
    /// A value of these kinds that has no parts.
    pub const fn of(kinds: Kinds) -> Self {
        Self { kinds, items: None, fields: BTreeMap::new(), others: None }
    }

    /// A value of which nothing is known.
    pub fn any() -> &'static Self {
        static ANY: Shape = Shape::of(Kinds::ANY);
        &ANY
    }

    /// What a field of it may be; none where it has no such field.
    pub fn field(&self, name: &str) -> Option<&Self> {
        if self.kinds == Kinds::ANY {
            return Some(Self::any());
        }
        self.fields.get(name).or(self.others.as_deref())
    }

    /// What its elements may be; none where it is no list.
    pub fn items(&self) -> Option<&Self> {
        if self.kinds == Kinds::ANY { Some(Self::any()) } else { self.items.as_deref() }
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kinds, a list of one shape, or a table of fields")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Shape, E> {
        text.split('|').try_fold(Shape::of(Kinds::NULL), |shape, word| {
            let kind = Kinds::of_word(word).ok_or_else(|| E::custom(format!("`{word}` is no kind")))?;
            Ok(Shape { kinds: shape.kinds | kind, ..shape })
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
        let items = list.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
        if list.next_element::<de::IgnoredAny>()?.is_some() {
            return Err(de::Error::invalid_length(2, &self));
        }
        Ok(Shape { items: Some(Box::new(items)), ..Shape::of(Kinds::LIST | Kinds::NULL) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Shape, A::Error> {
        let mut shape = Shape::of(Kinds::NULL);
        while let Some((key, part)) = table.next_entry::<String, Shape>()? {
            match key.as_str() {
                "|" => shape.kinds = shape.kinds | part.kinds,
                "[]" => {
                    shape.kinds = shape.kinds | Kinds::LIST;
                    shape.items = Some(Box::new(part));
                }
                "*" => shape.others = Some(Box::new(part)),
                _ => {
                    shape.fields.insert(key.into(), part);
                }
            }
        }
        let has_fields = !shape.fields.is_empty() || shape.others.is_some();
        if has_fields || shape.kinds == Kinds::NULL {
            shape.kinds = shape.kinds | Kinds::MAP;
        }
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Catalogue;
    use test_case::test_case;

    #[test]
    fn the_embedded_shapes_are_of_operations_with_bodies() {
        let bodies: Bodies = toml::from_str(EMBEDDED).unwrap();
        for name in bodies.0.keys() {
            let operation = Catalogue::embedded().operation(name);
            assert!(operation.is_some_and(|operation| operation.method != http::Method::GET), "{name}");
        }
        assert_eq!(bodies.0.len(), 216);
        assert!(Bodies::embedded().of("droplets_create").is_some());
        assert!(Bodies::embedded().of("droplets_list").is_none());
    }

    #[test_case("droplets_create", "size", "a string"; "a field")]
    #[test_case("droplets_create", "backup_policy hour", "an int"; "a field of a field")]
    #[test_case("droplets_create", "ssh_keys []", "an int or a string"; "elements of two kinds")]
    #[test_case("droplets_create", "sise", "nothing"; "a field that there is not")]
    #[test_case("droplets_create", "size name", "nothing"; "a field of a string")]
    #[test_case("droplets_create", "size []", "nothing"; "an element of a string")]
    #[test_case("spacesKey_create", "grants [] bucket", "a string"; "a field of elements")]
    #[test_case("agentInference_create_chat_completion", "logit_bias anything", "an int"; "a field of any name")]
    fn a_path_of_fields_has_a_shape(operation: &str, path: &str, expected: &str) {
        let body = Bodies::embedded().of(operation).unwrap();
        let found = path.split(' ').try_fold(body, |shape, step| match step {
            "[]" => shape.items(),
            name => shape.field(name),
        });
        assert_eq!(found.map_or("nothing".to_owned(), |shape| shape.kinds.to_string()), expected);
    }

    #[test]
    fn a_shape_may_be_of_several_kinds() {
        let text = r#"op = { a = { "|" = "bool", "[]" = "number", b = "any" }, c = {}, d = ["string"] }"#;
        let bodies: Bodies = toml::from_str(text).unwrap();
        let shape =
            |path: &[&str]| path.iter().try_fold(bodies.of("op").unwrap(), |shape, name| shape.field(name));
        let a = shape(&["a"]).unwrap();
        assert_eq!(a.kinds, Kinds::BOOL | Kinds::LIST | Kinds::MAP | Kinds::NULL);
        assert_eq!(a.items().unwrap().kinds, Kinds::NUMBER | Kinds::NULL);
        assert_eq!(shape(&["a", "b", "anything"]), Some(Shape::any()));
        assert_eq!(shape(&["a", "c"]), None);
        assert_eq!(shape(&["c"]).unwrap().kinds, Kinds::MAP | Kinds::NULL);
        assert_eq!(shape(&["d"]).unwrap().kinds, Kinds::LIST | Kinds::NULL);
    }

    #[test_case(r#"op = "text""#; "an unknown kind")]
    #[test_case("op = []"; "a list of nothing")]
    #[test_case(r#"op = ["int", "string"]"#; "a list of two")]
    #[test_case("op = 1"; "a number")]
    fn other_notations_are_refused(text: &str) {
        toml::from_str::<Bodies>(text).unwrap_err();
    }
}
