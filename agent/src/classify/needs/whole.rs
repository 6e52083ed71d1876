//! Lists of a body of which some elements mean all things of a kind.

use super::{Named, Place, Where};
use serde_json::Value;
use std::borrow::Cow;

/// The value of a [`Named`] that stands for all things of its kind.
pub const ALL: &str = "*";

/// Elements of a list of which some mean all things of a kind: an access key's grant that names no bucket, or gives
/// full access, is for every bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// The kind.
    pub kind: Box<str>,
    /// Where an element names the one thing that it means.
    pub place: Place,
    /// The field beside it that says what it is about.
    pub field: Box<str>,
    /// What stands there in elements that mean one thing; with anything else they mean all.
    pub parts: Vec<Box<str>>,
}

impl Whole {
    /// All things of the kind, where an element of the body means them.
    pub(super) fn named(&self, body: &Value) -> Option<Named<'_, 'static>> {
        let Place::Body(pointer) = &self.place else { return None };
        let (list, name) = pointer.parent()?;
        let is_whole = list.select(body).into_iter().any(|element| self.is_all(element, name));
        let kind = Cow::Borrowed(&*self.kind);
        is_whole.then_some(Named { kind, value: Cow::Borrowed(ALL), place: Where::At(&self.place) })
    }

    fn is_all(&self, element: &Value, name: &str) -> bool {
        let text = |field: &str| element.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        let is_part = text(&self.field).is_some_and(|word| self.parts.iter().any(|part| **part == *word));
        !is_part || text(name).is_none()
    }
}
