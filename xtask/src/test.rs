//! `cargo xtask test`: every check and every test; the runner's summary comes last.

use crate::{cargo, cluster, command, containerd, dist, hot_path, packages, runtimes, setup, tidy};
use anyhow::{Context as _, Result};
use std::{
    env,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

/// The library that most Python programs call HTTP APIs with, DigitalOcean's own client library, and another one.
const PYTHON_PACKAGES: [&str; 3] = ["requests==2.34.2", "pydo==0.44.0", "python-digitalocean==1.17.0"];
/// Fails where one of them is missing.
const PYTHON_IMPORTS: &str = "import digitalocean, pydo, requests";

/// Sets up what is missing, then lints, documents, and tests; `filters` go to the test runner.
pub(crate) fn run(workspace: &Path, filters: &[String], out: &mut impl Write) -> Result<()> {
    cargo::require_root("the kernel tests attach eBPF programs and make namespaces")?;
    setup::ensure()?;
    packages::ensure(&packages::WORLD)?;
    packages::ensure(&packages::CLIENTS)?;
    python(workspace)?;
    runtimes::ensure(workspace)?;
    containerd::ensure(workspace)?;
    cluster::ensure(workspace)?;
    dist::ensure_packager(workspace)?;
    for (name, check) in CHECKS {
        writeln!(out, "check: {name}")?;
        out.flush()?;
        check(workspace).with_context(|| format!("the check `{name}` failed"))?;
    }
    // Cargo does not build another package's programs for a package's tests.
    cargo::run(
        workspace,
        &["build", "--quiet", "--package", "tidegate", "--package", "tidegate-tests", "--bins"],
    )?;
    let runner: &[&str] = if packages::is_there("cargo-nextest") {
        &["nextest", "run", "--workspace", "--exclude", "tidegate-ebpf", "--no-fail-fast"]
    } else {
        &["test", "--quiet", "--workspace", "--exclude", "tidegate-ebpf", "--no-fail-fast", "--"]
    };
    command::run(cargo::command(workspace, runner).args(filters))
}

type Check = fn(&Path) -> Result<()>;

const CHECKS: [(&str, Check); 7] = [
    ("format", |workspace| cargo::run(workspace, &["fmt", "--all", "--check"])),
    ("the tree's own rules", tidy::run),
    ("lints", |workspace| {
        cargo::run(workspace, &["clippy", "--quiet", "--all-targets", "--", "--deny", "warnings"])
    }),
    ("lints of the eBPF programs", ebpf_lints),
    ("documentation", |workspace| {
        let mut command =
            cargo::command(workspace, &["doc", "--quiet", "--no-deps", "--document-private-items"]);
        command::run(command.env("RUSTDOCFLAGS", "--deny warnings"))
    }),
    ("catalogue", catalogue),
    ("instructions and allocations of the hot path", hot_path::check),
];

/// The eBPF crate has its own target and no std, so it is a build of its own.
fn ebpf_lints(workspace: &Path) -> Result<()> {
    let directory = cargo::target_directory(workspace)?.join("ebpf-lints");
    let arguments = ["clippy", "--quiet", "--package", "tidegate-ebpf", "-Z", "build-std=core"];
    let mut command = cargo::command(workspace, &arguments);
    command.args(["--target", "bpfel-unknown-none", "--target-dir"]).arg(directory);
    command.args(["--", "--deny", "warnings"]);
    command::run(command.env("RUSTC_BOOTSTRAP", "1"))
}

/// The generated catalogue must be what the API's spec says; where the spec is absent, the task says so.
fn catalogue(_workspace: &Path) -> Result<()> {
    let task = env::current_exe().context("finding this program's own path")?;
    command::run(Command::new(task).args(["catalogue", "--check"]))
}

/// A Python environment of the tests' own, whose packages bring their own certificates as users' do.
pub(crate) fn python(workspace: &Path) -> Result<()> {
    let directory = cargo::target_directory(workspace)?.join("python");
    let program = directory.join("bin/python3");
    let works = Command::new(&program).args(["-c", PYTHON_IMPORTS]).stderr(Stdio::null()).status();
    if works.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let has_venv =
        Command::new("python3").args(["-c", "import ensurepip, venv"]).stderr(Stdio::null()).status();
    if !has_venv.is_ok_and(|status| status.success()) {
        packages::install(&["python3-venv"])?;
    }
    command::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory))?;
    let mut pip = Command::new(&program);
    command::run(
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PYTHON_PACKAGES),
    )
}
