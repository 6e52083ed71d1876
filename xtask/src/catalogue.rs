//! Generates the agent's catalogue from the facts of DigitalOcean's OpenAPI spec.

mod bodies;
mod braces;
mod exceptions;
mod openapi;
mod render;
mod requests;
mod secrets;
mod source;
mod targets;
#[cfg(test)]
mod tests;

use anyhow::{Context, bail};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// Where the facts lie if `--from` names no other place, relative to the workspace.
const SOURCE: &str = "../shared/data/do-api";
/// The generated files, relative to the workspace.
const FILE: &str = "agent/catalogue/digitalocean.toml";
const BODIES: &str = "agent/catalogue/bodies.toml";

/// The arguments of `cargo xtask catalogue`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The directory with endpoints.json, scopes.json and README.md [default: ../shared/data/do-api].
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Write nothing; fail if the file is not what would be written.
    #[arg(long)]
    check: bool,
}

/// Writes the catalogue, or compares it.
pub(crate) fn run(arguments: &Arguments, workspace: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let from = arguments.from.clone().unwrap_or_else(|| workspace.join(SOURCE));
    if arguments.check && !from.join("endpoints.json").exists() {
        writeln!(out, "catalogue: skipped, `{}` holds no endpoints.json to compare with", from.display())?;
        return Ok(());
    }
    let texts = [(FILE, render::render(&source::Source::load(&from)?)?), (BODIES, bodies::render(&from)?)];
    for (name, text) in texts {
        let file = workspace.join(name);
        if !arguments.check {
            fs::write(&file, &text).with_context(|| format!("cannot write `{}`", file.display()))?;
            writeln!(out, "catalogue: wrote {name}")?;
            continue;
        }
        let present =
            fs::read_to_string(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
        if present != text {
            bail!("`{name}` is stale: {}; run `cargo xtask catalogue`", first_difference(&present, &text));
        }
        writeln!(out, "catalogue: {name} is up to date")?;
    }
    Ok(())
}

fn first_difference(present: &str, expected: &str) -> String {
    let pairs = present.lines().map(Some).chain(std::iter::repeat(None)).zip(expected.lines());
    let differing = pairs.enumerate().find(|(_, (present, expected))| *present != Some(*expected));
    match differing {
        Some((index, (_, expected))) => format!("line {} should be `{expected}`", index + 1),
        None => "it has lines too many".to_owned(),
    }
}
