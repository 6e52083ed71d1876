use super::*;
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use test_case::test_case;

const RESET: u64 = 1_700_000_000;

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    fields.iter().map(field).collect()
}

fn budget(limit: u32, remaining: u32, reset: u64) -> Budget {
    Budget { limit: Some(limit), remaining: Some(remaining), reset: Some(reset) }
}

#[test_case(&[("ratelimit-limit", "5000"), ("ratelimit-remaining", "4816"), ("ratelimit-reset", "1700000000")], budget(5000, 4816, RESET); "all three")]
#[test_case(&[("RateLimit-Limit", "5000"), ("RateLimit-Remaining", "0"), ("RateLimit-Reset", "1700000000")], budget(5000, 0, RESET); "nothing left")]
#[test_case(&[("x-ratelimit-limit", "5000"), ("x-ratelimit-remaining", "5000"), ("x-ratelimit-reset", "1700000000")], budget(5000, 5000, RESET); "the older spelling")]
#[test_case(&[("ratelimit-remaining", "7"), ("x-ratelimit-limit", "5000")], Budget { remaining: Some(7), ..Budget::default() }; "the spellings are not mixed")]
#[test_case(&[("ratelimit-limit", "5000")], Budget { limit: Some(5000), ..Budget::default() }; "one alone")]
#[test_case(&[("ratelimit-limit", "5000"), ("ratelimit-limit", "5000")], Budget::default(); "twice")]
#[test_case(&[("ratelimit-limit", "100"), ("ratelimit-remaining", "101")], Budget::default(); "more left than there is")]
#[test_case(&[("ratelimit-limit", "5000, 250;w=60")], Budget::default(); "a list")]
#[test_case(&[("ratelimit-limit", "+5000")], Budget::default(); "a sign")]
#[test_case(&[("ratelimit-limit", "5e3")], Budget::default(); "an exponent")]
#[test_case(&[("ratelimit-limit", "")], Budget::default(); "empty")]
#[test_case(&[("ratelimit-limit", "4294967296")], Budget::default(); "beyond the type")]
#[test_case(&[("ratelimit-limit", "99999999999999999999999")], Budget::default(); "beyond any number")]
#[test_case(&[("ratelimit-reset", "3600")], Budget::default(); "seconds from now on")]
#[test_case(&[("ratelimit-reset", "1700000000000")], Budget::default(); "milliseconds")]
#[test_case(&[("ratelimit-reset", "1700000000.5")], Budget::default(); "a fraction")]
#[test_case(&[("ratelimit-limit", "x"), ("ratelimit-remaining", "7")], Budget { remaining: Some(7), ..Budget::default() }; "one unreadable")]
#[test_case(&[("content-type", "text/plain")], Budget::default(); "none")]
fn fields_are_read_strictly(fields: &[(&str, &str)], expected: Budget) {
    assert_eq!(Budget::of(&headers(fields)), expected);
}

#[test]
fn bytes_that_are_no_text_are_no_number() {
    let mut headers = HeaderMap::new();
    headers.insert("ratelimit-limit", HeaderValue::from_bytes(b"\xff\xfe").unwrap());
    assert_eq!(Budget::of(&headers), Budget::default());
}

#[test]
fn each_token_has_its_own_budget() {
    let (budgets, now) = (Budgets::default(), Instant::now());
    budgets.keep("a", budget(5000, 10, RESET), now);
    budgets.keep("b", budget(1000, 20, RESET), now);
    assert_eq!(budgets.of("a"), Some(budget(5000, 10, RESET)));
    assert_eq!(budgets.of("b"), Some(budget(1000, 20, RESET)));
    assert_eq!(budgets.of("c"), None);
}

#[test_case(1, budget(5000, 9, RESET + 1), 9; "later")]
#[test_case(1, budget(5000, 11, RESET), 11; "later of the same window")]
#[test_case(1, budget(5000, 11, RESET - 1), 10; "overtaken")]
#[test_case(3600, budget(5000, 11, RESET - 1), 11; "an hour later whatever it says")]
#[test_case(1, Budget { remaining: Some(9), ..Budget::default() }, 9; "without a window")]
#[test_case(1, Budget::default(), 10; "that says nothing")]
fn the_newest_answer_counts(seconds: u64, second: Budget, expected: u32) {
    let (budgets, now) = (Budgets::default(), Instant::now());
    budgets.keep("a", budget(5000, 10, RESET), now);
    budgets.keep("a", second, now + Duration::from_secs(seconds));
    let kept = budgets.of("a").unwrap();
    assert_eq!((kept.limit, kept.remaining), (Some(5000), Some(expected)));
}

#[test]
fn an_answer_from_before_is_not_taken_later() {
    let (budgets, now) = (Budgets::default(), Instant::now());
    budgets.keep("a", budget(5000, 10, RESET), now + Duration::from_secs(1));
    budgets.keep("a", budget(5000, 11, RESET), now);
    assert_eq!(budgets.of("a"), Some(budget(5000, 10, RESET)));
}

#[test]
fn more_tokens_than_there_are_push_out_the_longest_unheard_of() {
    let (budgets, now) = (Budgets::default(), Instant::now());
    let at = |second: usize| now + Duration::from_secs(second as u64);
    for second in 0..3 * MAX_TOKENS {
        budgets.keep(&second.to_string(), budget(5000, 1, RESET), at(second));
        budgets.keep("busy", budget(5000, 1, RESET), at(second));
        assert!(budgets.lock().len() <= MAX_TOKENS);
    }
    assert!(budgets.of("busy").is_some());
    assert!(budgets.of("0").is_none());
    assert!(budgets.of(&(3 * MAX_TOKENS - 1).to_string()).is_some());
}

proptest! {
    #[test]
    fn what_is_read_was_written_so(limit in "[0-9+ ,.a]{0,12}", remaining in "[0-9]{0,6}", reset in "[0-9]{0,14}") {
        let told = Budget::of(&headers(&[
            ("ratelimit-limit", limit.as_str()),
            ("ratelimit-remaining", &remaining),
            ("ratelimit-reset", &reset),
        ]));
        let digits = |text: &str| text.trim_start_matches('0').to_owned();
        for (number, text) in [
            (told.limit.map(u64::from), limit.trim()),
            (told.remaining.map(u64::from), &remaining),
            (told.reset, &reset),
        ] {
            if let Some(number) = number {
                prop_assert_eq!(digits(&number.to_string()), digits(text));
            }
        }
        prop_assert!(told.limit.zip(told.remaining).is_none_or(|(limit, remaining)| remaining <= limit));
    }
}
