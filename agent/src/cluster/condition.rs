//! What an object's status says of it: the condition `Accepted`.

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The condition's type.
pub const ACCEPTED: &str = "Accepted";

/// What is said of an object as it is. It depends on nothing but objects and the agents' files, so that all agents say the
/// same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether the object counts as it is.
    pub is_accepted: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
    /// Of which generation.
    pub generation: i64,
}

impl Condition {
    /// It counts.
    pub fn accepted(generation: i64, message: &str) -> Self {
        Self { is_accepted: true, reason: "Accepted", message: message.to_owned(), generation }
    }

    /// It does not.
    pub fn refused(generation: i64, reason: &'static str, message: String) -> Self {
        Self { is_accepted: false, reason, message, generation }
    }

    fn status(&self) -> &'static str {
        if self.is_accepted { "True" } else { "False" }
    }

    /// Whether an object's status says this already.
    pub fn is_in(&self, status: &Value) -> bool {
        let says = |condition: &Value| {
            condition["status"] == self.status()
                && condition["reason"] == self.reason
                && condition["message"] == self.message.as_str()
                && condition["observedGeneration"] == self.generation
        };
        status["observedGeneration"] == self.generation && found(status).is_some_and(says)
    }

    /// The status that says it, with what the one before says of other things.
    pub fn put_into(&self, status: &Value, now: OffsetDateTime) -> Value {
        let before = found(status).filter(|condition| condition["status"] == self.status());
        let since = before.map(|condition| condition["lastTransitionTime"].clone());
        let now = || now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default().into();
        let condition = json!({
            "type": ACCEPTED,
            "status": self.status(),
            "observedGeneration": self.generation,
            "lastTransitionTime": since.filter(Value::is_string).unwrap_or_else(now),
            "reason": self.reason,
            "message": self.message,
        });
        let others = conditions(status).filter(|condition| condition["type"] != ACCEPTED).cloned();
        let conditions: Vec<Value> = others.chain([condition]).collect();
        json!({ "observedGeneration": self.generation, "conditions": conditions })
    }
}

/// What a status says already of a generation: whether it counts, and why not. Two agents that disagree differ in this.
pub fn said(status: &Value) -> Option<(i64, String, String)> {
    let condition = found(status)?;
    let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
    Some((condition["observedGeneration"].as_i64()?, text("status"), text("message")))
}

fn conditions(status: &Value) -> impl Iterator<Item = &Value> {
    status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

fn found(status: &Value) -> Option<&Value> {
    conditions(status).find(|condition| condition["type"] == ACCEPTED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn what_is_written_is_there_and_is_not_written_again() {
        let accepted = Condition::accepted(3, "in force");
        assert!(!accepted.is_in(&Value::Null) && !accepted.is_in(&json!({ "conditions": 3 })));
        let status = accepted.put_into(&Value::Null, datetime!(2026-01-02 3:04:05.678 UTC));
        assert!(accepted.is_in(&status));
        assert_eq!(status["conditions"][0]["lastTransitionTime"], "2026-01-02T03:04:05Z");
        assert_eq!(said(&status), Some((3, "True".into(), "in force".into())));
        for other in [
            Condition::accepted(4, "in force"),
            Condition::accepted(3, "else"),
            Condition::refused(3, "Invalid", "in force".into()),
        ] {
            assert!(!other.is_in(&status), "{other:?}");
        }
    }

    #[test]
    fn the_time_is_that_of_the_change_and_other_conditions_stay() {
        let other = json!({ "type": "Reviewed", "status": "True" });
        let before = json!({ "conditions": [other, { "type": "Accepted", "status": "True",
            "lastTransitionTime": "2025-01-01T00:00:00Z" }] });
        let now = datetime!(2026-01-01 0:00 UTC);
        let same = Condition::accepted(2, "m").put_into(&before, now);
        assert_eq!(same["conditions"][0], other);
        assert_eq!(same["conditions"][1]["lastTransitionTime"], "2025-01-01T00:00:00Z");
        let changed = Condition::refused(3, "Invalid", "m".into()).put_into(&same, now);
        assert_eq!(changed["conditions"][1]["lastTransitionTime"], "2026-01-01T00:00:00Z");
        assert_eq!(changed["conditions"].as_array().unwrap().len(), 2);
    }
}
