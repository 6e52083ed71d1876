//! `tidegate explain`: operation, scopes needed, decision and why.

use super::Error;
use crate::{
    classify::{Catalogue, Operation, Scope},
    decide::{
        Caller, Effect, Policy,
        account::Considered,
        document,
        trial::{self, Imagined, Trial},
    },
    reason::Reason,
    record::Verdict,
};
use clap::Args;
use http::Method;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// More than any body that the API takes as JSON.
pub const MAX_BODY_BYTES: u64 = 16 * 1024 * 1024;

/// `tidegate explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The policy [default: the built-in one that reads and changes nothing]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The HTTP method, in capitals
    pub method: String,
    /// The URL, or a path such as /v2/droplets
    pub url: String,
    /// The request's body, as JSON
    #[arg(long, value_name = "FILE")]
    pub body: Option<PathBuf>,
    /// The workload that asks, for conditions that name it
    #[arg(long, value_name = "NAME", default_value = "run")]
    pub workload: String,
    /// Print JSON with the keys of the audit records
    #[arg(long)]
    pub json: bool,
}

/// The answer, with the keys of the audit records.
#[derive(Serialize)]
struct Explanation<'a> {
    #[serde(rename = "http.request.method")]
    method: &'a str,
    #[serde(rename = "url.path")]
    path: &'a str,
    #[serde(rename = "tidegate.operation", skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
    #[serde(skip)]
    action_of: Option<&'a str>,
    #[serde(rename = "tidegate.scopes.required")]
    required: Vec<&'a str>,
    /// Why each is required.
    #[serde(rename = "tidegate.scopes.because", skip_serializing_if = "BTreeMap::is_empty")]
    because: BTreeMap<&'a str, String>,
    #[serde(rename = "tidegate.scopes.missing")]
    missing: Vec<&'a str>,
    #[serde(rename = "tidegate.resources", skip_serializing_if = "Vec::is_empty")]
    resources: Vec<String>,
    #[serde(rename = "tidegate.decision")]
    decision: Effect,
    #[serde(rename = "tidegate.verdict")]
    verdict: Verdict,
    #[serde(rename = "tidegate.reason")]
    reason: Reason,
    #[serde(rename = "tidegate.rule")]
    rule: String,
    #[serde(rename = "tidegate.policy")]
    policy: &'a str,
    /// The entries of the policy that were considered.
    #[serde(rename = "tidegate.rules", skip_serializing_if = "<[_]>::is_empty")]
    considered: &'a [Considered],
    /// The limits that count the request.
    #[serde(rename = "tidegate.limits", skip_serializing_if = "Vec::is_empty")]
    limits: Vec<String>,
    /// What would be taken out of the answer.
    #[serde(rename = "tidegate.filtered", skip_serializing_if = "Vec::is_empty")]
    filtered: Vec<String>,
    #[serde(rename = "tidegate.detail", skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

/// Explains what would become of a request.
///
/// # Errors
/// When the policy or the body cannot be used, the request is not to the protected host, or `out` fails.
pub fn explain(args: &ExplainArgs, out: &mut impl Write) -> Result<(), Error> {
    let catalogue = Catalogue::embedded();
    let policy = match &args.policy {
        Some(path) => document::load(path, catalogue)?,
        None => document::read_only(catalogue)?,
    };
    let body = args.body.as_deref().map(read_body).transpose()?;
    let imagined = Imagined {
        body: body.as_deref(),
        caller: Caller { workload: &args.workload, token_type: "dop", ..Caller::default() },
        now: SystemTime::now(),
        ..Imagined::new(&args.method, &args.url)
    };
    let trial = trial::try_request(&policy, catalogue, imagined)?;
    let explanation = Explanation::new(&policy, &trial);
    if args.json {
        serde_json::to_writer(&mut *out, &explanation).map_err(io::Error::from)?;
        writeln!(out)?;
        return Ok(());
    }
    explanation.write(&policy, out)?;
    let in_body = |operation: &&Operation| operation.has_telling_body() && body.is_none();
    let may_need_more = trial.operation.filter(|_| trial.decision.effect == Effect::Allow);
    if trial
        .action_of
        .or(may_need_more)
        .filter(in_body)
        .is_some_and(|operation| operation.method != Method::GET)
    {
        writeln!(out, "body       none given, and what this operation needs depends on it: try --body FILE")?;
    }
    Ok(())
}

fn read_body(path: &Path) -> Result<Vec<u8>, Error> {
    let fail = |source| Error::Body { path: path.to_owned(), source };
    let mut body = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BODY_BYTES + 1).read_to_end(&mut body)).map_err(fail)?;
    if body.len() as u64 > MAX_BODY_BYTES {
        return Err(fail(io::Error::from(io::ErrorKind::FileTooLarge)));
    }
    Ok(body)
}

impl<'a> Explanation<'a> {
    fn new(policy: &'a Policy, trial: &'a Trial<'a>) -> Self {
        let decision = &trial.decision;
        let verdict = match (decision.effect, decision.dry_run) {
            (Effect::Allow, _) => Verdict::Forwarded,
            (Effect::Deny, true) => Verdict::WouldRefuse,
            (Effect::Deny, false) => Verdict::Refused,
        };
        Self {
            method: trial.method.as_str(),
            path: &trial.path,
            operation: trial.operation.map(|operation| operation.name.as_str()),
            action_of: trial.action_of.map(|operation| operation.name.as_str()),
            required: decision.required.iter().map(Scope::as_str).collect(),
            because: decision.required.iter().map(|scope| (scope.as_str(), trial.why(scope))).collect(),
            missing: decision.missing.iter().map(Scope::as_str).collect(),
            resources: trial.needs.resources.iter().map(ToString::to_string).collect(),
            decision: decision.effect,
            verdict,
            reason: decision.reason,
            rule: decision.rule.to_string(),
            policy: &policy.name,
            considered: &trial.account,
            limits: decision.limits.iter().map(|index| format!("limit[{index}]")).collect(),
            filtered: trial.withheld(),
            detail: decision.note.as_deref(),
        }
    }

    fn write(&self, policy: &Policy, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "request    {} {}", self.method, self.path)?;
        match (self.operation, self.action_of) {
            (Some(operation), _) => writeln!(out, "operation  {operation}")?,
            (None, Some(operation)) => {
                writeln!(out, "operation  none: not among the actions of {operation}")?
            }
            (None, None) => writeln!(out, "operation  none: not in the catalogue")?,
        }
        let needed = self.required.iter().map(|scope| {
            let because = self.because.get(scope).map_or("", String::as_str);
            format!("{scope:<28} {because}")
        });
        list(out, "needs", needed, Some("nothing"))?;
        list(out, "names", self.resources.iter().map(String::clone), None)?;
        writeln!(out, "policy     {}", self.policy)?;
        list(out, "considered", self.considered.iter().map(ToString::to_string), None)?;
        writeln!(out, "decision   {}, by {} ({})", self.decision.word(), self.rule, self.reason)?;
        if !self.missing.is_empty() {
            writeln!(out, "missing    {}", self.missing.join(" + "))?;
        }
        if let Some(detail) = self.detail {
            writeln!(out, "because    {detail}")?;
        }
        list(out, "counted by", self.limits.iter().map(String::clone), None)?;
        list(out, "withheld", self.filtered.iter().map(|pointer| format!("{pointer} of the answer")), None)?;
        if self.verdict == Verdict::WouldRefuse {
            writeln!(out, "dry run    forwarded all the same, and recorded as would_refuse")?;
        }
        match &policy.contact {
            Some(contact) if self.decision == Effect::Deny => writeln!(out, "contact    {contact}"),
            _ => Ok(()),
        }
    }
}

/// A heading with a line for each item, or with `otherwise` where there is none.
fn list(
    out: &mut impl Write,
    heading: &str,
    items: impl Iterator<Item = String>,
    otherwise: Option<&str>,
) -> io::Result<()> {
    let mut heading = Some(heading);
    for item in items {
        writeln!(out, "{:<10} {}", heading.take().unwrap_or_default(), item.trim_end())?;
    }
    match (heading, otherwise) {
        (Some(heading), Some(otherwise)) => writeln!(out, "{heading:<10} {otherwise}"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn args(method: &str, url: &str, json: bool) -> ExplainArgs {
        let workload = "run".to_owned();
        ExplainArgs {
            policy: None,
            method: method.to_owned(),
            url: url.to_owned(),
            body: None,
            workload,
            json,
        }
    }

    fn output(args: &ExplainArgs) -> String {
        let mut out = Vec::new();
        explain(args, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_has_the_keys_of_the_audit_records() {
        let expected = concat!(
            r#"{"http.request.method":"DELETE","url.path":"/v2/droplets/1","#,
            r#""tidegate.operation":"droplets_destroy","tidegate.scopes.required":["droplet:delete"],"#,
            r#""tidegate.scopes.because":{"droplet:delete":"the operation's own"},"#,
            r#""tidegate.scopes.missing":["droplet:delete"],"tidegate.resources":["droplet:1"],"#,
            r#""tidegate.decision":"deny","tidegate.verdict":"refused","tidegate.reason":"missing_scope","#,
            r#""tidegate.rule":"default","tidegate.policy":"read-only"}"#,
            "\n"
        );
        assert_eq!(output(&args("DELETE", "/v2/droplets/1", true)), expected);
    }

    #[test]
    fn people_get_lines() {
        let expected = "request    GET /v2/domains\noperation  domains_list\n\
                        needs      domain:read                  the operation's own\npolicy     read-only\n\
                        considered allow[0]   allow fits: domain:read\n\
                        decision   allow, by allow[0] (scopes_allowed)\n";
        assert_eq!(output(&args("GET", "https://api.digitalocean.com/v2/domains?page=2", false)), expected);
        let unknown = output(&args("GET", "/v3/anything", false));
        assert!(unknown.contains("operation  none: not in the catalogue\n"), "{unknown}");
        assert!(unknown.contains("decision   deny, by default (unclassified)\n"), "{unknown}");
    }

    #[test]
    fn the_policys_own_words_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.toml");
        let text = "contact = \"ops@example.com\"\nmode = \"dry-run\"\nallow = [\"api:write\"]\n[[rule]]\n\
                    effect = \"deny\"\nscopes = [\"droplet:delete\"]\nreason = \"keep them\"\n";
        std::fs::write(&path, text).unwrap();
        let shown = output(&ExplainArgs { policy: Some(path), ..args("DELETE", "/v2/droplets/1", false) });
        let expected = "missing    droplet:delete\nbecause    keep them\ndry run    forwarded all the same, and \
                        recorded as would_refuse\ncontact    ops@example.com\n";
        assert!(shown.ends_with(expected), "{shown}");
    }

    #[test]
    fn a_body_tells_which_scopes_and_resources() {
        let dir = tempfile::tempdir().unwrap();
        let body = dir.path().join("b.json");
        std::fs::write(&body, r#"{"name":"a","image":"debian-12-x64","tags":["ci"]}"#).unwrap();
        let args = ExplainArgs { body: Some(body.clone()), ..args("POST", "/v2/droplets", false) };
        let shown = output(&args);
        for line in [
            "needs      droplet:create               the operation's own\n",
            "           image:read                   because of body /image\n",
            "           tag:create                   because of body /tags\n",
            "missing    droplet:create + tag:create\n",
        ] {
            assert!(shown.contains(line), "{shown}");
        }
        assert!(shown.contains(" tag:ci\n"), "{shown}");
        std::fs::write(&body, r#"{"name":"a","name":"b"}"#).unwrap();
        assert!(output(&args).contains("by default (body_malformed)"));
        let missing = ExplainArgs { body: Some(dir.path().join("none")), ..args };
        assert_eq!(explain(&missing, &mut Vec::new()).unwrap_err().status(), 2);
    }

    #[test_case("GET", "https://example.com/v2/droplets", "`example.com` is not a protected host"; "another host")]
    #[test_case("get", "/v2/droplets", "`get` is not an HTTP method"; "lower case method")]
    fn what_is_no_request_to_the_api_is_an_error(method: &str, url: &str, expected: &str) {
        let error = explain(&args(method, url, false), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.status(), 2);
    }
}
