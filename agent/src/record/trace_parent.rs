//! The trace that a request belongs to, as its client says in [`traceparent`]: read, and passed on as it came.
//!
//! [`traceparent`]: https://www.w3.org/TR/trace-context/#traceparent-header

use http::HeaderMap;
use serde::Serialize;

/// The header's name.
const HEADER: &str = "traceparent";

/// How long the header is in the version that everybody writes.
const LENGTH: usize = 55;

/// The client's trace and span: keys as OpenTelemetry has them in logs that are no OTLP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TraceParent {
    /// 32 hexadecimal digits, not all of them zeros.
    pub trace_id: String,
    /// The client's span: 16 such digits.
    pub span_id: String,
    /// Two digits; the last bit says that the client records its span.
    pub trace_flags: String,
}

impl TraceParent {
    /// What the headers say; none where they say nothing, or something that is not well-formed.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(HEADER).into_iter();
        let only = values.next().filter(|_| values.next().is_none())?;
        Self::parse(only.to_str().ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace_id) = (digits(parts.next()?, 2)?, digits(parts.next()?, 32)?);
        let (span_id, trace_flags) = (digits(parts.next()?, 16)?, digits(parts.next()?, 2)?);
        let is_whole = match version {
            "ff" => false,
            "00" => text.len() == LENGTH,
            // Later versions may have more behind.
            _ => true,
        };
        let is_zero = |digits: &str| digits.bytes().all(|digit| digit == b'0');
        (is_whole && !is_zero(trace_id) && !is_zero(span_id)).then(|| Self {
            trace_id: trace_id.to_owned(),
            span_id: span_id.to_owned(),
            trace_flags: trace_flags.to_owned(),
        })
    }
}

/// Hexadecimal digits in lower case, as the header has them.
fn digits(text: &str, length: usize) -> Option<&str> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == length && text.bytes().all(is_digit)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;
    use test_case::test_case;

    const WELL_FORMED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_well_formed_header_names_trace_and_span() {
        let expected = TraceParent {
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            span_id: "00f067aa0ba902b7".to_owned(),
            trace_flags: "01".to_owned(),
        };
        assert_eq!(TraceParent::parse(WELL_FORMED), Some(expected));
    }

    #[test_case("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what", true; "more of a later version")]
    #[test_case("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true; "a later version")]
    #[test_case("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what", false; "more of this version")]
    #[test_case("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false; "no version")]
    #[test_case("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false; "no trace")]
    #[test_case("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false; "no span")]
    #[test_case("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false; "upper case")]
    #[test_case("00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01", false; "no digit")]
    #[test_case("00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01", false; "other separators")]
    #[test_case("", false; "empty")]
    fn only_well_formed_headers_count(text: &str, expected: bool) {
        assert_eq!(TraceParent::parse(text).is_some(), expected);
    }

    #[test]
    fn of_two_headers_none_counts() {
        let mut headers = HeaderMap::new();
        assert_eq!(TraceParent::of(&headers), None);
        headers.append(HEADER, HeaderValue::from_static(WELL_FORMED));
        assert!(TraceParent::of(&headers).is_some());
        headers.append(HEADER, HeaderValue::from_static(WELL_FORMED));
        assert_eq!(TraceParent::of(&headers), None);
        headers.insert(HEADER, HeaderValue::from_bytes(b"00-\xff").unwrap());
        assert_eq!(TraceParent::of(&headers), None);
    }

    #[test]
    fn no_prefix_of_a_header_is_one() {
        for end in 0..WELL_FORMED.len() {
            assert_eq!(TraceParent::parse(&WELL_FORMED[..end]), None, "{end}");
        }
    }

    proptest! {
        #[test]
        fn nothing_else_than_digits_comes_of_any_text(text in "[0-9a-f-]{50,60}|.*") {
            if let Some(TraceParent { trace_id, span_id, trace_flags }) = TraceParent::parse(&text) {
                prop_assert_eq!((trace_id.len(), span_id.len(), trace_flags.len()), (32, 16, 2));
                prop_assert!((trace_id + &span_id + &trace_flags).bytes().all(|byte| byte.is_ascii_hexdigit()));
            }
        }
    }
}
