//! Tells the running systemd that units have changed.

use super::Error;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Where systemd's own tools look for it, too.
const BOOTED: &str = "/run/systemd/system";
const DIRECTORIES: [&str; 6] =
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/sbin", "/run/current-system/sw/bin"];

/// Makes systemd read its units again; answers with what came of it.
pub(super) fn reload() -> Result<String, Error> {
    if !Path::new(BOOTED).is_dir() {
        return Ok("systemd does not run here, and reads it when it starts".to_owned());
    }
    let candidates = DIRECTORIES.iter().map(|directory| Path::new(directory).join("systemctl"));
    let Some(tool) = candidates.into_iter().find(|path| path.is_file()) else {
        return Err(Error::NoSystemctl);
    };
    run(&tool)?;
    Ok("ran systemctl daemon-reload".to_owned())
}

fn run(tool: &PathBuf) -> Result<(), Error> {
    let mut command = Command::new(tool);
    command.arg("daemon-reload").env_clear().env("LC_ALL", "C").env("PATH", DIRECTORIES.join(":"));
    let output = command.stdin(Stdio::null()).output().map_err(|source| Error::Io {
        action: "start",
        path: tool.clone(),
        source,
    })?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(Error::Reload { status: output.status.to_string(), told })
}
