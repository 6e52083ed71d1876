//! Arithmetic and functions.

use super::{Evaluation, Result, unexpected};
use crate::{
    classify::schema::Kinds,
    decide::when::{
        program::{Arithmetic, Function, Node},
        value::{Fault, List, Text, Value},
    },
};
use std::rc::Rc;

impl<'a> Evaluation<'a> {
    pub(super) fn negate(&mut self, operand: &'a Node) -> Result<'a> {
        let value = self.value(operand)?;
        if let Value::Double(number) = value {
            return Ok(Value::Double(-number));
        }
        let Value::Int(number) = value else {
            return Err(unexpected(operand, &value, Kinds::INT | Kinds::DOUBLE));
        };
        number.checked_neg().map(Value::Int).ok_or_else(|| out_of_range("-"))
    }

    pub(super) fn arithmetic(&mut self, operator: Arithmetic, left: &'a Node, right: &'a Node) -> Result<'a> {
        let (first, second) = (self.value(left)?, self.value(right)?);
        let sign = operator.sign();
        match (first, second) {
            (Value::Int(first), Value::Int(second)) => {
                let result = match operator {
                    Arithmetic::Add => first.checked_add(second),
                    Arithmetic::Subtract => first.checked_sub(second),
                    Arithmetic::Multiply => first.checked_mul(second),
                    Arithmetic::Divide => first.checked_div(second),
                    Arithmetic::Remainder => first.checked_rem(second),
                };
                result.map(Value::Int).ok_or_else(|| out_of_range(sign))
            }
            (Value::Uint(first), Value::Uint(second)) => {
                let result = match operator {
                    Arithmetic::Add => first.checked_add(second),
                    Arithmetic::Subtract => first.checked_sub(second),
                    Arithmetic::Multiply => first.checked_mul(second),
                    Arithmetic::Divide => first.checked_div(second),
                    Arithmetic::Remainder => first.checked_rem(second),
                };
                result.map(Value::Uint).ok_or_else(|| out_of_range(sign))
            }
            (Value::Double(first), Value::Double(second)) => match operator {
                Arithmetic::Add => Ok(Value::Double(first + second)),
                Arithmetic::Subtract => Ok(Value::Double(first - second)),
                Arithmetic::Multiply => Ok(Value::Double(first * second)),
                Arithmetic::Divide => Ok(Value::Double(first / second)),
                Arithmetic::Remainder => Err(Fault::because("`%` takes whole numbers")),
            },
            (Value::Text(first), Value::Text(second)) if operator == Arithmetic::Add => {
                self.meter.bytes(first.len() + second.len())?;
                Ok(Value::Text(Text::Made(Rc::from([&*first, &*second].concat()))))
            }
            (Value::List(first), Value::List(second)) if operator == Arithmetic::Add => {
                self.meter.steps(first.len() + second.len())?;
                let elements =
                    |list: &List<'a>| (0..list.len()).map_while(|index| list.element(index)).collect();
                let joined: [Vec<Value<'a>>; 2] = [elements(&first), elements(&second)];
                Ok(Value::List(List::Made(joined.concat().into())))
            }
            (first, second) => Err(Fault::because(format!(
                "`{sign}` takes two of the same kind, and {} is {}, {} is {}",
                left.subject(),
                first.kind(),
                right.subject(),
                second.kind()
            ))),
        }
    }

    pub(super) fn call(&mut self, function: Function, operands: &'a [Node]) -> Result<'a> {
        let [first, rest @ ..] = operands else { return Err(Fault::because("a function has no operand")) };
        match function {
            Function::Size => self.size(first),
            Function::Int => self.int(first),
            Function::String => self.string(first),
            Function::LowerAscii => {
                let text = self.text(first)?;
                self.meter.bytes(text.len())?;
                Ok(Value::Text(Text::Made(Rc::from(text.to_ascii_lowercase()))))
            }
            Function::StartsWith => {
                let (text, part) = self.text_and_part(first, rest)?;
                Ok(Value::Bool(text.starts_with(&*part)))
            }
            Function::EndsWith => {
                let (text, part) = self.text_and_part(first, rest)?;
                Ok(Value::Bool(text.ends_with(&*part)))
            }
            Function::Contains => {
                let (text, part) = self.text_and_part(first, rest)?;
                self.meter.bytes(text.len())?;
                Ok(Value::Bool(text.contains(&*part)))
            }
        }
    }

    fn text_and_part(
        &mut self,
        text: &'a Node,
        rest: &'a [Node],
    ) -> std::result::Result<(Text<'a>, Text<'a>), Fault> {
        let [part] = rest else { return Err(Fault::because("a function has no operand")) };
        let (text, part) = (self.text(text)?, self.text(part)?);
        self.meter.bytes(part.len())?;
        Ok((text, part))
    }

    fn size(&mut self, operand: &'a Node) -> Result<'a> {
        let value = self.value(operand)?;
        let size = match &value {
            Value::Text(text) => {
                self.meter.bytes(text.len())?;
                text.chars().count()
            }
            Value::List(list) => list.len(),
            Value::Map(fields) => fields.len(),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) => {
                return Err(unexpected(operand, &value, Kinds::STRING | Kinds::LIST | Kinds::MAP));
            }
        };
        i64::try_from(size).map(Value::Int).map_err(|_| out_of_range("size"))
    }

    fn int(&mut self, operand: &'a Node) -> Result<'a> {
        let value = self.value(operand)?;
        let number = match &value {
            Value::Int(number) => Some(*number),
            Value::Uint(number) => i64::try_from(*number).ok(),
            // As CEL has it: towards zero, and strictly within the range.
            #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
            Value::Double(number) => (number.abs() < 9_223_372_036_854_775_808.0).then_some(*number as i64),
            Value::Text(text) => {
                self.meter.bytes(text.len())?;
                text.parse().ok()
            }
            Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => {
                return Err(unexpected(operand, &value, Kinds::NUMBER | Kinds::STRING));
            }
        };
        number.map(Value::Int).ok_or_else(|| Fault::because(format!("{} is no int", operand.subject())))
    }

    fn string(&mut self, operand: &'a Node) -> Result<'a> {
        let value = self.value(operand)?;
        let text = match &value {
            Value::Text(text) => text.clone(),
            Value::Int(number) => Text::Made(Rc::from(number.to_string())),
            Value::Uint(number) => Text::Made(Rc::from(number.to_string())),
            Value::Bool(truth) => Text::Borrowed(if *truth { "true" } else { "false" }),
            Value::Null | Value::Double(_) | Value::List(_) | Value::Map(_) => {
                return Err(unexpected(operand, &value, Kinds::INT | Kinds::BOOL | Kinds::STRING));
            }
        };
        Ok(Value::Text(text))
    }
}

fn out_of_range(sign: &str) -> Fault {
    Fault::because(format!("the result of `{sign}` is out of range"))
}
