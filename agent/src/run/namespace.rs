//! The command's own view of the machine's mounts: nothing in it leads to the gate or out of the cgroup.

use crate::run::mountinfo::{self, Mount};
use nix::sched::{CloneFlags, unshare};
use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, StatVfsMountFlags, openat2},
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change, mount_remount},
};
use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

/// Filesystems through which root changes the kernel's behaviour, whatever its capabilities; without them
/// writable, nobody can for instance name a program that the kernel would start outside the cgroup.
const KERNEL_INTERFACES: [&str; 10] = [
    "binfmt_misc",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "efivarfs",
    "pstore",
    "securityfs",
    "sysfs",
    "tracefs",
];
/// The same within procfs.
const PROC_INTERFACES: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
/// Where bpffs is mounted by convention, perhaps only later.
const BPFFS: &str = "/sys/fs/bpf";

/// Why the view could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot make private mount and cgroup namespaces (CAP_SYS_ADMIN is needed)")]
    Unshare(#[source] io::Error),
    #[error("cannot read the mounts of this process")]
    Mounts(#[source] io::Error),
    #[error("cannot {action} `{}`", path.display())]
    Mount { action: &'static str, path: PathBuf, source: io::Error },
}

/// Enters new mount and cgroup namespaces; the process must be in its cgroup already. Later mounts of the host
/// still appear in them, those made in them do not appear on the host.
pub(super) fn enter() -> Result<(), Error> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP)
        .map_err(|errno| Error::Unshare(errno.into()))?;
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", slave).map_err(failed("separate from the host's mounts", Path::new("/")))
}

/// Makes every interface to the kernel read-only, and cgroup2 show nothing but the command's own `cgroup`.
pub(super) fn protect_kernel(cgroup: &Path) -> Result<(), Error> {
    // Through a descriptor, since the first mount below hides the path from the second.
    let directory = File::open(cgroup).map_err(|source| Error::Mount {
        action: "open",
        path: cgroup.to_owned(),
        source,
    })?;
    let own = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    for procfs in visible("proc")? {
        for name in PROC_INTERFACES {
            let path = procfs.point.join(name);
            if path.exists() {
                bind(&path, &path)?;
            }
        }
    }
    // Read again: the binds above have copied mounts below them.
    let mounts = mountinfo::own().map_err(Error::Mounts)?;
    let interfaces =
        mounts.into_iter().filter(|mount| KERNEL_INTERFACES.contains(&mount.filesystem.as_str()));
    for interface in interfaces.filter(Mount::is_visible) {
        make_read_only(&interface.point)?;
        if interface.filesystem == "cgroup2" {
            bind(&own, &interface.point)?;
        }
    }
    Ok(())
}

/// Covers `run_dir` with an empty directory, which stays writable for now, and every bpffs for good.
pub(super) fn hide(run_dir: &Path) -> Result<(), Error> {
    for alias in aliases(run_dir)? {
        mask(&alias)?;
    }
    cover(run_dir)?;
    let mut places: Vec<_> = visible("bpf")?.into_iter().map(|mount| mount.point).collect();
    if !places.iter().any(|place| place == Path::new(BPFFS)) && Path::new(BPFFS).is_dir() {
        places.push(BPFFS.into());
    }
    places.iter().try_for_each(|place| mask(place))
}

/// Covers a directory with an empty one, and a file with one that cannot be opened; nothing to do where there is
/// neither.
pub(super) fn mask(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        cover(path)?;
        return make_read_only(path);
    }
    // Without device files on its mount, not even this one opens.
    if path.exists() { bind(Path::new("/dev/null"), path) } else { Ok(()) }
}

/// Makes a directory read-only in this namespace, wherever its filesystem is mounted. Programs there still run.
pub(super) fn keep(directory: &Path) -> Result<(), Error> {
    let places = aliases(directory)?.into_iter().chain([directory.to_owned()]);
    places.into_iter().try_for_each(|place| {
        let present = rustix::fs::statvfs(&place).map_err(failed("examine", &place))?.f_flag;
        bind_writable(&place, &place)?;
        let kept = [
            (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
            (StatVfsMountFlags::NODEV, MountFlags::NODEV),
            (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        ];
        let kept = kept.into_iter().filter(|(flag, _)| present.contains(*flag)).map(|(_, flag)| flag);
        let flags = MountFlags::BIND | MountFlags::RDONLY | kept.collect();
        mount_remount(&place, flags, c"").map_err(failed("make read-only", &place))
    })
}

/// Lays `source` over `target`, with what is mounted below it, and makes it read-only.
fn bind(source: &Path, target: &Path) -> Result<(), Error> {
    bind_writable(source, target)?;
    make_read_only(target)
}

/// Lays `source`, as read-only as its mount is, over what lies at `target`. A link in the way is not followed:
/// `target` may belong to a user, who is not to choose what else is covered.
pub(super) fn lay(source: &Path, target: &Path) -> Result<(), Error> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = openat2(CWD, target, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve);
    let place = |opened: &OwnedFd| format!("/proc/self/fd/{}", opened.as_raw_fd());
    opened
        .and_then(|opened| mount_bind_recursive(source, place(&opened)))
        .map_err(failed("lay a file over", target))
}

/// Lays `source` over `target`, with what is mounted below it.
fn bind_writable(source: &Path, target: &Path) -> Result<(), Error> {
    mount_bind_recursive(source, target).map_err(failed("lay a file over", target))
}

/// Makes the mount that `point` names read-only, in this namespace alone.
pub(super) fn make_read_only(point: &Path) -> Result<(), Error> {
    mount_remount(point, inert() | MountFlags::BIND | MountFlags::RDONLY, c"")
        .map_err(failed("make read-only", point))
}

fn cover(path: &Path) -> Result<(), Error> {
    mount("tidegate", path, "tmpfs", inert(), Some(c"mode=0755")).map_err(failed("hide", path))
}

fn inert() -> MountFlags {
    MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC
}

fn visible(filesystem: &str) -> Result<Vec<Mount>, Error> {
    let mounts = mountinfo::own().map_err(Error::Mounts)?;
    Ok(mounts.into_iter().filter(|mount| mount.filesystem == filesystem && mount.is_visible()).collect())
}

/// Where else the directory `path`, or a part of it, is mounted: /run bound into a chroot, say.
fn aliases(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let mounts = mountinfo::own().map_err(Error::Mounts)?;
    let id = mountinfo::id_at(path).map_err(Error::Mounts)?;
    let candidates = aliases_among(&mounts, id, path);
    Ok(candidates
        .into_iter()
        .filter(|mount| mount.0.is_visible() && mount.1.is_dir())
        .map(|mount| mount.1)
        .collect())
}

fn aliases_among<'a>(mounts: &'a [Mount], id: u64, path: &Path) -> Vec<(&'a Mount, PathBuf)> {
    let Some(home) = mounts.iter().find(|mount| mount.id == id) else { return Vec::new() };
    let Ok(below) = path.strip_prefix(&home.point) else { return Vec::new() };
    let inner = home.root.join(below);
    let others = mounts.iter().filter(|mount| mount.id != id && mount.device == home.device);
    others
        .filter_map(|mount| match inner.strip_prefix(&mount.root) {
            Ok(below) => Some((mount, mount.point.join(below))),
            Err(_) if mount.root.starts_with(&inner) => Some((mount, mount.point.clone())),
            Err(_) => None,
        })
        .collect()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(Errno) -> Error {
    let path = path.to_owned();
    move |errno| Error::Mount { action, path, source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_found_wherever_its_filesystem_is_mounted() {
        let mount = |id, device: &str, root: &str, point: &str| Mount {
            id,
            device: device.into(),
            root: root.into(),
            point: point.into(),
            filesystem: "tmpfs".into(),
            is_shared: false,
        };
        let mounts = [
            mount(1, "8:1", "/", "/"),
            mount(2, "0:9", "/", "/run"),
            mount(3, "0:9", "/", "/chroot/run"),
            mount(4, "0:9", "/tidegate/runs", "/mnt/runs"),
            mount(5, "0:9", "/lock", "/run/lock"),
            mount(6, "0:10", "/", "/tmp"),
        ];
        let found = aliases_among(&mounts, 2, Path::new("/run/tidegate"));
        let paths: Vec<_> = found.iter().map(|(_, path)| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/chroot/run/tidegate", "/mnt/runs"]);
    }
}
