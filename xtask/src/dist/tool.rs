//! The cargo commands that packaging uses: taken from PATH in this version, or installed in `target/tools`.

use crate::{command, packages};
use anyhow::Result;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A cargo command.
pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
    features: &'static [&'static str],
}

/// Its own compressors take longest to build, and every machine with dpkg has programs that do the same.
pub(crate) const CARGO_DEB: Tool =
    Tool { name: "cargo-deb", version: "3.8.0", features: &["--no-default-features"] };

pub(super) const CARGO_CYCLONEDX: Tool = Tool { name: "cargo-cyclonedx", version: "0.5.9", features: &[] };

impl Tool {
    /// The program, which is installed where it is missing.
    pub(crate) fn ensure(&self, target: &Path) -> Result<PathBuf> {
        let root = target.join("tools");
        let program = root.join("bin").join(self.name);
        if let Some(found) = [self.name.into(), program.clone()].into_iter().find(|path| self.is(path)) {
            return Ok(found);
        }
        let mut install = Command::new("cargo");
        install.args(["install", "--quiet", "--debug", "--locked", "--force", self.name]);
        install.args(["--version", self.version]).args(self.features);
        install.arg("--root").arg(&root).env("CARGO_TARGET_DIR", root.join("build"));
        // Cargo says that the directory is not on PATH.
        command::output(&mut install)?;
        Ok(program)
    }

    fn is(&self, program: &Path) -> bool {
        // `cargo cyclonedx` wants its own name as the first argument, and the others do without.
        let word = self.name.strip_prefix("cargo-").unwrap_or(self.name);
        let known = |arguments: &[&str]| {
            let told = command::output(Command::new(program).args(arguments));
            told.is_ok_and(|told| told.split_whitespace().any(|part| part == self.version))
        };
        known(&["--version"]) || known(&[word, "--version"])
    }
}

/// What cargo-deb starts.
pub(super) fn ensure_packers() -> Result<()> {
    packages::ensure(&[("dpkg-shlibdeps", "dpkg-dev"), ("xz", "xz-utils"), ("strip", "binutils")])
}
