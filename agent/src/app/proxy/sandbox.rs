//! What the process that serves gives away before it reads anything: its user, its capabilities, and every way back.

use crate::run::descriptors;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::{
    io::Errno,
    process::{DumpableBehavior, geteuid, set_dumpable_behavior},
    thread::{CapabilitySet, remove_capability_from_bounding_set, set_no_new_privs},
};
use std::{io, path::Path};

/// Who serves connections where the service manager has not said: a user and group that nobody else is, in no range from
/// which systems give theirs.
const NOBODY_ELSE: u32 = 65_431;

/// Gives all of it away. To be called while there is one thread.
///
/// # Errors
/// With what could not be given away.
pub(super) fn enter() -> io::Result<()> {
    descriptors::close_all()?;
    set_no_new_privs(true)?;
    if geteuid().is_root() {
        for capability in CapabilitySet::all().iter() {
            match remove_capability_from_bounding_set(capability) {
                // One that this kernel does not have; or without the right to do that, which in a container is usual,
                // and without new privileges means nothing.
                Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let (user, group) = (Uid::from_raw(NOBODY_ELSE), Gid::from_raw(NOBODY_ELSE));
        setgroups(&[])?;
        setresgid(group, group, group)?;
        // With the last root id the capabilities go, too.
        setresuid(user, user, user)?;
    }
    // What passes through is in its memory. Also, whoever has the same user cannot trace it then.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::chdir(Path::new("/"))?;
    Ok(())
}
