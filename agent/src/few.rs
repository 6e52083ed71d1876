//! Short lists, which need no memory of their own while they are short.
//!
//! A request has a few of everything: scopes, parameters, resources. To ask for memory for each such list would take
//! longer than to decide.

use std::{
    fmt, mem,
    ops::{Deref, DerefMut},
    vec,
};

/// How many elements a list asks memory for once it is no longer short.
const MANY: usize = 16;

/// A list that holds up to four elements in itself.
#[derive(Clone)]
pub struct Few<T>(Held<T>);

#[derive(Clone)]
enum Held<T> {
    None,
    One([T; 1]),
    Two([T; 2]),
    Three([T; 3]),
    Four([T; 4]),
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
            Held::Two([a, b]) => Held::Three([a, b, element]),
            Held::Three([a, b, c]) => Held::Four([a, b, c, element]),
            Held::Four(four) => {
                let mut list = Vec::with_capacity(MANY);
                list.extend(four);
                list.push(element);
                Held::Many(list)
            }
            Held::Many(list) => Held::Many(list),
        };
    }

    /// Leaves out elements that are equal to the one before.
    pub fn dedup(&mut self)
    where
        T: PartialEq,
    {
        if self.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
            let mut list = Vec::from(mem::take(self));
            list.dedup();
            *self = list.into_iter().collect();
        }
    }

    /// Takes the last element away.
    pub fn pop(&mut self) -> Option<T> {
        let (rest, last) = match mem::replace(&mut self.0, Held::None) {
            Held::None => return None,
            Held::One([a]) => (Held::None, Some(a)),
            Held::Two([a, b]) => (Held::One([a]), Some(b)),
            Held::Three([a, b, c]) => (Held::Two([a, b]), Some(c)),
            Held::Four([a, b, c, d]) => (Held::Three([a, b, c]), Some(d)),
            Held::Many(mut list) => {
                let last = list.pop();
                (Held::Many(list), last)
            }
        };
        self.0 = rest;
        last
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
            Held::Three(list) => list,
            Held::Four(list) => list,
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
            Held::Three(list) => list,
            Held::Four(list) => list,
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
        let Some(c) = elements.next() else { return Self(Held::Two([a, b])) };
        let Some(d) = elements.next() else { return Self(Held::Three([a, b, c])) };
        let mut list = Self(Held::Four([a, b, c, d]));
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
            Held::Three(list) => list.into(),
            Held::Four(list) => list.into(),
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
    fn what_is_popped_is_the_last() {
        let mut few: Few<u32> = (0..9).collect();
        for number in (0..9).rev() {
            assert_eq!(few.pop(), Some(number));
            assert_eq!(few, (0..number).collect::<Vec<_>>());
        }
        assert_eq!(few.pop(), None);
    }

    #[test]
    fn of_equal_neighbours_the_first_is_kept() {
        for expected in [vec![], vec![1], vec![1, 2], vec![1, 2, 1], vec![1, 2, 3, 4, 5, 6]] {
            for times in 1..4 {
                let mut few: Few<u32> =
                    expected.iter().flat_map(|number| std::iter::repeat_n(*number, times)).collect();
                few.dedup();
                assert_eq!(few, expected);
            }
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
