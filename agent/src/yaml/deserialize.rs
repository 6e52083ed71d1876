//! Rust types out of YAML, with the places of those that ask for them as TOML's do.

use super::{
    Node, Value,
    scalar::{self, Meaning},
};
use serde::{
    de::{
        self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_spanned::de::{SpannedDeserializer, is_spanned};
use std::{
    fmt::{self, Display},
    ops::Range,
};

/// A value that is not of the expected shape.
#[derive(Debug)]
pub struct Error {
    /// Where it stands, once that is known.
    pub(super) span: Option<Range<usize>>,
    /// What is wrong with it.
    pub(super) message: String,
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Self { span: None, message: message.to_string() }
    }
}

impl Error {
    /// The innermost value is the one that is wrong.
    fn at(self, node: &Node) -> Self {
        Self { span: self.span.or_else(|| Some(node.span.clone())), ..self }
    }
}

impl<'de> IntoDeserializer<'de, Error> for &'de Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let result = match &self.value {
            Value::Scalar { text, is_plain: true } => match scalar::meaning(text) {
                Meaning::Null => visitor.visit_unit(),
                Meaning::Bool(value) => visitor.visit_bool(value),
                Meaning::Number(number) => visitor.visit_u64(number),
                Meaning::OtherNumber => Err(de::Error::custom(unquoted(text))),
                Meaning::Text => visitor.visit_borrowed_str(text),
            },
            Value::Scalar { text, .. } => visitor.visit_borrowed_str(text),
            Value::Sequence(items) => visitor.visit_seq(SeqDeserializer::new(items.iter())),
            Value::Mapping(pairs) => {
                visitor.visit_map(MapDeserializer::new(pairs.iter().map(|(key, value)| (key, value))))
            }
        };
        result.map_err(|error| error.at(self))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.value {
            Value::Scalar { text, is_plain: true } if !scalar::is_text(text) => {
                Err(<Error as de::Error>::custom(unquoted(text)).at(self))
            }
            Value::Scalar { .. } | Value::Sequence(_) | Value::Mapping(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.name()).map_err(|error: Error| error.at(self))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if is_spanned(name) {
            return visitor.visit_map(SpannedDeserializer::new(self, self.span.clone()));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(Word(self)).map_err(|error| error.at(self))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map ignored_any
    }
}

/// One of a few words.
struct Word<'de>(&'de Node);

impl<'de> de::EnumAccess<'de> for Word<'de> {
    type Error = Error;
    type Variant = Nothing;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Nothing), Error> {
        let Some(text) = self.0.text() else {
            return Err(de::Error::custom("expected one word"));
        };
        let word: de::value::BorrowedStrDeserializer<'_, Error> =
            de::value::BorrowedStrDeserializer::new(text);
        Ok((seed.deserialize(word)?, Nothing))
    }
}

/// What follows such a word.
struct Nothing;

impl<'de> de::VariantAccess<'de> for Nothing {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _seed: T) -> Result<T::Value, Error> {
        Err(de::Error::custom("expected a word with nothing behind it"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, _visitor: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("expected a word with nothing behind it"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        Err(de::Error::custom("expected a word with nothing behind it"))
    }
}

fn unquoted(word: &str) -> String {
    if scalar::is_null(word) {
        return "a text is missing here".to_owned();
    }
    format!("`{word}` is no text in YAML: write \"{word}\"")
}
