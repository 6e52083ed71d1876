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

/// A directory of credentials as systemd makes it, with this one.
fn credentials(directory: &Path, content: &[u8], mode: u32) -> PathBuf {
    let credentials = directory.join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("audit-key"), content).unwrap();
    fs::set_permissions(credentials.join("audit-key"), fs::Permissions::from_mode(mode)).unwrap();
    credentials
}

/// As `openssl genpkey -algorithm ed25519` writes it.
const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
                   -----END PRIVATE KEY-----\n";
/// The public key of that, from RFC 8032's first test.
const PEM_PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

#[test]
fn the_units_credential_goes_before_the_file_and_its_public_key_is_beside_that() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state/audit.key");
    let credentials = credentials(directory.path(), PEM.as_bytes(), 0o440);
    let signer = Signer::open_with(&path, Some(&credentials)).unwrap();
    assert_eq!(signer.public().to_line().trim(), PEM_PUBLIC);
    let public = PublicKey::read(&public_path(&path)).unwrap();
    assert!(public.verifies(&signed(), &signer.sign(&signed())));
    assert!(!path.exists(), "no other key is made");
    let own = Signer::open_with(&path, None).unwrap();
    assert_ne!(own.public(), signer.public());
    assert_eq!(Signer::open_with(&path, Some(&credentials)).unwrap().public(), signer.public());
}

#[test]
fn a_credential_may_be_a_file_of_the_agents_own_and_without_one_the_file_counts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.key");
    let own = Signer::open_with(&path, Some(&directory.path().join("none"))).unwrap();
    let credentials = credentials(directory.path(), &fs::read(&path).unwrap(), 0o400);
    let elsewhere = directory.path().join("elsewhere/audit.key");
    assert_eq!(Signer::open_with(&elsewhere, Some(&credentials)).unwrap().public(), own.public());
}

#[test]
fn a_credential_that_is_no_key_or_open_to_others_is_an_error_and_no_key_is_made() {
    for (content, mode, expected) in [
        ("no key", 0o400, "holds something else"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0o400, "holds something else"),
        (PEM, 0o444, "is open to others"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.key");
        let credentials = credentials(directory.path(), content.as_bytes(), mode);
        let error = Signer::open_with(&path, Some(&credentials)).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("audit-key"), "{error}");
        assert!(!path.exists() && !public_path(&path).exists());
    }
}
