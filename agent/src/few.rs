//! Short lists, which need no memory of their own while they are short.
//!
//! A request has a few of everything: scopes, parameters, resources. To ask for memory for each such list would take
//! longer than to decide. `SmallVec` is invariant in what its elements borrow, which the parts of a request are not.

use std::{
    fmt, mem,
    ops::{Deref, DerefMut},
    vec,
};

/// How many elements a list asks memory for once it is no longer short.
const MANY: usize = 8;

/// A list that holds up to two elements in itself: each place is moved wherever the list is, and most have one.
#[derive(Clone)]
pub struct Few<T>(Held<T>);

#[derive(Clone)]
enum Held<T> {
    None,
    One([T; 1]),
    Two([T; 2]),
    Many(Vec<T>),
}

impl<T> Few<T> {
    /// An empty list.
    pub const fn new() -> Self {
        Self(Held::None)
    }

    /// Adds an element behind the others.
    pub fn push(&mut self, element: T) {
        // These two need not move what is there.
        if let Held::Many(list) = &mut self.0 {
            list.push(element);
            return;
        }
        if self.is_empty() {
            self.0 = Held::One([element]);
            return;
        }
        self.0 = match mem::replace(&mut self.0, Held::None) {
            Held::None => Held::One([element]),
            Held::One([a]) => Held::Two([a, element]),
            Held::Two(two) => {
                let mut list = Vec::with_capacity(MANY);
                list.extend(two);
                list.push(element);
                Held::Many(list)
            }
            Held::Many(list) => Held::Many(list),
        };
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Held::None => &[],
            Held::One(list) => list,
            Held::Two(list) => list,
            Held::Many(list) => list,
        }
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.0 {
            Held::None => &mut [],
            Held::One(list) => list,
            Held::Two(list) => list,
            Held::Many(list) => list,
        }
    }
}

impl<T> Extend<T> for Few<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        elements.into_iter().for_each(|element| self.push(element));
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut elements = elements.into_iter();
        let Some(a) = elements.next() else { return Self::new() };
        let Some(b) = elements.next() else { return Self(Held::One([a])) };
        let mut list = Self(Held::Two([a, b]));
        list.extend(elements);
        list
    }
}

impl<T> From<Few<T>> for Vec<T> {
    fn from(few: Few<T>) -> Self {
        match few.0 {
            Held::None => Self::new(),
            Held::One(list) => list.into(),
            Held::Two(list) => list.into(),
            Held::Many(list) => list,
        }
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = vec::IntoIter<T>;

    fn into_iter(self) -> vec::IntoIter<T> {
        Vec::from(self).into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> std::slice::Iter<'a, T> {
        self.iter()
    }
}

/// Equal to every list of equal elements.
impl<T: PartialEq, L: AsRef<[T]> + ?Sized> PartialEq<L> for Few<T> {
    fn eq(&self, other: &L) -> bool {
        **self == *other.as_ref()
    }
}

impl<T: Eq> Eq for Few<T> {}

impl<T> AsRef<[T]> for Few<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: fmt::Debug> fmt::Debug for Few<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_what_was_pushed_however_long_it_is() {
        for length in 0..9 {
            let expected: Vec<String> = (0..length).map(|number: u32| number.to_string()).collect();
            let few: Few<String> = expected.iter().cloned().collect();
            assert_eq!(few, expected);
            assert_eq!(few.clone(), few);
            assert_eq!(format!("{few:?}"), format!("{expected:?}"));
            assert_eq!(Vec::from(few.clone()), expected);
            assert_eq!(few.into_iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn its_elements_can_be_changed() {
        for length in 0..9 {
            let mut few: Few<u32> = (0..length).collect();
            few.reverse();
            few.iter_mut().for_each(|number| *number += 1);
            assert_eq!(few, (0..length).rev().map(|number| number + 1).collect::<Vec<_>>());
        }
    }

    #[test]
    fn lists_of_other_elements_are_not_equal() {
        let few: Few<u32> = [1, 2].into_iter().collect();
        assert_ne!(few, [1]);
        assert_ne!(few, [1, 3]);
        assert_ne!(few, [1, 2, 3]);
    }
}
