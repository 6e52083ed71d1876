//! Does a policy mean what we said? Every sample, every bad file, and every operation of the catalogue.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests fail by panicking")]

#[path = "policy/conditions.rs"]
mod conditions;

use http::{HeaderMap, Method, Uri};
use std::{
    fs,
    path::{Path, PathBuf},
};
use test_case::test_case;
use tidegate::{
    classify::{Catalogue, Operation, classify, operation::Form},
    decide::{Decision, Effect, Policy, Request, case::Table, decide, document},
    reason::Reason,
    toml_file::Source,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The TOML files of a directory below the repository, by the path that people see.
fn toml_files(dir: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(dir)).unwrap().map(|entry| entry.unwrap().file_name());
    let names =
        entries.filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "toml"));
    let mut files: Vec<PathBuf> = names.map(|name| Path::new(dir).join(name)).collect();
    files.sort();
    assert!(!files.is_empty(), "{dir} has no files");
    files
}

/// The mode of a checked out file depends on the umask of whoever did it, so that only the content is read.
fn source(file: &Path) -> Result<Source, tidegate::toml_file::Error> {
    Source::from_bytes(file, fs::read(root().join(file)).unwrap())
}

fn load(file: &Path) -> Result<Policy, tidegate::toml_file::Error> {
    document::read(&source(file)?, Catalogue::embedded())
}

fn parse(text: &str) -> Policy {
    document::parse("p", text, Path::new("p.toml"), Catalogue::embedded()).unwrap()
}

fn allowing<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Policy {
    let words: Vec<String> = scopes.into_iter().map(|scope| format!("\"{scope}\"")).collect();
    parse(&format!("allow = [{}]", words.join(", ")))
}

#[test]
fn every_sample_loads_and_has_a_case_table() {
    for file in toml_files("policies") {
        let policy = load(&file).unwrap_or_else(|error| panic!("{error}"));
        assert!(policy.description.is_some(), "{} says what it is for", file.display());
        let cases = Path::new("policies/cases").join(file.file_name().unwrap());
        assert!(root().join(&cases).is_file(), "{} is missing", cases.display());
    }
}

#[test]
fn every_case_table_passes() {
    let mut count = 0;
    for file in toml_files("policies/cases") {
        let source = source(&file).unwrap();
        let table = Table::parse(&source).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(Some(table.policy()), file.file_stem().and_then(|stem| stem.to_str()));
        let policy = load(&Path::new("policies").join(format!("{}.toml", table.policy()))).unwrap();
        count += table.run(&policy, Catalogue::embedded()).unwrap_or_else(|error| panic!("{error}"));
    }
    assert!(count >= 40, "only {count} cases");
}

#[test]
fn every_bad_policy_fails_with_its_message() {
    for file in toml_files("policies/bad") {
        let expected = fs::read_to_string(root().join(&file).with_extension("expected")).unwrap_or_default();
        let error = load(&file).expect_err(&format!("{} loads", file.display()));
        assert_eq!(error.to_string(), expected.trim_end(), "{}", file.display());
    }
}

#[test]
fn every_expected_message_belongs_to_a_bad_policy() {
    for entry in fs::read_dir(root().join("policies/bad")).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.with_extension("toml").is_file(), "{} stands alone", path.display());
    }
}

#[test]
fn the_examples_of_the_documentation_are_valid() {
    let text = fs::read_to_string(root().join("policies/README.md")).unwrap();
    let examples: Vec<&str> =
        text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [policy, cases] = examples[..] else { panic!("{} examples", examples.len()) };
    assert_eq!(parse(policy).rules.len(), 2);
    let source = Source::from_bytes(Path::new("README.md"), cases.into()).unwrap();
    let table = Table::parse(&source).unwrap_or_else(|error| panic!("{error}"));
    let sample = load(Path::new("policies/ci-builder.toml")).unwrap();
    assert_eq!(table.run(&sample, Catalogue::embedded()).unwrap_or_else(|error| panic!("{error}")), 2);
}

#[test]
fn the_conditions_of_the_documentation_are_valid() {
    let text = fs::read_to_string(root().join("policies/conditions.md")).unwrap();
    let examples = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let rules: usize = examples.map(|example| parse(example).rules.len()).sum();
    assert!(rules >= 5, "only {rules} rules");
}

#[test]
fn the_catalogue_is_whole() {
    let operations = Catalogue::embedded().operations();
    let (elsewhere, here): (Vec<&Operation>, Vec<&Operation>) =
        operations.iter().partition(|operation| operation.host.is_some());
    let unscoped = here.iter().filter(|operation| operation.alternatives().is_empty()).count();
    assert_eq!((operations.len(), elsewhere.len(), unscoped), (659, 15, 3));
}

/// Each operation by a request of its own, under each of its sets of scopes: all allow, and no fewer do.
#[test]
fn exactly_the_scopes_of_an_operation_allow_it() {
    let mut tried = 0;
    for operation in here().filter(|operation| !operation.alternatives().is_empty()) {
        for set in operation.alternatives() {
            let words: Vec<&str> = set.iter().map(|scope| scope.as_str()).collect();
            let decision = ask(&allowing(words.iter().copied()), operation);
            assert_eq!(decision.reason, Reason::ScopesAllowed, "{} {set:?}", operation.name);
            assert_eq!((decision.effect, &*decision.required), (Effect::Allow, &*set), "{}", operation.name);
            for missing in &words {
                let fewer = words.iter().copied().filter(|word| word != missing);
                let decision = ask(&allowing(fewer), operation);
                let name = &operation.name;
                assert_eq!(
                    (decision.effect, decision.reason),
                    (Effect::Deny, Reason::MissingScope),
                    "{name}"
                );
                assert!(!decision.dry_run && !decision.missing.is_empty(), "{name} without {missing}");
                tried += 1;
            }
            for denied in &words {
                let deny = format!("deny = [\"{denied}\"]");
                let policy = Policy { deny: parse(&deny).deny, ..allowing(words.iter().copied()) };
                let decision = ask(&policy, operation);
                assert_eq!(decision.reason, Reason::DeniedScope, "{} with {denied} denied", operation.name);
            }
        }
    }
    assert!(tried >= 641, "only {tried} refusals");
}

#[test]
fn an_empty_policy_refuses_every_operation() {
    for operation in Catalogue::embedded().operations() {
        let decision = answer(&Policy::default(), &operation.method, Some(operation));
        assert_eq!((decision.effect, decision.dry_run), (Effect::Deny, false), "{}", operation.name);
    }
}

#[test]
fn reading_everything_changes_nothing_and_shows_no_credentials() {
    let read = allowing(["api:read"]);
    for operation in here() {
        let allowed = ask(&read, operation).effect == Effect::Allow;
        assert!(!allowed || (operation.is_read() && operation.destructive.is_none()), "{}", operation.name);
        let sets = operation.alternatives();
        let is_plain_read = |set: &Vec<_>| {
            set.iter().all(|scope: &tidegate::classify::Scope| {
                scope.action() == "read" || scope.as_str() == "nfs:list"
            })
        };
        let expected = operation.is_read() && (sets.is_empty() || sets.iter().any(is_plain_read));
        assert_eq!(allowed, expected, "{}", operation.name);
    }
}

#[test]
fn writing_everything_hands_out_no_access() {
    let write = allowing(["api:write"]);
    let refused: Vec<&str> = here()
        .filter(|operation| ask(&write, operation).effect == Effect::Deny)
        .map(|operation| operation.name.as_str())
        .collect();
    for name in ["kubernetes_get_kubeconfig", "apps_get_exec", "spacesKey_create", "functionsAccessKey_list"]
    {
        assert!(refused.contains(&name), "{name} is allowed");
    }
    assert!(refused.len() < 50, "{refused:?}");
    for operation in here().filter(|operation| refused.contains(&operation.name.as_str())) {
        let missing = ask(&write, operation).missing;
        let by_name = missing.iter().map(|scope| scope.as_str()).chain(["api:write"]);
        assert_eq!(ask(&allowing(by_name), operation).effect, Effect::Allow, "{}", operation.name);
    }
}

#[test_case("", Reason::NoScopeDefined, Effect::Deny; "nothing allowed")]
#[test_case("allow = [\"addon:*\"]", Reason::NoScopeDefined, Effect::Deny; "a resource allowed")]
#[test_case("allow = [\"api:read\"]", Reason::OperationAllowed, Effect::Allow; "reads allowed")]
#[test_case("allow = [\"api:write\"]", Reason::OperationAllowed, Effect::Allow; "writes allowed")]
#[test_case("allow = [\"api:read\"]\ndeny = [\"api:read\"]", Reason::DeniedScope, Effect::Deny; "reads denied")]
#[test_case(
    "operations = [\"oneClicks_list\", \"addons_get_app\", \"addons_get_app_metadata\"]",
    Reason::OperationAllowed, Effect::Allow; "named"
)]
fn an_operation_without_a_scope(policy: &str, reason: Reason, effect: Effect) {
    let unscoped: Vec<&Operation> = here().filter(|operation| operation.alternatives().is_empty()).collect();
    assert_eq!(unscoped.len(), 3);
    for operation in unscoped {
        let decision = ask(&parse(policy), operation);
        assert_eq!((decision.reason, decision.effect), (reason, effect), "{}", operation.name);
    }
}

/// At the API's host, the operations of other hosts are nothing that anybody knows.
#[test]
fn an_operation_of_another_host_is_unclassified() {
    let everything = allowing(["api:read", "api:write"]);
    let elsewhere: Vec<&Operation> =
        Catalogue::embedded().operations().iter().filter(|operation| operation.host.is_some()).collect();
    assert_eq!(elsewhere.len(), 15);
    for operation in elsewhere {
        // One is a URL that the API hands out; its template is no path.
        let path = sample_path(operation);
        let Ok(uri) = path.parse::<Uri>() else {
            assert_eq!(path, "/<upload_url>");
            continue;
        };
        let head = classify(Catalogue::embedded(), &operation.method, &uri, &HeaderMap::new());
        let route = head.ok().and_then(|head| head.route);
        assert!(route.is_none(), "{} is reachable", operation.name);
        let decision = answer(&everything, &operation.method, None);
        assert_eq!((decision.effect, decision.reason), (Effect::Deny, Reason::Unclassified));
        let named = parse(&format!("operations = [\"{}\"]", operation.name));
        assert_eq!(answer(&named, &operation.method, None).effect, Effect::Deny, "{}", operation.name);
    }
}

fn here() -> impl Iterator<Item = &'static Operation> {
    Catalogue::embedded().operations().iter().filter(|operation| operation.host.is_none())
}

fn answer(policy: &Policy, method: &Method, operation: Option<&Operation>) -> Decision {
    decide(policy, &Request::new(method, &HeaderMap::new(), operation))
}

/// Asks by a request, so that the router is part of the answer.
fn ask(policy: &Policy, operation: &Operation) -> Decision {
    let uri: Uri = sample_path(operation).parse().unwrap();
    let method: &Method = &operation.method;
    let head = classify(Catalogue::embedded(), method, &uri, &HeaderMap::new())
        .unwrap_or_else(|error| panic!("{method} {uri}: {error}"));
    let routed = head.route.map(|route| route.operation);
    assert_eq!(routed.map(|routed| routed.name.as_str()), Some(operation.name.as_str()), "{method} {uri}");
    answer(policy, method, routed)
}

/// The template with a value in each placeholder.
fn sample_path(operation: &Operation) -> String {
    operation.parameters.iter().fold(operation.path.clone(), |path, parameter| {
        let value = match parameter.form {
            Form::Integer => "3164444",
            Form::Uuid => "4de7ac8b-495b-4884-9a69-1050c6793cd6",
            Form::Text => "sample-1",
            Form::TextWithSlashes => "team%2Fsample",
        };
        path.replace(&format!("{{{}}}", parameter.name), value)
    })
}
