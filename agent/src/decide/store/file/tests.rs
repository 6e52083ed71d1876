use super::*;
use std::{
    fs::{Permissions, create_dir, hard_link, rename, set_permissions, write},
    os::unix::fs::{PermissionsExt, chown, symlink},
};
use tempfile::TempDir;
use test_case::test_case;

/// `d/p.toml` below a directory of the test's own.
fn place() -> (TempDir, PathBuf) {
    let top = tempfile::tempdir().unwrap();
    create_dir(top.path().join("d")).unwrap();
    set_permissions(top.path().join("d"), Permissions::from_mode(0o755)).unwrap();
    let path = top.path().join("d/p.toml");
    put(&path, "one");
    (top, path)
}

fn put(path: &Path, text: &str) {
    write(path, text).unwrap();
    set_permissions(path, Permissions::from_mode(0o644)).unwrap();
}

/// The text, or what is wrong in short.
fn read(file: &PolicyFile) -> String {
    match file.read() {
        Ok(Reading { source, doubt: None }) => source.text,
        Ok(Reading { doubt: Some(error), .. }) | Err(error) => {
            let text = format!("{error:?}");
            text.split(|character: char| !character.is_alphanumeric()).next().unwrap().to_owned()
        }
    }
}

#[test]
fn a_file_is_read_as_it_is_now() {
    let (top, path) = place();
    let file = PolicyFile::open(&path, &[]).unwrap();
    assert_eq!(read(&file), "one");
    put(&path, "two");
    assert_eq!(read(&file), "two");
    put(&top.path().join("d/new"), "three");
    rename(top.path().join("d/new"), &path).unwrap();
    assert_eq!(read(&file), "three");
    fs::remove_file(&path).unwrap();
    assert_eq!(read(&file), "Load");
    assert_eq!(file.read().unwrap_err().to_string(), format!("cannot open `{}`", path.display()));
}

/// As Kubernetes updates a ConfigMap.
#[test]
fn links_below_the_directory_are_followed_to_where_they_lead_now() {
    let (top, path) = place();
    let directory = top.path().join("d");
    fs::remove_file(&path).unwrap();
    for (version, text) in [("..1", "one"), ("..2", "two")] {
        create_dir(directory.join(version)).unwrap();
        set_permissions(directory.join(version), Permissions::from_mode(0o755)).unwrap();
        put(&directory.join(version).join("p.toml"), text);
    }
    symlink("..1", directory.join("..data")).unwrap();
    symlink("..data/p.toml", &path).unwrap();
    let file = PolicyFile::open(&path, &[]).unwrap();
    assert_eq!(read(&file), "one");
    assert_eq!(file.kept_directory(), Some(directory.canonicalize().unwrap().as_path()));
    symlink("..2", directory.join("..data_tmp")).unwrap();
    rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    assert_eq!(read(&file), "two");
    set_permissions(directory.join("..2"), Permissions::from_mode(0o777)).unwrap();
    assert_eq!(read(&file), "Loose", "everybody could put a file there");
}

#[test]
fn a_link_that_leads_elsewhere_at_the_start_names_the_directory_there() {
    let (top, path) = place();
    let link = top.path().join("link.toml");
    symlink("d/p.toml", &link).unwrap();
    let inside = PolicyFile::open(&link, &[]).unwrap();
    assert_eq!(inside.kept_directory(), Some(top.path().canonicalize().unwrap().as_path()));

    create_dir(top.path().join("e")).unwrap();
    let link = top.path().join("e/named.toml");
    symlink("../d/p.toml", &link).unwrap();
    let file = PolicyFile::open(&link, &[]).unwrap();
    assert_eq!(file.kept_directory(), Some(path.canonicalize().unwrap().parent().unwrap()));
    put(&path, "two");
    let Reading { source, doubt } = file.read().unwrap();
    assert!(doubt.is_none());
    assert_eq!((source.text.as_str(), source.path), ("two", link), "the name stays");
}

#[test]
fn nothing_that_the_command_could_have_put_there_is_read() {
    let (top, path) = place();
    let (d, elsewhere) = (top.path().join("d"), top.path().join("elsewhere"));
    put(&elsewhere, "wide");
    let file = PolicyFile::open(&path, &[]).unwrap();
    let fresh = || {
        let _ = fs::remove_file(&path);
        put(&path, "one");
        assert_eq!(read(&file), "one");
    };

    fs::remove_file(&path).unwrap();
    symlink("../elsewhere", &path).unwrap();
    assert_eq!(read(&file), "Outside");
    fs::remove_file(&path).unwrap();
    symlink(elsewhere.canonicalize().unwrap(), &path).unwrap();
    assert_eq!(read(&file), "Outside");
    fresh();

    fs::remove_file(&path).unwrap();
    hard_link(&elsewhere, &path).unwrap();
    assert_eq!(read(&file), "Linked");
    fresh();

    rename(&d, top.path().join("old")).unwrap();
    assert_eq!(read(&file), "Moved");
    create_dir(&d).unwrap();
    put(&path, "wide");
    assert_eq!(read(&file), "Moved", "another directory in its place");
    fs::remove_dir_all(&d).unwrap();
    symlink("old", &d).unwrap();
    assert_eq!(read(&file), "one", "the same directory, by a link");
    fs::remove_file(&d).unwrap();
    rename(top.path().join("old"), &d).unwrap();
    fresh();
}

#[test_case("d", 0o775, "Loose"; "a directory that the group writes")]
#[test_case("d", 0o1777, "Loose"; "a directory for everybody")]
#[test_case("d", 0o700, "one"; "a directory of the owner alone")]
#[test_case("d/p.toml", 0o664, "Load"; "a file that the group writes")]
fn what_others_can_write_is_not_believed(name: &str, mode: u32, expected: &str) {
    let (top, path) = place();
    let file = PolicyFile::open(&path, &[]).unwrap();
    set_permissions(top.path().join(name), Permissions::from_mode(mode)).unwrap();
    assert_eq!(read(&file), expected);
}

#[test_case("d", false; "a directory that somebody else got")]
#[test_case("d/p.toml", false; "a file that somebody else got")]
#[test_case("d", true; "a directory that was theirs")]
#[test_case("d/p.toml", true; "a file that was theirs")]
fn only_root_and_the_first_owner_are_believed(name: &str, from_the_start: bool) {
    assert!(rustix::process::geteuid().is_root(), "this test needs root, to give files away");
    let (top, path) = place();
    if from_the_start {
        chown(&path, Some(1234), None).unwrap();
        chown(top.path().join("d"), Some(1234), None).unwrap();
    }
    let file = PolicyFile::open(&path, &[]).unwrap();
    assert_eq!(read(&file), "one");
    chown(top.path().join(name), Some(0), None).unwrap();
    assert_eq!(read(&file), "one");
    let owner = if from_the_start { 1234 } else { 1235 };
    chown(top.path().join(name), Some(owner), None).unwrap();
    assert_eq!(read(&file), if from_the_start { "one" } else { "Foreign" });
}

#[test_case("", true; "the directory itself")]
#[test_case("below/deeper", true; "somewhere below it")]
#[test_case("..", false; "the directory above")]
#[test_case("../other", false; "beside it")]
#[test_case("../dd", false; "a name that begins alike")]
fn a_directory_in_which_the_command_writes_is_not_kept_from_it(place_below: &str, shared: bool) {
    let (top, path) = place();
    for name in ["d/below/deeper", "other", "dd"] {
        fs::create_dir_all(top.path().join(name)).unwrap();
    }
    let file = PolicyFile::open(&path, &[top.path().join("d").join(place_below)]).unwrap();
    assert_eq!(file.kept_directory().is_none(), shared);
    assert_eq!(read(&file), if shared { "Shared" } else { "one" });
}
