//! Places in a JSON document: JSON pointers with `*` for each element of an array.

use serde_json::Value;
use std::fmt;

/// A place in a body, such as `/inbound_rules/*/sources/tags`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(Vec<Step>);

/// One part of a [`Pointer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The field of that name.
    Field(Box<str>),
    /// Each element of an array.
    Each,
}

/// A text that is no [`Pointer`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no pointer: write `/field`, `/field/*` and so on, without `~`")]
pub struct InvalidPointer(String);

impl Pointer {
    /// Parses `/field/*/field`.
    ///
    /// # Errors
    /// When it does not begin with `/`, has an empty part, or an escape.
    pub fn parse(text: &str) -> Result<Self, InvalidPointer> {
        let invalid = || InvalidPointer(text.to_owned());
        let parts = text.strip_prefix('/').ok_or_else(invalid)?.split('/');
        let steps = parts.map(|part| match part {
            "*" => Ok(Step::Each),
            _ if part.is_empty() || part.contains(['~', '*']) => Err(invalid()),
            _ => Ok(Step::Field(part.into())),
        });
        Ok(Self(steps.collect::<Result<_, _>>()?))
    }

    /// Its parts.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// What stands at the place, or at each of the places; nothing where the way there breaks off.
    pub fn select<'v>(&self, document: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![document];
        for step in &self.0 {
            found = match step {
                Step::Field(name) => found.into_iter().filter_map(|value| value.get(&**name)).collect(),
                Step::Each => found.into_iter().filter_map(Value::as_array).flatten().collect(),
            };
        }
        found
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| match step {
            Step::Field(name) => write!(f, "/{name}"),
            Step::Each => f.write_str("/*"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use test_case::test_case;

    #[test_case("/tags", &[json!(["a", "b"])]; "a field")]
    #[test_case("/tags/*", &[json!("a"), json!("b")]; "each element")]
    #[test_case("/rules/*/tags/*", &[json!("x"), json!("y")]; "elements of elements")]
    #[test_case("/rules/tags", &[]; "an array is no object")]
    #[test_case("/name/*", &[]; "a string is no array")]
    #[test_case("/nothing/at/all", &[]; "a way that breaks off")]
    #[test_case("/null", &[json!(null)]; "null is something")]
    fn a_pointer_selects(pointer: &str, expected: &[Value]) {
        let document = json!({"name": "n", "null": null, "tags": ["a", "b"], "rules": [{"tags": ["x"]}, {"tags": ["y"]}, {}]});
        let pointer = Pointer::parse(pointer).unwrap();
        let expected: Vec<&Value> = expected.iter().collect();
        assert_eq!(pointer.select(&document), expected);
    }

    #[test_case("tags"; "no slash")]
    #[test_case(""; "empty")]
    #[test_case("/a//b"; "an empty part")]
    #[test_case("/a~1b"; "an escape")]
    #[test_case("/a*"; "a star within a part")]
    fn other_texts_are_refused(text: &str) {
        assert_eq!(Pointer::parse(text), Err(InvalidPointer(text.to_owned())));
    }

    #[test_case("/inbound_rules/*/sources/tags")]
    #[test_case("/*")]
    fn a_pointer_prints_as_it_was_written(text: &str) {
        assert_eq!(Pointer::parse(text).unwrap().to_string(), text);
    }
}
