//! Operators and functions.

use super::{Checked, Checker, suggestion};
use crate::{
    classify::schema::Kinds,
    decide::when::{
        CompileError,
        program::{Arithmetic, Function, Node, Order},
        types::Type,
    },
};
use cel::{
    IdedExpr,
    common::ast::{CallExpr, Expr, LiteralValue, operators},
};

const MACROS: [&str; 6] = ["all", "exists", "exists_one", "filter", "has", "map"];

impl<'s> Checker<'s> {
    pub(super) fn call(&mut self, call: &CallExpr) -> Result<Checked<'s>, CompileError> {
        match (call.func_name.as_str(), call.target.as_deref(), call.args.as_slice()) {
            (operators::LOGICAL_NOT, None, [operand]) => {
                let operand = self.check_kind(operand, Kinds::BOOL, "`!`")?;
                Ok(Checked::new(Node::Not(Box::new(operand.node)), Kinds::BOOL))
            }
            (operators::NEGATE, None, [operand]) => {
                let operand = self.check_kind(operand, Kinds::INT | Kinds::DOUBLE, "`-`")?;
                let kinds = operand.kind.kinds.common(Kinds::INT | Kinds::DOUBLE);
                Ok(Checked::new(Node::Negate(Box::new(operand.node)), kinds))
            }
            (operators::LOGICAL_AND, None, [left, right]) => self.logic(false, "`&&`", left, right),
            (operators::LOGICAL_OR, None, [left, right]) => self.logic(true, "`||`", left, right),
            (operators::CONDITIONAL, None, [test, yes, no]) => {
                let test = self.check_kind(test, Kinds::BOOL, "`?`")?;
                let (yes, no) = (self.check(yes)?, self.check(no)?);
                let node = Node::Choice(Box::new((test.node, yes.node, no.node)));
                Ok(Checked { node, kind: yes.kind.or(no.kind) })
            }
            (operators::EQUALS, None, [left, right]) => self.equal(false, left, right),
            (operators::NOT_EQUALS, None, [left, right]) => self.equal(true, left, right),
            (operators::LESS, None, [left, right]) => self.order(Order::Less, left, right),
            (operators::LESS_EQUALS, None, [left, right]) => self.order(Order::LessOrEqual, left, right),
            (operators::GREATER, None, [left, right]) => self.order(Order::Greater, left, right),
            (operators::GREATER_EQUALS, None, [left, right]) => {
                self.order(Order::GreaterOrEqual, left, right)
            }
            (operators::ADD, None, [left, right]) => self.arithmetic(Arithmetic::Add, left, right),
            (operators::SUBSTRACT, None, [left, right]) => self.arithmetic(Arithmetic::Subtract, left, right),
            (operators::MULTIPLY, None, [left, right]) => self.arithmetic(Arithmetic::Multiply, left, right),
            (operators::DIVIDE, None, [left, right]) => self.arithmetic(Arithmetic::Divide, left, right),
            (operators::MODULO, None, [left, right]) => self.arithmetic(Arithmetic::Remainder, left, right),
            (operators::IN, None, [element, list]) => self.is_in(element, list),
            (operators::INDEX, None, [of, index]) => self.index(of, index),
            (name, target, arguments) => self.function(name, target, arguments),
        }
    }

    fn logic(
        &mut self,
        stop: bool,
        what: &str,
        left: &IdedExpr,
        right: &IdedExpr,
    ) -> Result<Checked<'s>, CompileError> {
        let left = self.check_kind(left, Kinds::BOOL, what)?;
        let right = self.check_kind(right, Kinds::BOOL, what)?;
        let node = Node::Logic { stop, sides: Box::new((left.node, right.node)) };
        Ok(Checked::new(node, Kinds::BOOL))
    }

    fn equal(
        &mut self,
        negated: bool,
        left: &IdedExpr,
        right: &IdedExpr,
    ) -> Result<Checked<'s>, CompileError> {
        let (left, right) = (self.check(left)?, self.check(right)?);
        comparable(&left, &right, left.kind.kinds, right.kind.kinds)?;
        let node = Node::Equal { negated, sides: Box::new((left.node, right.node)) };
        Ok(Checked::new(node, Kinds::BOOL))
    }

    fn order(
        &mut self,
        operator: Order,
        left: &IdedExpr,
        right: &IdedExpr,
    ) -> Result<Checked<'s>, CompileError> {
        let ordered = Kinds::NUMBER | Kinds::STRING | Kinds::BOOL;
        let what = format!("`{}`", operator.sign());
        let left = self.check_kind(left, ordered, &what)?;
        let right = self.check_kind(right, ordered, &what)?;
        comparable(&left, &right, left.kind.kinds.common(ordered), right.kind.kinds.common(ordered))?;
        let node = Node::Order { operator, sides: Box::new((left.node, right.node)) };
        Ok(Checked::new(node, Kinds::BOOL))
    }

    fn arithmetic(
        &mut self,
        operator: Arithmetic,
        left: &IdedExpr,
        right: &IdedExpr,
    ) -> Result<Checked<'s>, CompileError> {
        let allowed = match operator {
            Arithmetic::Add => Kinds::NUMBER | Kinds::STRING | Kinds::LIST,
            Arithmetic::Subtract | Arithmetic::Multiply | Arithmetic::Divide => Kinds::NUMBER,
            Arithmetic::Remainder => Kinds::INT | Kinds::UINT,
        };
        let what = format!("`{}`", operator.sign());
        let left = self.check_kind(left, allowed, &what)?;
        let right = self.check_kind(right, allowed, &what)?;
        let kinds = left.kind.kinds.common(right.kind.kinds).common(allowed);
        if kinds == Kinds::NONE {
            let message = format!(
                "{what} takes two of the same kind, and {} is {}, {} is {}",
                left.node.subject(),
                left.kind.kinds,
                right.node.subject(),
                right.kind.kinds
            );
            return Err(CompileError::new(message));
        }
        let kind =
            if kinds.meets(Kinds::LIST) { left.kind.or(right.kind).only(kinds) } else { Type::of(kinds) };
        let node = Node::Arithmetic { operator, sides: Box::new((left.node, right.node)) };
        Ok(Checked { node, kind })
    }

    fn is_in(&mut self, element: &IdedExpr, list: &IdedExpr) -> Result<Checked<'s>, CompileError> {
        let element = self.check(element)?;
        let list = self.check_kind(list, Kinds::LIST, "`in`")?;
        let items = list.kind.elements();
        if items.kinds != Kinds::NONE {
            comparable(&element, &list, element.kind.kinds, items.kinds)?;
        }
        Ok(Checked::new(Node::In(Box::new((element.node, list.node))), Kinds::BOOL))
    }

    /// A literal string stands for a field; anything else is an element's number.
    fn index(&mut self, of: &IdedExpr, index: &IdedExpr) -> Result<Checked<'s>, CompileError> {
        if let Expr::Literal(LiteralValue::String(name)) = &index.expr {
            let is_headers = self.space(of).is_some_and(|space| space.name() == "request.headers");
            let name = if is_headers {
                name.inner().to_ascii_lowercase().replace('-', "_")
            } else {
                name.inner().into()
            };
            return self.select(of, &name);
        }
        if let Some(space) = self.space(of) {
            let message = format!("a name in `{}` has to be written out, as a literal string", space.name());
            return Err(CompileError::about(message, Some(space.name().to_owned())));
        }
        let of = self.check(of)?;
        if !of.kind.kinds.meets(Kinds::LIST) {
            let hint = if of.kind.kinds.meets(Kinds::MAP) {
                ", whose fields have to be named with a literal string"
            } else {
                ", which has no elements"
            };
            let message = format!("{} is {}{hint}", of.node.subject(), of.kind.kinds);
            return Err(CompileError::about(message, of.node.place()));
        }
        let index = self.check_kind(index, Kinds::INT | Kinds::UINT, "an index")?;
        let kind = of.kind.elements();
        Ok(Checked { node: Node::Element { of: Box::new(of.node), index: Box::new(index.node) }, kind })
    }

    fn function(
        &mut self,
        name: &str,
        target: Option<&IdedExpr>,
        arguments: &[IdedExpr],
    ) -> Result<Checked<'s>, CompileError> {
        let what = format!("`{name}`");
        let operands: Vec<&IdedExpr> = target.into_iter().chain(arguments).collect();
        let function = known_function(name, target.is_some(), operands.len())?;
        let (wanted, result) = match function {
            Function::Size => (Kinds::STRING | Kinds::LIST | Kinds::MAP, Kinds::INT),
            Function::StartsWith | Function::EndsWith | Function::Contains => (Kinds::STRING, Kinds::BOOL),
            Function::LowerAscii => (Kinds::STRING, Kinds::STRING),
            Function::Int => (Kinds::NUMBER | Kinds::STRING, Kinds::INT),
            Function::String => (Kinds::INT | Kinds::UINT | Kinds::BOOL | Kinds::STRING, Kinds::STRING),
        };
        let mut nodes = Vec::with_capacity(operands.len());
        for operand in operands {
            nodes.push(self.check_kind(operand, wanted, &what)?.node);
        }
        Ok(Checked::new(Node::Call { function, operands: nodes.into() }, result))
    }
}

/// The function of that name, if it is called in the right way.
fn known_function(name: &str, on_target: bool, operands: usize) -> Result<Function, CompileError> {
    let about = |message: String| Err(CompileError::about(message, Some(name.to_owned())));
    let Some(function) = Function::ALL.into_iter().find(|function| function.name() == name) else {
        if name == "matches" {
            let message = "conditions have no regular expressions; use `startsWith`, `endsWith` or `contains` in \
                           place of `matches`";
            return about(message.to_owned());
        }
        if MACROS.contains(&name) {
            let example = if name == "has" { "has(request.body.field)" } else { "list.all(x, x == 1)" };
            return about(format!("`{name}` is called with other arguments, as in `{example}`"));
        }
        let known = Vec::from_iter(Function::ALL.into_iter().map(Function::name).chain(MACROS));
        return about(format!("unknown function `{name}`{}", suggestion(name, &known)));
    };
    let (as_method, expected) = match function {
        Function::Size => (None, 1),
        Function::StartsWith | Function::EndsWith | Function::Contains => (Some(true), 2),
        Function::LowerAscii => (Some(true), 1),
        Function::Int | Function::String => (Some(false), 1),
    };
    if as_method.is_some_and(|as_method| as_method != on_target) || operands != expected {
        let example = match (as_method, expected) {
            (Some(true), 2) => format!("text.{name}(\"…\")"),
            (Some(true), _) => format!("text.{name}()"),
            (Some(false) | None, _) => format!("{name}(value)"),
        };
        return about(format!("`{name}` is called as in `{example}`"));
    }
    Ok(function)
}

/// Two values that are never equal are not meant to be compared.
fn comparable(
    left: &Checked<'_>,
    right: &Checked<'_>,
    left_kinds: Kinds,
    right_kinds: Kinds,
) -> Result<(), CompileError> {
    let both_numbers = left_kinds.meets(Kinds::NUMBER) && right_kinds.meets(Kinds::NUMBER);
    if both_numbers || left_kinds.meets(right_kinds) {
        return Ok(());
    }
    let message = format!(
        "cannot compare {}, {left_kinds}, with {}, {right_kinds}",
        left.node.subject(),
        if right_kinds == right.kind.kinds { right.node.subject() } else { "an element".to_owned() }
    );
    Err(CompileError::about(message, left.node.place().or_else(|| right.node.place())))
}
