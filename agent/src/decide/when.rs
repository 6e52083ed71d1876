//! Conditions in CEL: `when = '…'` of a rule or limit. Pure.
//!
//! The crate `cel` parses; its interpreter is not used, since it checks no types beforehand, counts no cost, copies
//! what it is given and repeats values in its errors. What is evaluated here is a part of CEL, with CEL's meaning, to
//! which the tests hold it by comparing it with that interpreter:
//!
//! - Absent fields and values of other kinds are errors. `&&` and `||` answer in spite of an error where the other
//!   side decides alone, as `all` and `exists` do where another element decides.
//! - A whole number of JSON is an int, or a uint beyond an int's range, any other number is a double. Comparing
//!   numbers is exact across these; computing with two of them is an error.
//! - Left out are regular expressions, maps and messages made in the condition, bytes, timestamps (there is `now`)
//!   and macros over a map's keys; a field's name is always written out, so that it can be checked.
//!
//! # Cost
//!
//! A text has at most 4096 bytes and 256 nodes, nested at most 48 deep, with at most two macros within one another. An
//! evaluation takes at most 100,000 steps. Evaluating a node is one, and so are each element that a comparison,
//! `in`, `+` or a macro looks at and every 64 bytes of text that is compared, searched, copied or counted; a field is
//! looked up in a sorted map. So neither the body nor the query can make an evaluation long: one that would be is an
//! error, which no `||` hides. Memory is bounded the same way, since whatever is made is counted first.

mod check;
mod evaluate;
mod program;
mod syntax;
mod types;
mod value;
mod variables;

use super::Request;
use crate::classify::{Catalogue, Operation, condition::Place, needs::Target};
use check::Checker;
use evaluate::Evaluation;
use program::Node;
use std::{collections::BTreeSet, fmt, sync::Arc};
use value::Fault;

/// A compiled and checked condition.
#[derive(Clone)]
pub struct When {
    compiled: Arc<Compiled>,
}

struct Compiled {
    text: String,
    program: Node,
    reads_body: bool,
    names: BTreeSet<Box<str>>,
}

/// Why a text is no condition.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub struct CompileError {
    /// What is wrong.
    pub message: String,
    /// Where: the line and column, from 1 on, where they are known.
    pub position: Option<(usize, usize)>,
    /// What to look for in the text to know the position.
    offending: Option<String>,
}

/// Why a condition has no answer for a request. The request is denied then. No text in it comes from the values of
/// a body, only names of fields.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct EvaluationError(pub String);

impl When {
    /// Compiles a condition for the requests of some operations: those that its rule could concern.
    ///
    /// # Errors
    /// When it is no CEL, speaks of what no request of these operations has, compares or calls what does not fit,
    /// or is larger than a condition may be.
    pub fn compile(
        text: &str,
        catalogue: &Catalogue,
        operations: &[&Operation],
    ) -> Result<Self, CompileError> {
        let tree = syntax::parse(text)?;
        let mut checker = Checker::new(operations, catalogue);
        let checked = checker.check(&tree).and_then(|checked| checked.or_not_bool());
        let program = checked.map_err(|error| error.located(text))?;
        let in_body = |target: &Target| matches!(target.place, Place::Body(_));
        let resources_in_body = operations.iter().any(|operation| operation.targets.iter().any(in_body));
        let compiled = Compiled {
            text: text.to_owned(),
            program,
            reads_body: checker.reads_body || (checker.reads_resources && resources_in_body),
            names: checker.names,
        };
        Ok(Self { compiled: Arc::new(compiled) })
    }

    /// The expression as it is written.
    pub fn text(&self) -> &str {
        &self.compiled.text
    }

    /// Whether its answer depends on the body.
    pub fn reads_body(&self) -> bool {
        self.compiled.reads_body
    }

    /// The names of the fields that it looks at, at whatever depth of the body.
    pub fn names(&self) -> &BTreeSet<Box<str>> {
        &self.compiled.names
    }

    /// Whether it is true of a request.
    ///
    /// # Errors
    /// When it has no answer: a field that is not there, a value of another kind, or a body that makes it too
    /// costly.
    pub fn holds(&self, request: &Request<'_>) -> Result<bool, EvaluationError> {
        Evaluation::new(request).truth(&self.compiled.program).map_err(|fault| match fault {
            Fault::Error(message) => EvaluationError(message),
            Fault::TooCostly => EvaluationError(format!(
                "the body or query makes the condition take more than {} steps",
                evaluate::MAX_STEPS
            )),
        })
    }
}

impl PartialEq for When {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for When {}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("When").field(&self.text()).finish()
    }
}

impl CompileError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), position: None, offending: None }
    }

    /// At a place of the text, in bytes.
    fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { position: Some((line, column)), ..Self::new(message) }
    }

    /// Of a part that can be found in the text, if it is written there without blanks.
    fn about(message: impl Into<String>, offending: Option<String>) -> Self {
        Self { offending, ..Self::new(message) }
    }

    fn located(self, text: &str) -> Self {
        let Some(offending) = &self.offending else { return self };
        let is_word = |character: char| character.is_alphanumeric() || character == '_';
        let stands_alone = |(offset, found): &(usize, &str)| {
            let before = text.get(..*offset).is_some_and(|before| before.ends_with(is_word));
            let after = text.get(offset + found.len()..).is_some_and(|after| after.starts_with(is_word));
            !before && !after
        };
        match text.match_indices(offending.as_str()).find(stands_alone) {
            Some((offset, _)) => Self::at(text, offset, self.message),
            None => Self { offending: None, ..self },
        }
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some((1, column)) => write!(f, "{} (column {column} of the condition)", self.message),
            Some((line, column)) => {
                write!(f, "{} (line {line}, column {column} of the condition)", self.message)
            }
            None => f.write_str(&self.message),
        }
    }
}

#[cfg(test)]
mod tests;
