//! `tidegate doctor`: can this machine do it, and if not, why?

use super::Error;
use clap::Args;
use std::io::Write;

/// `tidegate doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Examines the machine.
///
/// # Errors
/// Always, as long as the examination is not built in.
pub fn run(_args: &DoctorArgs, _out: &mut impl Write) -> Result<u8, Error> {
    Err(Error::NotBuilt("doctor"))
}
