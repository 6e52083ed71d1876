use crate::{
    classify::Catalogue,
    decide::{
        Policy, document,
        grant::Grant,
        limit::{Limit, Quota, Rate, Share},
        policy::{Constraint, Mode},
    },
};
use std::path::Path;
use test_case::test_case;

fn parse(text: &str) -> Result<Policy, String> {
    document::parse("p", text, Path::new("p.toml"), Catalogue::embedded()).map_err(|error| error.to_string())
}

#[test]
fn every_key_of_a_limit_reaches_the_policy() {
    let text = r#"
        [[limit]]
        scopes = ["droplet:create", "image:*"]
        operations = ["droplets_create"]
        rate = "20/hour"
        reason = "the account's own limit is near"
        mode = "dry-run"
        [[limit]]
        rate = "3/second"
        [[limit]]
        share = "20%"
        mode = "enforce"
    "#;
    let grant = |text: &str| Grant::parse(text, Catalogue::embedded()).unwrap();
    let rate = |text: &str| Quota::Rate(Rate::parse(text).unwrap());
    let expected = [
        Limit::new(
            vec![grant("droplet:create"), grant("image:*")],
            Constraint { operations: Some(vec!["droplets_create".to_owned()]), ..Constraint::default() },
            rate("20/hour"),
        )
        .with(Some(Mode::DryRun), Some("the account's own limit is near".to_owned())),
        Limit::new(Vec::new(), Constraint::default(), rate("3/second")),
        Limit::new(Vec::new(), Constraint::default(), Quota::Share(Share::parse("20%").unwrap()))
            .with(Some(Mode::Enforce), None),
    ];
    assert_eq!(parse(text).unwrap().limits, expected);
}

#[test_case("", "1: a limit needs `rate`, such as `\"20/hour\"`, or `share`"; "neither rate nor share")]
#[test_case("rate = \"1/hour\"\nshare = \"1%\"", "3: a limit has `rate` or `share`; write two limits"; "both")]
#[test_case("rate = \"20/h\"", "2: `20/h` is no rate; write a whole number from 1 to 100000 and `second`"; "no rate")]
#[test_case("rate = 20", "2: invalid type: integer `20`"; "a number")]
#[test_case("share = \"0%\"", "2: `0%` is no share; write a whole number from 1 to 100"; "no share")]
#[test_case("share = 0.2", "2: invalid type: floating point `0.2`"; "a fraction")]
#[test_case("rate = \"1/hour\"\nscopes = []", "3: `scopes = []` fits nothing"; "no scopes")]
#[test_case("rate = \"1/hour\"\noperations = []", "3: `operations = []` fits nothing"; "no operations")]
#[test_case("rate = \"1/hour\"\nscopes = [\"dropplet:create\"]", "3: unknown scope `dropplet:create`"; "unknown scope")]
#[test_case("rate = \"1/hour\"\noperations = [\"droplet_create\"]", "3: unknown operation `droplet_create`; did you mean `droplets_create`?"; "unknown operation")]
#[test_case("rate = \"1/hour\"\nscopes = [\"droplet:create\"]\noperations = [\"domains_list\"]", "4: operation `domains_list` needs none of the limit's scopes"; "limit that counts nothing")]
#[test_case("share = \"1%\"\nscopes = [\"droplet:create\"]", "3: a `share` is of all the workload's requests; remove `scopes`"; "share of scopes")]
#[test_case("share = \"1%\"\noperations = [\"droplets_create\"]", "3: a `share` is of all the workload's requests; remove `operations`"; "share of operations")]
#[test_case("share = \"1%\"\n[[limit]]\nshare = \"2%\"", "4: another `[[limit]]` has a `share` already"; "two shares")]
#[test_case("rate = \"1/hour\"\nreason = \"a\\nb\"", "3: this text is shown in refusals"; "reason of two lines")]
#[test_case("rate = \"1/hour\"\nmode = \"dryrun\"", "3: unknown variant `dryrun`"; "unknown mode")]
#[test_case("rate = \"1/hour\"\neffect = \"deny\"", "3: unknown key `effect`"; "key of a rule")]
#[test_case("Rate = \"1/hour\"", "2: unknown key `Rate`"; "misspelt key")]
fn what_is_wrong_in_a_limit_is_told_with_its_line(text: &str, expected: &str) {
    let error = parse(&format!("[[limit]]\n{text}")).unwrap_err();
    assert!(error.starts_with(&format!("p.toml:{expected}")), "{error}");
    assert!(!error.contains('\n'), "one problem: {error}");
}

#[test]
fn all_problems_of_a_limit_are_told_at_once() {
    let error = parse("[[limit]]\nrate = \"x\"\nscopes = [\"y:z\"]\nreason = \"\\u0000\"").unwrap_err();
    let lines: Vec<&str> = error.lines().filter_map(|line| line.split(':').nth(1)).collect();
    assert_eq!(lines, ["2", "3", "4"]);
}

proptest::proptest! {
    #[test]
    fn no_rate_or_share_makes_the_parser_panic(text in "\\PC{0,20}|[0-9]{0,12}(/(hour|day|second|minute)|%)?") {
        let word = serde_json::Value::String(text);
        for key in ["rate", "share"] {
            let _ = parse(&format!("[[limit]]\n{key} = {word}"));
        }
    }
}
