//! What an operation's body looks like where it decides.

use super::super::{Operation, Pointer, condition::Place, fold, needs, pointer::Step};
use serde_json::Value;
use std::collections::BTreeMap;

/// The deciding places of a body, as a tree.
#[derive(Debug, Default)]
pub(super) struct Outline<'a> {
    fields: BTreeMap<&'a str, Outline<'a>>,
    each: Option<Box<Outline<'a>>>,
    is_resource: bool,
    /// An object whose keys are the client's own.
    pub(super) is_map: bool,
}

impl<'a> Outline<'a> {
    pub(super) fn of(operation: &'a Operation) -> Self {
        let mut outline = Self::default();
        let decide = operation.conditions.iter().map(|condition| &condition.place);
        for place in decide.chain(operation.variants.iter().map(|variants| &variants.place)) {
            if let Place::Body(pointer) = place {
                outline.reach(pointer);
            }
        }
        for target in &operation.targets {
            let Place::Body(pointer) = &target.place else { continue };
            outline.reach(pointer).is_resource = true;
            if let (needs::Naming::Beside(sibling), Some((holder, _))) =
                (&target.naming, pointer.split_last())
            {
                outline.descend(holder).fields.entry(sibling).or_default();
            }
        }
        for whole in &operation.wholes {
            let Place::Body(pointer) = &whole.place else { continue };
            if let Some((holder, _)) = pointer.split_last() {
                outline.descend(holder).fields.entry(&whole.field).or_default();
            }
        }
        for pointer in &operation.maps {
            outline.reach(pointer).is_map = true;
        }
        outline
    }

    fn reach(&mut self, pointer: &'a Pointer) -> &mut Self {
        self.descend(pointer.steps())
    }

    fn descend(&mut self, steps: &'a [Step]) -> &mut Self {
        steps.iter().fold(self, |outline, step| match step {
            Step::Field(name) => outline.fields.entry(name).or_default(),
            Step::Each => outline.each.get_or_insert_default(),
        })
    }

    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        self.fields.get(name)
    }

    pub(super) fn each(&self) -> Option<&Self> {
        self.each.as_deref()
    }

    /// The deciding field that a careless reader would take the name for.
    pub(super) fn respelled(&self, name: &str) -> Option<&'a str> {
        self.fields.keys().copied().find(|field| fold::is_other_spelling(name, field))
    }

    /// The problem with a value at this place, as the rest of a sentence.
    pub(super) fn check(&self, value: &Value, place: &str) -> Result<(), String> {
        let wrong =
            |what: &str| Err(format!("has {what} at `{}`", if place.is_empty() { "/" } else { place }));
        match value {
            Value::Null => Ok(()),
            Value::Object(_) if self.is_map => Ok(()),
            Value::Object(fields) => {
                if self.each.is_some() {
                    return wrong("an object in place of a list");
                }
                let known =
                    || self.fields.iter().filter_map(|(name, field)| Some((name, field, fields.get(*name)?)));
                if self.is_resource && known().next().is_none() {
                    return wrong("an object in place of a name or id");
                }
                known().try_for_each(|(name, field, value)| field.check(value, &format!("{place}/{name}")))
            }
            Value::Array(items) => match &self.each {
                Some(each) => items
                    .iter()
                    .enumerate()
                    .try_for_each(|(index, item)| each.check(item, &format!("{place}/{index}"))),
                None if self.is_resource => wrong("a list in place of a name or id"),
                None if !self.fields.is_empty() => wrong("a list in place of an object"),
                None => Ok(()),
            },
            Value::Number(number) if self.is_resource && !needs::is_exact(number) => {
                wrong("a number that is no exact integer in place of a name or id")
            }
            Value::Bool(_) if self.is_resource => wrong("a boolean in place of a name or id"),
            Value::String(_) | Value::Number(_) if self.is_resource => Ok(()),
            Value::Bool(_) | Value::Number(_) | Value::String(_) if self.each.is_some() => {
                wrong("a single value in place of a list")
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) if !self.fields.is_empty() => {
                wrong("a single value in place of an object")
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }
}
