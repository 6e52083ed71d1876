//! `tidegate doctor`: can this machine do it, and if not, why?

use super::Error;
use crate::doctor::{
    self,
    command::{self, words},
    report::{self, About},
};
use clap::Args;
use std::{ffi::OsString, io::Write, path::PathBuf};

/// `tidegate doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The configuration to examine the machine for [default: the installed one, if any]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say instead whom this command will trust, such as "node app.js"; nothing of it is run
    #[arg(long, value_name = "CMD", conflicts_with = "config")]
    pub command: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The command as words, or more words of it
    #[arg(last = true, value_name = "CMD", conflicts_with = "config")]
    pub words: Vec<OsString>,
}

/// Examines the machine, or a command; answers 0 when everything that is needed works, else 1.
///
/// # Errors
/// When the command cannot be split, or `out` cannot be written.
pub fn run(args: &DoctorArgs, out: &mut impl Write) -> Result<u8, Error> {
    let mut command: Vec<OsString> = Vec::new();
    if let Some(given) = &args.command {
        command.extend(words::split(given)?.into_iter().map(OsString::from));
    }
    command.extend(args.words.iter().cloned());
    let about = if command.is_empty() && args.command.is_none() { About::Machine } else { About::Command };
    let checks = match about {
        About::Machine => doctor::examine(args.config.as_deref()),
        About::Command => command::examine(&command),
    };
    if args.json {
        report::write_json(&checks, out)?;
    } else {
        report::write_text(about, &checks, out)?;
    }
    out.flush()?;
    Ok(if report::is_ok(&checks) { 0 } else { 1 })
}
