//! What an expression may evaluate to, as far as that can be told without a request.

use crate::classify::schema::{Kinds, Shape};
use std::collections::BTreeSet;

/// What a value may be: any of several shapes, since a rule may concern several operations.
#[derive(Clone, Debug, Default)]
pub(super) struct Type<'s> {
    pub(super) kinds: Kinds,
    shapes: Vec<&'s Shape>,
    /// The elements of a list that the condition makes.
    items: Option<Box<Type<'s>>>,
}

impl<'s> Type<'s> {
    pub(super) fn of(kinds: Kinds) -> Self {
        Self { kinds, shapes: Vec::new(), items: None }
    }

    pub(super) fn of_shapes(shapes: Vec<&'s Shape>) -> Self {
        let kinds = shapes.iter().fold(Kinds::NONE, |kinds, shape| kinds | shape.kinds);
        Self { kinds, shapes, items: None }
    }

    pub(super) fn list(items: Self) -> Self {
        Self { kinds: Kinds::LIST, shapes: Vec::new(), items: Some(Box::new(items)) }
    }

    /// What either may be.
    pub(super) fn or(mut self, other: Self) -> Self {
        self.kinds = self.kinds | other.kinds;
        self.shapes.extend(other.shapes);
        self.items = match (self.items, other.items) {
            (Some(items), Some(others)) => Some(Box::new(items.or(*others))),
            (items, others) => items.or(others),
        };
        self
    }

    /// The same, if it is of one of these kinds.
    pub(super) fn only(self, kinds: Kinds) -> Self {
        Self { kinds, ..self }
    }

    /// A field of it; none where no shape of it has one of that name.
    pub(super) fn field(&self, name: &str) -> Option<Self> {
        let found: Vec<&Shape> = self.shapes.iter().filter_map(|shape| shape.field(name)).collect();
        (!found.is_empty()).then(|| Self::of_shapes(found))
    }

    /// The names of its fields.
    pub(super) fn fields(&self) -> BTreeSet<&'s str> {
        self.shapes.iter().flat_map(|shape| shape.fields.keys()).map(|name| &**name).collect()
    }

    /// What its elements may be, where it may be a list.
    pub(super) fn elements(&self) -> Self {
        let of_shapes = Self::of_shapes(self.shapes.iter().filter_map(|shape| shape.items()).collect());
        match &self.items {
            Some(items) => of_shapes.or((**items).clone()),
            None => of_shapes,
        }
    }
}
