//! The bill of materials: every crate that the agent is made of, as CycloneDX.

use super::{Places, VERSION, tool::CARGO_CYCLONEDX};
use crate::{cargo, command};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{fs, path::PathBuf, process::Command};

/// Makes it, and answers its name.
pub(super) fn make(places: &Places<'_>) -> Result<String> {
    let name = format!("tidegate-{VERSION}.cdx.json");
    let file = format!(".{name}");
    let mut list = Command::new(CARGO_CYCLONEDX.ensure(&places.target)?);
    list.args(["cyclonedx", "--quiet", "--format", "json", "--spec-version", "1.5", "--manifest-path"]);
    list.arg(places.workspace.join("agent/Cargo.toml"));
    list.args(["--override-filename", file.trim_end_matches(".json")]);
    let listed = command::run(&mut list);
    // It leaves one beside the manifest of each package of the workspace.
    let mut of_agent = None;
    for directory in members(places)? {
        let path = directory.join(&file);
        if !path.exists() {
            continue;
        }
        if directory.ends_with("agent") {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            of_agent = Some(text);
        }
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    listed?;
    let text = of_agent.context("cargo-cyclonedx has written nothing for the agent")?;
    // Where it was built is nobody's business.
    let text = text.replace(&places.workspace.display().to_string(), "/tidegate");
    let bill: Value = serde_json::from_str(&text).context("reading what cargo-cyclonedx has written")?;
    let count = bill.get("components").and_then(Value::as_array).map_or(0, Vec::len);
    ensure!(
        count > 100,
        "the bill of materials has {count} components, fewer than the agent has dependencies"
    );
    fs::write(places.output.join(&name), text).with_context(|| format!("writing {name}"))?;
    Ok(name)
}

/// The directories of the workspace's packages.
fn members(places: &Places<'_>) -> Result<Vec<PathBuf>> {
    let arguments = ["metadata", "--quiet", "--no-deps", "--offline", "--format-version", "1"];
    let told = command::output(&mut cargo::command(places.workspace, &arguments))?;
    let told: Value = serde_json::from_str(&told).context("reading cargo metadata")?;
    let packages =
        told.get("packages").and_then(Value::as_array).context("cargo metadata names no packages")?;
    let manifests = packages.iter().filter_map(|package| package.get("manifest_path")?.as_str());
    Ok(manifests.filter_map(|manifest| PathBuf::from(manifest).parent().map(PathBuf::from)).collect())
}
