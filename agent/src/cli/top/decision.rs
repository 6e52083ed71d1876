//! A record of the log as far as `tidegate top` shows it.

use crate::cli::audit::table;
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Longer texts are cut: a record's path or detail may be as long as its sender likes.
pub(super) const MAX_CHARS: usize = 200;
/// Longer names are none that a configuration has.
pub(super) const MAX_NAME_CHARS: usize = 64;

/// What became of a request or connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Allowed,
    Refused,
    /// Refused, but for dry-run.
    DryRun,
    /// Passed on without a decision.
    Passed,
}

impl Answer {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Allowed => "allow",
            Self::Refused => "deny",
            Self::DryRun => "dry-run",
            Self::Passed => "pass",
        }
    }

    pub(super) fn is_refusal(self) -> bool {
        matches!(self, Self::Refused | Self::DryRun)
    }
}

/// One decision. No text in it steers a terminal, and none is longer than [`MAX_CHARS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// Seconds since the epoch; None where the record does not say.
    pub(super) second: Option<i64>,
    /// The time of day, UTC.
    pub(super) time: String,
    pub(super) workload: String,
    pub(super) policy: String,
    pub(super) answer: Answer,
    /// How many equal ones the record stands for.
    pub(super) count: u64,
    /// The catalogue's operation, or, without one, the request.
    pub(super) operation: String,
    pub(super) request: String,
    pub(super) status: String,
    pub(super) why: String,
    /// How long the request took; None where there was no request.
    pub(super) microseconds: Option<u64>,
}

impl Decision {
    /// None where the line is no outcome: a checkpoint, or a write's first line.
    pub(super) fn of(line: &[u8]) -> Option<Self> {
        let record: Map<String, Value> = serde_json::from_slice(line).ok()?;
        let text = |key: &str| table::text(&record, key);
        let number = |key: &str| record.get(key).and_then(Value::as_u64);
        if text("tidegate.phase") != "outcome" {
            return None;
        }
        let answer = match (&*text("tidegate.decision"), &*text("tidegate.verdict")) {
            (_, "would_refuse") => Answer::DryRun,
            (_, "passed") => Answer::Passed,
            ("allow", _) => Answer::Allowed,
            _ => Answer::Refused,
        };
        let timestamp = text("timestamp");
        let request = table::request(&record);
        let operation = text("tidegate.operation");
        let is_request = !text("http.request.method").is_empty();
        Some(Self {
            second: OffsetDateTime::parse(&timestamp, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp),
            time: timestamp.chars().skip("2026-11-22T".len()).take("10:00:00".len()).collect(),
            workload: cut(&text("tidegate.workload"), MAX_NAME_CHARS),
            policy: cut(&text("tidegate.policy"), MAX_NAME_CHARS),
            answer,
            count: number("tidegate.count").unwrap_or(1).max(1),
            operation: cut(if operation.is_empty() { &request } else { &operation }, MAX_CHARS),
            request: cut(&request, MAX_CHARS),
            status: number("http.response.status_code").map_or("-".to_owned(), |status| status.to_string()),
            why: cut(&table::why(&record), MAX_CHARS),
            microseconds: number("tidegate.duration_us.total").filter(|_| is_request),
        })
    }
}

/// At most so many characters; a last one of `…` says that there were more.
pub(super) fn cut(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        None => text.to_owned(),
        Some(_) => {
            let kept = text.chars().take(max_chars.saturating_sub(1));
            kept.chain(['…']).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use test_case::test_case;

    fn decision(line: &str) -> Option<Decision> {
        Decision::of(line.as_bytes())
    }

    #[test]
    fn a_record_is_shown_escaped_and_cut() {
        let long = "a".repeat(5_000);
        let line = format!(
            r#"{{"timestamp":"2026-11-22T10:00:02.000001Z","tidegate.phase":"outcome","tidegate.workload":"bots","tidegate.policy":"p","tidegate.decision":"deny","tidegate.verdict":"refused","tidegate.reason":"missing_scope","tidegate.scopes.missing":["droplet:delete"],"http.request.method":"DELETE","url.path":"/\u001b[2J{long}","http.response.status_code":403,"tidegate.count":7,"tidegate.duration_us.total":12}}"#
        );
        let decision = decision(&line).unwrap();
        assert_eq!((decision.second, &*decision.time), (Some(1_795_341_602), "10:00:02"));
        assert_eq!((&*decision.workload, &*decision.policy, &*decision.status), ("bots", "p", "403"));
        assert_eq!((decision.answer, decision.count, decision.microseconds), (Answer::Refused, 7, Some(12)));
        assert_eq!(decision.why, "missing_scope: droplet:delete");
        assert!(decision.request.starts_with("DELETE /\\u{1b}[2Jaaa") && decision.request.ends_with('…'));
        assert_eq!(decision.request.chars().count(), MAX_CHARS);
        assert_eq!(decision.operation, decision.request, "there is no operation");
    }

    #[test_case(r#""tidegate.decision":"allow","tidegate.verdict":"forwarded""#, Answer::Allowed; "forwarded")]
    #[test_case(r#""tidegate.decision":"allow","tidegate.verdict":"passed""#, Answer::Passed; "passed")]
    #[test_case(r#""tidegate.decision":"allow","tidegate.verdict":"closed""#, Answer::Allowed; "broken off")]
    #[test_case(r#""tidegate.decision":"deny","tidegate.verdict":"closed""#, Answer::Refused; "closed")]
    #[test_case(r#""tidegate.decision":"deny","tidegate.verdict":"would_refuse""#, Answer::DryRun; "dry-run")]
    #[test_case(r#""tidegate.decision":7"#, Answer::Refused; "nonsense")]
    fn answers_are_told_apart(fields: &str, expected: Answer) {
        let decision = decision(&format!(r#"{{"tidegate.phase":"outcome",{fields}}}"#)).unwrap();
        assert_eq!((decision.answer, decision.second, decision.count), (expected, None, 1));
    }

    #[test_case("", false; "empty")]
    #[test_case("{\"tidegate.phase\":\"outc", false; "torn")]
    #[test_case("{\"tidegate.phase\":\"intent\"}", false; "intent")]
    #[test_case("{\"tidegate.phase\":\"checkpoint\"}", false; "checkpoint")]
    #[test_case("[]", false; "no object")]
    #[test_case("{\"tidegate.phase\":\"outcome\"}", true; "outcome")]
    fn only_outcomes_are_decisions(line: &str, expected: bool) {
        assert_eq!(decision(line).is_some(), expected);
    }

    #[test_case("abc", 3, "abc"; "fits")]
    #[test_case("abcd", 3, "ab…"; "too long")]
    #[test_case("ääää", 2, "ä…"; "characters, not bytes")]
    #[test_case("a", 0, "…"; "no room")]
    fn texts_are_cut(text: &str, max_chars: usize, expected: &str) {
        assert_eq!(cut(text, max_chars), expected);
    }

    proptest! {
        #[test]
        fn nothing_in_a_decision_steers_a_terminal(value in any::<String>(), bytes: Vec<u8>) {
            let _ = Decision::of(&bytes);
            let fields = ["timestamp", "tidegate.workload", "tidegate.policy", "tidegate.operation",
                "tidegate.reason", "url.path", "http.request.method", "tidegate.rule"];
            let mut record: Map<String, Value> =
                fields.iter().map(|key| ((*key).to_owned(), Value::from(value.clone()))).collect();
            record.insert("tidegate.phase".to_owned(), "outcome".into());
            let line = serde_json::to_vec(&record).unwrap();
            let decision = Decision::of(&line).unwrap();
            let Decision { time, workload, policy, operation, request, status, why, .. } = decision;
            for text in [time, workload, policy, operation, request, status, why] {
                prop_assert!(!text.chars().any(char::is_control), "{text:?}");
                prop_assert!(text.chars().count() <= MAX_CHARS);
            }
        }
    }
}
