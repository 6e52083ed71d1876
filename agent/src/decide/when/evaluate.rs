//! Evaluates a condition over one request.
//!
//! Every node that is evaluated takes a step of the meter, and whatever looks at text or elements takes as many as
//! they are long, so that no request can make an evaluation longer than [`MAX_STEPS`] allows.

mod compute;

use super::{
    program::{How, Literal, Loop, Node, Order},
    value::{Fault, List, Meter, Text, Value},
    variables::Variable,
};
use crate::{classify::schema::Kinds, decide::Request};
use serde_json::Map;
use std::{cmp::Ordering, sync::LazyLock};

/// The most steps of one evaluation, which takes a few milliseconds.
pub(super) const MAX_STEPS: u32 = 100_000;

/// One evaluation.
pub(super) struct Evaluation<'a> {
    request: &'a Request<'a>,
    /// The elements that the macros around are at, outermost first.
    locals: Vec<Value<'a>>,
    meter: Meter,
}

type Result<'a> = std::result::Result<Value<'a>, Fault>;

impl<'a> Evaluation<'a> {
    pub(super) fn new(request: &'a Request<'a>) -> Self {
        Self { request, locals: Vec::new(), meter: Meter::new(MAX_STEPS) }
    }

    /// The value of a node that has to be true or false.
    pub(super) fn truth(&mut self, node: &'a Node) -> std::result::Result<bool, Fault> {
        let value = self.value(node)?;
        if let Value::Bool(truth) = value { Ok(truth) } else { Err(unexpected(node, &value, Kinds::BOOL)) }
    }

    fn value(&mut self, node: &'a Node) -> Result<'a> {
        self.meter.steps(1)?;
        match node {
            Node::Literal(literal) => Ok(Value::of_literal(literal)),
            Node::Variable(variable) => self.variable(variable),
            Node::Local { slot, .. } => {
                self.locals.get(*slot).cloned().ok_or_else(|| Fault::because("a macro has no element"))
            }
            Node::Field { of, name } => self.field(node, of, name),
            Node::Has { of, name } => self.has(of, name),
            Node::Given(variable) => Ok(Value::Bool(variable.value(self.request)?.is_some())),
            Node::Element { of, index } => self.element(of, index),
            Node::List(elements) => {
                let values = elements.iter().map(|element| self.value(element));
                let values = values.collect::<std::result::Result<Vec<_>, _>>()?;
                Ok(Value::List(List::Made(values.into())))
            }
            Node::Not(operand) => self.truth(operand).map(|truth| Value::Bool(!truth)),
            Node::Negate(operand) => self.negate(operand),
            Node::Logic { stop, sides } => self.logic(*stop, &sides.0, &sides.1).map(Value::Bool),
            Node::Choice(parts) => {
                let (test, yes, no) = &**parts;
                if self.truth(test)? { self.value(yes) } else { self.value(no) }
            }
            Node::Equal { negated, sides } => {
                let (left, right) = (self.value(&sides.0)?, self.value(&sides.1)?);
                Ok(Value::Bool(left.equals(&right, &mut self.meter)? != *negated))
            }
            Node::Order { operator, sides } => self.order(*operator, &sides.0, &sides.1),
            Node::Arithmetic { operator, sides } => self.arithmetic(*operator, &sides.0, &sides.1),
            Node::In(sides) => self.is_in(&sides.0, &sides.1).map(Value::Bool),
            Node::Call { function, operands } => self.call(*function, operands),
            Node::Loop(over) => self.macro_over(over),
        }
    }

    fn variable(&mut self, variable: &'a Variable) -> Result<'a> {
        if matches!(variable, Variable::Query(_)) {
            self.meter.bytes(self.request.query.map_or(0, str::len))?;
        }
        if matches!(variable, Variable::Resource(_)) {
            self.meter.steps(self.request.needs.resources.len())?;
        }
        match variable.value(self.request)? {
            Some(value) => Ok(value),
            // Without a body, none of its fields is given.
            None if *variable == Variable::Body => Ok(no_body()),
            None => Err(not_given(&variable.name())),
        }
    }

    fn field(&mut self, node: &Node, of: &'a Node, name: &str) -> Result<'a> {
        let fields = self.map(of)?;
        let value = fields.get(name).map(Value::of_json);
        value.ok_or_else(|| not_given(&node.place().unwrap_or_else(|| name.to_owned())))
    }

    fn has(&mut self, of: &'a Node, name: &str) -> Result<'a> {
        Ok(Value::Bool(self.map(of)?.contains_key(name)))
    }

    fn element(&mut self, of: &'a Node, index: &'a Node) -> Result<'a> {
        let list = self.list(of)?;
        let position = self.value(index)?;
        let position = position.whole().ok_or_else(|| unexpected(index, &position, Kinds::INT))?;
        let element = usize::try_from(position).ok().and_then(|position| list.element(position));
        element.ok_or_else(|| Fault::because(format!("{} has no element of that number", of.subject())))
    }

    fn list(&mut self, node: &'a Node) -> std::result::Result<List<'a>, Fault> {
        let value = self.value(node)?;
        let Value::List(list) = &value else { return Err(unexpected(node, &value, Kinds::LIST)) };
        Ok(list.clone())
    }

    fn text(&mut self, node: &'a Node) -> std::result::Result<Text<'a>, Fault> {
        let value = self.value(node)?;
        let Value::Text(text) = &value else { return Err(unexpected(node, &value, Kinds::STRING)) };
        Ok(text.clone())
    }

    fn map(&mut self, node: &'a Node) -> std::result::Result<&'a Map<String, serde_json::Value>, Fault> {
        let value = self.value(node)?;
        if let Value::Map(fields) = value { Ok(fields) } else { Err(unexpected(node, &value, Kinds::MAP)) }
    }

    /// `&&` and `||`: one side that decides is enough, whichever it is, even if the other is an error.
    fn logic(&mut self, stop: bool, left: &'a Node, right: &'a Node) -> std::result::Result<bool, Fault> {
        let left = match self.truth(left) {
            Ok(truth) if truth == stop => return Ok(stop),
            Err(Fault::TooCostly) => return Err(Fault::TooCostly),
            other => other,
        };
        match (left, self.truth(right)) {
            (Err(error), Ok(truth)) if truth != stop => Err(error),
            (Err(error), Err(Fault::Error(_))) => Err(error),
            (_, right) => right,
        }
    }

    fn order(&mut self, operator: Order, left: &'a Node, right: &'a Node) -> Result<'a> {
        let (first, second) = (self.value(left)?, self.value(right)?);
        let Some(order) = first.compare(&second, &mut self.meter)? else {
            return Err(Fault::because(format!(
                "{} is {} and {} is {}: they have no order",
                left.subject(),
                first.kind(),
                right.subject(),
                second.kind()
            )));
        };
        Ok(Value::Bool(match operator {
            Order::Less => order == Ordering::Less,
            Order::LessOrEqual => order != Ordering::Greater,
            Order::Greater => order == Ordering::Greater,
            Order::GreaterOrEqual => order != Ordering::Less,
        }))
    }

    fn is_in(&mut self, element: &'a Node, list: &'a Node) -> std::result::Result<bool, Fault> {
        let element = self.value(element)?;
        // What is written out needs no list to be made of it.
        if let Node::List(nodes) = list {
            let mut found = false;
            for node in nodes {
                found |= self.value(node)?.equals(&element, &mut self.meter)?;
            }
            return Ok(found);
        }
        let list = self.list(list)?;
        for index in 0..list.len() {
            let Some(other) = list.element(index) else { break };
            if other.equals(&element, &mut self.meter)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn macro_over(&mut self, over: &'a Loop) -> Result<'a> {
        let list = self.list(&over.over)?;
        match &over.how {
            How::All(test) => self.any(&list, test, false).map(|found| Value::Bool(!found)),
            How::Exists(test) => self.any(&list, test, true).map(Value::Bool),
            How::ExistsOne(test) => {
                let mut found = 0_usize;
                for index in 0..list.len() {
                    found += usize::from(self.with_element(&list, index, |this| this.truth(test))?);
                }
                Ok(Value::Bool(found == 1))
            }
            How::Collect { filter, each } => {
                let mut collected = Vec::new();
                for index in 0..list.len() {
                    let value = self.with_element(&list, index, |this| {
                        if let Some(filter) = filter
                            && !this.truth(filter)?
                        {
                            return Ok(None);
                        }
                        this.value(each).map(Some)
                    })?;
                    collected.extend(value);
                }
                Ok(Value::List(List::Made(collected.into())))
            }
        }
    }

    /// Whether the test has this outcome for any element. As with `||`, one is enough, whatever errors others are.
    fn any(&mut self, list: &List<'a>, test: &'a Node, outcome: bool) -> std::result::Result<bool, Fault> {
        let mut first_error = None;
        for index in 0..list.len() {
            match self.with_element(list, index, |this| this.truth(test)) {
                Ok(truth) if truth == outcome => return Ok(true),
                Ok(_) => {}
                Err(Fault::TooCostly) => return Err(Fault::TooCostly),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(false), Err)
    }

    fn with_element<T>(
        &mut self,
        list: &List<'a>,
        index: usize,
        evaluate: impl FnOnce(&mut Self) -> std::result::Result<T, Fault>,
    ) -> std::result::Result<T, Fault> {
        self.locals.extend(list.element(index));
        let result = evaluate(self);
        self.locals.pop();
        result
    }
}

impl<'a> Value<'a> {
    fn of_literal(literal: &'a Literal) -> Self {
        match literal {
            Literal::Null => Self::Null,
            Literal::Bool(value) => Self::Bool(*value),
            Literal::Int(value) => Self::Int(*value),
            Literal::Uint(value) => Self::Uint(*value),
            Literal::Double(value) => Self::Double(*value),
            Literal::Text(value) => Self::Text(Text::Borrowed(value)),
        }
    }
}

fn no_body<'a>() -> Value<'a> {
    static EMPTY: LazyLock<Map<String, serde_json::Value>> = LazyLock::new(Map::new);
    Value::Map(&EMPTY)
}

fn not_given(place: &str) -> Fault {
    Fault::because(format!("`{place}` is not given; test for it with `has`"))
}

/// A value of another kind than its place needs. The value itself may be a secret.
fn unexpected(node: &Node, value: &Value<'_>, wanted: Kinds) -> Fault {
    Fault::because(format!("{} is {}, and has to be {wanted}", node.subject(), value.kind()))
}
