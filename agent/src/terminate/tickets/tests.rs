use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use tempfile::TempDir;

const HOUR: Duration = Duration::from_hours(1);

/// A time in whole seconds, as the file keeps it.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_ticket_opens_after_a_restart_and_only_its_own_bytes() {
    let folder = folder();
    let ticket = Tickets::kept(folder.path(), now()).unwrap().encrypt(b"session").unwrap();
    assert!(!ticket.windows(7).any(|window| window == b"session"));
    let again = Tickets::kept(folder.path(), now() + HOUR).unwrap();
    assert_eq!(again.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
    for length in 0..ticket.len() {
        assert_eq!(again.decrypt(&ticket[..length]), None, "{length}");
        let mut changed = ticket.clone();
        changed[length] ^= 1;
        assert_eq!(again.decrypt(&changed), None, "{length}");
    }
    assert_eq!(Tickets::in_memory(now()).unwrap().decrypt(&ticket), None);
}

#[test]
fn a_key_seals_half_a_day_and_opens_a_day() {
    let folder = folder();
    let tickets = Tickets::kept(folder.path(), now()).unwrap();
    let first = tickets.encrypt(b"first").unwrap();
    tickets.roll(now() + 11 * HOUR).unwrap();
    let still_first = tickets.encrypt(b"still").unwrap();
    assert_eq!(still_first[..NAME_LENGTH], first[..NAME_LENGTH]);
    tickets.roll(now() + 12 * HOUR).unwrap();
    let second = tickets.encrypt(b"second").unwrap();
    assert_ne!(second[..NAME_LENGTH], first[..NAME_LENGTH]);
    assert!(tickets.decrypt(&first).is_some());
    tickets.roll(now() + 24 * HOUR).unwrap();
    assert!(tickets.decrypt(&first).is_none());
    assert!(tickets.decrypt(&second).is_some());
    // A clock that went back makes all keys ones of the future.
    tickets.roll(now()).unwrap();
    assert!(tickets.decrypt(&second).is_none());
}

#[test]
fn the_keys_are_the_owners_alone() {
    let folder = folder();
    Tickets::kept(folder.path(), now()).unwrap();
    let path = folder.path().join(FILE);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    let ticket = Tickets::kept(folder.path(), now()).unwrap().encrypt(b"x").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let others = Tickets::kept(folder.path(), now()).unwrap();
    assert_eq!(others.decrypt(&ticket), None, "keys that others could read are not used");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn keys_that_were_taken_away_open_nothing() {
    let folder = folder();
    let tickets = Tickets::kept(folder.path(), now()).unwrap();
    let ticket = tickets.encrypt(b"x").unwrap();
    Tickets::forget(folder.path()).unwrap();
    Tickets::forget(folder.path()).unwrap();
    tickets.roll(now()).unwrap();
    assert_eq!(tickets.decrypt(&ticket), None);
    let ticket = tickets.encrypt(b"x").unwrap();
    assert!(Tickets::kept(folder.path(), now()).unwrap().decrypt(&ticket).is_some());
}

#[test]
fn a_damaged_file_is_replaced() {
    let folder = folder();
    let path = folder.path().join(FILE);
    Tickets::kept(folder.path(), now()).unwrap();
    let whole = fs::read(&path).unwrap();
    assert_eq!(decode(&whole).unwrap().len(), 1);
    for length in (0..whole.len()).filter(|length| *length != MAGIC.len()) {
        assert!(decode(&whole[..length]).is_none(), "{length}");
    }
    fs::write(&path, &whole[..20]).unwrap();
    Tickets::kept(folder.path(), now()).unwrap();
    assert_eq!(decode(&fs::read(&path).unwrap()).unwrap().len(), 1);
}
