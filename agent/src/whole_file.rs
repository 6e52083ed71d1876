//! Files that are put in their places whole, or not at all.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Puts a file in the place of the one that may be there, with this mode whatever the caller's umask. It is the owner's
/// alone until it is whole and on the disk.
///
/// # Errors
/// When it cannot be written; what was there is as it was.
pub fn put(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tidegate-new");
    let draft = path.with_file_name(name);
    // What an interrupted one has left; a link in its place would lead elsewhere.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = file
        .write_all(content)
        .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // On a full disk it would only take room.
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_is_replaced_with_its_mode_and_nothing_stays_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pem");
        for (content, mode) in [("one", 0o600), ("two", 0o644)] {
            put(&path, content.as_bytes(), mode).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_stands_where_the_draft_goes_is_not_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("a.pem"), directory.path().join("other"));
        fs::write(&other, "mine").unwrap();
        symlink(&other, directory.path().join(".a.pem.tidegate-new")).unwrap();
        put(&path, b"one", 0o644).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "mine");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
    }

    #[test]
    fn what_cannot_be_replaced_stays_and_no_draft_does() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::create_dir(&path).unwrap();
        assert!(put(&path, b"one", 0o644).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
