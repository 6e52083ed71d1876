use super::*;
use std::os::unix::fs::PermissionsExt;

fn signed() -> Signed {
    let head = Head { id: "0123456789abcdef".into(), sequence: 7, hash: [9; 32] };
    Signed { head, opens: false }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_key_is_made_once_and_is_its_owners_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state/audit.key");
    let first = Signer::open(&path).unwrap();
    let second = Signer::open(&path).unwrap();
    assert_eq!(first.public(), second.public());
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let public = PublicKey::read(&public_path(&path)).unwrap();
    assert!(public.verifies(&signed(), &second.sign(&signed())));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2, "no draft stays");
}

#[test]
fn agents_that_start_together_sign_with_one_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.key");
    let earlier = Signer::open(&path).unwrap();
    // As one does that has seen no key a moment ago.
    let der = make(&path).unwrap();
    assert_eq!(Signer::from_pkcs8(&der).unwrap().public(), earlier.public());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "no draft stays");
}

#[test]
fn a_signature_is_of_one_head_at_one_place_by_one_key() {
    let directory = tempfile::tempdir().unwrap();
    let signer = Signer::open(&directory.path().join("a.key")).unwrap();
    let other = Signer::open(&directory.path().join("b.key")).unwrap();
    let signature = signer.sign(&signed());
    assert!(signer.public().verifies(&signed(), &signature));
    assert!(!other.public().verifies(&signed(), &signature));
    let head = signed().head;
    for changed in [
        Signed { head: Head { sequence: 8, ..head.clone() }, ..signed() },
        Signed { head: Head { hash: [8; 32], ..head.clone() }, ..signed() },
        Signed { head: Head { id: "0123456789abcdee".into(), ..head }, ..signed() },
        Signed { opens: true, ..signed() },
    ] {
        assert!(!signer.public().verifies(&changed, &signature), "{changed:?}");
    }
    for broken in ["", "zz", "abc", &signature[2..]] {
        assert!(!signer.public().verifies(&signed(), broken), "{broken}");
    }
}

#[test]
fn a_file_that_is_no_key_is_kept_and_one_that_others_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.key");
    fs::write(&path, "mine").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(Signer::open(&path), Err(Error::File(files::Error::Exposed { .. }))));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(Signer::open(&path), Err(Error::Form(_))));
    assert_eq!(fs::read(&path).unwrap(), b"mine");
}

#[test]
fn only_a_file_that_is_not_there_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.pub");
    assert!(PublicKey::read(&path).unwrap_err().is_missing());
    fs::write(&path, "00").unwrap();
    assert!(!PublicKey::read(&path).unwrap_err().is_missing());
    assert!(!SignedHead::read(&path).unwrap_err().is_missing());
}

#[test]
fn an_older_head_does_not_replace_a_newer_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.head");
    let signer = Signer::open(&directory.path().join("audit.key")).unwrap().keeping_head_in(path.clone());
    let at = |sequence| SignedHead {
        path: "/log".into(),
        signed: Signed { head: Head { sequence, ..signed().head }, opens: false },
        signature: String::new(),
    };
    [3, 9, 5].into_iter().for_each(|sequence| signer.keep(&at(sequence)));
    assert_eq!(SignedHead::read(&path).unwrap(), at(9));
}
