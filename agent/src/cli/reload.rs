//! `tidegate reload`: makes the daemon read its policies again, and tells what came of it.

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

/// `tidegate reload`.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// The daemon's control socket [default: /run/tidegate/control.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// Asks the daemon, and waits until it has read everything.
///
/// # Errors
/// When there is no daemon, or a file is wrong, so that everything stays as it is.
pub fn run(args: &ReloadArgs, out: &mut impl Write) -> Result<u8, Error> {
    let socket = args.socket.clone().unwrap_or_else(|| Path::new(RUN_DIR).join(FILE_NAME));
    writeln!(out, "{}", control::reload(&socket)?)?;
    out.flush()?;
    Ok(0)
}
