//! New content for files that are bound into running programs' views.
//!
//! A bound directory shows what is put into it. A bound file stays the file that it was, so that another one in its
//! place would never be seen: its own bytes must change.

use crate::whole_file;
use rustix::fs::{FallocateFlags, fallocate};
use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt, chown},
    path::Path,
};

/// Changes the bytes of a file, which everybody may read. Whoever reads certificates from it meanwhile finds those of
/// before or those of now: what is added comes with one write, and blank lines fill up what has become shorter.
pub(super) fn rewrite(path: &Path, content: &[u8]) -> io::Result<()> {
    let before = match fs::read(path) {
        Ok(before) => before,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return whole_file::put(path, content, 0o644);
        }
        Err(error) => return Err(error),
    };
    if before == content {
        return Ok(());
    }
    let added = content.strip_prefix(before.as_slice());
    let mut file = OpenOptions::new().write(true).append(added.is_some()).open(path)?;
    // A full disk must not leave half of it.
    match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, content.len().max(before.len()) as u64) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(errno) => return Err(errno.into()),
    }
    if let Some(added) = added {
        return file.write_all(added);
    }
    let same = before.iter().zip(content).take_while(|(one, other)| one == other).count();
    let mut changed = content.get(same..).unwrap_or_default().to_vec();
    changed.resize(before.len().saturating_sub(same).max(changed.len()), b'\n');
    file.write_all_at(&changed, same as u64)?;
    file.set_len(content.len() as u64)
}

/// Makes a directory with this mode, where there is none.
pub(super) fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
    }
}

/// Makes the directory `shown` have what `wanted` has, which is used up; at no time is a file missing that both have.
/// Directories are the caller's own: whoever else could change them could have files of root's put anywhere.
pub(super) fn refill(shown: &Path, wanted: &Path) -> io::Result<()> {
    let facts = fs::metadata(wanted)?;
    let mode = if facts.mode() & 0o005 == 0o005 { 0o755 } else { 0o750 };
    make_directory(shown, 0o700)?;
    chown(shown, Some(rustix::process::geteuid().as_raw()), Some(facts.gid()))?;
    fs::set_permissions(shown, Permissions::from_mode(mode))?;
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(wanted)? {
        let entry = entry?;
        let (new, old) = (entry.path(), shown.join(entry.file_name()));
        let is_directory = entry.file_type()?.is_dir();
        if fs::symlink_metadata(&old).is_ok_and(|facts| facts.is_dir() != is_directory) {
            remove(&old)?;
        }
        if is_directory {
            refill(&old, &new)?
        } else {
            fs::rename(&new, &old)?
        }
        names.insert(entry.file_name());
    }
    for entry in fs::read_dir(shown)? {
        let entry = entry?;
        if !names.contains(&entry.file_name()) {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(wanted)
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, os::unix::fs::symlink};
    use test_case::test_case;

    #[test_case("one\n", "one\ntwo\n"; "one more")]
    #[test_case("one\ntwo\n", "one\n"; "one less")]
    #[test_case("one\ntwo\nthree\n", "one\nthree\n"; "one less in the middle")]
    #[test_case("one\n", "another\n"; "another")]
    #[test_case("", "one\n"; "the first")]
    #[test_case("one\n", "one\n"; "the same")]
    fn a_file_that_is_bound_stays_the_same_file(before: &str, after: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bundle");
        rewrite(&path, before.as_bytes()).unwrap();
        // What a bind shows, whatever becomes of the name.
        let bound = File::open(&path).unwrap();
        rewrite(&path, after.as_bytes()).unwrap();
        assert_eq!(io::read_to_string(bound).unwrap(), after);
        assert_eq!(fs::read_to_string(&path).unwrap(), after);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_is_bound_shows_what_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let (shown, wanted) = (folder.path().join("shown"), folder.path().join("wanted"));
        let fill = |files: &[(&str, &str)]| {
            fs::create_dir(&wanted).unwrap();
            for (name, content) in files {
                let path = wanted.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                match content.strip_prefix("->") {
                    Some(target) => symlink(target, path).unwrap(),
                    None => fs::write(path, content).unwrap(),
                }
            }
        };
        fill(&[("a.pem", "a"), ("java/cacerts", "j"), ("0.0", "->a.pem"), ("gone", "x"), ("turns/x", "x")]);
        refill(&shown, &wanted).unwrap();
        let (bound, inode) = (File::open(&shown).unwrap(), fs::metadata(&shown).unwrap().ino());
        fill(&[("a.pem", "b"), ("java/cacerts", "k"), ("0.0", "->b.pem"), ("new", "n"), ("turns", "y")]);
        refill(&shown, &wanted).unwrap();
        assert_eq!(bound.metadata().unwrap().ino(), inode);
        assert_eq!(bound.metadata().unwrap().mode() & 0o7777, 0o755);
        let mut names: Vec<_> = fs::read_dir(&shown)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["0.0", "a.pem", "java", "new", "turns"]);
        let read = |name: &str| fs::read_to_string(shown.join(name)).unwrap();
        assert_eq!([read("a.pem"), read("java/cacerts"), read("turns")], ["b", "k", "y"]);
        assert_eq!(fs::read_link(shown.join("0.0")).unwrap(), Path::new("b.pem"));
        assert!(!wanted.exists());
    }
}
