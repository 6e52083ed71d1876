//! Case tables: requests with the answers that a policy must give, in TOML.

use super::{
    Caller, Effect, Policy,
    document::is_policy_name,
    nearest::nearest,
    trial::{self, Imagined, Trial},
};
use crate::{
    classify::{Scope, catalogue::Catalogue},
    reason::Reason,
    toml_file::{Error, Findings, Source},
};
use serde::Deserialize;
use std::time::SystemTime;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use toml::Spanned;

/// A case table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    policy: Spanned<String>,
    #[serde(default)]
    case: Vec<Spanned<CaseTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseTable {
    name: String,
    method: String,
    url: String,
    body: Option<Body>,
    workload: Option<String>,
    user: Option<u32>,
    executable: Option<String>,
    token_type: Option<String>,
    now: Option<String>,
    expect: Expected,
    operation: Option<String>,
    reason: Option<Spanned<String>>,
    rule: Option<String>,
    missing: Option<Vec<String>>,
    required: Option<Vec<String>>,
    withheld: Option<Vec<String>>,
}

/// A body: as text, or as a table that stands for its JSON.
#[derive(Deserialize)]
#[serde(untagged)]
enum Body {
    Text(String),
    Table(serde_json::Map<String, serde_json::Value>),
}

impl Body {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.as_bytes().to_vec(),
            // A map of JSON values always serialises.
            Self::Table(table) => serde_json::to_vec(table).unwrap_or_default(),
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Allow,
    Deny,
}

/// A case table, checked for form.
pub struct Table<'a> {
    source: &'a Source,
    policy: String,
    cases: Vec<Spanned<CaseTable>>,
}

impl<'a> Table<'a> {
    /// Parses a table.
    ///
    /// # Errors
    /// When it has another shape, no case, or a reason that does not exist.
    pub fn parse(source: &'a Source) -> Result<Self, Error> {
        let document: Document = source.parse()?;
        let mut findings = Findings::new(source);
        if !is_policy_name(document.policy.as_ref()) {
            let message = format!(
                "`{}` is not a policy's name; write it without path and `.toml`",
                document.policy.as_ref()
            );
            findings.add(document.policy.span(), message);
        }
        if document.case.is_empty() {
            findings.add(0..0, "no `[[case]]`; a table without one tests nothing");
        }
        for reason in document.case.iter().filter_map(|case| case.as_ref().reason.as_ref()) {
            let codes = || Reason::ALL.iter().map(|reason| reason.code());
            if !codes().any(|code| code == reason.as_ref()) {
                let suggestion = nearest(reason.as_ref(), codes()).map_or_else(
                    || "; docs/reasons.md lists them".to_owned(),
                    |code| format!("; did you mean `{code}`?"),
                );
                findings.add(reason.span(), format!("unknown reason `{}`{suggestion}", reason.as_ref()));
            }
        }
        let policy = document.policy.into_inner();
        findings.finish(Self { source, policy, cases: document.case })
    }

    /// The name of the policy that the table is for.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Runs every case and counts them.
    ///
    /// # Errors
    /// With every case whose answer is another than the table says.
    pub fn run(&self, policy: &Policy, catalogue: &Catalogue) -> Result<usize, Error> {
        let mut findings = Findings::new(self.source);
        for case in &self.cases {
            if let Some(difference) = case.as_ref().difference(policy, catalogue) {
                findings.add(case.span(), format!("case `{}`: {difference}", case.as_ref().name));
            }
        }
        findings.finish(self.cases.len())
    }

    /// The requests of the cases, with their names.
    pub fn requests(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        let cases = self.cases.iter().map(Spanned::as_ref);
        cases.map(|case| (case.name.as_str(), case.method.as_str(), case.url.as_str()))
    }
}

impl CaseTable {
    /// What is other than the table says, as a diff: `-` what was expected, `+` what was found.
    fn difference(&self, policy: &Policy, catalogue: &Catalogue) -> Option<String> {
        let body = self.body.as_ref().map(Body::bytes);
        let trial = match self.trial(policy, catalogue, body.as_deref()) {
            Ok(trial) => trial,
            Err(message) => return Some(message),
        };
        let decision = &trial.decision;
        let mut lines = vec![format!("{} {}", self.method, self.url)];
        let mut differs = false;
        let mut compare = |what: &str, expected: Option<String>, found: String| match expected
            .filter(|expected| *expected != found)
        {
            Some(expected) => {
                differs = true;
                lines.extend([format!("  - {what:<10} {expected}"), format!("  + {what:<10} {found}")]);
            }
            None => lines.push(format!("    {what:<10} {found}")),
        };
        let effect = match self.expect {
            Expected::Allow => Effect::Allow,
            Expected::Deny => Effect::Deny,
        };
        compare("decision", Some(effect.word().to_owned()), decision.effect.word().to_owned());
        let reason = self.reason.as_ref().map(|reason| reason.as_ref().clone());
        compare("reason", reason, decision.reason.code().to_owned());
        compare("rule", self.rule.clone(), decision.rule.to_string());
        let operation = trial.operation.map_or("none", |operation| operation.name.as_str());
        compare("operation", self.operation.clone(), operation.to_owned());
        compare("required", sorted(self.required.as_deref()), words(&decision.required));
        compare("missing", sorted(self.missing.as_deref()), words(&decision.missing));
        compare("withheld", sorted(self.withheld.as_deref()), trial.withheld().join(", "));
        differs.then(|| lines.join("\n"))
    }

    fn trial<'a>(
        &self,
        policy: &Policy,
        catalogue: &'a Catalogue,
        body: Option<&[u8]>,
    ) -> Result<Trial<'a>, String> {
        let now = match &self.now {
            None => SystemTime::UNIX_EPOCH,
            Some(text) => OffsetDateTime::parse(text, &Rfc3339)
                .map_err(|_| format!("`now = \"{text}\"` is no time such as `2026-11-22T10:00:00Z`"))?
                .into(),
        };
        let caller = Caller {
            workload: self.workload.as_deref().unwrap_or_default(),
            uid: self.user,
            executable: self.executable.as_deref(),
            token_type: self.token_type.as_deref().unwrap_or("dop"),
            ..Caller::default()
        };
        let imagined = Imagined { body, caller, now, ..Imagined::new(&self.method, &self.url) };
        trial::try_request(policy, catalogue, imagined).map_err(|error| error.to_string())
    }
}

fn sorted(words: Option<&[String]>) -> Option<String> {
    words.map(|words| {
        let mut words = words.to_vec();
        words.sort();
        words.join(", ")
    })
}

fn words(scopes: &[Scope]) -> String {
    let words: Vec<String> = scopes.iter().map(ToString::to_string).collect();
    sorted(Some(&words)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use test_case::test_case;

    fn run(text: &str) -> Result<usize, String> {
        let catalogue = Catalogue::embedded();
        let source = Source::from_bytes(Path::new("t.toml"), text.as_bytes().to_vec()).unwrap();
        let policy = super::super::document::read_only(catalogue).unwrap();
        let table = Table::parse(&source).map_err(|error| error.to_string())?;
        table.run(&policy, catalogue).map_err(|error| error.to_string())
    }

    const HEAD: &str =
        "policy = \"read-only\"\n[[case]]\nname = \"a\"\nmethod = \"DELETE\"\nurl = \"/v2/droplets/1\"\n";

    #[test]
    fn a_table_that_is_right_counts_its_cases() {
        let text =
            format!("{HEAD}expect = \"deny\"\nreason = \"missing_scope\"\nmissing = [\"droplet:delete\"]");
        assert_eq!(run(&text), Ok(1));
    }

    #[test_case("expect = \"allow\"", "decision", "allow", "deny"; "decision")]
    #[test_case("expect = \"deny\"\nreason = \"denied_scope\"", "reason", "denied_scope", "missing_scope"; "reason")]
    #[test_case("expect = \"deny\"\nmissing = []", "missing", "", "droplet:delete"; "missing")]
    #[test_case("expect = \"deny\"\nrequired = [\"a:b\"]", "required", "a:b", "droplet:delete"; "required")]
    #[test_case("expect = \"deny\"\nrule = \"deny[0]\"", "rule", "deny[0]", "default"; "rule")]
    #[test_case("expect = \"deny\"\noperation = \"droplets_get\"", "operation", "droplets_get", "droplets_destroy"; "operation")]
    fn each_difference_is_told_with_its_line(rest: &str, what: &str, expected: &str, found: &str) {
        let told = run(&format!("{HEAD}{rest}")).unwrap_err();
        assert!(told.starts_with("t.toml:2: case `a`: DELETE /v2/droplets/1\n"), "{told}");
        let lines = format!("\n  - {what:<10} {expected}\n  + {what:<10} {found}");
        assert!(told.contains(&lines), "{told}");
    }

    #[test]
    fn a_case_can_say_who_asks_when_and_with_what() {
        let rest = "url = \"/v2/droplets\"\nmethod = \"POST\"\nexpect = \"deny\"\nreason = \"missing_scope\"\n\
                    body = { name = \"a\", image = 1 }\nworkload = \"ci\"\nuser = 1000\nexecutable = \"/bin/x\"\n\
                    token_type = \"dop\"\nnow = \"2026-11-22T10:00:00Z\"\n\
                    required = [\"droplet:create\", \"image:read\"]";
        let table = format!("policy = \"read-only\"\n[[case]]\nname = \"a\"\n{rest}");
        assert_eq!(run(&table), Ok(1));
        let wrong = run(&table.replace("2026-11", "2026-13")).unwrap_err();
        assert!(wrong.contains("is no time such as"), "{wrong}");
    }

    #[test_case("policy = \"read-only\"", "t.toml:1: no `[[case]]`; a table without one tests nothing"; "empty")]
    #[test_case("policy = \"../read-only\"\ncase = []", "`../read-only` is not a policy's name"; "path as a name")]
    fn tables_of_the_wrong_form_are_refused(text: &str, expected: &str) {
        let error = run(text).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_reason_that_does_not_exist_is_refused() {
        let error = run(&format!("{HEAD}expect = \"deny\"\nreason = \"mising_scope\"")).unwrap_err();
        assert_eq!(error, "t.toml:7: unknown reason `mising_scope`; did you mean `missing_scope`?");
    }
}
