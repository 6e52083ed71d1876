//! The taint that keeps pods from a node until an agent holds it, and how it is taken off.

use serde_json::{Value, json};

/// The taint's key; its value and effect are a matter of whoever sets it.
pub const KEY: &str = "tidegate.dev/agent-not-ready";

/// The JSON Patch that takes it off a node with these taints; none where it is not there.
///
/// What is removed is compared first: where others have changed the list in such a way that another taint is in its place,
/// the API server refuses the whole patch.
pub fn removal(taints: &[Value]) -> Option<Value> {
    let is_own = |(_, taint): &(usize, &Value)| taint.get("key").and_then(Value::as_str) == Some(KEY);
    // From the end on: whatever goes moves what is behind it.
    let own = taints.iter().enumerate().rev().filter(is_own);
    let operations = own.flat_map(|(place, taint)| {
        let path = format!("/spec/taints/{place}");
        [json!({ "op": "test", "path": path, "value": taint }), json!({ "op": "remove", "path": path })]
    });
    let operations: Vec<Value> = operations.collect();
    (!operations.is_empty()).then(|| operations.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn own(effect: &str) -> Value {
        json!({ "key": KEY, "effect": effect })
    }

    fn other(key: &str) -> Value {
        json!({ "key": key, "value": "x", "effect": "NoSchedule", "timeAdded": "2026-11-02T03:04:05Z" })
    }

    #[test_case(&[], &[]; "none")]
    #[test_case(&[other("a"), other("b")], &[]; "others alone")]
    #[test_case(&[other("tidegate.dev/agent-not-ready-yet"), other("agent-not-ready")], &[]; "others with names like it")]
    #[test_case(&[json!({ "effect": "NoSchedule" }), json!("tidegate.dev/agent-not-ready")], &[]; "of another shape")]
    #[test_case(&[own("NoExecute")], &[0]; "it alone")]
    #[test_case(&[other("a"), own("NoSchedule"), other("b")], &[1]; "between others")]
    #[test_case(&[own("NoSchedule"), other("a"), own("NoExecute")], &[2, 0]; "with two effects")]
    #[test_case(&[json!({ "key": KEY, "value": "v", "effect": "PreferNoSchedule", "new": [1] })], &[0]; "with more than is known")]
    fn it_alone_is_removed_where_it_was_read(taints: &[Value], places: &[usize]) {
        let expected: Vec<Value> = places
            .iter()
            .flat_map(|place| {
                let path = format!("/spec/taints/{place}");
                [
                    json!({ "op": "test", "path": path, "value": taints[*place] }),
                    json!({ "op": "remove", "path": path }),
                ]
            })
            .collect();
        assert_eq!(removal(taints).unwrap_or_else(|| json!([])), Value::from(expected.clone()));
        assert_eq!(removal(taints).is_none(), expected.is_empty());
    }
}
