//! Durations as they are written in the configuration: `500ms`, `3s`, `2m`, `1h`.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a duration; write a whole number with `ms`, `s`, `m` or `h`, from 1ms to 24h")]
pub(super) struct InvalidDuration(String);

/// A timeout beyond a day is a mistake of the unit.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Parses a whole number with its unit, more than nothing and at most a day.
///
/// # Errors
/// When the text has another form.
pub(super) fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let milliseconds_per_unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let milliseconds =
        number.parse::<u64>().ok().and_then(|number| number.checked_mul(milliseconds_per_unit));
    milliseconds
        .map(Duration::from_millis)
        .filter(|duration| !duration.is_zero() && *duration <= LONGEST)
        .ok_or_else(|| InvalidDuration(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("500ms", Some(500); "milliseconds")]
    #[test_case("3s", Some(3_000); "seconds")]
    #[test_case("2m", Some(120_000); "minutes")]
    #[test_case("24h", Some(86_400_000); "the longest")]
    #[test_case("25h", None; "too long")]
    #[test_case("0s", None; "nothing")]
    #[test_case("3", None; "no unit")]
    #[test_case("s", None; "no number")]
    #[test_case("-3s", None; "negative")]
    #[test_case("+3s", None; "sign")]
    #[test_case("1.5s", None; "fraction")]
    #[test_case("3 s", None; "blank")]
    #[test_case("3S", None; "upper case")]
    #[test_case("1m30s", None; "two units")]
    #[test_case("99999999999999999999s", None; "overflow of the number")]
    #[test_case("18446744073709551615h", None; "overflow of the product")]
    #[test_case("", None; "empty")]
    fn durations_are_whole_numbers_with_a_unit(text: &str, expected: Option<u64>) {
        assert_eq!(parse(text).ok(), expected.map(Duration::from_millis));
    }
}
