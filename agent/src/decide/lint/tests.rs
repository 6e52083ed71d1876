use super::*;
use crate::decide::document;
use std::path::Path;
use test_case::test_case;

fn told(text: &str) -> Vec<String> {
    let catalogue = Catalogue::embedded();
    let policy = document::parse("p", text, Path::new("p.toml"), catalogue).unwrap();
    doubts(&policy, catalogue)
        .into_iter()
        .map(|doubt| format!("{}: {}", doubt.entry, doubt.message))
        .collect()
}

#[test_case("allow = [\"droplet:read\", \"domain:update\"]"; "a few scopes")]
#[test_case("allow = [\"api:read\"]\ndeny = [\"database:view_credentials\"]"; "reads and a denial")]
#[test_case("[[rule]]\neffect = \"allow\"\nscopes = [\"droplet:delete\"]\nresources = { droplet = [1] }"; "deletion of one")]
#[test_case("allow = [\"droplet:*\"]\ndeny = [\"droplet:delete\", \"droplet:admin\"]"; "a wildcard less what is dangerous")]
fn a_narrow_policy_raises_no_doubt(text: &str) {
    assert_eq!(told(text), Vec::<String>::new());
}

#[test_case("allow = [\"vendor_portal:read\"]", "allow[0]: `vendor_portal:read` is needed by no operation; remove it"; "unused")]
#[test_case("allow = [\"api:read\", \"droplet:read\"]",
    "allow[1]: `droplet:read` adds nothing to `api:read` (allow[0]); remove it"; "shadowed by an alias")]
#[test_case("allow = [\"domain:read\", \"domain:read\"]",
    "allow[1]: `domain:read` adds nothing to `domain:read` (allow[0]); remove it"; "said twice")]
#[test_case("allow = [\"api:read\"]\n[[rule]]\neffect = \"allow\"\nscopes = [\"domain:read\"]\nresources = { domain = [\"a\"] }",
    "rule[0]: `domain:read` adds nothing to `api:read` (allow[0]); remove it"; "narrower than what is allowed")]
#[test_case("allow = [\"domain:create\"]\ndeny = [\"domain:*\"]",
    "allow[0]: all that `domain:create` allows is denied; remove one of them"; "allowed and denied")]
#[test_case("deny = [\"domain:*\", \"domain:create\"]",
    "deny[1]: `domain:create` adds nothing to `domain:*` (deny[0]); remove it"; "denied twice")]
#[test_case("allow = [\"api:write\"]",
    "allow[0]: `api:write` allows every change and deletion; list the scopes that are needed"; "all writes")]
#[test_case("allow = [\"domain:delete\"]",
    "allow[0]: `domain:delete` allows deleting every domain; narrow it with `resources`"; "any deletion")]
#[test_case("allow = [\"domain:*\"]",
    "allow[0]: `domain:*` allows deleting every domain; narrow it with `resources`"; "a wildcard deletes")]
#[test_case("allow = [\"database:view_credentials\"]",
    "allow[0]: `database:view_credentials` hands out access that tidegate does not see being used"; "credentials")]
#[test_case("mode = \"dry-run\"", "mode: nothing is refused, except by rules with `mode = \"enforce\"`"; "dry run")]
fn a_doubtful_entry_is_told(text: &str, expected: &str) {
    assert_eq!(told(text), [expected]);
}

#[test]
fn what_an_alias_gives_without_secrets_is_no_shadow_of_the_word_that_shows_them() {
    let doubts = told("allow = [\"api:read\", \"genai:read\"]");
    assert!(!doubts.iter().any(|doubt| doubt.contains("adds nothing")), "{doubts:?}");
}
