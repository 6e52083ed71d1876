use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use tempfile::TempDir;
use test_case::test_case;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_new_file_is_the_owners_alone_and_never_replaces_another() {
    let folder = folder();
    let path = folder.path().join("key");
    write_new(&path, b"secret").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(&**read_private(&path).unwrap(), b"secret");
    let error = write_new(&path, b"other").unwrap_err();
    assert!(error.to_string().starts_with("cannot make `"), "{error}");
    assert_eq!(&**read_private(&path).unwrap(), b"secret");
    replace(&path, b"other").unwrap();
    assert_eq!(&**read_private(&path).unwrap(), b"other");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_left_over_of_a_replacement_is_in_nobodys_way() {
    let folder = folder();
    let path = folder.path().join("key");
    fs::write(folder.path().join("key.new"), "half").unwrap();
    replace(&path, b"whole").unwrap();
    assert_eq!(&**read_private(&path).unwrap(), b"whole");
}

#[test_case(0o640; "group reads")]
#[test_case(0o604; "others read")]
#[test_case(0o620; "group writes")]
#[test_case(0o601; "others execute")]
fn what_others_may_open_is_not_used(mode: u32) {
    let folder = folder();
    let path = folder.path().join("key");
    write_new(&path, b"secret").unwrap();
    set_mode(&path, mode);
    let error = read_private(&path).unwrap_err();
    assert!(error.to_string().contains(&format!("(mode {mode:04o}): run `chmod 0600`")), "{error}");
    assert!(read_secret(&path, Allowed::Owner).is_err());
    assert_eq!(read_secret(&path, Allowed::GroupReads).is_ok(), mode == 0o640);
}

#[test]
fn what_is_somebody_elses_is_not_used() {
    let folder = folder();
    let path = folder.path().join("key");
    write_new(&path, b"secret").unwrap();
    if std::os::unix::fs::chown(&path, Some(65_534), None).is_err() {
        assert!(!geteuid().is_root(), "root can give files away");
        return;
    }
    let error = read_private(&path).unwrap_err();
    assert!(error.to_string().contains("belongs to user 65534"), "{error}");
    std::os::unix::fs::chown(folder.path(), Some(65_534), None).unwrap();
    assert!(matches!(check_directory(folder.path()), Err(Error::Foreign { owner: 65_534, .. })));
}

#[test]
fn links_pipes_and_directories_are_no_files() {
    let folder = folder();
    let (file, link, name) =
        (folder.path().join("file"), folder.path().join("link"), folder.path().join("name"));
    write_new(&file, b"secret").unwrap();
    symlink(&file, &link).unwrap();
    assert!(matches!(read_private(&link), Err(Error::Kind { wanted: "file", .. })));
    assert_eq!(&**read_secret(&link, Allowed::Owner).unwrap(), b"secret");
    assert!(matches!(read_private(folder.path()), Err(Error::Kind { .. })));
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
    assert!(matches!(read_private(&pipe), Err(Error::Kind { .. })));
    fs::hard_link(&file, &name).unwrap();
    assert!(matches!(read_private(&file), Err(Error::Linked { links: 2, .. })));
}

#[test]
fn a_private_directory_is_made_once_and_checked_ever_after() {
    let folder = folder();
    let path = folder.path().join("a/b");
    private_directory(&path).unwrap();
    for made in [&path, &folder.path().join("a")] {
        assert_eq!(fs::metadata(made).unwrap().mode() & 0o7777, 0o700);
    }
    private_directory(&path).unwrap();
    set_mode(&path, 0o750);
    let error = private_directory(&path).unwrap_err();
    assert!(error.to_string().contains("run `chmod 0700`"), "{error}");
    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(matches!(private_directory(&link), Err(Error::Kind { wanted: "directory", .. })));
}

#[test]
fn nothing_is_published_over_anything() {
    let folder = folder();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    assert!(publish(&from, &to).is_err());
    fs::remove_dir(&to).unwrap();
    publish(&from, &to).unwrap();
    assert!(to.is_dir() && !from.exists());
}

#[test]
fn a_file_that_is_far_too_long_is_not_read() {
    let folder = folder();
    let path = folder.path().join("key");
    write_new(&path, b"").unwrap();
    File::options().write(true).open(&path).unwrap().set_len(LONGEST + 1).unwrap();
    assert!(matches!(read_private(&path), Err(Error::TooLong(_))));
}
