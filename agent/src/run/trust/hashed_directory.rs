//! A hashed certificate directory with one certificate more.

use super::{Error, failed, write};
use crate::run::namespace;
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::Path,
};

/// A larger file is mounted instead of copied.
const COPY_LIMIT: u64 = 1 << 20;

/// Makes `copy` show what `original` shows, and `certificate` under its hash.
///
/// Relative links keep their meaning once `copy` lies over `original`.
pub(in crate::run) fn copy_with(
    original: &Path,
    copy: &Path,
    hash: u32,
    certificate: &[u8],
) -> Result<(), Error> {
    fs::create_dir_all(copy).map_err(failed("make", copy))?;
    let status = fs::metadata(original).map_err(failed("inspect", original))?;
    let permissions = fs::Permissions::from_mode(status.mode() & 0o7777);
    fs::set_permissions(copy, permissions).map_err(failed("set the mode of", copy))?;
    for entry in fs::read_dir(original).map_err(failed("read", original))? {
        let entry = entry.map_err(failed("read", original))?;
        show(&entry.path(), &copy.join(entry.file_name()))?;
    }
    // Counting stops at the first gap, so the certificate must stand right behind those of the same hash.
    let mut number: u32 = 0;
    loop {
        let path = copy.join(format!("{hash:08x}.{number}"));
        if fs::symlink_metadata(&path).is_err() {
            return write(&path, certificate);
        }
        number += 1;
    }
}

fn show(original: &Path, copy: &Path) -> Result<(), Error> {
    let status = fs::symlink_metadata(original).map_err(failed("inspect", original))?;
    let kind = status.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(original).map_err(failed("read", original))?;
        return symlink(target, copy).map_err(failed("link", copy));
    }
    if kind.is_file() && status.len() <= COPY_LIMIT {
        return fs::copy(original, copy)
            .and_then(|_| chown(copy, Some(status.uid()), Some(status.gid())))
            .map_err(failed("copy to", copy));
    }
    let placeholder = if kind.is_dir() { fs::create_dir(copy) } else { fs::write(copy, "") };
    placeholder.map_err(failed("make", copy))?;
    Ok(namespace::bind_writable(original, copy)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn everything_stays_visible_and_the_certificate_is_added() {
        let scratch = tempfile::tempdir().unwrap();
        let (original, copy) = (scratch.path().join("certs"), scratch.path().join("copy"));
        fs::create_dir(&original).unwrap();
        fs::write(original.join("A.pem"), "a").unwrap();
        fs::set_permissions(original.join("A.pem"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("A.pem", original.join("0000abcd.0")).unwrap();
        symlink("/nonexistent", original.join("dangling.pem")).unwrap();
        copy_with(&original, &copy, 0x1234, b"anchor").unwrap();
        assert_eq!(names(&copy), ["00001234.0", "0000abcd.0", "A.pem", "dangling.pem"]);
        assert_eq!(fs::read(copy.join("00001234.0")).unwrap(), b"anchor");
        assert_eq!(fs::read(copy.join("0000abcd.0")).unwrap(), b"a");
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
        copy_with(&original, &copy, 0xabcd, b"anchor").unwrap();
        assert_eq!(names(&copy), ["0000abcd.0", "0000abcd.1", "0000abcd.2", "0000abcd.3"]);
        assert_eq!(fs::read(copy.join("0000abcd.2")).unwrap(), b"anchor");
    }
}
