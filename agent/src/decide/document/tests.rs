use super::*;
use crate::{classify::Catalogue, decide::policy::Constraint};
use test_case::test_case;

fn parse_text(text: &str) -> Result<Policy, String> {
    parse("p", text, Path::new("p.toml"), Catalogue::embedded()).map_err(|error| error.to_string())
}

#[test]
fn every_key_reaches_the_policy() {
    let text = r#"
        description = "d"
        contact = "ops@example.com"
        mode = "dry-run"
        allow = ["api:write", "droplet:*", "ssh_key:create"]
        deny = ["database:view_credentials"]
        operations = ["oneClicks_list"]
        unknown = "allow"
        [[rule]]
        effect = "deny"
        scopes = ["droplet:create"]
        operations = ["droplets_create"]
        reason = "no"
        mode = "enforce"
        [[rule]]
        effect = "allow"
        scopes = ["api:read"]
    "#;
    let scope = |text: &str| Grant::parse(text, Catalogue::embedded()).unwrap();
    let expected = Policy {
        name: "p".to_owned(),
        description: Some("d".to_owned()),
        contact: Some("ops@example.com".to_owned()),
        mode: Mode::DryRun,
        allow: vec![Grant::ApiWrite, Grant::Resource("droplet".into()), scope("ssh_key:create")],
        deny: vec![scope("database:view_credentials")],
        operations: vec!["oneClicks_list".to_owned()],
        rules: vec![
            Rule {
                effect: Effect::Deny,
                scopes: vec![scope("droplet:create")],
                constraint: Constraint {
                    operations: Some(vec!["droplets_create".to_owned()]),
                    ..Constraint::default()
                },
                reason: Some("no".to_owned()),
                mode: Some(Mode::Enforce),
            },
            Rule {
                effect: Effect::Allow,
                scopes: vec![Grant::ApiRead],
                constraint: Constraint::default(),
                reason: None,
                mode: None,
            },
        ]
        .into(),
        limits: Vec::new(),
        unknown_allowed: true,
    };
    assert_eq!(parse_text(text), Ok(expected));
}

#[test]
fn an_empty_file_is_the_empty_policy() {
    assert_eq!(parse_text(""), Ok(Policy { name: "p".to_owned(), ..Policy::default() }));
}

#[test_case("allow = [\"dropplet:create\"]", "1: unknown scope `dropplet:create`; did you mean `droplet:create`?"; "misspelt scope")]
#[test_case("allow = [\n\"droplet:read\",\n\"banana:peel\"]", "3: unknown scope `banana:peel`"; "unknown scope on its line")]
#[test_case("deny = [\"dropplet:*\"]", "1: unknown resource in `dropplet:*`; did you mean `droplet:*`?"; "misspelt resource")]
#[test_case("allow = [\"api:*\"]", "1: `api:*` is not a grant; write `api:read` or `api:write`"; "alias wildcard")]
#[test_case("allow = [\"*\"]", "1: `*` is not a scope"; "star")]
#[test_case("allow = [\"Droplet:read\"]", "1: `Droplet:read` is not a scope"; "upper case")]
#[test_case("allow = [\"droplet:read \"]", "1: `droplet:read ` is not a scope"; "blank at the end")]
#[test_case("allow = \"droplet:read\"", "1: invalid type: string \"droplet:read\""; "no list")]
#[test_case("allw = []", "1: unknown key `allw`"; "misspelt key")]
#[test_case("mode = \"dryrun\"", "1: unknown variant `dryrun`"; "unknown mode")]
#[test_case("unknown = \"allow\"\nallow = [\"api:read\"]", "1: `unknown = \"allow\"` has no effect without `api:write`"; "unknown without the write alias")]
#[test_case("operations = [\"oneClick_list\"]", "1: unknown operation `oneClick_list`; did you mean `oneClicks_list`?"; "misspelt operation")]
#[test_case("operations = [\"droplets_destroy\"]", "1: operation `droplets_destroy` needs scopes, and `operations` is for those that need none; put `droplet:delete` into `allow`"; "operation with scopes")]
#[test_case("[[rule]]\neffect = \"allow\"\nwhen = 'x'\nscopes = [\"droplet:read\"]", "3: `when`: unknown variable `x`"; "condition")]
#[test_case("[[rule]]\neffect = \"allow\"\nscopes = [\"droplet:read\"]\nresources = {}", "4: `resources = {}` fits nothing"; "no resources")]
#[test_case("[[rule]]\neffect = \"allow\"\nscopes = [\"droplet:read\"]\nresources = { droplet = [] }", "4: `droplet = []` fits nothing"; "no ids")]
#[test_case("[[rule]]\neffect = \"allow\"\nscopes = [\"droplet:read\"]\nresources = { droplets = [1] }", "4: unknown kind of resource `droplets`; did you mean `droplet`?"; "misspelt kind")]
#[test_case("[[rule]]\neffect = \"allow\"\nscopes = [\"uptime:read\"]\nresources = { droplet = [1] }", "4: no operation of this rule's scopes names a `droplet`, so that this fits nothing"; "kind that the scopes have not")]
#[test_case("[[rule]]\neffect = \"deny\"\noperations = [\"domains_get\"]\nresources = { droplet = [1] }", "4: operation `domains_get` names no `droplet`, so that this fits nothing"; "kind that the operation has not")]
#[test_case("[[rule]]\neffect = \"allow\"\nscopes = [\"droplet:read\"]\nresources = { droplet = [\"\"] }", "4: an id, name, slug or glob has at least one printable character"; "empty id")]
#[test_case("[[rule]]\nscopes = [\"droplet:read\"]", "1: missing key `effect`"; "rule without effect")]
#[test_case("[[rule]]\neffect = \"allow\"", "1: an allow rule needs `scopes`"; "allow rule without scopes")]
#[test_case("[[rule]]\neffect = \"deny\"", "1: a deny rule needs `scopes`, `operations`, `resources` or `when`"; "deny rule of everything")]
#[test_case("[[rule]]\neffect = \"deny\"\nscopes = []", "3: `scopes = []` fits nothing"; "no scopes")]
#[test_case("[[rule]]\neffect = \"deny\"\noperations = []\nscopes = [\"droplet:read\"]", "3: `operations = []` fits nothing"; "no operations")]
#[test_case("[[rule]]\neffect = \"allow\"\nscopes = [\"droplet:read\"]\nmode = \"dry-run\"", "4: `mode` belongs to deny rules only"; "allow rule with a mode")]
#[test_case("[[rule]]\neffect = \"deny\"\nscopes = [\"droplet:read\"]\noperations = [\"domains_list\"]", "4: operation `domains_list` needs none of the rule's scopes"; "rule that can fit nothing")]
#[test_case("contact = \"a\\u001bb\"", "1: this text is shown in refusals"; "control character")]
#[test_case("allow = [\"droplet:read\"]\nallow = []", "2: duplicate key: `allow`"; "key twice")]
#[test_case("allow = [", "1: "; "no TOML")]
fn what_is_wrong_is_told_with_its_line(text: &str, expected: &str) {
    let error = parse_text(text).unwrap_err();
    assert!(error.starts_with(&format!("p.toml:{expected}")), "{error}");
    assert!(!error.contains('\n'), "one problem: {error}");
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = "deny = [\"x:y\"]\nallow = [\"z:y\", \"w\"]\n[[rule]]\neffect = \"deny\"\n";
    let error = parse_text(text).unwrap_err();
    let lines: Vec<&str> = error.lines().filter_map(|line| line.split(':').nth(1)).collect();
    assert_eq!(lines, ["1", "2", "2", "3"]);
}

#[test_case("read-only", true)]
#[test_case("a_b-9", true; "all kinds of characters")]
#[test_case("a.b", false; "dot")]
#[test_case("../a", false; "path")]
#[test_case("", false; "empty")]
fn a_policy_is_named_by_its_file(name: &str, expected: bool) {
    let result = parse(name, "", Path::new("p.toml"), Catalogue::embedded());
    assert_eq!(result.is_ok(), expected);
}

#[test]
fn the_built_in_policy_loads() {
    let policy = read_only(Catalogue::embedded()).unwrap();
    assert_eq!(policy.name, "read-only");
    assert_eq!(policy.allow, [Grant::ApiRead]);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(allow|deny|mode|rule|operations|[\\[\\]=\"',:{}*a-z_\n ]){0,60}") {
        let _ = parse_text(&text);
    }
}
