//! Writing YAML.

use serde_json::Value;
use std::fmt::Write as _;

/// The value as a document, in block style.
pub(super) fn text(value: &Value) -> String {
    let mut text = String::new();
    write(value, 0, &mut text);
    text
}

fn write(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(keys) if !keys.is_empty() => {
            for (at, (key, value)) in keys.iter().enumerate() {
                // The first key of a list's item stands behind the dash.
                let indent = if at == 0 && text.ends_with("- ") { "" } else { &indent };
                let _ = write!(text, "{indent}{}:", word(key));
                below(value, depth, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let _ = write!(text, "{indent}- ");
                write(item, depth + 1, text);
            }
        }
        Value::String(string) => {
            let _ = writeln!(text, "{}", word(string));
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            let _ = writeln!(text, "{other}");
        }
    }
}

fn below(value: &Value, depth: usize, text: &mut String) {
    let is_block = match value {
        Value::Object(keys) => !keys.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    text.push(if is_block { '\n' } else { ' ' });
    // Items of a list stand below their key, as `kubectl` writes them.
    let inner = if value.is_array() { depth } else { depth + 1 };
    write(value, inner, text);
}

/// Bare where nobody can take it for anything else.
fn word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./$".contains(&byte);
    let is_bare = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '$')
        && text.bytes().all(is_plain)
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_lowercase().as_str());
    if is_bare { text.to_owned() } else { Value::from(text).to_string() }
}
