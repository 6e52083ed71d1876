//! The query, taken apart. Pure.

use super::form;

/// One parameter as it stands in the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair<'a> {
    /// The name, escaped.
    pub raw_name: &'a str,
    /// The value, escaped; empty where there is no `=`.
    pub raw_value: &'a str,
}

impl Pair<'_> {
    /// The name, decoded.
    pub fn name(&self) -> String {
        decode(self.raw_name)
    }

    /// The value, decoded.
    pub fn value(&self) -> String {
        decode(self.raw_value)
    }
}

/// The parameters of a query, in order.
pub fn pairs(query: &str) -> impl Iterator<Item = Pair<'_>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (raw_name, raw_value) = pair.split_once('=').unwrap_or((pair, ""));
        Pair { raw_name, raw_value }
    })
}

/// Undoes escapes and `+`; a text whose bytes are no UTF-8 stays as it is, so that it equals no other.
fn decode(text: &str) -> String {
    String::from_utf8(form::decode(text.as_bytes())).unwrap_or_else(|_| text.to_owned())
}
