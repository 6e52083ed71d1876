use super::*;
use crate::{host::HostName, terminate::ca::Authority};
use std::os::unix::fs::symlink;
use tempfile::TempDir;
use test_case::test_case;

fn anchor() -> CertificateDer<'static> {
    let domain = HostName::parse("digitalocean.com").unwrap();
    Authority::ephemeral(&[domain]).unwrap().trust_anchor().clone()
}

/// A tree with these directories and empty tools.
fn tree(directories: &[&str], tools: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let within = |path: &str| folder.path().join(path.trim_start_matches('/'));
    directories.iter().for_each(|directory| fs::create_dir_all(within(directory)).unwrap());
    for tool in tools {
        fs::create_dir_all(within(tool).parent().unwrap()).unwrap();
        fs::write(within(tool), "").unwrap();
    }
    folder
}

#[test_case(&["/usr/local/share/ca-certificates"], &["/usr/sbin/update-ca-certificates"], Some("/usr/local/share/ca-certificates"); "debian")]
#[test_case(&["/usr/local/share/ca-certificates"], &["/usr/bin/update-ca-certificates"], Some("/usr/local/share/ca-certificates"); "alpine")]
#[test_case(&["/etc/pki/trust/anchors", "/usr/local/share/ca-certificates"], &["/usr/sbin/update-ca-certificates"], Some("/etc/pki/trust/anchors"); "suse")]
#[test_case(&["/etc/pki/ca-trust/source/anchors"], &["/usr/bin/update-ca-trust"], Some("/etc/pki/ca-trust/source/anchors"); "fedora")]
#[test_case(&["/etc/ca-certificates/trust-source/anchors"], &["/usr/bin/update-ca-trust"], Some("/etc/ca-certificates/trust-source/anchors"); "arch")]
#[test_case(&["/usr/local/share/ca-certificates"], &[], None; "a directory without its tool")]
#[test_case(&[], &["/usr/sbin/update-ca-certificates"], None; "a tool without its directory")]
#[test_case(&["/etc/pki/ca-trust/source/anchors"], &["/usr/sbin/update-ca-certificates"], None; "another's tool")]
fn distributions_are_known_by_what_is_there(directories: &[&str], tools: &[&str], expected: Option<&str>) {
    let folder = tree(directories, tools);
    let root = Root::open(folder.path()).unwrap();
    let found = find(&root).map(|(layout, ..)| layout.anchors);
    assert_eq!(found, expected);
}

#[test]
fn links_in_a_tree_lead_to_places_in_that_tree() {
    let folder = tree(&["/real", "/usr/local/share", "/usr/bin"], &["/usr/bin/tool"]);
    symlink("/real", folder.path().join("usr/local/share/ca-certificates")).unwrap();
    symlink("/../../usr/bin/tool", folder.path().join("usr/bin/update-ca-certificates")).unwrap();
    let root = Root::open(folder.path()).unwrap();
    let (_, directory, tool) = find(&root).unwrap();
    assert_eq!(directory, folder.path().canonicalize().unwrap().join("real"));
    assert_eq!(tool, Path::new("/usr/bin/update-ca-certificates"));
    symlink("/etc/passwd", folder.path().join("out")).unwrap();
    assert_eq!(root.resolve(Path::new("/out")), None);
}

#[test_case("tidegate-1a2b3c4d", true)]
#[test_case("tidegate-1a2b3c4", false; "short")]
#[test_case("tidegate-1a2b3c4g", false; "no digit")]
#[test_case("tidegate-1A2B3C4D", false; "upper case")]
#[test_case("tidegate-company", false; "somebody's own")]
#[test_case("my-tidegate-1a2b3c4d", false; "behind something")]
fn only_what_is_surely_ours_is_touched(name: &str, expected: bool) {
    assert_eq!(is_ours(name), expected);
}

#[test]
fn names_are_ours_and_differ() {
    let (one, other) = (anchor(), anchor());
    assert!(is_ours(&name(&one)) && is_ours(&name(&other)));
    assert_ne!(name(&one), name(&other));
}

#[test]
fn what_is_installed_is_found_again() {
    let directory = "/usr/local/share/ca-certificates";
    let folder = tree(&[directory], &["/usr/sbin/update-ca-certificates"]);
    let directory = folder.path().canonicalize().unwrap().join(directory.trim_start_matches('/'));
    for file in ["tidegate-00c0ffee.crt", "tidegate-00c0ffee.pem", "company.crt"] {
        fs::write(directory.join(file), "").unwrap();
    }
    let expected = vec![("00c0ffee".to_owned(), directory.join("tidegate-00c0ffee.crt"))];
    assert_eq!(installed(folder.path()).unwrap(), expected);
}

#[test]
fn without_a_root_there_is_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("none");
    assert!(matches!(install(&nowhere, &[anchor()]), Err(Error::Root { .. })));
    assert!(matches!(install(folder.path(), &[anchor()]), Err(Error::NoStore(_))));
    assert!(uninstall(folder.path()).unwrap().is_empty());
}

#[test]
fn a_tool_that_fails_is_told_with_its_last_words() {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "echo one; echo two; echo three >&2; echo four >&2; exit 3"]);
    let error = run(command, "the tool".to_owned()).unwrap_err().to_string();
    assert_eq!(
        error,
        "`the tool` failed (exit status: 3): two; three; four; correct that, and run this command again"
    );
    let error = run(Command::new("/none"), "/none".to_owned()).unwrap_err();
    assert!(matches!(error, Error::Start { .. }));
}
