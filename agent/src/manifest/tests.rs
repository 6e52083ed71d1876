use super::*;
use crate::{config::selection::Operator, decide::Effect};
use std::path::Path;
use test_case::test_case;

const POLICY_HEAD: &str = "apiVersion: tidegate.dev/v1alpha1\nkind: ScopePolicy\nmetadata:\n  name: p\n";
const BINDING_HEAD: &str = "apiVersion: tidegate.dev/v1alpha1\nkind: ScopeBinding\nmetadata:\n  name: b\n";

fn read_text(text: &str) -> Result<Vec<Manifest>, String> {
    let source = Source::from_bytes(Path::new("f.yaml"), text.as_bytes().to_vec()).unwrap();
    read(&source, Catalogue::embedded()).map_err(|error| error.to_string())
}

#[test]
fn a_manifest_is_the_policy_that_a_file_is() {
    let toml = include_str!("../../../policies/ci-builder.toml");
    let file = document::parse("ci-builder", toml, Path::new("p.toml"), Catalogue::embedded()).unwrap();
    let yaml = r#"
apiVersion: tidegate.dev/v1alpha1
kind: ScopePolicy
metadata:
  name: ci-builder
  labels: {team: platform}
spec:
  description: Build jobs: look at everything, create small Droplets and upload their SSH keys, delete the two scratch ones
"#;
    assert!(read_text(yaml).is_err(), "a colon must be quoted");
    let rest = r#"  contact: the platform team
  allow: [api:read, droplet:create, ssh_key:create, tag:create]
  deny: [database:view_credentials, kubernetes:access_cluster]
  rule:
  - effect: deny
    operations: [droplets_create]
    when: |-
      request.body.size.startsWith("gpu-") || !(request.body.region in ["nyc3", "ams3"])
    reason: only small Droplets in nyc3 and ams3
  - effect: allow
    scopes: [droplet:delete]
    resources: {droplet: [3164444, "3164445"]}
    reason: the scratch Droplets only
  limit:
  - scopes: [droplet:create]
    rate: 20/hour
"#;
    let yaml = yaml.replace("Build jobs: look", "\"Build jobs: look").replace("ones\n", "ones\"\n") + rest;
    let [Manifest::Policy(policy)] = &read_text(&yaml).unwrap()[..] else { panic!("no policy") };
    assert_eq!(**policy, file);
    assert!(policy.rules.iter().any(|rule| rule.effect == Effect::Deny));
}

#[test]
fn an_empty_list_denies_everything() {
    let read = read_text(&format!("{POLICY_HEAD}spec:\n  allow: []\n")).unwrap();
    let empty = Policy { name: "p".into(), ..Policy::default() };
    assert_eq!(read, [Manifest::Policy(Box::new(empty))]);
}

#[test_case("  allow: [droplet:raed]", "f.yaml:6: unknown scope `droplet:raed`; `tidegate scopes` lists"; "a scope")]
#[test_case("  allow:\n  - api:read\n  - api:*", "f.yaml:8: `api:*`"; "the line of an item")]
#[test_case("  alow: []", "f.yaml:6: unknown key `alow`"; "a key")]
#[test_case("  mode: on", "f.yaml:6: expected one word: `on`"; "a word that is a boolean to some")]
#[test_case("  rule:\n  - effect: allow", "f.yaml:7: an allow rule needs `scopes`"; "a rule")]
#[test_case("  rule:\n  - effect: deny\n    when: |\n      request.bdy == 1", "f.yaml:9: `when`:"; "a condition")]
#[test_case("  limit:\n  - rate: 0/hour", "f.yaml:7: `0/hour`"; "a rate")]
#[test_case("  rule:\n  - effect: allow\n    scopes: [droplet:read]\n    resources: {drplet: [1]}", "f.yaml:9: unknown kind of resource `drplet`; did you mean `droplet`?"; "a kind")]
fn what_a_policy_file_may_not_say_a_manifest_may_not_either(spec: &str, expected: &str) {
    let error = read_text(&format!("{POLICY_HEAD}spec:\n{spec}\n")).unwrap_err();
    assert!(error.starts_with(expected), "{error}");
}

#[test_case("", "f.yaml:1: there is no manifest in it"; "nothing")]
#[test_case("a: b", "f.yaml:1: `` cannot be a name; use 1 to 64 small letters, digits and `-` between them\nf.yaml:1: `apiVersion: ` is not read; write `tidegate.dev/v1alpha1`\nf.yaml:1: `spec` is missing, or has no keys\nf.yaml:1: unknown key `a`, expected one of `apiVersion`, `kind`, `metadata`, `spec`, `status`"; "no manifest")]
#[test_case("apiVersion: tidegate.dev/v1alpha1\nkind: ConfigMap\nmetadata: {name: a}\nspec: {a: b}", "f.yaml:2: unknown kind `ConfigMap`, expected `ScopePolicy` or `ScopeBinding`"; "another kind")]
#[test_case("apiVersion: tidegate.dev/v1alpha1\nkind: ScopePolicy\nmetadata: {name: a.b, namespace: c}\nspec: {allow: []}", "f.yaml:3: `a.b` cannot be a policy's name; use 1 to 64 small letters, digits and `-` between them\nf.yaml:3: it belongs to the cluster, and has no namespace; remove the key"; "names")]
#[test_case("apiVersion: tidegate.dev/v1alpha1\nkind: ScopePolicy\nmetadata: {name: a}\nspec:", "f.yaml:4: `spec` is missing, or has no keys"; "no spec")]
#[test_case("apiVersion: tidegate.dev/v1alpha1\nkind: ScopePolicy\nmetadata: {name: A}\nspec: {allow: [x]}", "f.yaml:3: `A` cannot be a policy's name; use 1 to 64 small letters, digits and `-` between them\nf.yaml:4: `x` is not a scope"; "all that is wrong")]
fn what_is_no_manifest_is_told_with_its_line(text: &str, expected: &str) {
    let error = read_text(text).unwrap_err();
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn all_manifests_of_a_file_are_read_and_their_problems_told() {
    let good = format!(
        "{POLICY_HEAD}spec: {{allow: [droplet:read]}}\n---\n{BINDING_HEAD}spec: {{policy: p, serviceAccounts: [ci]}}\n"
    );
    assert!(matches!(&read_text(&good).unwrap()[..], [Manifest::Policy(_), Manifest::Binding(_)]));
    let bad = good.replace("droplet:read", "x:y").replace("[ci]", "[]");
    let error = read_text(&bad).unwrap_err();
    let lines: Vec<&str> = error.lines().map(|line| &line[..9]).collect();
    assert_eq!(lines, ["f.yaml:5:", "f.yaml:11"]);
}

#[test]
fn doubts_have_their_lines() {
    let text = format!("---\n{POLICY_HEAD}spec:\n  allow:\n  - api:read\n  - api:write\n");
    let source = Source::from_bytes(Path::new("f.yaml"), text.into_bytes()).unwrap();
    let doubts = doubts(&source, Catalogue::embedded()).unwrap();
    assert!(
        doubts.iter().any(|doubt| doubt.line == 9 && doubt.message.contains("`api:write` allows")),
        "{doubts:?}"
    );
}

#[test]
fn a_binding_says_for_which_pods_it_is() {
    let spec = "spec:\n  policy: ci\n  namespaces: [builds]\n  podSelector:\n    \
                matchExpressions:\n    - {key: app, operator: In, values: [a, b]}\n    - {key: old, operator: DoesNotExist}\n  serviceAccounts: [ci]\n";
    let [Manifest::Binding(binding)] = &read_text(&format!("{BINDING_HEAD}{spec}")).unwrap()[..] else {
        panic!()
    };
    assert_eq!((binding.name.as_str(), binding.policy.as_str()), ("b", "ci"));
    assert_eq!(binding.selection.namespaces, ["builds"]);
    let requirements = &binding.selection.pods.as_ref().unwrap().requirements;
    let operators: Vec<Operator> = requirements.iter().map(|requirement| requirement.operator).collect();
    assert_eq!(operators, [Operator::In, Operator::DoesNotExist]);
    assert_eq!(binding.selection.service_accounts, ["ci"]);
}

#[test_case("policy: ci", "f.yaml:6: this fits every pod of the cluster"; "everything")]
#[test_case("policy: ci\n  podSelector: {}", "f.yaml:7: an empty selector fits everything"; "an empty selector")]
#[test_case("policy: ci\n  podSelector: {matchLabels: {}}", "f.yaml:7: an empty selector fits everything"; "no labels")]
#[test_case("policy: ci\n  namespaces: [\"\"]", "f.yaml:7: an empty name in `namespaces`"; "an empty name")]
#[test_case("policy: ci\n  serviceAccounts: []", "f.yaml:7: `serviceAccounts: []` fits nothing"; "no accounts")]
#[test_case("policy: a/b\n  serviceAccounts: [x]", "f.yaml:6: `a/b` is not a policy's name"; "a path")]
#[test_case("policy: ci\n  podSelector:\n    matchExpressions:\n    - {key: a, operator: In}", "f.yaml:9: an expression has"; "no values")]
#[test_case("policy: ci\n  podSelector:\n    matchExpressions:\n    - {key: a, operator: Exists, values: [b]}", "f.yaml:9: an expression has"; "values of nothing")]
#[test_case("policy: ci\n  podSelector: {matchLabels: {a: true}}", "f.yaml:7: `true` is no text in YAML"; "a boolean")]
fn a_binding_that_fits_more_or_less_than_it_seems_is_refused(spec: &str, expected: &str) {
    let error = read_text(&format!("{BINDING_HEAD}spec:\n  {spec}\n")).unwrap_err();
    assert!(error.starts_with(expected), "{error}");
}
