//! The image of tidegate, made by the task that makes it for users, of the program that tests start.

use crate::programs;
use anyhow::{Context as _, Result, ensure};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

/// What the image is called.
pub const NAME: &str = "registry.example/tidegate:test";

/// Makes the image in this directory with further arguments of the task's, and answers its archive and its digest.
///
/// # Errors
/// When the program was not built, or the task fails.
pub fn make<S: AsRef<OsStr>>(directory: &Path, arguments: &[S]) -> Result<(PathBuf, String)> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // Without what a debugger wants it is a tenth.
    let program = directory.join("tidegate");
    let mut strip = Command::new("strip");
    let stripped = strip.arg("-o").arg(&program).arg(programs::built("tidegate")?).output()?;
    ensure!(stripped.status.success(), "{strip:?}: {}", String::from_utf8_lossy(&stripped.stderr));
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut make = Command::new(cargo);
    make.args(["run", "--quiet", "--package", "xtask", "--", "image", "--name", NAME]);
    make.arg("--program").arg(program).arg("--output").arg(directory).args(arguments);
    make.env("SOURCE_DATE_EPOCH", "1700000000").current_dir(workspace);
    let made = make.output().context("starting cargo")?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let told = String::from_utf8(made.stdout)?;
    let mut lines = told.lines();
    let archive = lines.next().and_then(|line| line.strip_prefix("made ")).context("no archive is told")?;
    let digest = lines.next().and_then(|line| line.strip_prefix(NAME)?.strip_prefix('@'));
    Ok((archive.into(), digest.with_context(|| format!("no digest is told: {told}"))?.to_owned()))
}
