//! Where cgroups are: the mount, the machine's root, and the caller's own place.

use super::{Error, failed};
use crate::run::{
    filesystem,
    mountinfo::{self, Mount},
};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

/// The directory below which the command's cgroup is made: `configured`, or else the caller's own cgroup, so
/// that its limits, and whatever captures the caller, keep holding for the command.
///
/// # Errors
/// There is none, or only a container's, or `configured` is none.
pub fn parent(configured: Option<&Path>) -> Result<PathBuf, Error> {
    let Some(path) = configured else { return own() };
    let is_cgroup2 = filesystem::magic(path).is_ok_and(|magic| magic == filesystem::CGROUP2);
    if !(path.is_absolute() && path.is_dir() && is_cgroup2) {
        return Err(Error::NotCgroup2 { path: path.to_owned() });
    }
    tracing::info!(cgroup_root = %path.display(), "using the configured cgroup root");
    Ok(path.to_owned())
}

/// The directory that the daemon captures below: `configured`, or else the machine's root.
///
/// # Errors
/// There is none, or only a container's, or `configured` is none.
pub fn root(configured: Option<&Path>) -> Result<PathBuf, Error> {
    if configured.is_some() {
        return parent(configured);
    }
    let mount = mount()?;
    is_machines(&mount)?;
    Ok(mount.point)
}

fn mount() -> Result<Mount, Error> {
    let mounts = mountinfo::own().map_err(failed("read", Path::new("/proc/self/mountinfo")))?;
    let mut mounts = mounts.into_iter();
    mounts.find(|mount| mount.filesystem == "cgroup2" && mount.is_visible()).ok_or(Error::NotMounted)
}

/// The caller's own cgroup.
///
/// # Errors
/// There is no cgroup2, only a container's, or the caller's is out of sight.
pub fn own() -> Result<PathBuf, Error> {
    let mount = mount()?;
    let list = Path::new("/proc/self/cgroup");
    let text = fs::read_to_string(list).map_err(failed("read", list))?;
    let cgroup = text.lines().find_map(|line| line.strip_prefix("0::")).ok_or(Error::NotMounted)?;
    let path = below(&mount, Path::new(cgroup)).filter(|path| path.is_dir());
    let path = path.ok_or_else(|| Error::OutOfSight { cgroup: cgroup.into(), mount: mount.point.clone() })?;
    is_machines(&mount)?;
    Ok(path)
}

/// The machine's root has inode 1 in every kernel since 5.6; a namespace's root is some inner directory.
fn is_machines(mount: &Mount) -> Result<(), Error> {
    let status = fs::metadata(&mount.point).map_err(failed("inspect", &mount.point))?;
    if status.ino() == 1 { Ok(()) } else { Err(Error::Container { path: mount.point.clone() }) }
}

/// Where `cgroup` lies in `mount`. Both are relative to the cgroup namespace; `..` leads out of it to places that
/// have no name in here.
fn below(mount: &Mount, cgroup: &Path) -> Option<PathBuf> {
    let below = cgroup.strip_prefix(&mount.root).ok()?;
    let has_name = below.components().all(|part| matches!(part, Component::Normal(_)));
    has_name.then(|| mount.point.join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cgroup_is_found_in_a_mount_of_its_ancestors_only() {
        let mount = |root: &str| Mount {
            id: 1,
            device: "0:1".into(),
            root: root.into(),
            point: "/cg".into(),
            filesystem: "cgroup2".into(),
            is_shared: false,
        };
        for (root, cgroup, expected) in [
            ("/", "/", Some("/cg")),
            ("/", "/a/b", Some("/cg/a/b")),
            ("/a", "/a/b", Some("/cg/b")),
            ("/c", "/a/b", None),
            ("/../..", "/", None),
            ("/", "/../x", None),
        ] {
            let found = below(&mount(root), Path::new(cgroup));
            assert_eq!(found.as_deref(), expected.map(Path::new), "{root} {cgroup}");
        }
    }

    #[test]
    fn a_configured_root_that_is_no_cgroup2_directory_is_refused() {
        for path in ["/tmp", "/nonexistent", "relative"] {
            assert!(matches!(parent(Some(Path::new(path))), Err(Error::NotCgroup2 { .. })), "{path}");
        }
    }
}
