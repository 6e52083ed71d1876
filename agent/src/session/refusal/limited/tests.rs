use super::*;
use crate::{classify::Catalogue, decide::document};
use std::path::Path;
use test_case::test_case;

fn retry(rate: &str, wait: Duration) -> Retry {
    Retry::new(Rate::parse(rate).unwrap(), wait, UNIX_EPOCH + Duration::from_millis(1_700_000_000_250))
}

#[test_case("rate = \"20/hour\"", "20/hour", "the limit of 20/hour for its requests is used up; try again in 42 seconds; policy \"p\", rule limit[0]"; "of all requests")]
#[test_case("rate = \"20/hour\"\nscopes = [\"droplet:create\"]\nreason = \"each costs money\"", "20/hour", "the limit of 20/hour for droplet:create is used up (each costs money); try again in 42 seconds; policy \"p\", rule limit[0]"; "of a scope")]
#[test_case("rate = \"1/day\"\noperations = [\"droplets_create\"]", "1/day", "the limit of 1/day for droplets_create is used up; try again in 42 seconds; policy \"p\", rule limit[0]"; "of an operation")]
#[test_case("rate = \"1/day\"\nscopes = [\"droplet:*\", \"image:read\"]\noperations = [\"droplets_create\"]", "1/day", "the limit of 1/day for droplet:*, image:read in droplets_create is used up; try again in 42 seconds; policy \"p\", rule limit[0]"; "of both")]
#[test_case("rate = \"1/day\"\nscopes = [\"droplet:read\", \"image:read\", \"vpc:read\", \"tag:read\", \"domain:read\", \"app:read\", \"ssh_key:read\"]", "1/day", "the limit of 1/day for droplet:read, image:read, vpc:read, tag:read, domain:read and 2 more is used up; try again in 42 seconds; policy \"p\", rule limit[0]"; "of many scopes")]
#[test_case("share = \"20%\"", "50/minute", "its 20% of the token's budget, 50/minute, is used up; try again in 42 seconds; policy \"p\", rule limit[0]"; "a share")]
fn the_message_says_which_limit_and_when_to_try_again(limit: &str, rate: &str, expected: &str) {
    let text = format!("[[limit]]\n{limit}");
    let policy = document::parse("p", &text, Path::new("p.toml"), Catalogue::embedded()).unwrap();
    let mut limited = Limited {
        workload: "ci",
        policy: &policy,
        limit: &policy.limits[0],
        index: 0,
        retry: retry(rate, Duration::from_millis(41_001)),
        method: &Method::POST,
        path: "/v2/droplets",
        operation: Some("droplets_create"),
    };
    let begin = "workload \"ci\" may not call droplets_create (POST /v2/droplets) yet: ";
    assert_eq!(limited.message(), format!("{begin}{expected}"));
    let with_contact = Policy { contact: Some("ops@example.com".to_owned()), ..policy.clone() };
    limited.policy = &with_contact;
    assert_eq!(limited.message(), format!("{begin}{expected}; contact ops@example.com"));
}

#[test_case(0, 1, 1_700_000_001; "at once")]
#[test_case(1, 1, 1_700_000_001; "a moment")]
#[test_case(750, 1, 1_700_000_001; "to the whole second")]
#[test_case(751, 1, 1_700_000_002; "past the whole second")]
#[test_case(1_000, 1, 1_700_000_002; "a second")]
#[test_case(1_001, 2, 1_700_000_002; "more than a second")]
#[test_case(3_600_000, 3_600, 1_700_003_601; "an hour")]
fn whoever_waits_as_long_as_told_finds_room(wait_ms: u64, after: u64, reset: u64) {
    let mut headers = HeaderMap::new();
    retry("20/hour", Duration::from_millis(wait_ms)).mark(&mut headers);
    let fields: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let (after, reset) = (after.to_string(), reset.to_string());
    for field in [
        ("retry-after", after.as_str()),
        ("ratelimit-limit", "20"),
        ("ratelimit-remaining", "0"),
        ("ratelimit-reset", &reset),
    ] {
        assert!(fields.contains(&field), "{field:?} in {fields:?}");
    }
    assert_eq!(fields.len(), 4);
}
