//! Copies become mounts that belong to no namespace, and are put into a container's.

use nix::sched::{CloneFlags, unshare};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx},
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_bind,
        mount_change, mount_remount, move_mount, open_tree, unmount,
    },
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

/// Why a copy does not lie over its store.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot make a mount namespace for copies (CAP_SYS_ADMIN is needed)")]
    Unshare(#[source] io::Error),
    #[error("cannot make copies read-only in `{}`", path.display())]
    Copies { path: PathBuf, source: io::Error },
    #[error("cannot enter the container's mount namespace (CAP_SYS_ADMIN and CAP_SYS_CHROOT are needed)")]
    Enter(#[source] io::Error),
    #[error("cannot lay a copy over `{}`", path.display())]
    Lay { path: PathBuf, source: io::Error },
    #[error("`{}` is on a mount that the machine shares, and what is laid over it would appear there", .0.display())]
    Shared(PathBuf),
}

/// A copy, as a mount that nobody sees.
pub(super) struct Copy {
    mount: OwnedFd,
    id: u64,
}

/// Makes each file or directory of these, all of which lie in `directory`, a mount that cannot be written through, run from
/// or used as a device. The calling process, which must have one thread, leaves its mount namespace: nothing of this is
/// seen outside. (`mount_setattr` would do it for one mount, from Linux 5.12 on.)
pub(super) fn detach(directory: &Path, copies: &[PathBuf]) -> Result<Vec<Copy>, Error> {
    let failed =
        |errno: rustix::io::Errno| Error::Copies { path: directory.to_owned(), source: errno.into() };
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| Error::Unshare(errno.into()))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(failed)?;
    mount_bind(directory, directory).map_err(failed)?;
    let inert = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    mount_remount(directory, MountFlags::BIND | inert, c"").map_err(failed)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copies = copies.iter().map(|copy| {
        let mount = open_tree(CWD, copy, flags).map_err(failed)?;
        let id = mount_of(&mount).map_err(failed)?;
        Ok(Copy { mount, id })
    });
    let copies: Result<Vec<Copy>, Error> = copies.collect();
    // It ends with the namespace in any case.
    let _is_gone = unmount(directory, UnmountFlags::DETACH);
    copies
}

/// The mounts of a container.
pub(super) struct Inside {
    root: OwnedFd,
    /// On which nothing but the container sees what is mounted.
    private: BTreeSet<u64>,
}

impl Inside {
    /// Moves the calling process, which must have one thread, into a mount namespace, whose mounts these are.
    pub(super) fn enter(root: OwnedFd, namespace: &OwnedFd, private: BTreeSet<u64>) -> Result<Self, Error> {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
            .map_err(|errno| Error::Enter(errno.into()))?;
        Ok(Self { root, private })
    }

    /// Lays a copy over what has this path, in which no link is followed: a container's program may have changed it.
    pub(super) fn lay(&mut self, copy: &Copy, store: &Path) -> Result<(), Error> {
        let failed = |errno: rustix::io::Errno| Error::Lay { path: store.to_owned(), source: errno.into() };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let place = openat2(&self.root, store, flags, Mode::empty(), resolve).map_err(failed)?;
        let below = mount_of(&place).map_err(failed)?;
        // One that came to be meanwhile may be anything.
        if !self.private.contains(&below) {
            return Err(Error::Shared(store.to_owned()));
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&copy.mount, c"", &place, c"", flags).map_err(failed)?;
        self.private.insert(copy.id);
        Ok(())
    }
}

/// The id of the mount that something that is open lies on.
pub(super) fn mount_of(opened: &OwnedFd) -> rustix::io::Result<u64> {
    statx(opened, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map(|status| status.stx_mnt_id)
}
