//! A record's keys and values as OTLP has them, and whose they are.

use nix::unistd::gethostname;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value},
    resource::v1::Resource,
};
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A record as it stands in the log.
pub(super) type Record = Map<String, Value>;

/// What OTLP has other places for.
const ELSEWHERE: [&str; 4] = ["timestamp", "trace_id", "span_id", "trace_flags"];

/// Every key that has no other place, with a value of its own type.
pub(super) fn attributes(record: &Record) -> Vec<KeyValue> {
    let keys = record.iter().filter(|(key, _)| !ELSEWHERE.contains(&key.as_str()));
    keys.map(|(key, value)| attribute(key, any(value))).collect()
}

pub(super) fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn any(value: &Value) -> any_value::Value {
    match value {
        Value::Null => any_value::Value::StringValue(String::new()),
        Value::Bool(bool) => any_value::Value::BoolValue(*bool),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(integer), _, _) => any_value::Value::IntValue(integer),
            // Beyond OTLP's integers, and a fraction would say something else.
            (None, Some(large), _) => any_value::Value::StringValue(large.to_string()),
            (None, None, fraction) => any_value::Value::DoubleValue(fraction.unwrap_or_default()),
        },
        Value::String(text) => any_value::Value::StringValue(text.clone()),
        Value::Array(values) => {
            let values = values.iter().map(|value| AnyValue { value: Some(any(value)) });
            any_value::Value::ArrayValue(ArrayValue { values: values.collect() })
        }
        Value::Object(map) => {
            let values = map.iter().map(|(key, value)| attribute(key, any(value)));
            any_value::Value::KvlistValue(KeyValueList { values: values.collect() })
        }
    }
}

pub(super) fn text<'r>(record: &'r Record, key: &str) -> &'r str {
    record.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// When the request began, in nanoseconds; 0 where that cannot be read, which OTLP reads as unknown.
pub(super) fn unix_nanos(record: &Record) -> u64 {
    let time = OffsetDateTime::parse(text(record, "timestamp"), &Rfc3339);
    time.ok().and_then(|time| u64::try_from(time.unix_timestamp_nanos()).ok()).unwrap_or_default()
}

/// This agent, on this machine.
pub(super) fn resource() -> Resource {
    let word = |text: &str| any_value::Value::StringValue(text.to_owned());
    let mut attributes = vec![
        attribute("service.name", word("tidegate")),
        attribute("service.version", word(env!("CARGO_PKG_VERSION"))),
    ];
    if let Ok(host) = gethostname() {
        attributes.push(attribute("host.name", word(&host.to_string_lossy())));
    }
    Resource { attributes, ..Resource::default() }
}

pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "tidegate.audit".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_keep_their_types() {
        let list = |values: &[&str]| {
            let values = values
                .iter()
                .map(|word| AnyValue { value: Some(any_value::Value::StringValue((*word).to_owned())) });
            any_value::Value::ArrayValue(ArrayValue { values: values.collect() })
        };
        for (value, expected) in [
            (json!("a"), any_value::Value::StringValue("a".to_owned())),
            (json!(7), any_value::Value::IntValue(7)),
            (json!(-7), any_value::Value::IntValue(-7)),
            (json!(u64::MAX), any_value::Value::StringValue("18446744073709551615".to_owned())),
            (json!(0.5), any_value::Value::DoubleValue(0.5)),
            (json!(true), any_value::Value::BoolValue(true)),
            (json!(["a", "b"]), list(&["a", "b"])),
            (json!([]), list(&[])),
            (
                json!({ "k": 1 }),
                any_value::Value::KvlistValue(KeyValueList {
                    values: vec![attribute("k", any_value::Value::IntValue(1))],
                }),
            ),
        ] {
            assert_eq!(any(&value), expected, "{value}");
        }
    }

    #[test]
    fn times_are_nanoseconds() {
        let at = |text: &str| unix_nanos(json!({ "timestamp": text }).as_object().unwrap());
        assert_eq!(at("1970-01-01T00:00:01.000002Z"), 1_000_002_000);
        assert_eq!(at("yesterday"), 0);
    }
}
