//! `tidegate doctor`: can this machine do it, and if not, why?

use super::Error;
use crate::doctor::{self, report};
use clap::Args;
use std::{io::Write, path::PathBuf};

/// `tidegate doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The configuration to examine the machine for [default: the installed one, if any]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Examines the machine; answers 0 when everything that is needed works, else 1.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(args: &DoctorArgs, out: &mut impl Write) -> Result<u8, Error> {
    let checks = doctor::examine(args.config.as_deref());
    if args.json {
        report::write_json(&checks, out)?;
    } else {
        report::write_text(&checks, out)?;
    }
    out.flush()?;
    Ok(if report::is_ok(&checks) { 0 } else { 1 })
}
