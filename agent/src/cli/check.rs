//! `tidegate check`: validates configurations, policies and manifests, and runs case tables.

use super::Error;
use crate::{
    classify::Catalogue,
    config::file,
    decide::{case::Table, document, lint},
    manifest,
    toml_file::{self, Problem, Source},
};
use clap::Args;
use serde::Serialize;
use std::{
    collections::BTreeSet,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

/// `tidegate check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Policies, case tables, configurations, manifests (.yaml), or directories of policies [default: what is installed]
    pub files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What a file was taken for, by its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Policy,
    Cases,
    Config,
    Manifests,
}

/// What was found in one file.
#[derive(Debug, Serialize)]
struct Report {
    file: PathBuf,
    kind: Kind,
    ok: bool,
    errors: Vec<Problem>,
    /// What is valid, and doubtful all the same.
    warnings: Vec<Problem>,
    /// How many cases passed, for a case table.
    #[serde(skip_serializing_if = "Option::is_none")]
    cases: Option<usize>,
}

/// Checks the files, or the installed configuration with all of its policies.
///
/// # Errors
/// When a file has a problem, after all of them were told; or when `out` cannot be written.
pub fn check(args: &CheckArgs, out: &mut impl Write) -> Result<(), Error> {
    let catalogue = Catalogue::embedded();
    let files = if args.files.is_empty() { installed() } else { args.files.clone() };
    let mut seen = BTreeSet::new();
    let files = files.iter().flat_map(|file| expanded(file)).filter(|file| seen.insert(file.clone()));
    let reports: Vec<Report> = files.map(|file| report(file, catalogue)).collect();
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &reports).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        for report in &reports {
            report.write(out)?;
        }
    }
    match reports.iter().filter(|report| !report.ok).count() {
        0 => Ok(()),
        bad => Err(Error::Checked { bad, checked: reports.len() }),
    }
}

/// The configuration that the agent reads, and its directory of policies.
fn installed() -> Vec<PathBuf> {
    let config = PathBuf::from(file::DEFAULT_PATH);
    let policy_dir = file::load(&config).ok().map(|config| config.policy_dir);
    std::iter::once(config).chain(policy_dir).collect()
}

/// A directory stands for the policies in it and the case tables in its `cases`, a policy for its own table as well.
fn expanded(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        let table = path.parent().zip(path.file_name()).map(|(dir, name)| dir.join("cases").join(name));
        return std::iter::once(path.to_owned()).chain(table.filter(|table| table.is_file())).collect();
    }
    let mut files = toml_files(path);
    files.extend(toml_files(&path.join("cases")));
    // A directory without any is told as a file that it is not, rather than passed over.
    if files.is_empty() {
        files.push(path.to_owned());
    }
    files
}

fn toml_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    files.sort();
    files
}

/// What a file that is all right is: how many cases passed, and what is doubtful.
#[derive(Default)]
struct Found {
    cases: Option<usize>,
    warnings: Vec<Problem>,
}

fn report(file: PathBuf, catalogue: &Catalogue) -> Report {
    let source = Source::open(&file);
    let kind = match &source {
        _ if manifest::is_manifest(&file) => Kind::Manifests,
        Ok(source) => kind_of(&source.text),
        Err(_) => Kind::Policy,
    };
    let result = source.and_then(|source| match kind {
        Kind::Policy => check_policy(&source, catalogue),
        Kind::Cases => run_cases(&source, catalogue),
        Kind::Config => check_config(&source, catalogue),
        Kind::Manifests => {
            manifest::doubts(&source, catalogue).map(|warnings| Found { warnings, cases: None })
        }
    });
    let (found, errors) = match result {
        Ok(found) => (found, Vec::new()),
        Err(error) => (Found::default(), error.problems()),
    };
    let Found { cases, warnings } = found;
    Report { file, kind, ok: errors.is_empty(), errors, warnings, cases }
}

fn check_policy(source: &Source, catalogue: &Catalogue) -> Result<Found, toml_file::Error> {
    let policy = document::read(source, catalogue)?;
    let lines = document::lines(source);
    let warnings = lint::doubts(&policy, catalogue).into_iter().map(|doubt| Problem {
        line: lines.get(&doubt.entry).copied().unwrap_or_default(),
        column: 0,
        message: format!("{}: {}", doubt.entry, doubt.message),
    });
    Ok(Found { warnings: warnings.collect(), cases: None })
}

/// A text that is no TOML counts as a policy; the same error is told in any case.
fn kind_of(text: &str) -> Kind {
    let table: toml::Table = text.parse().unwrap_or_default();
    if table.contains_key("case") || table.get("policy").is_some_and(toml::Value::is_str) {
        Kind::Cases
    } else if file::TOP_KEYS.iter().any(|key| table.contains_key(*key)) {
        Kind::Config
    } else {
        Kind::Policy
    }
}

/// A table `DIR/cases/x.toml` is for a policy `DIR/NAME.toml`.
fn run_cases(source: &Source, catalogue: &Catalogue) -> Result<Found, toml_file::Error> {
    let table = Table::parse(source)?;
    let cases_dir = source.path.parent().unwrap_or(Path::new(""));
    let policy = cases_dir.join("..").join(format!("{}.toml", table.policy()));
    let policy = fs::canonicalize(&policy).unwrap_or(policy);
    let cases = table.run(&document::load(&policy, catalogue)?, catalogue)?;
    Ok(Found { cases: Some(cases), warnings: Vec::new() })
}

fn check_config(source: &Source, catalogue: &Catalogue) -> Result<Found, toml_file::Error> {
    let config = file::parse(source)?;
    let path = |policy: &str| config.policy_dir.join(format!("{policy}.toml"));
    for workload in &config.workloads {
        document::load(&path(&workload.policy), catalogue)?;
    }
    let used: Vec<PathBuf> = config.workloads.iter().map(|workload| path(&workload.policy)).collect();
    let idle = toml_files(&config.policy_dir).into_iter().filter(|file| !used.contains(file));
    let warnings = idle.map(|file| Problem {
        line: 0,
        column: 0,
        message: format!("`{}` is the policy of no workload", file.display()),
    });
    Ok(Found { warnings: warnings.collect(), cases: None })
}

impl Report {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let file = self.file.display();
        match (self.ok, self.kind, self.cases) {
            (true, Kind::Policy, _) => writeln!(out, "{file}: policy, ok"),
            (true, Kind::Config, _) => writeln!(out, "{file}: configuration, ok"),
            (true, Kind::Manifests, _) => writeln!(out, "{file}: manifests, ok"),
            (true, Kind::Cases, cases) => writeln!(out, "{file}: {} cases, ok", cases.unwrap_or_default()),
            (false, ..) => self.errors.iter().try_for_each(|problem| match problem.line {
                0 => writeln!(out, "{}", problem.message),
                line => writeln!(out, "{file}:{line}: {}", problem.message),
            }),
        }?;
        self.warnings.iter().try_for_each(|warning| match warning.line {
            0 => writeln!(out, "{file}: warning: {}", warning.message),
            line => writeln!(out, "{file}:{line}: warning: {}", warning.message),
        })
    }
}

#[cfg(test)]
mod tests;
