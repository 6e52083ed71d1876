use super::*;
use crate::cli::{Cli, dispatch};
use clap::Parser;
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt};
use tempfile::TempDir;

/// A configuration with its CA in the folder, and a tree of Debian's kind whose tool does nothing.
fn world(ca: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let config = format!("[ca]\n{}\n", ca.replace("DIR", path.to_str().unwrap()));
    fs::write(path.join("tidegate.toml"), config).unwrap();
    for directory in ["root/usr/local/share/ca-certificates", "root/etc/ssl/certs"] {
        fs::create_dir_all(path.join(directory)).unwrap();
    }
    folder
}

fn ask(folder: &TempDir, words: &str) -> Result<String, Error> {
    let config = folder.path().join("tidegate.toml");
    let root = folder.path().join("root");
    let words = ["tidegate", "ca"].into_iter().chain(words.split_whitespace());
    let options = ["--config", config.to_str().unwrap(), "--root", root.to_str().unwrap()];
    let cli = Cli::try_parse_from(words.chain(options)).unwrap();
    let mut out = Vec::new();
    dispatch(cli, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn shown_json(folder: &TempDir) -> Value {
    serde_json::from_str(&ask(folder, "show --json").unwrap()).unwrap()
}

#[test]
fn before_there_is_a_ca_it_is_said_who_makes_one() {
    let folder = world("dir = \"DIR/ca\"");
    for words in ["show", "bundle", "bundle --anchors"] {
        let error = ask(&folder, words).unwrap_err();
        assert!(error.to_string().contains("no local CA in"), "{error}");
        assert_eq!(error.status(), 1);
    }
    assert!(!folder.path().join("ca").exists());
}

#[test]
fn a_rotation_shows() {
    let folder = world("dir = \"DIR/ca\"\noverlap = \"2h\"");
    assert!(ask(&folder, "rotate").unwrap().starts_with("made generation 1 ("));
    let told = ask(&folder, "rotate").unwrap();
    assert!(told.contains("made generation 2 (") && told.contains("the earlier one signs"), "{told}");
    assert!(ask(&folder, "rotate").unwrap_err().to_string().contains("is announced already"));
    let shown = shown_json(&folder);
    let states: Vec<&str> = shown["generations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|generation| generation["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["signs", "announced"]);
    assert_eq!(shown["generations"][0]["domains"], serde_json::json!(["digitalocean.com"]));
    let anchors = ask(&folder, "bundle --anchors").unwrap();
    assert_eq!(anchors.matches("BEGIN CERTIFICATE").count(), 2);
    let told = ask(&folder, "rotate --now").unwrap();
    assert!(told.contains("start them again"), "{told}");
    assert_eq!(ask(&folder, "bundle --anchors").unwrap().matches("BEGIN CERTIFICATE").count(), 1);
    let text = ask(&folder, "show").unwrap();
    assert!(text.contains("generation 3, signs") && text.contains("constrained  digitalocean.com"), "{text}");
    assert!(!text.contains("PRIVATE"));
}

#[test]
fn a_bundle_has_the_systems_certificates_and_the_local_ones_once() {
    let folder = world("dir = \"DIR/ca\"");
    ask(&folder, "rotate").unwrap();
    let anchor = ask(&folder, "bundle --anchors").unwrap();
    let other =
        crate::terminate::ca::Authority::ephemeral(&[crate::host::HostName::parse("example.org").unwrap()]);
    let other = other.unwrap().trust_anchor_pem().to_owned();
    let system = folder.path().join("root/etc/ssl/certs/ca-certificates.crt");
    fs::write(&system, format!("# comment\n{anchor}{other}-----BEGIN CERTIFICATE-----\nhalf")).unwrap();
    assert_eq!(ask(&folder, "bundle").unwrap(), format!("{other}{anchor}"));
    let output = folder.path().join("bundle.pem");
    assert_eq!(ask(&folder, &format!("bundle --output {}", output.display())).unwrap(), "");
    assert_eq!(fs::read_to_string(&output).unwrap(), format!("{other}{anchor}"));
    assert_eq!(fs::metadata(&output).unwrap().permissions().mode() & 0o7777, 0o644);
}

#[test]
fn a_ca_in_memory_has_nothing_to_show() {
    let folder = world("ephemeral = true");
    for words in ["show", "rotate", "bundle", "install"] {
        let error = ask(&folder, words).unwrap_err();
        assert!(error.to_string().contains("in memory only"), "{words}: {error}");
        assert_eq!(error.status(), 1);
    }
}

#[test]
fn a_tree_without_a_store_is_told_before_anything_is_written() {
    let folder = world("dir = \"DIR/ca\"");
    let error = ask(&folder, "install").unwrap_err();
    assert!(error.to_string().contains("no trust store that tidegate knows below"), "{error}");
    assert_eq!(fs::read_dir(folder.path().join("root/usr/local/share/ca-certificates")).unwrap().count(), 0);
}
