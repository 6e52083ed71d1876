//! Conditions in CEL: `when = '…'` of a rule or limit.

use super::Request;

/// A compiled and checked condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct When {
    text: String,
}

/// Why a condition has no answer for a request. The request is denied then.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct EvaluationError(pub String);

impl When {
    /// The expression as it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether its answer depends on the body.
    pub fn reads_body(&self) -> bool {
        true
    }

    /// Whether it is true of a request.
    ///
    /// # Errors
    /// When it has no answer: a field that is not there, a value of another type.
    pub fn holds(&self, _request: &Request<'_>) -> Result<bool, EvaluationError> {
        Err(EvaluationError("not evaluated".to_owned()))
    }
}
