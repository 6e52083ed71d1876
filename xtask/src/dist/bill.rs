//! The bill of materials: every crate that the agent is made of, as CycloneDX.

use super::{FEATURES, Places, VERSION, tool::CARGO_CYCLONEDX};
use crate::{cargo, command};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

/// Fewer are no bill of this agent.
const LEAST: usize = 100;

/// Makes it, and answers its name.
pub(super) fn make(places: &Places<'_>) -> Result<String> {
    let name = format!("tidegate-{VERSION}.cdx.json");
    let file = format!(".{name}");
    let mut list = Command::new(CARGO_CYCLONEDX.ensure(&places.target)?);
    list.args(["cyclonedx", "--quiet", "--format", "json", "--spec-version", "1.5", "--manifest-path"]);
    list.arg(places.workspace.join("agent/Cargo.toml")).args(["--features", FEATURES]);
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
    let mut bill: Value = serde_json::from_str(&text).context("reading what cargo-cyclonedx has written")?;
    let built_of = built_of(places)?;
    ensure!(built_of.len() > LEAST, "cargo tree names only {} crates", built_of.len());
    let missing = missing(&bill, &built_of);
    ensure!(missing.is_empty(), "the bill of materials lacks {}", missing.join(", "));
    keep_only(&mut bill, &built_of);
    let text = serde_json::to_string_pretty(&bill)?;
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

/// Every crate that the program of the packages is built of.
fn built_of(places: &Places<'_>) -> Result<BTreeSet<Crate>> {
    let arguments = ["tree", "--quiet", "--offline", "--package", "tidegate", "--features", FEATURES];
    let mut tree = cargo::command(places.workspace, &arguments);
    tree.args(["--edges", "normal,build", "--prefix", "none", "--format", "{p}"]);
    Ok(crates(&command::output(&mut tree)?))
}

/// Its name and version.
type Crate = (String, String);

/// The crates that cargo tree names, but for the agent itself.
fn crates(tree: &str) -> BTreeSet<Crate> {
    let words = tree.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
    });
    words.filter(|(name, _)| name != "tidegate").collect()
}

/// Those that the bill does not name.
fn missing(bill: &Value, crates: &BTreeSet<Crate>) -> Vec<String> {
    let components = bill.get("components").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let named: BTreeSet<(&str, &str)> = components
        .iter()
        .filter_map(|component| Some((component.get("name")?.as_str()?, component.get("version")?.as_str()?)))
        .collect();
    let is_missing = |(name, version): &&Crate| !named.contains(&(name.as_str(), version.as_str()));
    crates.iter().filter(is_missing).map(|(name, version)| format!("{name} {version}")).collect()
}

/// Takes out what is not built: cargo-cyclonedx names what any feature of any package of the workspace would bring.
fn keep_only(bill: &mut Value, crates: &BTreeSet<Crate>) {
    let mut gone = BTreeSet::new();
    let text =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(components) = bill.get_mut("components").and_then(Value::as_array_mut) {
        components.retain(|component| {
            let is_built = crates.contains(&(text(component, "name"), text(component, "version")));
            if !is_built {
                gone.insert(text(component, "bom-ref"));
            }
            is_built
        });
    }
    let Some(dependencies) = bill.get_mut("dependencies").and_then(Value::as_array_mut) else { return };
    dependencies.retain(|of_one| !gone.contains(&text(of_one, "ref")));
    for of_one in dependencies {
        if let Some(needed) = of_one.get_mut("dependsOn").and_then(Value::as_array_mut) {
            needed.retain(|needed| !needed.as_str().is_some_and(|needed| gone.contains(needed)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::Arguments;
    use serde_json::json;
    use std::path::Path;

    const TREE: &str = "tidegate v0.1.0 (/work/agent)\nratatui v0.30.2\nprost v0.14.6\nprost v0.14.6 (*)\n\
                        serde_derive v1.0.2 (proc-macro)\n\n";

    #[test]
    fn a_crate_that_the_bill_lacks_is_found() {
        let component = |name: &str, version: &str| json!({ "name": name, "version": version });
        let whole = [
            component("ratatui", "0.30.2"),
            component("prost", "0.14.6"),
            component("serde_derive", "1.0.2"),
            component("more", "1.0.0"),
        ];
        let lacking = |components: &[Value]| missing(&json!({ "components": components }), &crates(TREE));
        assert_eq!(lacking(&whole), [""; 0]);
        assert_eq!(lacking(&whole[1..]), ["ratatui 0.30.2"]);
        assert_eq!(
            lacking(&[component("ratatui", "0.29.0"), whole[1].clone()]),
            ["ratatui 0.30.2", "serde_derive 1.0.2"]
        );
        assert_eq!(missing(&json!({}), &crates(TREE)).len(), 3);
    }

    #[test]
    fn a_crate_that_is_not_built_is_not_in_the_bill() {
        let component = |name: &str| json!({ "name": name, "version": "1.0.0", "bom-ref": name });
        let mut bill = json!({
            "components": [component("built"), component("ring")],
            "dependencies": [
                { "ref": "tidegate", "dependsOn": ["built", "ring"] },
                { "ref": "built" },
                { "ref": "ring", "dependsOn": ["built"] },
            ],
        });
        keep_only(&mut bill, &crates("tidegate v0.1.0\nbuilt v1.0.0\n"));
        let expected = json!({
            "components": [component("built")],
            "dependencies": [{ "ref": "tidegate", "dependsOn": ["built"] }, { "ref": "built" }],
        });
        assert_eq!(bill, expected);
    }

    #[test]
    fn packages_are_built_of_what_their_features_need() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let arguments = Arguments { profile: "dev".into(), no_build: true, only: vec![], output: None };
        let built_of = built_of(&Places::of(&arguments, workspace).unwrap()).unwrap();
        for name in ["ratatui", "opentelemetry-proto", "tokio"] {
            assert!(built_of.iter().any(|(found, _)| found == name), "{name}");
        }
        for name in ["proptest", "ring"] {
            assert!(!built_of.iter().any(|(found, _)| found == name), "{name} is in no package");
        }
    }
}
