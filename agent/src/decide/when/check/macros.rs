//! The macros `all`, `exists`, `exists_one`, `map` and `filter`. The parser has expanded them to loops with an
//! accumulator; this finds out which they were.

use super::{Checked, Checker, MAX_LOOPS};
use crate::{
    classify::schema::Kinds,
    decide::when::{
        CompileError,
        program::{How, Loop, Node},
        types::Type,
    },
};
use cel::{
    IdedExpr,
    common::ast::{ComprehensionExpr, Expr, LiteralValue, operators},
};

/// A macro as it was written.
enum Written<'e> {
    All(&'e IdedExpr),
    Exists(&'e IdedExpr),
    ExistsOne(&'e IdedExpr),
    Collect { filter: Option<&'e IdedExpr>, each: &'e IdedExpr },
}

impl<'e> Written<'e> {
    fn of(expanded: &'e ComprehensionExpr) -> Option<Self> {
        let Expr::Call(step) = &expanded.loop_step.expr else { return None };
        let operator = step.func_name.as_str();
        match (&expanded.accu_init.expr, operator, step.args.as_slice()) {
            (Expr::Literal(LiteralValue::Boolean(_)), operators::LOGICAL_AND, [_, test]) => {
                Some(Self::All(test))
            }
            (Expr::Literal(LiteralValue::Boolean(_)), operators::LOGICAL_OR, [_, test]) => {
                Some(Self::Exists(test))
            }
            (Expr::Literal(LiteralValue::Int(_)), operators::CONDITIONAL, [test, ..]) => {
                Some(Self::ExistsOne(test))
            }
            (Expr::List(_), operators::ADD, [_, added]) => {
                Some(Self::Collect { filter: None, each: only_element(added)? })
            }
            (Expr::List(_), operators::CONDITIONAL, [filter, step, _]) => {
                let Expr::Call(step) = &step.expr else { return None };
                Some(Self::Collect { filter: Some(filter), each: only_element(step.args.get(1)?)? })
            }
            _ => None,
        }
    }
}

fn only_element(list: &IdedExpr) -> Option<&IdedExpr> {
    if let Expr::List(list) = &list.expr { list.elements.first() } else { None }
}

impl<'s> Checker<'s> {
    pub(super) fn comprehension(
        &mut self,
        expanded: &ComprehensionExpr,
    ) -> Result<Checked<'s>, CompileError> {
        let written = Written::of(expanded).filter(|_| expanded.iter_var2.is_none());
        let Some(written) = written else {
            return Err(CompileError::new("the condition cannot be parsed"));
        };
        let over = self.check_kind(&expanded.iter_range, Kinds::LIST, "a macro such as `all`")?;
        if self.locals.len() == MAX_LOOPS {
            let message = format!("more than {MAX_LOOPS} macros such as `all` stand in one another");
            return Err(CompileError::new(message));
        }
        self.locals.push((expanded.iter_var.clone(), over.kind.elements()));
        let checked = self.how(&written);
        self.locals.pop();
        let (how, kind) = checked?;
        Ok(Checked { node: Node::Loop(Box::new(Loop { over: over.node, how })), kind })
    }

    fn how(&mut self, written: &Written<'_>) -> Result<(How, Type<'s>), CompileError> {
        let bool = || Type::of(Kinds::BOOL);
        Ok(match written {
            Written::All(test) => (How::All(self.check_kind(test, Kinds::BOOL, "`all`")?.node), bool()),
            Written::Exists(test) => {
                (How::Exists(self.check_kind(test, Kinds::BOOL, "`exists`")?.node), bool())
            }
            Written::ExistsOne(test) => {
                (How::ExistsOne(self.check_kind(test, Kinds::BOOL, "`exists_one`")?.node), bool())
            }
            Written::Collect { filter, each } => {
                let filter = match filter {
                    Some(filter) => Some(self.check_kind(filter, Kinds::BOOL, "`filter`")?.node),
                    None => None,
                };
                let each = self.check(each)?;
                (How::Collect { filter, each: each.node }, Type::list(each.kind))
            }
        })
    }
}
