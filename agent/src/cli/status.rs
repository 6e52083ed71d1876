//! `tidegate status`: does the daemon run, and is it well?

use super::Error;
use crate::{
    config::RUN_DIR,
    control::{self, FILE_NAME},
};
use clap::Args;
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// `tidegate status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The daemon's control socket [default: /run/tidegate/control.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// Asks the daemon; answers 0 when it is well, else 1.
///
/// # Errors
/// When there is none or it does not answer, and when `out` cannot be written.
pub fn run(args: &StatusArgs, out: &mut impl Write) -> Result<u8, Error> {
    let socket = args.socket.clone().unwrap_or_else(|| Path::new(RUN_DIR).join(FILE_NAME));
    let status = control::status(&socket)?;
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &status).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        status.write_text(out)?;
    }
    out.flush()?;
    Ok(if status.healthy { 0 } else { 1 })
}
