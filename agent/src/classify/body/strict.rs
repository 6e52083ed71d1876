//! JSON, read so that nothing in it has two readings.

use super::{MAX_DEPTH, Outline, fold};
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Deserializer, Error, Map, Number, Value};
use std::{collections::HashSet, fmt};

/// From here on not every integer has a float of its own: 2^53.
const FIRST_INEXACT: f64 = 9_007_199_254_740_992.0;

/// Names that decide besides the outline's.
pub(super) struct Rules<'a> {
    /// At any depth.
    pub(super) names: &'a [&'a str],
    /// In the query, so not in the body.
    pub(super) in_query: &'a [&'a str],
}

/// Reads a whole document.
pub(super) fn read(bytes: &[u8], outline: &Outline<'_>, rules: &Rules<'_>) -> Result<Value, Error> {
    let mut deserializer = Deserializer::from_slice(bytes);
    let place = Position { rules, outline: Some(outline), is_map: false, depth: 0 };
    let document = place.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(document)
}

/// Where in the document a value stands.
#[derive(Clone, Copy)]
struct Position<'r> {
    rules: &'r Rules<'r>,
    outline: Option<&'r Outline<'r>>,
    /// Whether keys here are the client's own.
    is_map: bool,
    depth: usize,
}

impl<'r> Position<'r> {
    fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format!("arrays and objects stand more than {MAX_DEPTH} deep")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    fn at(self, outline: Option<&'r Outline<'r>>) -> Self {
        let is_map = self.is_map || outline.is_some_and(|outline| outline.is_map);
        Self { outline, is_map, ..self }
    }

    /// The problem with a key by itself.
    fn check_key(self, key: &str) -> Result<(), String> {
        check_text(key)?;
        if self.is_map {
            return Ok(());
        }
        let respelled = self.outline.and_then(|outline| outline.respelled(key));
        let named = || self.rules.names.iter().copied().find(|name| fold::is_other_spelling(key, name));
        if let Some(name) = respelled.or_else(named) {
            let key = fold::shown(key);
            return Err(format!("the key `{key}` is another spelling of `{name}`: write `{name}`"));
        }
        let is_field = self.outline.is_some_and(|outline| outline.field(key).is_some());
        let is_queried = |name: &&&str| fold::folded(key) == fold::folded(name);
        match self.rules.in_query.iter().find(is_queried) {
            Some(name) if self.depth == 1 && !is_field => {
                Err(format!("the key `{}` belongs in the query, as `{name}`", fold::shown(key)))
            }
            _ => Ok(()),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Position<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Position<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let exact = Number::from_f64(value).filter(|_| value.abs() < FIRST_INEXACT);
        exact.map(Value::Number).ok_or_else(|| E::custom("a number that not every server holds exactly"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        check_text(value).map_err(E::custom)?;
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let inside = self.inside()?.at(self.outline.and_then(Outline::each));
        let mut items = Vec::new();
        while let Some(item) = elements.next_element_seed(inside)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut fields = Map::new();
        let mut spellings = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            let twice = |how: &str| {
                A::Error::custom(format!("the key `{}` stands twice in one object{how}", fold::shown(&key)))
            };
            inside.check_key(&key).map_err(A::Error::custom)?;
            if fields.contains_key(&key) {
                return Err(twice(""));
            }
            if !inside.is_map && !spellings.insert(fold::folded(&key)) {
                return Err(twice(", in two spellings"));
            }
            let value =
                entries.next_value_seed(inside.at(self.outline.and_then(|outline| outline.field(&key))))?;
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

/// Some readers end a text at NUL.
fn check_text(text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err("a text with the character NUL".to_owned());
    }
    Ok(())
}
