use super::*;
use crate::trust::tree::Tree;
use std::os::unix::fs::MetadataExt;

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// As the search finds it, the test's directory being the root.
fn source(original: &Path) -> Source {
    let tree = Tree::open(original.parent().unwrap()).unwrap();
    tree.resolve(&Path::new("/").join(original.file_name().unwrap())).unwrap().source
}

fn copy_as(original: &Path, copy: &Path, anchors: &[Anchor]) -> Result<(), Error> {
    copy_with(original, &source(original), copy, anchors)
}

fn anchors(hashes: &[u32]) -> Vec<Anchor> {
    hashes.iter().map(|&hash| Anchor { hash, pem: format!("anchor {hash}") }).collect()
}

#[test]
fn everything_stays_visible_and_the_certificates_are_added() {
    let scratch = tempfile::tempdir().unwrap();
    let (original, copy) = (scratch.path().join("certs"), scratch.path().join("copy"));
    fs::create_dir_all(original.join("java")).unwrap();
    fs::write(original.join("java/cacerts"), "keystore").unwrap();
    fs::write(original.join("A.pem"), "a").unwrap();
    fs::set_permissions(original.join("A.pem"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("A.pem", original.join("0000abcd.0")).unwrap();
    symlink("/nonexistent", original.join("dangling.pem")).unwrap();
    nix::unistd::mkfifo(&original.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    copy_as(&original, &copy, &anchors(&[0x1234, 0x5678])).unwrap();
    assert_eq!(names(&copy), ["00001234.0", "00005678.0", "0000abcd.0", "A.pem", "dangling.pem", "java"]);
    assert_eq!(fs::read(copy.join("00001234.0")).unwrap(), b"anchor 4660");
    assert_eq!(fs::read(copy.join("0000abcd.0")).unwrap(), b"a");
    assert_eq!(fs::read(copy.join("java/cacerts")).unwrap(), b"keystore");
    assert_eq!(fs::read_link(copy.join("dangling.pem")).unwrap().as_os_str(), OsStr::new("/nonexistent"));
    assert_eq!(fs::metadata(copy.join("A.pem")).unwrap().mode() & 0o777, 0o640);
}

#[test]
fn certificates_of_the_same_hash_keep_their_places() {
    let scratch = tempfile::tempdir().unwrap();
    let (original, copy) = (scratch.path().join("certs"), scratch.path().join("copy"));
    fs::create_dir(&original).unwrap();
    for name in ["0000abcd.0", "0000abcd.1", "0000abcd.3"] {
        fs::write(original.join(name), name).unwrap();
    }
    // Both anchors of a rotation have one subject.
    copy_as(&original, &copy, &anchors(&[0xabcd, 0xabcd])).unwrap();
    assert_eq!(names(&copy), ["0000abcd.0", "0000abcd.1", "0000abcd.2", "0000abcd.3", "0000abcd.4"]);
    assert_eq!(fs::read(copy.join("0000abcd.2")).unwrap(), b"anchor 43981");
}

#[test]
fn a_link_in_the_place_of_the_directory_is_not_followed() {
    let scratch = tempfile::tempdir().unwrap();
    let (original, copy) = (scratch.path().join("certs"), scratch.path().join("copy"));
    fs::create_dir(&original).unwrap();
    let found = source(&original);
    fs::remove_dir(&original).unwrap();
    symlink("/etc", &original).unwrap();
    assert!(copy_with(&original, &found, &copy, &[]).is_err());
    assert!(!copy.exists());
}

#[cfg(feature = "kubernetes")]
#[test]
fn an_anchor_counts_where_it_is_found_by_its_hash() {
    let scratch = tempfile::tempdir().unwrap();
    let (original, copy) = (scratch.path().join("certs"), scratch.path().join("copy"));
    fs::create_dir(&original).unwrap();
    symlink("other.pem", original.join("0000abcd.0")).unwrap();
    assert!(!has_all(&source(&original), &anchors(&[0xabcd])));
    copy_as(&original, &copy, &anchors(&[0xabcd, 0x1234])).unwrap();
    assert!(has_all(&source(&copy), &anchors(&[0xabcd, 0x1234])));
    assert!(!has_all(&source(&copy), &anchors(&[0xabcd, 0x5678])));
    // Behind a gap nobody looks.
    fs::rename(copy.join("00001234.0"), copy.join("00001234.1")).unwrap();
    assert!(!has_all(&source(&copy), &anchors(&[0x1234])));
}
