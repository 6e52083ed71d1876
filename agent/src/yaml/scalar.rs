//! What a bare word is. Where YAML 1.1 and 1.2 see different things, it is no text.

/// The booleans of both.
const TRUE: [&str; 11] = ["true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"];
const FALSE: [&str; 11] = ["false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"];

/// What a bare word is to a reader that expects nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Meaning {
    Null,
    Bool(bool),
    /// A number in decimal digits, which is the same everywhere.
    Number(u64),
    /// A number to some readers: another base, a fraction, minutes and seconds.
    OtherNumber,
    Text,
}

pub(super) fn meaning(word: &str) -> Meaning {
    if is_null(word) {
        return Meaning::Null;
    }
    if TRUE.contains(&word) {
        return Meaning::Bool(true);
    }
    if FALSE.contains(&word) {
        return Meaning::Bool(false);
    }
    match word.parse() {
        // A leading zero is octal to one of them.
        Ok(number) if word == "0" || word.starts_with(|digit: char| ('1'..='9').contains(&digit)) => {
            Meaning::Number(number)
        }
        _ if is_like_a_number(word) => Meaning::OtherNumber,
        _ => Meaning::Text,
    }
}

pub(super) fn is_text(word: &str) -> bool {
    meaning(word) == Meaning::Text
}

pub(super) fn is_null(word: &str) -> bool {
    matches!(word, "" | "~" | "null" | "Null" | "NULL")
}

fn is_like_a_number(word: &str) -> bool {
    let unsigned = word.trim_start_matches(['+', '-']);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let is_hexadecimal = unsigned.strip_prefix("0x").is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'_')
    });
    let digits = unsigned.strip_prefix("0o").or(unsigned.strip_prefix("0b")).unwrap_or(unsigned);
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || b"_.:".contains(&byte));
    let is_decimal = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && digits.contains(|digit: char| digit.is_ascii_digit());
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    is_hexadecimal
        || (is_decimal && is_digits(mantissa) && is_digits(exponent.trim_start_matches(['+', '-'])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("", Meaning::Null; "nothing")]
    #[test_case("~", Meaning::Null; "tilde")]
    #[test_case("null", Meaning::Null; "null")]
    #[test_case("yes", Meaning::Bool(true); "yes")]
    #[test_case("off", Meaning::Bool(false); "off")]
    #[test_case("3164444", Meaning::Number(3_164_444); "an id")]
    #[test_case("0", Meaning::Number(0); "zero")]
    #[test_case("007", Meaning::OtherNumber; "octal to some")]
    #[test_case("-1", Meaning::OtherNumber; "negative")]
    #[test_case("1_000", Meaning::OtherNumber; "underscores")]
    #[test_case("1.5", Meaning::OtherNumber; "a fraction")]
    #[test_case("1e3", Meaning::OtherNumber; "an exponent")]
    #[test_case("0x1f", Meaning::OtherNumber; "hexadecimal")]
    #[test_case("12:30", Meaning::OtherNumber; "a time of the day")]
    #[test_case(".inf", Meaning::OtherNumber; "infinity")]
    #[test_case("99999999999999999999", Meaning::OtherNumber; "beyond 64 bits")]
    #[test_case("20%", Meaning::Text; "a share")]
    #[test_case("20/hour", Meaning::Text; "a rate")]
    #[test_case("api:read", Meaning::Text; "a scope")]
    #[test_case("nyc3", Meaning::Text; "a region")]
    #[test_case("3a", Meaning::Text; "letters and digits")]
    #[test_case("-", Meaning::Text; "a dash")]
    #[test_case("e", Meaning::Text; "an exponent of nothing")]
    #[test_case("nothing", Meaning::Text; "a word that begins like another")]
    fn words_that_readers_disagree_on_are_no_texts(word: &str, expected: Meaning) {
        assert_eq!(meaning(word), expected);
    }
}
