//! The kernel side: a bpffs for its pins, its maps, and each of its programs, loaded and let go.

use super::{Check, Status, told};
use crate::capture::{
    self,
    program::{self, Answer, Need, Size},
};
use aya::programs::ProgramError;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use std::{error::Error as _, io};

const MAPS: &str = "bpf_maps";

const PRIVILEGES: &str = "run as root with CAP_SYS_ADMIN and CAP_NET_ADMIN";
const NEWER_KERNEL: &str =
    "boot Linux 5.14 or later; if it is that, report this line and the kernel's release";

/// What each program is for, in the words of somebody who asks what is enforced.
const PURPOSES: [(&str, &str); 16] = [
    ("task_free", "processes that end are forgotten"),
    ("task_fork", "children of subjects are subjects"),
    ("task_exec", "programs are told apart by their files"),
    ("task_attach", "subjects stay subjects in other cgroups"),
    ("release", "closed connections are forgotten"),
    ("join", "connections are known by who made them"),
    ("getpeername4", "programs see the IPv4 address that they asked for"),
    ("getpeername6", "programs see the IPv6 address that they asked for"),
    ("create", "no raw and no MPTCP sockets"),
    ("bind4", "nobody takes the listener's port over IPv4"),
    ("bind6", "nobody takes the listener's port over IPv6"),
    ("egress", "packets past the proxy are dropped"),
    ("sendmsg4", "no QUIC over IPv4"),
    ("sendmsg6", "no QUIC over IPv6"),
    ("connect4", "IPv4 connections are redirected"),
    ("connect6", "IPv6 connections are redirected"),
];

pub(super) fn examine() -> Vec<Check> {
    let mut checks = vec![bpffs(mount_bpffs())];
    checks.extend(programs(program::probe(capture::DEFAULT_FLOWS)));
    checks
}

/// Mounts a bpffs that has no place in the tree and ends with its descriptor. `run` mounts one of its own too,
/// so that none needs to be at `/sys/fs/bpf`.
fn mount_bpffs() -> io::Result<()> {
    let filesystem = fsopen("bpf", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&filesystem)?;
    fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    Ok(())
}

fn bpffs(result: io::Result<()>) -> Check {
    const NAME: &str = "bpffs";
    match result {
        Ok(()) => Check::ok(NAME, "mounted one and let it go"),
        Err(error) => {
            let is_forbidden = error.kind() == io::ErrorKind::PermissionDenied;
            let advice = if is_forbidden {
                "run as root with CAP_SYS_ADMIN"
            } else {
                "boot a kernel with CONFIG_BPF_SYSCALL"
            };
            Check::failed(NAME, format!("cannot mount one: {}", told(&error)), advice)
        }
    }
}

fn programs(answers: Result<Vec<Answer>, capture::Error>) -> Vec<Check> {
    let name = |program: &str| format!("program_{program}");
    match answers {
        Ok(answers) => {
            let maps = Check::ok(MAPS, "hash tables and ring buffers made");
            let programs = answers.into_iter().map(|(program, answer)| match answer {
                Ok(size) => Check::ok(name(program), format!("{}: {}", purpose(program), loads(size))),
                Err(error) => without(program, failed(name(program), &error)),
            });
            std::iter::once(maps).chain(programs).collect()
        }
        Err(error) => {
            let advice = "run as root with CAP_SYS_ADMIN on Linux 5.14 or later with CONFIG_BPF_SYSCALL";
            let maps = Check::failed(MAPS, refused_maps(&error), advice);
            // Every name is there in any case, for those who look for one.
            let programs = program::HOOKS.iter().map(|hook| {
                Check::failed(name(hook.name), "not tried without maps", format!("see `{MAPS}`"))
            });
            std::iter::once(maps).chain(programs).collect()
        }
    }
}

fn purpose(program: &str) -> &'static str {
    PURPOSES.iter().find(|(name, _)| *name == program).map_or("", |(_, purpose)| purpose)
}

/// What is not enforced then; of sticky tags alone, all else still is.
fn without(program: &str, failed: Check) -> Check {
    let is_sticky = program::HOOKS.iter().any(|hook| hook.name == program && hook.need == Need::StickyTags);
    let seen = format!("not so that {}: {}", purpose(program), failed.seen);
    if !is_sticky {
        return Check { seen, ..failed };
    }
    let advice = failed.advice.map(|advice| format!("{advice}; or set capture.sticky_tags = false"));
    Check { seen, status: Status::Warning, advice, ..failed }
}

fn loads(size: Size) -> String {
    let verified = size.verified_instructions.map(|count| format!("{count} instructions verified"));
    let translated = size.translated_bytes.map(|bytes| format!("{bytes} bytes translated"));
    std::iter::once("loads".to_owned()).chain(verified).chain(translated).collect::<Vec<_>>().join(", ")
}

/// The message itself sends to the doctor; here its cause is what counts.
fn refused_maps(error: &capture::Error) -> String {
    match error.source() {
        Some(cause) => told(cause),
        None => told(error),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other errors come from aya, not from the kernel")]
fn failed(name: String, error: &ProgramError) -> Check {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            refused(name, io_error, &verifier_log.to_string())
        }
        other => Check::failed(name, told(other), NEWER_KERNEL),
    }
}

fn refused(name: String, error: &io::Error, log: &str) -> Check {
    let seen = match verdict(log) {
        Some(line) => format!("refused: {error}; the verifier: {line}"),
        None => format!("refused: {error}"),
    };
    // The verifier says EACCES too, but never without a log.
    let is_forbidden = error.kind() == io::ErrorKind::PermissionDenied && verdict(log).is_none();
    Check::failed(name, seen, if is_forbidden { PRIVILEGES } else { NEWER_KERNEL })
}

/// The line of a verifier's log that tells the reason: the first ones list instructions, the last ones count.
fn verdict(log: &str) -> Option<&str> {
    const COUNTS: [&str; 3] = ["processed ", "verification time ", "stack depth "];
    let lines = log.lines().map(str::trim).rev();
    lines.filter(|line| !line.is_empty()).find(|line| !COUNTS.iter().any(|count| line.starts_with(count)))
}

#[cfg(test)]
mod tests {
    use super::{
        super::Status::{Failed, Ok},
        *,
    };
    use std::collections::BTreeSet;
    use test_case::test_case;

    const LOG: &str = "\
func#0 @0
0: R1=ctx() R10=fp0
; fn connect4(ctx: SockAddrContext) -> i32 {
0: (b4) w0 = 1                        ; R0=1
1: (61) r2 = *(u32 *)(r1 +60)
invalid bpf_context access off=60 size=4
verification time 41 usec
stack depth 0
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0

";

    #[test_case(LOG, Some("invalid bpf_context access off=60 size=4"); "a whole log")]
    #[test_case("unknown func bpf_sk_storage_get#107\n", Some("unknown func bpf_sk_storage_get#107"); "one line")]
    #[test_case("", None; "empty")]
    #[test_case("processed 2 insns (limit 1000000)\n", None; "counts only")]
    fn the_verifiers_reason_is_found(log: &str, expected: Option<&str>) {
        assert_eq!(verdict(log), expected);
    }

    #[test_case(13, LOG, "refused: Permission denied (os error 13); the verifier: invalid bpf_context access off=60 size=4", NEWER_KERNEL; "by the verifier")]
    #[test_case(1, "", "refused: Operation not permitted (os error 1)", PRIVILEGES; "for want of privileges")]
    #[test_case(22, "", "refused: Invalid argument (os error 22)", NEWER_KERNEL; "for want of a feature")]
    fn a_refusal_is_told_with_its_reason(errno: i32, log: &str, seen: &str, advice: &str) {
        let check = refused("program_x".to_owned(), &io::Error::from_raw_os_error(errno), log);
        assert_eq!(
            (check.status, check.seen.as_str(), check.advice.as_deref()),
            (Failed, seen, Some(advice))
        );
    }

    #[test_case(Some(812), Some(6504), "loads, 812 instructions verified, 6504 bytes translated"; "all known")]
    #[test_case(None, Some(6504), "loads, 6504 bytes translated"; "before linux 5.16")]
    #[test_case(None, None, "loads"; "nothing known")]
    fn a_program_that_loads_is_told_with_its_size(
        verified_instructions: Option<u32>,
        translated_bytes: Option<u32>,
        seen: &str,
    ) {
        assert_eq!(loads(Size { verified_instructions, translated_bytes }), seen);
    }

    #[test]
    fn every_program_that_is_tried_has_a_purpose() {
        let tried = program::HOOKS.iter().filter(|hook| hook.kind != program::Kind::Lsm);
        let nameless: Vec<_> = tried.filter(|hook| purpose(hook.name).is_empty()).collect();
        assert!(nameless.is_empty(), "{nameless:?}");
    }

    #[test_case("connect4", Failed, "boot it"; "one that is needed")]
    #[test_case("task_exec", Status::Warning, "boot it; or set capture.sticky_tags = false"; "one of sticky tags")]
    fn what_is_not_enforced_is_told(program: &str, status: Status, advice: &str) {
        let check = without(program, Check::failed("program_x", "refused", "boot it"));
        assert!(check.seen.starts_with("not so that ") && check.seen.ends_with(": refused"), "{check:?}");
        assert_eq!((check.status, check.advice.as_deref()), (status, Some(advice)));
    }

    #[test]
    fn all_programs_are_named_whether_or_not_they_were_tried() {
        let size = Size { verified_instructions: Some(1), translated_bytes: None };
        let loaded: Vec<Answer> = program::HOOKS.iter().map(|hook| (hook.name, Result::Ok(size))).collect();
        let loaded = programs(Result::Ok(loaded));
        let untried = programs(Err(capture::Error::Missing { kind: "map", name: "FLOWS" }));
        let names = |checks: &[Check]| checks.iter().map(|check| check.name.clone()).collect::<BTreeSet<_>>();
        assert_eq!(names(&loaded), names(&untried));
        assert_eq!(loaded.len(), program::HOOKS.len() + 1);
        assert!(loaded.iter().all(|check| check.status == Ok));
        assert!(untried.iter().all(|check| check.status == Failed));
    }

    #[test]
    fn a_filesystem_that_is_refused_tells_why() {
        let check = bpffs(Err(io::Error::from_raw_os_error(1)));
        assert_eq!(check.seen, "cannot mount one: Operation not permitted (os error 1)");
        assert_eq!(check.advice.as_deref(), Some("run as root with CAP_SYS_ADMIN"));
        let check = bpffs(Err(io::Error::from_raw_os_error(19)));
        assert_eq!(check.advice.as_deref(), Some("boot a kernel with CONFIG_BPF_SYSCALL"));
    }
}
