//! Checks a condition's tree against what the operations' requests may hold, and makes the program of it.
//!
//! CEL's own checker is not in the crate. This one is as strict as the catalogue allows: where a value may be of
//! several kinds, one that fits is enough, and the evaluation sees to the rest.

mod calls;
mod macros;

use super::{
    CompileError,
    program::{Literal, Node},
    types::Type,
    variables::{ROOTS, Space, Variable},
};
use crate::{
    classify::{
        Catalogue, Operation,
        schema::{Bodies, Kinds, Shape},
    },
    decide::nearest::nearest,
};
use cel::{
    IdedExpr,
    common::ast::{Expr, LiteralValue, SelectExpr},
};
use std::collections::BTreeSet;

/// The most nodes that a condition may have, as it is written.
pub(super) const MAX_NODES: usize = 256;
/// The deepest that they may be nested, since checking and evaluating take the stack.
const MAX_DEPTH: usize = 48;
/// The most names that a message lists.
const MAX_LISTED: usize = 15;
/// The most macros that may stand in one another.
const MAX_LOOPS: usize = 2;

/// An expression that was checked.
pub(super) struct Checked<'s> {
    pub(super) node: Node,
    pub(super) kind: Type<'s>,
}

impl Checked<'_> {
    fn new(node: Node, kinds: Kinds) -> Self {
        Self { node, kind: Type::of(kinds) }
    }

    /// The program, if the whole can be true or false.
    pub(super) fn or_not_bool(self) -> Result<Node, CompileError> {
        if self.kind.kinds.meets(Kinds::BOOL) {
            return Ok(self.node);
        }
        Err(CompileError::new(format!("the condition is {}; it has to be true or false", self.kind.kinds)))
    }
}

/// Checks one condition.
pub(super) struct Checker<'s> {
    operations: &'s [&'s Operation],
    catalogue: &'s Catalogue,
    nodes: usize,
    depth: usize,
    /// The elements of the macros around, outermost first.
    locals: Vec<(String, Type<'s>)>,
    pub(super) reads_body: bool,
    pub(super) reads_resources: bool,
    /// The names of all fields that are looked at.
    pub(super) names: BTreeSet<Box<str>>,
}

impl<'s> Checker<'s> {
    pub(super) fn new(operations: &'s [&'s Operation], catalogue: &'s Catalogue) -> Self {
        Self {
            operations,
            catalogue,
            nodes: 0,
            depth: 0,
            locals: Vec::new(),
            reads_body: false,
            reads_resources: false,
            names: BTreeSet::new(),
        }
    }

    pub(super) fn check(&mut self, expression: &IdedExpr) -> Result<Checked<'s>, CompileError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(CompileError::new(format!("the condition has more than {MAX_NODES} parts")));
        }
        if self.depth == MAX_DEPTH {
            return Err(CompileError::new(format!("the condition is nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let checked = match &expression.expr {
            Expr::Literal(literal) => literal_of(literal),
            Expr::Ident(name) => self.identifier(name),
            Expr::Select(select) if select.test => self.has(select),
            Expr::Select(select) => self.select(&select.operand, &select.field),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => self.list(&list.elements),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Map(_) => Err(CompileError::new("a condition cannot make a map with `{}`")),
            Expr::Struct(made) => {
                Err(CompileError::new(format!("a condition cannot make a `{}`", made.type_name)))
            }
            Expr::Unspecified => Err(CompileError::new("the condition cannot be parsed")),
        };
        self.depth -= 1;
        checked
    }

    /// Checks an operand of which only some kinds will do.
    fn check_kind(
        &mut self,
        expression: &IdedExpr,
        wanted: Kinds,
        what: &str,
    ) -> Result<Checked<'s>, CompileError> {
        let checked = self.check(expression)?;
        if checked.kind.kinds.meets(wanted) {
            return Ok(checked);
        }
        let message =
            format!("{what} takes {wanted}, and {} is {}", checked.node.subject(), checked.kind.kinds);
        Err(CompileError::about(message, checked.node.place()))
    }

    fn list(&mut self, elements: &[IdedExpr]) -> Result<Checked<'s>, CompileError> {
        let mut items = Type::default();
        let mut nodes = Vec::with_capacity(elements.len());
        for element in elements {
            let checked = self.check(element)?;
            items = items.or(checked.kind);
            nodes.push(checked.node);
        }
        Ok(Checked { node: Node::List(nodes.into()), kind: Type::list(items) })
    }

    fn identifier(&mut self, name: &str) -> Result<Checked<'s>, CompileError> {
        if let Some(slot) = self.local(name) {
            let kind = self.locals.get(slot).map(|(_, kind)| kind.clone()).unwrap_or_default();
            return Ok(Checked { node: Node::Local { slot, name: name.into() }, kind });
        }
        if name == "workload" {
            return Ok(Checked::new(Node::Variable(Variable::Workload), Kinds::STRING));
        }
        let message = match Space::of_root(name) {
            Some(space) => self.message_for_space(space),
            None => format!("unknown variable `{name}`{}", suggestion(name, &ROOTS)),
        };
        Err(CompileError::about(message, Some(name.to_owned())))
    }

    fn message_for_space(&self, space: Space) -> String {
        let (name, names) = (space.name(), self.names_in(space));
        let example = names.first().map_or("…", |name| *name);
        format!("`{name}` is no value by itself; name one in it, such as `{name}.{example}`")
    }

    /// The names that may stand in a space; none where any may.
    fn names_in(&self, space: Space) -> Vec<&'s str> {
        if space == Space::Resource {
            self.catalogue.kinds().map(|(kind, _)| kind).collect()
        } else {
            space.names().to_vec()
        }
    }

    fn local(&self, name: &str) -> Option<usize> {
        self.locals.iter().rposition(|(local, _)| local == name)
    }

    /// The space that an expression names, if it names one.
    fn space(&self, expression: &IdedExpr) -> Option<Space> {
        if let Expr::Select(select) = &expression.expr {
            return self.space(&select.operand).filter(|_| !select.test)?.space(&select.field);
        }
        let Expr::Ident(name) = &expression.expr else { return None };
        if self.local(name).is_some() { None } else { Space::of_root(name) }
    }

    fn select(&mut self, operand: &IdedExpr, field: &str) -> Result<Checked<'s>, CompileError> {
        if let Some(space) = self.space(operand) {
            let (variable, kind) = self.variable(space, field)?;
            return Ok(Checked { node: Node::Variable(variable), kind });
        }
        let (of, kind) = self.field(operand, field)?;
        Ok(Checked { node: Node::Field { of: Box::new(of), name: field.into() }, kind })
    }

    fn has(&mut self, select: &SelectExpr) -> Result<Checked<'s>, CompileError> {
        if let Some(space) = self.space(&select.operand) {
            let (variable, _) = self.variable(space, &select.field)?;
            return Ok(Checked::new(Node::Given(variable), Kinds::BOOL));
        }
        let (of, _) = self.field(&select.operand, &select.field)?;
        let name = select.field.as_str().into();
        Ok(Checked::new(Node::Has { of: Box::new(of), name }, Kinds::BOOL))
    }

    fn variable(&mut self, space: Space, name: &str) -> Result<(Variable, Type<'s>), CompileError> {
        let place = format!("{}.{name}", space.name());
        if let Some(inner) = space.space(name) {
            return Err(CompileError::about(self.message_for_space(inner), Some(place)));
        }
        let Some(variable) = space.variable(name, |kind| self.names_in(Space::Resource).contains(&kind))
        else {
            let suggestion = suggestion(name, &self.names_in(space));
            let message = format!("`{}` has no `{name}`{suggestion}", space.name());
            return Err(CompileError::about(message, Some(place)));
        };
        if variable == Variable::Body {
            return Ok((variable, self.body()?));
        }
        self.reads_resources |= matches!(variable, Variable::Resource(_));
        let kind = Type::of_shapes(vec![variable.shape()]);
        Ok((variable, kind))
    }

    fn body(&mut self) -> Result<Type<'s>, CompileError> {
        self.reads_body = true;
        let names = self.operations.iter().map(|operation| operation.name.as_str());
        let shapes: Vec<&'static Shape> = names.filter_map(|name| Bodies::embedded().of(name)).collect();
        if shapes.is_empty() {
            let message = "no operation that this concerns has a JSON body, so `request.body` is never there";
            return Err(CompileError::about(message, Some("request.body".to_owned())));
        }
        Ok(Type::of_shapes(shapes))
    }

    /// What a field belongs to, and what it may be.
    fn field(&mut self, operand: &IdedExpr, name: &str) -> Result<(Node, Type<'s>), CompileError> {
        let of = self.check(operand)?;
        let place = of.node.place().map(|place| format!("{place}.{name}"));
        if !of.kind.kinds.meets(Kinds::MAP) {
            let hint = if of.kind.kinds.meets(Kinds::LIST) {
                "; look at its elements with `all`, `exists` or an index"
            } else {
                ""
            };
            let message =
                format!("{} is {} and has no field `{name}`{hint}", of.node.subject(), of.kind.kinds);
            return Err(CompileError::about(message, place));
        }
        let Some(kind) = of.kind.field(name) else {
            let whose = match self.operations {
                [operation] => format!("`{}`", operation.name),
                _ => "the operations that this concerns".to_owned(),
            };
            let shown = place.clone().unwrap_or_else(|| name.to_owned());
            let suggestion = suggestion(name, &Vec::from_iter(of.kind.fields()));
            return Err(CompileError::about(format!("no body of {whose} has `{shown}`{suggestion}"), place));
        };
        self.names.insert(name.into());
        Ok((of.node, kind))
    }
}

/// The name that was meant, if one is near, or else all that there are, if they are few.
fn suggestion(name: &str, known: &[&str]) -> String {
    if let Some(near) = nearest(name, known.iter().copied()) {
        return format!("; did you mean `{near}`?");
    }
    if known.is_empty() || known.len() > MAX_LISTED {
        return String::new();
    }
    format!("; there are `{}`", known.join("`, `"))
}

fn literal_of<'s>(literal: &LiteralValue) -> Result<Checked<'s>, CompileError> {
    let (literal, kinds) = match literal {
        LiteralValue::Null => (Literal::Null, Kinds::NULL),
        LiteralValue::Boolean(value) => (Literal::Bool(*value.inner()), Kinds::BOOL),
        LiteralValue::Int(value) => (Literal::Int(*value.inner()), Kinds::INT),
        LiteralValue::UInt(value) => (Literal::Uint(*value.inner()), Kinds::UINT),
        LiteralValue::Double(value) => (Literal::Double(*value.inner()), Kinds::DOUBLE),
        LiteralValue::String(value) => (Literal::Text(value.inner().into()), Kinds::STRING),
        LiteralValue::Bytes(_) => {
            return Err(CompileError::new("a condition has no use for bytes, such as `b\"…\"`"));
        }
    };
    Ok(Checked::new(Node::Literal(literal), kinds))
}
