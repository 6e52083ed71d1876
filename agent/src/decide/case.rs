//! Case tables: requests with the answers that a policy must give, in TOML.

use super::{
    Effect, Policy,
    document::is_policy_name,
    nearest::nearest,
    trial::{self, Imagined},
};
use crate::{
    classify::catalogue::Catalogue,
    reason::Reason,
    toml_file::{Error, Findings, Source},
};
use serde::Deserialize;
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
    expect: Expected,
    operation: Option<String>,
    reason: Option<Spanned<String>>,
    rule: Option<String>,
    missing: Option<Vec<String>>,
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
            for difference in case.as_ref().differences(policy, catalogue) {
                findings.add(case.span(), format!("case `{}`: {difference}", case.as_ref().name));
            }
        }
        findings.finish(self.cases.len())
    }
}

impl CaseTable {
    fn differences(&self, policy: &Policy, catalogue: &Catalogue) -> Vec<String> {
        let trial = match trial::try_request(
            policy,
            catalogue,
            Imagined { method: &self.method, url: &self.url, body: None },
        ) {
            Ok(trial) => trial,
            Err(error) => return vec![error.to_string()],
        };
        let decision = &trial.decision;
        let expected = match self.expect {
            Expected::Allow => Effect::Allow,
            Expected::Deny => Effect::Deny,
        };
        let mut differences = Vec::new();
        let mut compare = |what: &str, expected: Option<&str>, found: &str| {
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                differences.push(format!("{what} is `{found}`, expected `{expected}`"));
            }
        };
        compare("the decision", Some(expected.word()), decision.effect.word());
        let operation = trial.operation.map_or("none", |operation| operation.name.as_str());
        compare("the operation", self.operation.as_deref(), operation);
        compare(
            "the reason",
            self.reason.as_ref().map(|reason| reason.as_ref().as_str()),
            decision.reason.code(),
        );
        compare("the rule", self.rule.as_deref(), &decision.rule);
        if let Some(expected) = &self.missing {
            let mut expected = expected.clone();
            expected.sort();
            let mut missing: Vec<String> = decision.missing.iter().map(ToString::to_string).collect();
            missing.sort();
            compare("the missing scopes", Some(&expected.join(", ")), &missing.join(", "));
        }
        differences
    }
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

    #[test_case("expect = \"allow\"", "the decision is `deny`, expected `allow`"; "decision")]
    #[test_case("expect = \"deny\"\nreason = \"denied_scope\"", "the reason is `missing_scope`, expected `denied_scope`"; "reason")]
    #[test_case("expect = \"deny\"\nmissing = []", "the missing scopes is `droplet:delete`, expected ``"; "missing")]
    #[test_case("expect = \"deny\"\nrule = \"deny[0]\"", "the rule is `default`, expected `deny[0]`"; "rule")]
    #[test_case("expect = \"deny\"\noperation = \"droplets_get\"", "the operation is `droplets_destroy`, expected `droplets_get`"; "operation")]
    fn each_difference_is_told_with_its_line(rest: &str, expected: &str) {
        assert_eq!(run(&format!("{HEAD}{rest}")), Err(format!("t.toml:2: case `a`: {expected}")));
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
