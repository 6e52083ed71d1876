//! What a daemon does first that runs as a pod: it leaves the container's cgroup namespace.

use super::Error;
use rustix::{
    fs::{Mode, OFlags, open},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{fs, os::fd::AsFd};

const OWN: &str = "/proc/thread-self/ns/cgroup";
/// Of the machine's first process, where the container shares its process ids; the container's own otherwise.
const FIRST: &str = "/proc/1/ns/cgroup";

/// Moves the calling thread, and those that it starts, into the cgroup namespace of the machine's first process: in a
/// container's own all cgroups beside it have no names. Does nothing where it is in that one.
///
/// # Errors
/// When the kernel does not let it.
pub fn enter_first_cgroup_namespace() -> Result<(), Error> {
    enter(FIRST)
}

fn enter(path: &str) -> Result<(), Error> {
    let system = |source| Error::System { action: "enter the machine's cgroup namespace", source };
    // Where it may not even be looked at, the daemon says later what it cannot find.
    let (Ok(own), Ok(first)) = (fs::read_link(OWN), fs::read_link(path)) else { return Ok(()) };
    if own == first {
        return Ok(());
    }
    let namespace = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let namespace = namespace.map_err(|errno| system(errno.into()))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::ControlGroup))
        .map_err(|errno| system(errno.into()))?;
    tracing::info!("left the container's cgroup namespace");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::{CloneFlags, unshare};
    use std::thread;

    /// Root only, as are all that make namespaces.
    #[test]
    fn a_thread_leaves_the_containers_cgroup_namespace() {
        // The process as a whole stays where it is.
        let first = "/proc/self/ns/cgroup";
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWCGROUP).unwrap();
            assert_ne!(fs::read_link(OWN).unwrap(), fs::read_link(first).unwrap());
            enter(first).unwrap();
            assert_eq!(fs::read_link(OWN).unwrap(), fs::read_link(first).unwrap());
            enter(first).unwrap();
        })
        .join()
        .unwrap();
    }

    #[test]
    fn what_may_not_be_looked_at_is_left_alone() {
        let own = fs::read_link(OWN).unwrap();
        enter("/proc/self/ns/none").unwrap();
        assert_eq!(fs::read_link(OWN).unwrap(), own);
    }
}
