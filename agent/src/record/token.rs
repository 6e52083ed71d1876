//! The form of DigitalOcean's tokens, wherever they stand in a text.

use std::ops::Range;

/// Where a token stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// All of it.
    pub(super) range: Range<usize>,
    /// The length of its prefix, such as `dop_v1_`.
    pub(super) prefix_len: usize,
    /// `dop`, `doo`, `dor`, or `other`.
    pub(super) kind: &'static str,
}

/// Fewer letters and digits than this behind a prefix are prose about tokens.
const MIN_SECRET_LEN: usize = 8;
/// `dop`, `doo`, `dor`.
const TYPE_LEN: usize = 3;

/// Every token in `text`: `do`, a letter, `_v`, digits, `_` in any case, and the whole run of letters and digits behind
/// it. A real one has 64 hexadecimal digits, but a part of one, or one with something glued to it, is a secret as well.
pub(super) fn find_all(text: &[u8]) -> Vec<Token> {
    let mut found = Vec::new();
    let mut start = 0;
    while let Some(rest) = text.get(start..)
        && !rest.is_empty()
    {
        match token_len(rest) {
            Some((prefix_len, length, kind)) => {
                found.push(Token { range: start..start + length, prefix_len, kind });
                start += length;
            }
            None => start += 1,
        }
    }
    found
}

fn token_len(text: &[u8]) -> Option<(usize, usize, &'static str)> {
    let (letter, rest) = prefix(text)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let secret = rest.get(digits..)?.strip_prefix(b"_")?;
    let mut secret_len = secret.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    // Of two tokens without anything between, the second one's first letters are not the first one's last.
    if let Some(next) = secret_len.checked_sub(TYPE_LEN)
        && secret.get(next..).and_then(prefix).is_some()
    {
        secret_len = next;
    }
    if digits == 0 || secret_len < MIN_SECRET_LEN {
        return None;
    }
    let kind = match letter.to_ascii_lowercase() {
        b'p' => "dop",
        b'o' => "doo",
        b'r' => "dor",
        _ => "other",
    };
    let prefix_len = text.len() - secret.len();
    Some((prefix_len, prefix_len + secret_len, kind))
}

/// The letter of the type, and what stands behind `_v`.
fn prefix(text: &[u8]) -> Option<(u8, &[u8])> {
    match text {
        [b'd' | b'D', b'o' | b'O', letter, b'_', b'v' | b'V', rest @ ..] if letter.is_ascii_alphabetic() => {
            Some((*letter, rest))
        }
        _ => None,
    }
}

/// The bytes that base64 (of either alphabet) stands for, up to its padding or the first byte that is none.
pub(super) fn from_base64(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len() / 4 * 3);
    let mut bits: u32 = 0;
    let mut bit_count = 0;
    for value in text.iter().map_while(|&byte| base64_value(byte)) {
        bits = bits << 6 | u32::from(value);
        bit_count += 6;
        if bit_count >= 8 {
            bit_count -= 8;
            decoded.push((bits >> bit_count) as u8);
        }
    }
    decoded
}

/// The six bits that a letter of base64 stands for.
pub(super) fn base64_value(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("dop_v1_0123456789abcdef", Some((0..23, 7, "dop")); "a part of a token")]
    #[test_case("x dor_v1_01234567 y", Some((2..17, 7, "dor")); "in a text")]
    #[test_case("DOO_V12_ABCDEF01", Some((0..16, 8, "doo")); "upper case, another version")]
    #[test_case("dos_v1_abcdef01", Some((0..15, 7, "other")); "another letter")]
    #[test_case("dodop_v1_abcdef01", Some((2..17, 7, "dop")); "a false start")]
    #[test_case("dop_v1_abcdef0", None; "too short")]
    #[test_case("dop_v_abcdef01", None; "no version")]
    #[test_case("do1_v1_abcdef01", None; "no letter")]
    #[test_case("dop-v1-abcdef01", None; "other separators")]
    fn tokens_are_found(text: &str, expected: Option<(Range<usize>, usize, &'static str)>) {
        let found = find_all(text.as_bytes());
        assert_eq!(found.first().map(|token| (token.range.clone(), token.prefix_len, token.kind)), expected);
    }

    #[test_case("", "")]
    #[test_case("YQ==", "a")]
    #[test_case("dXNlcjpwYXNz", "user:pass")]
    #[test_case("dXNlcjpwYXNz rest", "user:pass"; "stops at a blank")]
    #[test_case("Pz8_Pj4-", "???>>>"; "url alphabet")]
    #[test_case("Pz8/Pj4+", "???>>>"; "standard alphabet")]
    fn base64_is_decoded(text: &str, expected: &str) {
        assert_eq!(from_base64(text.as_bytes()), expected.as_bytes());
    }
}
