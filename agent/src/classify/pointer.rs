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

/// What a [`Pointer`] leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spot<'v> {
    /// A value, which may be `null`.
    Value(&'v Value),
    /// Nothing: a field on the way is not there, or is `null`.
    Absent,
    /// A value of another type than the way goes through, such as a string in place of an array.
    Blocked(&'v Value),
}

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

    /// The field of the document that the way begins with.
    pub fn first_field(&self) -> Option<&str> {
        match self.0.first()? {
            Step::Field(name) => Some(name),
            Step::Each => None,
        }
    }

    /// The place that holds this one, and the field's name in it; none where its last part is no field.
    pub fn parent(&self) -> Option<(Self, &str)> {
        let (holder, name) = self.split_last()?;
        Some((Self(holder.to_vec()), name))
    }

    /// As [`Self::parent`], without a copy.
    pub(super) fn split_last(&self) -> Option<(&[Step], &str)> {
        match self.0.split_last()? {
            (Step::Field(name), holder) => Some((holder, name)),
            (Step::Each, _) => None,
        }
    }

    /// What stands at the place, or at each of the places; nothing where the way there breaks off.
    pub fn select<'v>(&self, document: &'v Value) -> Vec<&'v Value> {
        let mut found = Vec::new();
        Self::visit(&self.0, document, &mut |value| found.push(value));
        found
    }

    /// Does something with each of the values that [`Self::select`] gives.
    pub(super) fn visit<'v>(steps: &[Step], document: &'v Value, visit: &mut impl FnMut(&'v Value)) {
        walk(steps, Spot::Value(document), &mut |spot| {
            if let Spot::Value(value) = spot {
                visit(value);
            }
            false
        });
    }

    /// What the place, or each of the places, is like; no spot for the elements of an empty array.
    pub fn spots<'v>(&self, document: &'v Value) -> Vec<Spot<'v>> {
        let mut found = Vec::new();
        walk(&self.0, Spot::Value(document), &mut |spot| {
            found.push(spot);
            false
        });
        found
    }

    /// Whether the place, or any of the places, is such.
    pub(super) fn leads_to(&self, document: &Value, is_such: &impl Fn(Spot<'_>) -> bool) -> bool {
        walk(&self.0, Spot::Value(document), &mut |spot| is_such(spot))
    }
}

/// The fields that a document may have at its top: of most others it tells at once that they are not there.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopFields(u64);

impl TopFields {
    /// Of a document.
    pub(super) fn of(document: &Value) -> Self {
        match document {
            Value::Object(fields) => Self(fields.keys().fold(0, |all, name| all | Self::bit(name))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Self(u64::MAX)
            }
        }
    }

    /// Whether the way may lead to anything but [`Spot::Absent`].
    pub(super) fn may_hold(self, pointer: &Pointer) -> bool {
        pointer.first_field().is_none_or(|name| self.0 & Self::bit(name) != 0)
    }

    fn bit(name: &str) -> u64 {
        let [first, last] = [name.bytes().next(), name.bytes().next_back()].map(Option::unwrap_or_default);
        1 << ((usize::from(first) + 5 * usize::from(last) + 11 * name.len()) % 64)
    }
}

/// Goes to each spot until one is the last to be looked at, and tells whether one was.
fn walk<'v>(steps: &[Step], from: Spot<'v>, is_last: &mut impl FnMut(Spot<'v>) -> bool) -> bool {
    let Some((step, rest)) = steps.split_first() else { return is_last(from) };
    match (step, from) {
        (_, Spot::Value(Value::Null)) => is_last(Spot::Absent),
        (Step::Field(name), Spot::Value(Value::Object(fields))) => {
            walk(rest, fields.get(&**name).map_or(Spot::Absent, Spot::Value), is_last)
        }
        (Step::Each, Spot::Value(Value::Array(items))) => {
            items.iter().any(|item| walk(rest, Spot::Value(item), is_last))
        }
        (_, Spot::Value(other)) => is_last(Spot::Blocked(other)),
        (_, spot @ (Spot::Absent | Spot::Blocked(_))) => is_last(spot),
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

    #[test_case("/rules/*/tags", &[Spot::Value(&json!(["x"])), Spot::Absent]; "each element, with or without it")]
    #[test_case("/none/*", &[Spot::Absent]; "no array at all")]
    #[test_case("/empty/*", &[]; "an empty array")]
    #[test_case("/null/*/a", &[Spot::Absent]; "null on the way")]
    #[test_case("/null", &[Spot::Value(&Value::Null)]; "null at the end")]
    #[test_case("/name/*", &[Spot::Blocked(&json!("n"))]; "a string for an array")]
    #[test_case("/rules/tags", &[Spot::Blocked(&json!([{"tags": ["x"]}, {}]))]; "an array for an object")]
    fn a_spot_tells_what_is_missing_from_what_is_in_the_way(pointer: &str, expected: &[Spot<'_>]) {
        let document = json!({"name": "n", "null": null, "empty": [], "rules": [{"tags": ["x"]}, {}]});
        assert_eq!(Pointer::parse(pointer).unwrap().spots(&document), expected);
    }

    #[test_case(json!({"name": "n", "tags": []}); "an object")]
    #[test_case(json!({}); "an empty one")]
    #[test_case(json!([{"name": "n"}]); "an array")]
    #[test_case(json!("name"); "a string")]
    #[test_case(json!(null); "null")]
    fn what_no_top_field_leads_to_is_absent(document: Value) {
        let fields = TopFields::of(&document);
        for text in ["/name", "/names", "/tags/*", "/tags", "/rules/*/name", "/*/name", "/n"] {
            let pointer = Pointer::parse(text).unwrap();
            let is_absent = pointer.spots(&document) == [Spot::Absent];
            assert!(fields.may_hold(&pointer) || is_absent, "{text}");
        }
        let is_object = document.is_object();
        assert_eq!(fields.may_hold(&Pointer::parse("/size").unwrap()), !is_object);
    }

    #[test]
    fn a_parent_is_the_object_that_holds_the_field() {
        let parent =
            |text| Pointer::parse(text).unwrap().parent().map(|(p, name)| (p.to_string(), name.to_owned()));
        assert_eq!(parent("/rules/*/value"), Some(("/rules/*".into(), "value".into())));
        assert_eq!(parent("/value"), Some((String::new(), "value".into())));
        assert_eq!(parent("/rules/*"), None);
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
