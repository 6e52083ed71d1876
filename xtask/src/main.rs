//! tidegate's build, test and maintenance tasks: `cargo xtask --help`.

mod catalogue;

use clap::Parser;
use std::{io, path::PathBuf};

/// tidegate's build, test and maintenance tasks.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Write agent/catalogue/digitalocean.toml from the facts of DigitalOcean's OpenAPI spec.
    Catalogue(catalogue::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Catalogue(arguments) => catalogue::run(&arguments, &workspace(), &mut io::stdout().lock()),
    }
}

/// The workspace's root. Cargo sets the variable for `cargo run` and `cargo test`.
fn workspace() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    manifest.as_deref().and_then(|directory| directory.parent()).map_or_else(|| ".".into(), PathBuf::from)
}
