use super::{generation::UNFINISHED, *};
use crate::terminate::{key::Key, leaf::Leaf};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};
use tempfile::TempDir;
use test_case::test_case;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

fn hosts(names: &[&str]) -> Vec<HostName> {
    names.iter().map(|name| HostName::parse(name).unwrap()).collect()
}

fn settings(folder: &TempDir) -> config::Ca {
    config::Ca { dir: folder.path().join("ca"), ..config::Config::default().ca }
}

fn store_for(settings: &config::Ca, names: &[&str]) -> Store {
    Store::open(settings, &hosts(names)).unwrap()
}

fn store(folder: &TempDir) -> Store {
    store_for(&settings(folder), &["digitalocean.com"])
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn numbers(store: &Store) -> Vec<u32> {
    store.generations().unwrap().iter().map(|generation| generation.number).collect()
}

/// Every file and directory below, with its mode.
fn modes(path: &Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        found.push((name, fs::metadata(&path).unwrap().mode() & 0o7777));
        if path.is_dir() {
            found.extend(modes(&path));
        }
    }
    found
}

/// The bytes of every file below, by path.
fn contents(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

#[test]
fn the_first_start_makes_a_ca_and_the_next_finds_it() {
    let folder = folder();
    let now = SystemTime::now();
    let first = store(&folder).start(now).unwrap();
    let written = contents(folder.path());
    let second = store(&folder).start(now + HOUR).unwrap();
    assert_eq!(first.anchors, second.anchors);
    assert_eq!(contents(folder.path()), written);
    assert_eq!(first.anchors_pem(), first.authority.trust_anchor_pem());
    let name = HostName::parse("api.digitalocean.com").unwrap();
    assert!(second.authority.mint(&name, now).is_ok());
}

#[test]
fn nobody_else_can_read_or_write_any_of_it() {
    let folder = folder();
    let store = store(&folder);
    store.start(SystemTime::now()).unwrap();
    store.tickets(SystemTime::now()).unwrap();
    store.rotate(SystemTime::now(), false).unwrap();
    let modes = modes(folder.path());
    assert_eq!(modes.iter().filter(|(name, _)| name == "key.der").count(), 2);
    for (name, mode) in modes {
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
    }
}

#[test]
fn another_user_is_refused_by_the_system() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    store(&folder).start(SystemTime::now()).unwrap();
    for (path, _) in contents(folder.path()) {
        let run = |uid: &str| {
            let mut command = std::process::Command::new("setpriv");
            command.args(["--reuid", uid, "--regid", uid, "--clear-groups", "cat"]).arg(&path);
            command.output().unwrap()
        };
        assert!(run("0").status.success(), "{}", path.display());
        let other = run("65534");
        assert!(!other.status.success() && other.stdout.is_empty(), "{}", path.display());
    }
}

#[test]
fn the_roots_key_is_nowhere() {
    let folder = folder();
    let standing = store(&folder).start(SystemTime::now()).unwrap();
    let root = certificate::read(standing.authority.trust_anchor()).unwrap();
    for (path, bytes) in contents(folder.path()) {
        let Ok(key) = Key::from_pkcs8(&bytes) else { continue };
        assert_ne!(
            rcgen::PublicKeyData::subject_public_key_info(&key),
            root.public_key,
            "{}",
            path.display()
        );
    }
}

#[test]
fn a_rotation_is_announced_then_signs_then_is_alone() {
    let folder = folder();
    let store = store(&folder);
    let begin = SystemTime::now();
    let first = store.start(begin).unwrap();
    let [old] = &first.anchors[..] else { panic!("one anchor") };
    let next = store.rotate(begin, false).unwrap();
    assert!(matches!(store.rotate(begin, false), Err(Error::UnderWay { number: 2, .. })));

    let announced = store.refresh(&first, begin).unwrap().unwrap();
    assert_eq!(announced.anchors, [old.clone(), next.root.clone()]);
    assert!(Arc::ptr_eq(&announced.authority, &first.authority), "the old one signs");
    assert!(store.refresh(&announced, begin + 23 * HOUR).unwrap().is_none());

    let turned = store.refresh(&announced, begin + 25 * HOUR).unwrap().unwrap();
    assert_eq!(turned.anchors, [next.root.clone(), old.clone()]);
    assert_eq!(turned.authority.trust_anchor(), &next.root);
    // A leaf of the last hour of the old one is valid for a day.
    assert!(store.refresh(&turned, begin + 47 * HOUR).unwrap().is_none());
    let ended = store.refresh(&turned, begin + 50 * HOUR).unwrap().unwrap();
    assert_eq!(ended.anchors, [next.root]);
    assert_eq!(numbers(&store), [2]);
}

#[test]
fn a_rotation_at_once_leaves_no_trust_in_what_was() {
    let folder = folder();
    let store = store(&folder);
    let now = SystemTime::now();
    let first = store.start(now).unwrap();
    let tickets = store.tickets(now).unwrap();
    store.rotate(now, false).unwrap();
    let made = store.rotate(now, true).unwrap();
    let standing = store.refresh(&first, now).unwrap().unwrap();
    assert_eq!(standing.anchors, [made.root]);
    assert_eq!(numbers(&store), [3]);
    use rustls::server::ProducesTickets;
    let old = tickets.encrypt(b"x").unwrap();
    assert_eq!(store.tickets(now).unwrap().decrypt(&old), None);
}

#[test_case(&["digitalocean.com"], &["example.org"], 0; "not covered: signs at once")]
#[test_case(&["digitalocean.com", "example.org"], &["example.org"], 24; "covered: is announced first")]
fn other_hosts_get_another_ca(before: &[&str], after: &[&str], hours: u64) {
    let folder = folder();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    store_for(&settings(&folder), before).start(now).unwrap();
    let store = store_for(&settings(&folder), after);
    let standing = store.start(now + HOUR).unwrap();
    assert_eq!(standing.anchors.len(), 2);
    let generations = store.generations().unwrap();
    assert_eq!(generations[1].signs_from, now + HOUR + Duration::from_hours(hours));
    assert!(generations[1].facts.permits_exactly(&hosts(after)));
    let name = HostName::parse("api.example.org").unwrap();
    assert!(standing.authority.mint(&name, now + HOUR).is_ok());
    store.start(now + 2 * HOUR).unwrap();
    assert_eq!(numbers(&store), [1, 2], "the change is made once");
}

#[test]
fn a_ca_near_its_end_has_a_successor_without_being_asked() {
    let folder = folder();
    let store = store(&folder);
    let begin = SystemTime::now();
    let mut standing = store.start(begin).unwrap();
    let mut now = begin;
    let mut signers = 1;
    // Three years in steps of half a day: at no time are leaves of a signer that programs could not know yet.
    while now < begin + 3 * 365 * DAY {
        now += 12 * HOUR;
        let before = standing.clone();
        let Some(after) = store.refresh(&standing, now).unwrap() else { continue };
        if after.signer != before.signer {
            assert!(before.anchors.contains(after.authority.trust_anchor()), "announced before");
            signers += 1;
        }
        after.authority.mint(&hosts(&["api.digitalocean.com"])[0], now).unwrap();
        standing = after;
    }
    assert_eq!(signers, 4);
    assert!(standing.anchors.len() <= 2);
}

#[test]
fn a_machine_that_was_off_for_years_gets_a_ca_at_once() {
    let folder = folder();
    let store = store(&folder);
    let begin = SystemTime::now();
    let first = store.start(begin).unwrap();
    let now = begin + 800 * DAY;
    let standing = store.refresh(&first, now).unwrap().unwrap();
    assert!(standing.authority.mint(&hosts(&["api.digitalocean.com"])[0], now).is_ok());
    assert_ne!(standing.anchors.first(), first.anchors.first());
}

#[test]
fn after_the_clock_went_back_the_first_generation_signs() {
    let folder = folder();
    let store = store(&folder);
    let now = SystemTime::now();
    store.start(now).unwrap();
    store.rotate(now, false).unwrap();
    let generations = store.generations().unwrap();
    assert_eq!(signing(&generations, now - DAY).unwrap().number, 1);
    assert!(signing(&[], now).is_none());
}

/// What a crash while a generation is made or removed can leave: any part of its files under the unfinished name.
#[test]
fn what_a_crash_left_is_cleared_and_nothing_else() {
    let folder = folder();
    let store = store(&folder);
    let now = SystemTime::now();
    let first = store.start(now).unwrap();
    let directory = settings(&folder).dir;
    let whole = store.rotate(now, false).unwrap();
    let name = format!("0002-{}", whole.id);
    let files = ["generation.json", "root.pem", "intermediate.pem", "key.der"];
    for written in 0..=files.len() {
        let unfinished = directory.join(format!("{UNFINISHED}0003-00c0ffee"));
        fs::create_dir(&unfinished).unwrap();
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o700)).unwrap();
        for file in &files[..written] {
            fs::copy(directory.join(&name).join(file), unfinished.join(file)).unwrap();
        }
        assert_eq!(numbers(&store), [1, 2]);
        assert_eq!(store.start(now).unwrap().authority.trust_anchor(), first.authority.trust_anchor());
        assert!(!unfinished.exists());
    }
}

#[test_case("key.der", None, "key.der is missing"; "no key")]
#[test_case("root.pem", None, "root.pem is missing"; "no root")]
#[test_case("generation.json", Some(""), "generation.json"; "empty state")]
#[test_case("key.der", Some("half"), "key.der is no key"; "half a key")]
#[test_case("intermediate.pem", Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "intermediate.pem"; "no certificate")]
#[test_case("intermediate.pem", Some(""), "intermediate.pem"; "empty certificate")]
fn a_damaged_ca_is_told_and_left_alone(file: &str, content: Option<&str>, expected: &str) {
    let folder = folder();
    let store = store(&folder);
    let now = SystemTime::now();
    store.start(now).unwrap();
    let generation = format!("0001-{}", store.generations().unwrap()[0].id);
    let path = settings(&folder).dir.join(&generation).join(file);
    match content {
        Some(content) => fs::write(&path, content).unwrap(),
        None => fs::remove_file(&path).unwrap(),
    }
    let before = contents(folder.path());
    let error = store.start(now).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    let told = error.to_string();
    assert!(
        told.contains(&generation) && told.contains(expected) && told.contains("bring it back"),
        "{told}"
    );
    assert_eq!(contents(folder.path()), before);
}

#[test]
fn the_files_of_two_generations_do_not_mix() {
    let folder = folder();
    let store = store(&folder);
    let now = SystemTime::now();
    store.start(now).unwrap();
    let other = store.rotate(now, false).unwrap();
    let first = &store.generations().unwrap()[0];
    let directory = settings(&folder).dir;
    let path = |generation: &Generation, file| {
        directory.join(format!("{:04}-{}", generation.number, generation.id)).join(file)
    };
    fs::copy(path(&other, "key.der"), path(first, "key.der")).unwrap();
    let error = store.start(now).unwrap_err();
    assert!(error.to_string().contains("not the key of intermediate.pem"), "{error}");
    fs::copy(path(&other, "intermediate.pem"), path(first, "intermediate.pem")).unwrap();
    let error = store.start(now).unwrap_err();
    assert!(matches!(error, Error::Authority(ca::Error::Unfit(_))), "{error:?}");
    fs::copy(path(&other, "root.pem"), path(first, "root.pem")).unwrap();
    let error = store.start(now).unwrap_err();
    assert!(error.to_string().contains("another generation's"), "{error}");
}

#[test_case("ca", 0o755, "chmod 0700"; "directory")]
#[test_case("ca/GENERATION/key.der", 0o640, "chmod 0600"; "key")]
#[test_case("ca/GENERATION", 0o711, "chmod 0700"; "generation")]
fn a_ca_that_others_can_open_is_not_used(path: &str, mode: u32, expected: &str) {
    let folder = folder();
    let store = store(&folder);
    store.start(SystemTime::now()).unwrap();
    let name = format!("0001-{}", store.generations().unwrap()[0].id);
    let path = folder.path().join(path.replace("GENERATION", &name));
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let error = store.start(SystemTime::now()).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn a_link_in_the_place_of_the_directory_is_not_followed() {
    let folder = folder();
    let elsewhere = folder.path().join("elsewhere");
    files::private_directory(&elsewhere).unwrap();
    symlink(&elsewhere, folder.path().join("ca")).unwrap();
    assert!(store(&folder).start(SystemTime::now()).is_err());
    assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 0);
}

#[test]
fn starts_at_the_same_time_make_one_ca() {
    let folder = folder();
    let now = SystemTime::now();
    let anchors: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> =
            (0..8).map(|_| scope.spawn(|| store(&folder).start(now).unwrap().anchors)).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(anchors.iter().all(|anchor| *anchor == anchors[0]));
    assert_eq!(numbers(&store(&folder)), [1]);
}

#[test]
fn to_look_makes_nothing() {
    let folder = folder();
    let store = store(&folder);
    assert!(matches!(store.generations(), Err(Error::None(_))));
    assert!(matches!(store.anchors(SystemTime::now()), Err(Error::None(_))));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_ephemeral_ca_leaves_nothing_on_the_disk() {
    let folder = folder();
    let settings = config::Ca { ephemeral: true, ..settings(&folder) };
    let store = store_for(&settings, &["digitalocean.com"]);
    let now = SystemTime::now();
    let standing = store.start(now).unwrap();
    assert!(Arc::ptr_eq(&standing.authority, &store.start(now).unwrap().authority));
    assert!(store.refresh(&standing, now + 100 * DAY).unwrap().is_none());
    store.tickets(now).unwrap();
    assert!(matches!(store.rotate(now, false), Err(Error::InMemory)));
    assert!(matches!(store.anchors(now), Err(Error::InMemory)));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn leaves_have_rsa_keys_only_where_that_is_asked_for() {
    let folder = folder();
    let now = SystemTime::now();
    let name = &hosts(&["api.digitalocean.com"])[0];
    for (leaf_key, algorithm) in
        [(LeafKey::Ecdsa, rustls::SignatureAlgorithm::ECDSA), (LeafKey::Rsa, rustls::SignatureAlgorithm::RSA)]
    {
        let settings = config::Ca { leaf_key, ..settings(&folder) };
        let standing = store_for(&settings, &["digitalocean.com"]).start(now).unwrap();
        let leaf = Leaf::try_from(standing.authority.mint(name, now).unwrap()).unwrap();
        assert_eq!(leaf.certified.key.algorithm(), algorithm);
        assert!(leaf.certified.keys_match().is_ok());
    }
}

mod own;
