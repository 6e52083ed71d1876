//! Keeps the command's hands off the processes outside.
//!
//! A root command without `CAP_SYS_PTRACE` may still look into any process whose user it can become, and through
//! `/proc/PID/root` into the host's own mounts: there, cgroupfs is writable and the pins can be removed. A Landlock
//! domain ends that, since nothing in it may trace anything outside it.

use landlock::{
    AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, Scope,
};

/// Whether the command is held apart from the processes outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isolation {
    /// It can neither trace them nor, from Linux 6.12 on, send them signals.
    Apart,
    /// The kernel has no Landlock, or one that would forbid moving files.
    None,
}

/// Enters a domain of the process's own, for good; needs `CAP_SYS_ADMIN`, since `no_new_privs` would break sudo.
///
/// # Errors
/// The kernel has the feature and refuses.
pub(super) fn enter() -> Result<Isolation, RulesetError> {
    // What the kernel lacks shows as an error when the rules are made; only the last step may not fail.
    let Some(domain) = scoped().or_else(|_| mounts_forbidden()).ok() else { return Ok(Isolation::None) };
    domain.no_new_privs(false).restrict_self()?;
    Ok(Isolation::Apart)
}

/// Forbids nothing but signals to processes outside (Linux 6.12).
fn scoped() -> Result<RulesetCreated, RulesetError> {
    strict().scope(Scope::Signal)?.create()
}

/// Forbids nothing but mounts, which come with every rule on files (Linux 5.19). Before that, there is no such
/// rule without a ban on moving files between directories.
fn mounts_forbidden() -> Result<RulesetCreated, RulesetError> {
    let Ok(root) = PathFd::new("/") else { return strict().create() };
    strict().handle_access(AccessFs::Refer)?.create()?.add_rule(PathBeneath::new(root, AccessFs::Refer))
}

fn strict() -> Ruleset {
    Ruleset::default().set_compatibility(CompatLevel::HardRequirement)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_with_the_newer_feature_has_the_older_too() {
        assert!(scoped().is_err() || mounts_forbidden().is_ok());
    }
}
