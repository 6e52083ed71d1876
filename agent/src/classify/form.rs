//! Forms: some servers take a POST for another method's request where a form's field `_method` says so. Pure.

/// The most that is read of a form before it goes on, which is more than the API takes of any body.
pub const MAX_FORM_BYTES: usize = 1 << 20;

/// Whether a body, read as a form, has a field `_method`. What follows a name decides nothing: a server may see
/// a field where another sees none.
pub fn overrides_method(body: &[u8]) -> bool {
    body.split(|byte| matches!(byte, b'&' | b';')).any(|field| {
        let name = field.split(|byte| *byte == b'=').next().unwrap_or_default();
        is_override(&decode(name))
    })
}

/// Blanks and brackets are what servers strip of a field's name.
fn is_override(name: &[u8]) -> bool {
    let kept: Vec<u8> = name
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b'[' | b']' | 0))
        .map(u8::to_ascii_lowercase)
        .collect();
    kept == b"_method"
}

pub(super) fn decode(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        let escape =
            tail.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(if *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("_method=DELETE", true; "the field")]
    #[test_case("name=a&_method=DELETE", true; "behind another")]
    #[test_case("name=a;_METHOD=DELETE", true; "in capitals behind a semicolon")]
    #[test_case("%5fmeth%6Fd=DELETE", true; "escaped")]
    #[test_case("[_method]=DELETE", true; "in brackets")]
    #[test_case("+_method[]=DELETE", true; "with a blank and brackets")]
    #[test_case("_method", true; "without a value")]
    #[test_case(r#"{"name":"a","payment_method":"card"}"#, false; "json with another name")]
    #[test_case(r#"{"_method":"DELETE"}"#, false; "json, which no form reader takes apart so")]
    #[test_case("name=_method", false; "as a value")]
    #[test_case("x_method=DELETE", false; "in a longer name")]
    #[test_case("", false; "nothing")]
    fn a_form_that_overrides_the_method_is_found(body: &str, expected: bool) {
        assert_eq!(overrides_method(body.as_bytes()), expected);
    }
}
