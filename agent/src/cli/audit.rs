//! `tidegate audit`: shows the decisions that were recorded, and checks that none was altered or removed.

pub(super) mod follow;
pub(super) mod table;

use super::{Error, run::configuration};
use crate::{
    config,
    record::{
        signer::{self, PublicKey, SignedHead, head_path, public_path},
        sink::rotated,
        verify::{Earlier, Report, Verifier},
    },
};
use clap::{Args, Subcommand, ValueEnum};
use follow::Lines;
use rustix::termios::tcgetwinsize;
use serde_json::{Map, Value};
use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, BufReader, IsTerminal, Write},
    path::{Path, PathBuf},
};
use table::Table;

/// `tidegate audit`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AuditArgs {
    /// What else to do with the log
    #[command(subcommand)]
    pub command: Option<AuditCommand>,
    /// The log; without one, that of the configuration
    pub file: Option<PathBuf>,
    /// Go on with what is recorded from now on
    #[arg(long, short)]
    pub follow: bool,
    /// Only what was refused, or would have been without dry-run
    #[arg(long)]
    pub denied: bool,
    /// Only this workload's
    #[arg(long, value_name = "NAME")]
    pub workload: Option<String>,
    /// Print the records as they are
    #[arg(long)]
    pub json: bool,
    /// When to use colours; `auto` is on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: Colours,
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Colours {
    /// On a terminal that shows them, where the user does not object.
    #[default]
    Auto,
    /// Also in a file or pipe.
    Always,
    /// Nowhere.
    Never,
}

impl Colours {
    fn are_shown(self, is_terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let is_refused = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
                is_terminal && !is_refused && variable("TERM").is_none_or(|terminal| terminal != "dumb")
            }
        }
    }
}

/// `tidegate audit …`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check that no record was altered, removed, repeated or moved
    Verify(VerifyArgs),
}

/// `tidegate audit verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The log's files, the oldest first; without one, those of the configuration's log
    pub files: Vec<PathBuf>,
    /// The public key that it must be signed with; without one, that of the configuration
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Runs the command and answers with the exit status: 1 where a log is not as it was written.
///
/// # Errors
/// When the log or its configuration cannot be read, or `out` fails.
pub fn run(args: &AuditArgs, out: &mut impl Write) -> Result<u8, Error> {
    match &args.command {
        Some(AuditCommand::Verify(args)) => verify(args, out),
        None => show(args, out).map(|()| 0),
    }
}

fn log_of(config: Option<&PathBuf>) -> Result<config::Audit, Error> {
    Ok(configuration(config)?.0.audit)
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Audit { path, source }
}

fn show(args: &AuditArgs, out: &mut impl Write) -> Result<(), Error> {
    let path = match &args.file {
        Some(file) => file.clone(),
        None => log_of(args.config.as_ref())?.path,
    };
    let width =
        tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
    let mut table =
        Table::new(args.color.are_shown(io::stdout().is_terminal(), |name| env::var_os(name)), width);
    let mut lines = Lines::open(&path, args.follow).map_err(unreadable(&path))?;
    while let Some(line) = lines.next().map_err(unreadable(&path))? {
        let Ok(record) = serde_json::from_slice::<Map<String, Value>>(&line) else { continue };
        if !args.wants(&record) {
            continue;
        }
        if args.json {
            out.write_all(&line)?;
            out.write_all(b"\n")?;
        } else {
            table.row(&record, out)?;
        }
        if args.follow {
            out.flush()?;
        }
    }
    Ok(())
}

impl AuditArgs {
    fn wants(&self, record: &Map<String, Value>) -> bool {
        let text = |key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default();
        // Checkpoints are about the log itself, and of a write's two lines the second says all.
        text("tidegate.phase") == "outcome"
            && (!self.denied
                || text("tidegate.decision") == "deny"
                || text("tidegate.verdict") == "would_refuse")
            && self.workload.as_ref().is_none_or(|name| {
                // A connection of several workloads' names them all.
                text("tidegate.workload").split('+').any(|one| one == name)
            })
    }
}

fn verify(args: &VerifyArgs, out: &mut impl Write) -> Result<u8, Error> {
    let configured = log_of(args.config.as_ref())?;
    let files = if args.files.is_empty() {
        let mut files = rotated(&configured.path);
        files.push(configured.path);
        files
    } else {
        args.files.clone()
    };
    let key = match &args.key {
        Some(path) => Some(PublicKey::read(path)?),
        // Where no agent has made one, the chains alone tell.
        None => present(PublicKey::read(&public_path(&configured.key)))?,
    };
    let newest = if key.is_some() { present(SignedHead::read(&head_path(&configured.key)))? } else { None };
    let mut verifier = Verifier::new(key);
    let is_same = |file: &PathBuf, other: &PathBuf| {
        file == other || file.canonicalize().ok() == other.canonicalize().ok()
    };
    if let Some(newest) = newest.filter(|newest| files.iter().any(|file| is_same(file, &newest.path))) {
        verifier.expect(newest);
    }
    for file in &files {
        let opened = File::open(file).map_err(unreadable(file))?;
        verifier.read(file, BufReader::new(opened)).map_err(unreadable(file))?;
    }
    let report = verifier.finish();
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        tell(&report, files.len(), out)?;
    }
    Ok(u8::from(!report.problems.is_empty()))
}

/// None where there is no such file; whatever else keeps it from being read must not pass for that.
fn present<T>(read: Result<T, signer::Error>) -> Result<Option<T>, signer::Error> {
    match read {
        Err(error) if error.is_missing() => Ok(None),
        read => read.map(Some),
    }
}

/// The most problems that are told; where one record is gone the rest follows from it.
const MAX_TOLD: usize = 20;

fn tell(report: &Report, files: usize, out: &mut impl Write) -> io::Result<()> {
    let Report { key, records, chains, signatures, unsigned, earlier, torn, problems } = report;
    writeln!(out, "{records} records of {chains} writers in {files} files")?;
    match key {
        Some(key) => writeln!(
            out,
            "signed by key {key}: {signatures} signatures; {unsigned} lines behind the last of them, which are not"
        )?,
        None => writeln!(out, "no key to verify signatures with: see --key")?,
    }
    for Earlier { chain, last } in earlier {
        writeln!(out, "the records to {last} of chain {chain} are in earlier files, which were not read")?;
    }
    for place in torn.iter().take(MAX_TOLD) {
        writeln!(out, "{place}: an incomplete line; its writer was killed, or the disk was full")?;
    }
    for problem in problems.iter().take(MAX_TOLD) {
        writeln!(out, "{problem}")?;
    }
    if problems.len() > MAX_TOLD {
        writeln!(out, "and {} more problems", problems.len() - MAX_TOLD)?;
    }
    out.write_all(match (problems.is_empty(), key) {
        (false, _) => b"The log was changed.\n",
        (true, Some(_)) => b"The log is as it was written.\n",
        (true, None) => b"No line is out of its chain; without the key nothing says who wrote it.\n",
    })
}

#[cfg(test)]
mod tests;
