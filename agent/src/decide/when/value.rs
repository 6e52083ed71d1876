//! Values while a condition is evaluated. What comes from the request is borrowed from it.

use crate::classify::schema::Kinds;
use serde_json::{Map, Number, Value as Json};
use std::{cmp::Ordering, ops::Deref, rc::Rc};

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'a>),
    List(List<'a>),
    Map(&'a Map<String, Json>),
}

/// A string.
#[derive(Clone, Debug)]
pub(super) enum Text<'a> {
    Borrowed(&'a str),
    Made(Rc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Made(text) => text,
        }
    }
}

/// A list.
#[derive(Clone, Debug)]
pub(super) enum List<'a> {
    Borrowed(&'a [Json]),
    Made(Rc<[Value<'a>]>),
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Borrowed(elements) => elements.len(),
            Self::Made(elements) => elements.len(),
        }
    }

    pub(super) fn element(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Self::Borrowed(elements) => elements.get(index).map(Value::of_json),
            Self::Made(elements) => elements.get(index).cloned(),
        }
    }
}

/// Why an evaluation ends without a value. No text in it comes from a body's values.
#[derive(Debug)]
pub(super) enum Fault {
    /// An error, which the other side of `&&` or `||` may make irrelevant.
    Error(String),
    /// The evaluation takes too long.
    TooCostly,
}

impl Fault {
    pub(super) fn because(message: impl Into<String>) -> Self {
        Self::Error(message.into())
    }
}

/// Counts the steps of an evaluation, so that it ends.
#[derive(Debug)]
pub(super) struct Meter(u32);

impl Meter {
    pub(super) fn new(steps: u32) -> Self {
        Self(steps)
    }

    /// Takes a step for so many elements that are looked at.
    pub(super) fn steps(&mut self, count: usize) -> Result<(), Fault> {
        let left = u32::try_from(count).ok().and_then(|count| self.0.checked_sub(count));
        self.0 = left.ok_or(Fault::TooCostly)?;
        Ok(())
    }

    /// Takes a step for every 64 bytes of text that are looked at or copied.
    pub(super) fn bytes(&mut self, count: usize) -> Result<(), Fault> {
        self.steps(1 + count / 64)
    }
}

impl<'a> Value<'a> {
    pub(super) fn of_json(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => Self::of_number(number),
            Json::String(text) => Self::Text(Text::Borrowed(text)),
            Json::Array(elements) => Self::List(List::Borrowed(elements)),
            Json::Object(fields) => Self::Map(fields),
        }
    }

    /// A whole number is an int, or a uint beyond an int's range; any other is a double.
    fn of_number(number: &Number) -> Self {
        let whole = number.as_i64().map(Self::Int).or_else(|| number.as_u64().map(Self::Uint));
        whole.or_else(|| number.as_f64().map(Self::Double)).unwrap_or(Self::Null)
    }

    pub(super) fn kind(&self) -> Kinds {
        match self {
            Self::Null => Kinds::NULL,
            Self::Bool(_) => Kinds::BOOL,
            Self::Int(_) => Kinds::INT,
            Self::Uint(_) => Kinds::UINT,
            Self::Double(_) => Kinds::DOUBLE,
            Self::Text(_) => Kinds::STRING,
            Self::List(_) => Kinds::LIST,
            Self::Map(_) => Kinds::MAP,
        }
    }

    /// Whether two values are equal: values of different kinds never are, but numbers are compared as numbers.
    pub(super) fn equals(&self, other: &Value<'_>, meter: &mut Meter) -> Result<bool, Fault> {
        meter.steps(1)?;
        Ok(match (self, other) {
            (Self::Null, Value::Null) => true,
            (Self::Bool(left), Value::Bool(right)) => left == right,
            (Self::Text(left), Value::Text(right)) => {
                // The lengths of texts that differ mostly do so as well.
                meter.bytes(if left.len() == right.len() { left.len() } else { 0 })?;
                **left == **right
            }
            (Self::List(left), Value::List(right)) => {
                if left.len() != right.len() {
                    return Ok(false);
                }
                for index in 0..left.len() {
                    let (Some(left), Some(right)) = (left.element(index), right.element(index)) else {
                        return Ok(false);
                    };
                    if !left.equals(&right, meter)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Map(left), Value::Map(right)) => {
                if left.len() != right.len() {
                    return Ok(false);
                }
                for (name, value) in *left {
                    meter.bytes(name.len())?;
                    let Some(other) = right.get(name) else { return Ok(false) };
                    if !Value::of_json(value).equals(&Value::of_json(other), meter)? {
                        return Ok(false);
                    }
                }
                true
            }
            _ => self.compare_numbers(other) == Some(Ordering::Equal),
        })
    }

    /// The order of two values; none where they have none.
    pub(super) fn compare(&self, other: &Value<'_>, meter: &mut Meter) -> Result<Option<Ordering>, Fault> {
        Ok(match (self, other) {
            (Self::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
            (Self::Text(left), Value::Text(right)) => {
                meter.bytes(left.len().min(right.len()))?;
                Some((**left).cmp(&**right))
            }
            _ => self.compare_numbers(other),
        })
    }

    fn compare_numbers(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Self::Double(left), Value::Double(right)) => left.partial_cmp(right),
            (Self::Double(left), right) => compare_with_double(right.whole()?, *left).map(Ordering::reverse),
            (left, Value::Double(right)) => compare_with_double(left.whole()?, *right),
            (left, right) => Some(left.whole()?.cmp(&right.whole()?)),
        }
    }

    pub(super) fn whole(&self) -> Option<i128> {
        match self {
            Self::Int(number) => Some((*number).into()),
            Self::Uint(number) => Some((*number).into()),
            Self::Null | Self::Bool(_) | Self::Double(_) | Self::Text(_) | Self::List(_) | Self::Map(_) => {
                None
            }
        }
    }
}

/// Compares without rounding, as a conversion of a large whole number to a double would.
fn compare_with_double(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // The conversion takes what is too large to the end of the range, beyond all whole numbers here.
    let floor = double.floor();
    #[expect(clippy::cast_possible_truncation, reason = "it saturates")]
    let order = whole.cmp(&(floor as i128));
    Some(if order == Ordering::Equal && double > floor { Ordering::Less } else { order })
}
