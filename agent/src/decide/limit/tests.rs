use super::*;
use crate::classify::Scope;
use test_case::test_case;

#[test_case("20/hour", Some("20/hour"))]
#[test_case("1/second", Some("1/second"); "least")]
#[test_case("100000/day", Some("100000/day"); "most")]
#[test_case("7/minute", Some("7/minute"))]
#[test_case("100001/day", None; "beyond the most")]
#[test_case("99999999999999999999/day", None; "beyond any number")]
#[test_case("0/hour", None; "none at all")]
#[test_case("020/hour", None; "leading zero")]
#[test_case("+20/hour", None; "sign")]
#[test_case("-1/hour", None; "negative")]
#[test_case("1.5/hour", None; "fraction")]
#[test_case("20 / hour", None; "blanks")]
#[test_case("20/Hour", None; "capital")]
#[test_case("20/hours", None; "plural")]
#[test_case("20/h", None; "short")]
#[test_case("20/2hour", None; "several periods")]
#[test_case("20/hour/day", None; "two periods")]
#[test_case("20", None; "no period")]
#[test_case("/hour", None; "no number")]
#[test_case("٢٠/hour", None; "other digits")]
#[test_case("", None; "empty")]
fn a_rate_is_a_whole_number_and_a_period(text: &str, expected: Option<&str>) {
    assert_eq!(Rate::parse(text).ok().map(|rate| rate.to_string()).as_deref(), expected);
}

#[test_case("20%", Some("20%"))]
#[test_case("1%", Some("1%"); "least")]
#[test_case("100%", Some("100%"); "all of it")]
#[test_case("101%", None; "more than there is")]
#[test_case("0%", None; "nothing")]
#[test_case("0.5%", None; "fraction")]
#[test_case("20 %", None; "blank")]
#[test_case("20", None; "no sign")]
#[test_case("0.2", None; "a part of one")]
#[test_case("%", None; "no number")]
#[test_case("", None; "empty")]
fn a_share_is_a_whole_number_of_per_cent(text: &str, expected: Option<&str>) {
    assert_eq!(Share::parse(text).ok().map(|share| share.to_string()).as_deref(), expected);
}

#[test_case("20%", None, &["1000/hour", "50/minute"]; "of the usual budget")]
#[test_case("1%", None, &["50/hour", "2/minute"]; "rounded down")]
#[test_case("100%", None, &["5000/hour", "250/minute"]; "all")]
#[test_case("20%", Some(10_000), &["2000/hour", "100/minute"]; "of a larger budget")]
#[test_case("20%", Some(1_000), &["200/hour", "10/minute"]; "of a smaller budget")]
#[test_case("1%", Some(251), &["2/hour", "1/minute"]; "at least one request")]
#[test_case("20%", Some(250), &["1000/hour", "50/minute"]; "the budget of a minute is none of an hour")]
#[test_case("20%", Some(0), &["1000/hour", "50/minute"]; "no budget is none of an hour")]
#[test_case("100%", Some(u32::MAX), &["100000/hour", "100000/minute"]; "bounded")]
fn a_share_is_of_the_tokens_budget(share: &str, hourly: Option<u32>, expected: &[&str]) {
    let rates: Vec<String> =
        Quota::Share(Share::parse(share).unwrap()).rates(hourly).map(|rate| rate.to_string()).collect();
    assert_eq!(rates, expected);
}

#[test]
fn a_rate_is_the_workloads_whatever_the_token_has() {
    let rate = Rate::parse("20/day").unwrap();
    assert_eq!(Quota::Rate(rate).rates(Some(1_000)).collect::<Vec<_>>(), [rate]);
    assert_eq!(Quota::Rate(rate).span(), Duration::from_secs(86_400));
}

fn limit(scopes: &[&str], operations: Option<&[&str]>, rate: &str) -> Limit {
    let scopes = scopes.iter().map(|scope| Grant::Scope(Scope::parse(scope).unwrap())).collect();
    let operations = operations.map(|names| names.iter().map(|&name| name.to_owned()).collect());
    let constraint = Constraint { operations, ..Constraint::default() };
    Limit::new(scopes, constraint, Quota::Rate(Rate::parse(rate).unwrap()))
}

#[test]
fn a_digest_tells_what_is_counted_and_how_many_and_nothing_else() {
    let usual = limit(&["a:x", "b:y"], Some(&["o", "p"]), "2/hour");
    let same = [
        limit(&["b:y", "a:x"], Some(&["p", "o"]), "2/hour"),
        Limit { mode: Some(Mode::DryRun), reason: Some("because".to_owned()), ..usual.clone() },
    ];
    assert!(same.iter().all(|limit| limit.digest() == usual.digest()));
    let others = [
        usual.clone(),
        limit(&["a:x"], Some(&["o", "p"]), "2/hour"),
        limit(&["a:x", "b:y"], Some(&["o"]), "2/hour"),
        limit(&["a:x", "b:y"], Some(&["o\", \"p"]), "2/hour"),
        limit(&["a:x", "b:y"], None, "2/hour"),
        limit(&[], None, "2/hour"),
        limit(&["a:x", "b:y"], Some(&["o", "p"]), "3/hour"),
        limit(&["a:x", "b:y"], Some(&["o", "p"]), "2/day"),
        Limit::new(Vec::new(), Constraint::default(), Quota::Share(Share::parse("2%").unwrap())),
    ];
    for (index, limit) in others.iter().enumerate() {
        let equal = others.iter().filter(|other| other.digest() == limit.digest()).count();
        assert_eq!(equal, 1, "{index}");
    }
}

#[test_case(Mode::Enforce, None, true)]
#[test_case(Mode::DryRun, None, false; "policy in dry run")]
#[test_case(Mode::Enforce, Some(Mode::DryRun), false; "limit in dry run")]
#[test_case(Mode::DryRun, Some(Mode::Enforce), true; "limit enforced in a dry run")]
fn a_limit_has_the_policys_mode_or_its_own(mode: Mode, own: Option<Mode>, expected: bool) {
    let policy = Policy { mode, ..Policy::default() };
    assert_eq!(Limit { mode: own, ..limit(&[], None, "1/hour") }.is_enforced(&policy), expected);
}
