use super::*;
use test_case::test_case;

const CASES: &str =
    "policy = \"p\"\n[[case]]\nname = \"a\"\nmethod = \"GET\"\nurl = \"/v2/domains\"\nexpect = ";

/// A directory with the given files.
fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.replace("DIR", dir.path().to_str().unwrap())).unwrap();
    }
    dir
}

fn checked(dir: &Path, files: &[&str], json: bool) -> (Result<(), Error>, String) {
    let mut out = Vec::new();
    let files = files.iter().map(|name| dir.join(name)).collect();
    let result = check(&CheckArgs { files, json }, &mut out);
    (result, String::from_utf8(out).unwrap().replace(dir.to_str().unwrap(), "DIR"))
}

#[test_case("allow = []", Kind::Policy; "policy")]
#[test_case("", Kind::Policy; "empty")]
#[test_case("= no toml", Kind::Policy; "no toml")]
#[test_case("policy = \"x\"", Kind::Cases; "table without a case")]
#[test_case("[[case]]", Kind::Cases; "table without a policy")]
#[test_case("[[workload]]\npolicy = \"x\"", Kind::Config; "workloads")]
#[test_case("[limits]", Kind::Config; "limits")]
fn files_are_recognised_by_their_keys(text: &str, expected: Kind) {
    assert_eq!(kind_of(text), expected);
}

#[test]
fn files_of_every_kind_pass() {
    let dir = files(&[
        ("p.toml", "allow = [\"domain:read\"]"),
        ("cases/p.toml", &format!("{CASES}\"allow\"")),
        ("tidegate.conf", "policy_dir = \"DIR\"\n[[workload]]\nname = \"w\"\npolicy = \"p\""),
    ]);
    let (result, out) = checked(dir.path(), &["tidegate.conf", ""], false);
    assert_eq!(
        out.replace("DIR//", "DIR/"),
        "DIR/tidegate.conf: configuration, ok\nDIR/p.toml: policy, ok\nDIR/cases/p.toml: 1 cases, ok\n"
    );
    assert!(result.is_ok());
}

#[test]
fn all_problems_of_all_files_are_told() {
    let dir = files(&[
        ("p.toml", "allow = []"),
        ("bad.toml", "allow = [\"x:y\",\n\"z:w\"]"),
        ("cases/p.toml", &format!("{CASES}\"allow\"")),
        (
            "cases/lost.toml",
            "policy = \"lost\"\n[[case]]\nname = \"a\"\nmethod = \"GET\"\nurl = \"/\"\nexpect = \"deny\"",
        ),
        ("conf.toml", "policy_dir = \"DIR\"\n[[workload]]\nname = \"w\"\npolicy = \"nowhere\""),
    ]);
    let (result, out) =
        checked(dir.path(), &["conf.toml", "p.toml", "bad.toml", "cases/p.toml", "cases/lost.toml"], false);
    let expected = [
        "cannot open `DIR/nowhere.toml`: No such file or directory (os error 2)",
        "DIR/p.toml: policy, ok",
        "DIR/cases/p.toml:2: case `a`: GET /v2/domains",
        "  - decision   allow",
        "  + decision   deny",
        "    reason     missing_scope",
        "    rule       default",
        "    operation  domains_list",
        "    required   domain:read",
        "    missing    domain:read",
        "    withheld   ",
        "DIR/bad.toml:1: unknown scope `x:y`; `tidegate scopes` lists what there is",
        "DIR/bad.toml:2: unknown scope `z:w`; `tidegate scopes` lists what there is",
        "cannot open `DIR/cases/../lost.toml`: No such file or directory (os error 2)",
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
    let error = result.unwrap_err();
    assert_eq!(error.to_string(), "4 of 5 files have problems; see above");
    assert_eq!(error.status(), 2);
}

#[test]
fn json_has_the_stable_keys() {
    let dir = files(&[
        ("p.toml", "allow = [\"domain:read\"]"),
        ("bad.toml", "allow = [\"dropplet:read\"]"),
        ("cases/p.toml", &format!("{CASES}\"allow\"")),
    ]);
    let (result, out) = checked(dir.path(), &["bad.toml", "cases/p.toml"], true);
    let message = "unknown scope `dropplet:read`; did you mean `droplet:read`?";
    let expected = serde_json::json!([
        { "file": "DIR/bad.toml", "kind": "policy", "ok": false, "warnings": [],
          "errors": [{ "line": 1, "column": 10, "message": message }] },
        { "file": "DIR/cases/p.toml", "kind": "cases", "ok": true, "errors": [], "warnings": [], "cases": 1 },
    ]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap(), expected);
    assert!(result.is_err());
}

#[test]
fn what_is_doubtful_is_told_with_its_line_and_is_no_error() {
    let dir = files(&[
        ("p.toml", "allow = [\n\"domain:read\",\n\"domain:delete\"]"),
        ("idle.toml", ""),
        ("tidegate.conf", "policy_dir = \"DIR\"\n[[workload]]\nname = \"w\"\npolicy = \"p\""),
    ]);
    let (result, out) = checked(dir.path(), &["p.toml", "tidegate.conf"], false);
    let expected = [
        "DIR/p.toml: policy, ok",
        "DIR/p.toml:3: warning: allow[1]: `domain:delete` allows deleting every domain; narrow it with `resources`",
        "DIR/tidegate.conf: configuration, ok",
        "DIR/tidegate.conf: warning: `DIR/idle.toml` is the policy of no workload",
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
    assert!(result.is_ok());
}

#[test]
fn a_directory_without_files_is_not_passed_over() {
    let dir = files(&[("empty/readme", "")]);
    let (result, out) = checked(dir.path(), &["empty"], false);
    assert_eq!(out, "DIR/empty: not a regular file\n");
    assert!(result.is_err());
}
