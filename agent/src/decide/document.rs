//! Policies as they are written: the shape of files and manifests, and its checks against the catalogue.

mod constraint;
mod limits;

use super::{
    Effect, Policy,
    grant::Grant,
    policy::{Mode, Rule},
};
use crate::{
    classify::catalogue::Catalogue,
    spanned::Spanned,
    toml_file::{Findings, Source},
    yaml::{self, Node},
};
use constraint::{Narrowing, ResourcesTable};
use limits::LimitTable;
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path};

pub use crate::toml_file::Error as LoadError;

/// The policy of `tidegate run` where none is named.
const READ_ONLY: &str = include_str!("../../../policies/read-only.toml");

/// A policy. Unknown keys are errors: a typing mistake must not silently widen or weaken anything.
// A remark with three strokes is what `kubectl explain` says of a ScopePolicy.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    /// What it is for.
    description: Option<Spanned<String>>,
    /// Whom to ask for more; refusals name it.
    contact: Option<Spanned<String>>,
    /// Whether denials are carried out; `dry-run` forwards and records what would be refused. Default: `enforce`.
    mode: Option<ModeWord>,
    /// The scopes that are allowed: `resource:action`, `resource:*`, `api:read` or `api:write`.
    #[serde(default)]
    allow: Vec<Spanned<String>>,
    /// The scopes that are denied, whatever allows them.
    #[serde(default)]
    deny: Vec<Spanned<String>>,
    /// Operations without a scope that are allowed by name.
    #[serde(default)]
    operations: Vec<Spanned<String>>,
    /// Whether requests that are not in the catalogue pass where `allow` holds `api:write`. Default: `deny`.
    unknown: Option<Spanned<EffectWord>>,
    /// What holds for some operations, resources or requests only. Deny beats allow; their order changes nothing.
    #[serde(default)]
    rule: Vec<Spanned<RuleTable>>,
    /// How many requests pass.
    #[serde(default)]
    limit: Vec<Spanned<LimitTable>>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct RuleTable {
    /// What it says of the requests that it fits.
    effect: EffectWord,
    /// The scopes that it is about. An allow rule needs them.
    scopes: Option<Spanned<Vec<Spanned<String>>>>,
    /// The operations that it is narrowed to.
    operations: Option<Spanned<Vec<Spanned<String>>>>,
    /// The resources that it is narrowed to: for each kind, ids, names, slugs or globs.
    resources: Option<Spanned<ResourcesTable>>,
    /// A condition in CEL over `request` and `now`.
    when: Option<Spanned<String>>,
    /// Why; refusals show it.
    reason: Option<Spanned<String>>,
    /// For a deny rule: its own mode, where that differs from the policy's.
    mode: Option<Spanned<ModeWord>>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
enum EffectWord {
    Allow,
    Deny,
}

#[derive(Clone, Copy, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
enum ModeWord {
    Enforce,
    DryRun,
}

impl From<ModeWord> for Mode {
    fn from(word: ModeWord) -> Self {
        match word {
            ModeWord::Enforce => Self::Enforce,
            ModeWord::DryRun => Self::DryRun,
        }
    }
}

/// Loads a policy file; the policy is named by it.
///
/// # Errors
/// With all that is wrong: the file's name, kind, permissions or encoding, or its content.
pub fn load(path: &Path, catalogue: &Catalogue) -> Result<Policy, LoadError> {
    read(&Source::open(path)?, catalogue)
}

/// Reads a policy from a file that is open already.
///
/// # Errors
/// With all that is wrong in its name or content.
pub fn read(source: &Source, catalogue: &Catalogue) -> Result<Policy, LoadError> {
    let name = source.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    parse_source(name, source, catalogue)
}

/// Parses the text of a policy named `name`; problems are told as of the file `origin`.
///
/// # Errors
/// With all that is wrong in the name or the text.
pub fn parse(name: &str, text: &str, origin: &Path, catalogue: &Catalogue) -> Result<Policy, LoadError> {
    let source = Source::from_bytes(origin, text.as_bytes().to_vec())?;
    parse_source(name, &source, catalogue)
}

/// The sample that is built in: look at everything, change nothing.
///
/// # Errors
/// When the catalogue does not know the aliases' scopes, which a test rules out for the embedded one.
pub fn read_only(catalogue: &Catalogue) -> Result<Policy, LoadError> {
    read(&read_only_source()?, catalogue)
}

/// The text of that sample.
///
/// # Errors
/// Never: it is UTF-8.
pub fn read_only_source() -> Result<Source, LoadError> {
    Source::from_bytes(Path::new("policies/read-only.toml"), READ_ONLY.as_bytes().to_vec())
}

/// Reads a policy from a manifest's `spec`, which stands in `source`.
///
/// # Errors
/// With all that is wrong in it.
pub fn read_spec(
    name: &str,
    spec: &Node,
    source: &Source,
    catalogue: &Catalogue,
) -> Result<Policy, LoadError> {
    let mut reader = Reader { findings: Findings::new(source), catalogue };
    let policy = reader.policy(name, spec.parse(source)?);
    reader.findings.finish(policy)
}

/// Reads a policy from an object's text, which has a `spec`; the policy is named by the path.
///
/// # Errors
/// With all that is wrong in its name or its `spec`.
pub fn read_object(source: &Source, catalogue: &Catalogue) -> Result<Policy, LoadError> {
    let name = source.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let documents = yaml::documents(source)?;
    match documents.first().and_then(|document| document.get("spec")) {
        Some(spec) if documents.len() == 1 && is_policy_name(name) => {
            read_spec(name, spec, source, catalogue)
        }
        Some(_) | None => Err(source.invalid(0..0, "this is no policy's object")),
    }
}

/// The lines of a policy's entries, by the names that decisions give them (`allow[0]`, `rule[3]`).
pub fn lines(source: &Source) -> BTreeMap<String, usize> {
    source.parse().map_or_else(|_| BTreeMap::new(), |document| lines_of(&document, source))
}

/// The same for a manifest's `spec`.
pub fn spec_lines(spec: &Node, source: &Source) -> BTreeMap<String, usize> {
    spec.parse(source).map_or_else(|_| BTreeMap::new(), |document| lines_of(&document, source))
}

fn lines_of(document: &Document, source: &Source) -> BTreeMap<String, usize> {
    let lists = [("allow", &document.allow), ("deny", &document.deny), ("operations", &document.operations)];
    let listed = lists.into_iter().flat_map(|(list, words)| {
        words.iter().enumerate().map(move |(index, word)| (format!("{list}[{index}]"), word.span()))
    });
    let ruled = document.rule.iter().enumerate().map(|(index, rule)| (format!("rule[{index}]"), rule.span()));
    let limited =
        document.limit.iter().enumerate().map(|(index, limit)| (format!("limit[{index}]"), limit.span()));
    listed.chain(ruled).chain(limited).map(|(entry, span)| (entry, source.line(span.start))).collect()
}

/// Whether a policy may have this name, so that it is a file name and nothing more.
pub fn is_policy_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !name.is_empty() && name.len() <= 64 && name.bytes().all(allowed)
}

fn parse_source(name: &str, source: &Source, catalogue: &Catalogue) -> Result<Policy, LoadError> {
    let mut reader = Reader { findings: Findings::new(source), catalogue };
    if !is_policy_name(name) {
        let message = "a policy's name is the file's, and holds 1 to 64 letters, digits, `-` and `_`";
        reader.findings.add(0..0, format!("`{name}` cannot name a policy; {message}"));
    }
    let document: Document = source.parse()?;
    let policy = reader.policy(name, document);
    reader.findings.finish(policy)
}

/// Turns the written shape into the policy and notes what is wrong on the way.
struct Reader<'c> {
    findings: Findings<'c>,
    catalogue: &'c Catalogue,
}

impl Reader<'_> {
    fn policy(&mut self, name: &str, document: Document) -> Policy {
        let allow = self.grants(&document.allow);
        let unknown_allowed = self.unknown(document.unknown.as_ref(), &allow);
        Policy {
            name: name.to_owned(),
            description: document.description.map(Spanned::into_inner),
            contact: document.contact.as_ref().and_then(|text| self.line(text)),
            mode: document.mode.map(Mode::from).unwrap_or_default(),
            allow,
            deny: self.grants(&document.deny),
            operations: self.unscoped_operations(&document.operations),
            limits: self.limits(&document.limit),
            rules: document.rule.iter().filter_map(|rule| self.rule(rule)).collect(),
            unknown_allowed,
        }
    }

    fn grants(&mut self, words: &[Spanned<String>]) -> Vec<Grant> {
        let mut grants = Vec::new();
        for word in words {
            match Grant::parse(word.as_ref(), self.catalogue) {
                Ok(grant) => grants.push(grant),
                Err(error) => self.findings.add(word.span(), error),
            }
        }
        grants
    }

    /// `unknown = "allow"` passes requests that nobody has looked at, so it takes the widest grant as well.
    fn unknown(&mut self, word: Option<&Spanned<EffectWord>>, allow: &[Grant]) -> bool {
        let Some(word) = word.filter(|word| *word.as_ref() == EffectWord::Allow) else { return false };
        if !allow.contains(&Grant::ApiWrite) {
            let message = "`unknown = \"allow\"` has no effect without `api:write` in `allow`; add it, or remove \
                           `unknown`";
            self.findings.add(word.span(), message);
        }
        true
    }

    fn unscoped_operations(&mut self, names: &[Spanned<String>]) -> Vec<String> {
        for name in names {
            let Some(operation) = self.operation(name) else { continue };
            let alternatives = operation.alternatives();
            if let Some(set) = alternatives.first() {
                let words: Vec<String> = set.iter().map(|scope| format!("`{scope}`")).collect();
                let message = format!(
                    "operation `{}` needs scopes, and `operations` is for those that need none; put {} into `allow`",
                    operation.name,
                    words.join(", ")
                );
                self.findings.add(name.span(), message);
            }
        }
        names.iter().map(|name| name.as_ref().clone()).collect()
    }

    fn rule(&mut self, spanned: &Spanned<RuleTable>) -> Option<Rule> {
        let table = spanned.as_ref();
        let effect = match table.effect {
            EffectWord::Allow => Effect::Allow,
            EffectWord::Deny => Effect::Deny,
        };
        self.check_rule_keys(spanned);
        let words = table.scopes.as_ref().map(Spanned::as_ref).map_or(&[][..], Vec::as_slice);
        let scopes = self.grants(words);
        // With a word missing, whether the operations need any of them cannot be told.
        let known = (scopes.len() == words.len()).then_some(&scopes[..]);
        let keys = Narrowing {
            of: "rule",
            operations: table.operations.as_ref(),
            resources: table.resources.as_ref(),
            when: table.when.as_ref(),
        };
        let constraint = self.constraint(&keys, known, effect);
        Some(Rule {
            effect,
            scopes,
            constraint,
            reason: table.reason.as_ref().and_then(|text| self.line(text)),
            mode: table.mode.as_ref().map(|mode| Mode::from(*mode.as_ref())),
        })
    }

    /// An empty or missing list must never come to mean "all".
    fn check_rule_keys(&mut self, spanned: &Spanned<RuleTable>) {
        let table = spanned.as_ref();
        for (key, list) in [("scopes", &table.scopes), ("operations", &table.operations)] {
            if let Some(list) = list.as_ref().filter(|list| list.as_ref().is_empty()) {
                self.findings
                    .add(list.span(), format!("`{key} = []` fits nothing; name some, or remove the key"));
            }
        }
        match table.effect {
            EffectWord::Allow if table.scopes.is_none() => {
                self.findings.add(spanned.span(), "an allow rule needs `scopes`");
            }
            EffectWord::Deny
                if table.scopes.is_none()
                    && table.operations.is_none()
                    && table.resources.is_none()
                    && table.when.is_none() =>
            {
                let message = "a deny rule needs `scopes`, `operations`, `resources` or `when`";
                self.findings.add(spanned.span(), message);
            }
            EffectWord::Allow | EffectWord::Deny => {}
        }
        if let Some(mode) = table.mode.as_ref().filter(|_| table.effect == EffectWord::Allow) {
            self.findings.add(mode.span(), "`mode` belongs to deny rules only; remove it");
        }
    }

    /// A text that stands in refusals: one line of printable characters.
    fn line(&mut self, text: &Spanned<String>) -> Option<String> {
        let line: &String = text.as_ref();
        if line.chars().any(char::is_control) || line.chars().count() > 200 {
            let message = "this text is shown in refusals: one line of at most 200 printable characters";
            self.findings.add(text.span(), message);
            return None;
        }
        Some(line.clone())
    }
}

#[cfg(test)]
mod tests;
