//! A record in one short sentence, for those who read a list of many.

use crate::record::redact::escape_control;
use serde_json::{Map, Value};

/// Such as `ci: deny DELETE /v2/droplets/1 (missing_scope)`.
pub(super) fn sentence(record: &Map<String, Value>) -> String {
    let text = |key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default();
    let what = match text("http.request.method") {
        "" => text("server.address").to_owned(),
        method => format!("{method} {}", text("url.path")),
    };
    let (workload, decision) = (text("tidegate.workload"), text("tidegate.decision"));
    let sentence = format!("{workload}: {decision} {what} ({})", text("tidegate.reason"));
    escape_control(&sentence).into_owned()
}
