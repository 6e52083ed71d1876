//! `tidegate top`: what the workloads do now, in a terminal.

#[cfg(feature = "tui")]
mod decision;
#[cfg(feature = "tui")]
mod input;
#[cfg(feature = "tui")]
mod live;
#[cfg(feature = "tui")]
mod model;
#[cfg(feature = "tui")]
mod screen;
#[cfg(feature = "tui")]
mod source;

use super::Error;
use clap::Args;
use std::{io::Write, path::PathBuf};

/// `tidegate top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// The audit log; without one, that of the configuration
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
    /// The daemon's control socket [default: /run/tidegate/control.sock; none with --audit]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print a single picture as plain text, of COLUMNS by LINES where no terminal says its size
    #[arg(long)]
    pub once: bool,
}

/// Runs until it is told to end.
///
/// # Errors
/// When there is neither a daemon nor a log, or no terminal, or this program was built without it.
#[cfg(feature = "tui")]
pub fn run(args: &TopArgs, out: &mut impl Write) -> Result<u8, Error> {
    live::run(args, out).map(|()| 0)
}

/// Says how it is to be had.
///
/// # Errors
/// Always: this program was built without it.
#[cfg(not(feature = "tui"))]
pub fn run(_: &TopArgs, _: &mut impl Write) -> Result<u8, Error> {
    Err(Error::NoTop)
}

#[cfg(all(test, not(feature = "tui")))]
mod tests {
    use super::*;

    #[test]
    fn without_the_feature_it_says_how_to_get_it() {
        let args = TopArgs { audit: None, socket: None, config: None, once: true };
        let error = run(&args, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("--features tui"), "{error}");
        assert_eq!(error.status(), 1);
    }
}
