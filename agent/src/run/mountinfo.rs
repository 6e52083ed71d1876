//! The mounts that the calling thread sees, from `/proc/thread-self/mountinfo`.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

/// One line of `mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) id: u64,
    /// The superblock's device number as the kernel prints it; mounts of one filesystem share it.
    pub(crate) device: String,
    /// The directory of the filesystem that is mounted.
    pub(crate) root: PathBuf,
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    /// The filesystem's type.
    pub(crate) filesystem: String,
    /// Whether what is mounted on it appears elsewhere, too.
    pub(crate) is_shared: bool,
}

impl Mount {
    /// Whether a path lookup of the mount point ends at this mount and not at one that covers it.
    pub(crate) fn is_visible(&self) -> bool {
        id_at(&self.point).is_ok_and(|id| id == self.id)
    }
}

/// The mounts of the calling thread's mount namespace, below its root directory.
pub(crate) fn own() -> io::Result<Vec<Mount>> {
    // A thread can be in a mount namespace of its own, in which its path lookups happen.
    parse(&fs::read("/proc/thread-self/mountinfo")?)
}

/// The id of the mount that `path` lies on.
pub(crate) fn id_at(path: &Path) -> io::Result<u64> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let status = statx(CWD, path, AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID)?;
    Ok(status.stx_mnt_id)
}

/// The mounts that such a file tells of.
pub(crate) fn parse(text: &[u8]) -> io::Result<Vec<Mount>> {
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let mounts: Option<Vec<Mount>> = lines.map(parse_line).collect();
    mounts.ok_or_else(|| io::Error::other("a line of mountinfo cannot be read"))
}

/// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG…] - TYPE SOURCE SUPER`, with octal escapes for blanks.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = String::from_utf8(fields.nth(1)?.to_vec()).ok()?;
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    let mut is_shared = false;
    fields.find(|field| {
        is_shared |= field.starts_with(b"shared:");
        *field == b"-"
    })?;
    let filesystem = String::from_utf8(fields.next()?.to_vec()).ok()?;
    Some(Mount { id, device, root, point, filesystem, is_shared })
}

fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match (byte, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), after)
            }
            _ => (byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case(b"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw", "/", "/sys/fs/cgroup", "tmpfs", false; "no tag")]
    #[test_case(b"9 1 0:5 /a /b rw shared:1 master:2 - cgroup2 none rw", "/a", "/b", "cgroup2", true; "two tags")]
    #[test_case(b"9 1 0:5 /a /b rw master:2 - shared:x none rw", "/a", "/b", "shared:x", false; "a word behind the tags")]
    #[test_case(br"9 1 0:5 / /a\040b\134 rw - ext4 /dev/x rw", "/", "/a b\\", "ext4", false; "escapes")]
    fn a_line_is_read(line: &[u8], root: &str, point: &str, filesystem: &str, is_shared: bool) {
        let mount = parse_line(line).unwrap();
        assert_eq!(
            (mount.root.to_str(), mount.point.to_str(), mount.filesystem.as_str()),
            (Some(root), Some(point), filesystem)
        );
        assert_eq!(mount.is_shared, is_shared);
    }

    #[test]
    fn a_line_that_breaks_off_is_an_error_at_every_field() {
        let line = b"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs";
        for end in 1..line.len() - 5 {
            assert!(parse(&line[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn the_mount_of_the_root_directory_is_visible() {
        let id = id_at(Path::new("/proc")).unwrap();
        assert!(own().unwrap().iter().any(|mount| mount.id == id && mount.is_visible()));
    }
}
