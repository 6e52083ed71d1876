//! `cargo xtask dist`: what users get, in `target/dist`: a Debian package, a tarball with a program that needs no
//! library of the system, a bill of materials, and checksums.

mod bill;
mod debian;
mod tarball;
mod tool;

use crate::{cargo, command, setup};
use anyhow::{Context as _, Result};
use std::{
    fs,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};
use tool::{CARGO_DEB, ensure_packers};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The features that packages are built with, and that their bill of materials is of.
const FEATURES: &str = "kubernetes,otlp,tui";

/// The shells that a package has completions for, and what their files are called.
const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "tidegate.bash"), ("fish", "tidegate.fish"), ("zsh", "_tidegate")];

/// What to make, and of what.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The profile to build with; `dev` shows sooner what the files have in them
    #[arg(long, default_value = "release")]
    profile: String,
    /// Package the programs as they were last built
    #[arg(long)]
    no_build: bool,
    /// Make this alone; may be repeated
    #[arg(long, value_enum)]
    only: Vec<Kind>,
    /// Where to put it [default: target/dist]
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// The Debian package.
    Deb,
    /// The static program with its unit, manual, completions and policies.
    Tarball,
    /// The bill of materials.
    Sbom,
}

/// Where things are.
struct Places<'a> {
    workspace: &'a Path,
    /// Cargo's.
    target: PathBuf,
    /// The profile's directory in it.
    built: PathBuf,
    output: PathBuf,
    profile: &'a str,
}

/// Makes what is asked for.
pub(crate) fn run(arguments: &Arguments, workspace: &Path, out: &mut impl Write) -> Result<()> {
    let places = Places::of(arguments, workspace)?;
    fs::create_dir_all(&places.output).with_context(|| format!("making {}", places.output.display()))?;
    let is_wanted = |kind| arguments.only.is_empty() || arguments.only.contains(&kind);
    if !arguments.no_build {
        setup::ensure()?;
        let arguments = [
            "build",
            "--quiet",
            "--package",
            "tidegate",
            "--bin",
            "tidegate",
            "--features",
            FEATURES,
            "--profile",
        ];
        command::run(cargo::command(workspace, &arguments).arg(places.profile))?;
        build_manual(workspace)?;
    }
    let mut made = Vec::new();
    if is_wanted(Kind::Deb) || is_wanted(Kind::Tarball) {
        accompany(&places)?;
    }
    if is_wanted(Kind::Deb) {
        made.push(debian::package(&places)?);
    }
    if is_wanted(Kind::Tarball) {
        made.push(tarball::make(&places, arguments.no_build)?);
    }
    if is_wanted(Kind::Sbom) {
        made.push(bill::make(&places)?);
    }
    sum(&places.output, &made)?;
    for name in &made {
        writeln!(out, "made {}", places.output.join(name).display())?;
    }
    Ok(())
}

/// Installs what the tests make a Debian package with.
pub(crate) fn ensure_packager(workspace: &Path) -> Result<()> {
    ensure_packers()?;
    CARGO_DEB.ensure(&cargo::target_directory(workspace)?).map(drop)
}

/// A program that needs no library, built for this target.
pub(crate) fn static_program(workspace: &Path, profile: &str, target: &str) -> Result<PathBuf> {
    tarball::build(workspace, profile, target)?;
    let directory = if profile == "dev" { "debug" } else { profile };
    Ok(cargo::target_directory(workspace)?.join(target).join(directory).join("tidegate"))
}

/// `cargo xtask man`: the manual alone, in `target/man`.
pub(crate) fn man(workspace: &Path, out: &mut impl Write) -> Result<()> {
    build_manual(workspace)?;
    let target = cargo::target_directory(workspace)?;
    let directory = target.join("man");
    write_manual(&target, &directory)?;
    writeln!(out, "wrote the manual: `man {}`", directory.join("tidegate.1").display())?;
    Ok(())
}

impl<'a> Places<'a> {
    fn of(arguments: &'a Arguments, workspace: &'a Path) -> Result<Self> {
        let target = cargo::target_directory(workspace)?;
        let output = arguments.output.clone().unwrap_or_else(|| target.join("dist"));
        let directory = if arguments.profile == "dev" { "debug" } else { &arguments.profile };
        let built = target.join(directory);
        Ok(Self {
            workspace,
            target,
            built,
            output: std::path::absolute(output)?,
            profile: &arguments.profile,
        })
    }

    /// The directory of what comes with the program.
    fn companions(&self) -> PathBuf {
        self.built.join("package")
    }
}

/// The manual says the same whatever the profile is, so the one that tests build with serves.
fn build_manual(workspace: &Path) -> Result<()> {
    let packages = ["--package", "tidegate", "--package", "tidegate-tests"];
    cargo::run(workspace, &[&["build", "--quiet", "--bin", "tidegate-man"][..], &packages].concat())
}

fn write_manual(target: &Path, directory: &Path) -> Result<()> {
    let writer = target.join("debug/tidegate-man");
    command::run(Command::new(writer).arg(directory))
}

/// Writes manual and completions to where cargo-deb takes them from.
fn accompany(places: &Places<'_>) -> Result<()> {
    let directory = places.companions();
    // A page of a command that is no more would stay.
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| format!("removing {}", directory.display()))?;
    }
    let man = directory.join("man");
    write_manual(&places.target, &man)?;
    command::run(Command::new("gzip").args(["-9", "--no-name", "--recursive"]).arg(&man))?;
    let completions = directory.join("completions");
    fs::create_dir_all(&completions).with_context(|| format!("making {}", completions.display()))?;
    for (shell, name) in COMPLETIONS {
        let script =
            command::output(Command::new(places.built.join("tidegate")).args(["completions", shell]))?;
        let path = completions.join(name);
        fs::write(&path, script).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Checksums of these files, as sha256sum checks them.
fn sum(directory: &Path, names: &[String]) -> Result<()> {
    let path = directory.join("SHA256SUMS");
    let file = File::create(&path).with_context(|| format!("writing {}", path.display()))?;
    command::run(Command::new("sha256sum").args(names).current_dir(directory).stdout(file))
}
