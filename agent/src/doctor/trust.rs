//! Certificates: those that tidegate trusts, and a place to lay its own over the command's.

use super::{Check, told};
use crate::{
    config,
    forward::upstream::{self, RootsError},
};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind_recursive, mount_change, mount_remount};
use std::{io, path::Path, thread};

pub(super) fn examine(config: &config::Upstream) -> Vec<Check> {
    let roots = upstream::load_roots(config.ca_file.as_deref(), &[]).map(|roots| roots.len());
    vec![trust_store(roots), private_mounts(in_private(Path::new("/etc")))]
}

fn trust_store(roots: Result<usize, RootsError>) -> Check {
    const NAME: &str = "trust_store";
    match roots {
        Ok(count) => Check::ok(NAME, format!("{count} root certificates")),
        Err(error) => Check::failed(
            NAME,
            told(&error),
            "install the distribution's package `ca-certificates`, or correct upstream.ca_file",
        ),
    }
}

/// Lays a directory over itself, read-only, as `run` lays certificates over those of its command. The namespace
/// is the thread's alone and ends with it.
fn in_private(directory: &Path) -> Result<(), (&'static str, io::Error)> {
    fn failed<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> (&'static str, io::Error) {
        move |error| (step, error.into())
    }
    let attempt = || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP)
            .map_err(failed("make mount and cgroup namespaces"))?;
        mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
            .map_err(failed("separate from the machine's mounts"))?;
        mount_bind_recursive(directory, directory).map_err(failed("lay files over others"))?;
        mount_remount(directory, MountFlags::BIND | MountFlags::RDONLY, c"")
            .map_err(failed("make a mount read-only"))
    };
    thread::scope(|scope| match scope.spawn(attempt).join() {
        Ok(result) => result,
        Err(_) => Err(("make a thread", io::Error::other("it panicked"))),
    })
}

fn private_mounts(result: Result<(), (&'static str, io::Error)>) -> Check {
    const NAME: &str = "private_mounts";
    match result {
        Ok(()) => Check::ok(NAME, "commands can get certificates of their own"),
        Err((step, error)) => Check::failed(
            NAME,
            format!("cannot {step}: {}", told(&error)),
            "run as root with CAP_SYS_ADMIN, without a seccomp or AppArmor profile that refuses mounts",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::Status::{Failed, Ok},
        *,
    };

    #[test]
    fn a_machine_without_certificates_fails() {
        assert_eq!(trust_store(Result::Ok(140)).seen, "140 root certificates");
        let check = trust_store(Err(RootsError::None(None)));
        assert_eq!(check.status, Failed);
        assert!(check.advice.unwrap().contains("ca-certificates"));
    }

    #[test]
    fn the_step_that_was_refused_is_told() {
        assert_eq!(private_mounts(Result::Ok(())).status, Ok);
        let check = private_mounts(Err(("lay files over others", io::Error::from_raw_os_error(13))));
        assert_eq!(check.seen, "cannot lay files over others: Permission denied (os error 13)");
        assert_eq!(check.status, Failed);
    }
}
