//! The Debian package; what is in it says `[package.metadata.deb]` in agent/Cargo.toml.

use super::{
    Places, VERSION,
    tool::{CARGO_DEB, ensure_packers},
};
use crate::command;
use anyhow::{Result, bail};
use std::process::Command;

/// Makes it, and answers its name.
pub(super) fn package(places: &Places<'_>) -> Result<String> {
    ensure_packers()?;
    let name = format!("tidegate_{VERSION}_{}.deb", architecture()?);
    let mut pack = Command::new(CARGO_DEB.ensure(&places.target)?);
    pack.args(["--quiet", "--package", "tidegate", "--no-build", "--offline", "--compress-system"]);
    if places.profile == "release" {
        // The profile has stripped it already, but for the names that a backtrace needs.
        pack.arg("--no-strip");
    } else {
        pack.args(["--strip", "--fast", "--compress-type", "gz"]);
    }
    pack.args(["--profile", places.profile, "--output"]).arg(places.output.join(&name));
    command::output(pack.current_dir(places.workspace))?;
    Ok(name)
}

fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("tidegate is not packaged for {other}"),
    }
}
