//! What this process may do: user, capabilities, namespaces.

use super::{Check, field, read};
use crate::{config::RUN_DIR, control};
use std::{fs, path::Path};

/// Nothing works without these. Since tidegate is root, its files need none.
const NEEDED: [(u32, &str); 3] = [
    (21, "CAP_SYS_ADMIN"),        // mounts, namespaces and BPF
    (12, "CAP_NET_ADMIN"),        // programs on sockets
    (10, "CAP_NET_BIND_SERVICE"), // listeners below port 1024
];

/// Where no daemon is there to be asked, `tidegate run` limits the command's capabilities, which takes this one.
const FOR_RUN: (u32, &str) = (8, "CAP_SETPCAP");

/// Without these, a part of it does not work.
const USED: [(u32, &str, &str); 4] = [
    (6, "CAP_SETGID", "`run --user` fails"),
    (7, "CAP_SETUID", "`run --user` fails"),
    (19, "CAP_SYS_PTRACE", "records cannot name the programs of other users' processes"),
    (18, "CAP_SYS_CHROOT", "the stores that images of containers bring with them do not get the local CA"),
];

/// The numbers that the kernel gives the machine's own namespaces, from its include/linux/proc_ns.h.
const INITIAL_USER: &str = "user:[4026531837]";
const INITIAL_PID: &str = "pid:[4026531836]";

pub(super) fn examine() -> Vec<Check> {
    let status = read("/proc/self/status").unwrap_or_default();
    let namespace = |name| {
        let link = fs::read_link(format!("/proc/self/ns/{name}")).ok();
        link.map(|link| link.to_string_lossy().into_owned())
    };
    vec![
        root(rustix::process::geteuid().as_raw()),
        capabilities(&status, Path::new(RUN_DIR).join(control::FILE_NAME).exists()),
        user_namespace(namespace("user").as_deref()),
        pid_namespace(namespace("pid").as_deref()),
    ]
}

fn root(user: u32) -> Check {
    match user {
        0 => Check::ok("root", "user id 0"),
        other => Check::failed(
            "root",
            format!("user id {other}"),
            "run tidegate as root, with sudo for instance; the command can run as another user by `--user`",
        ),
    }
}

fn capabilities(status: &str, has_daemon: bool) -> Check {
    const NAME: &str = "capabilities";
    let Some(held) = field(status, "CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok()) else {
        return Check::failed(NAME, "/proc/self/status does not tell", "mount procfs at /proc");
    };
    let is_missing = |number: u32| held & (1 << number) == 0;
    let needed: Vec<&str> =
        NEEDED.iter().filter(|(number, _)| is_missing(*number)).map(|(_, name)| *name).collect();
    if !needed.is_empty() {
        let names = needed.join(", ");
        let advice = format!(
            "run tidegate as root with {names}: `--privileged` or `--cap-add` for a container, \
             CapabilityBoundingSet= for a unit"
        );
        return Check::failed(NAME, format!("without {names}"), advice);
    }
    let (number, name) = FOR_RUN;
    if is_missing(number) && !has_daemon {
        let loss = format!("without {name}: `tidegate run` fails where no daemon is at work");
        return Check::warning(NAME, loss, format!("add {name}, unless it is for `tidegate daemon` alone"));
    }
    match USED.iter().find(|(number, ..)| is_missing(*number)) {
        Some((_, name, loss)) => {
            Check::warning(NAME, format!("without {name}: {loss}"), format!("add {name}"))
        }
        None if is_missing(number) => Check::ok(NAME, format!("all that the daemon needs, without {name}")),
        None => Check::ok(NAME, "all that are needed"),
    }
}

fn user_namespace(link: Option<&str>) -> Check {
    const NAME: &str = "user_namespace";
    match link {
        Some(INITIAL_USER) => Check::ok(NAME, "the machine's"),
        Some(other) => Check::failed(
            NAME,
            format!("{other}, not the machine's: the kernel lets nobody in it load programs for cgroups"),
            "run tidegate outside of rootless containers and user namespaces",
        ),
        None => Check::ok(NAME, "this kernel has none"),
    }
}

fn pid_namespace(link: Option<&str>) -> Check {
    const NAME: &str = "pid_namespace";
    match link {
        Some(INITIAL_PID) => Check::ok(NAME, "the machine's"),
        Some(other) => Check::warning(
            NAME,
            format!("{other}, not the machine's: the kernel reports process ids that mean nothing in it"),
            "share the machine's processes (`--pid=host`), so that records name the right programs",
        ),
        None => Check::ok(NAME, "this kernel has none"),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::Status::{self, Failed, Ok, Warning},
        *,
    };
    use test_case::test_case;

    const STATUS: &str =
        "Name:\tcat\nUid:\t0\t0\t0\t0\nCapInh:\t0000000000000000\nCapPrm:\t000001ffffffffff\n";

    #[test_case("000001ffffffffff", Ok, "all that are needed"; "everything")]
    #[test_case("000001fffeffffff", Ok, "all that are needed"; "without CAP_SYS_RESOURCE")]
    #[test_case("0000000000000000", Failed, "without CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_NET_BIND_SERVICE"; "nothing")]
    #[test_case("00000000a80425fb", Failed, "without CAP_SYS_ADMIN, CAP_NET_ADMIN"; "a container")]
    #[test_case("000001ffffdfffff", Failed, "without CAP_SYS_ADMIN"; "all but one")]
    #[test_case("000000c0002015c0", Warning, "without CAP_SYS_PTRACE: records cannot name the programs of other users' processes"; "without CAP_SYS_PTRACE")]
    #[test_case("000001ffffffff7f", Warning, "without CAP_SETUID: `run --user` fails"; "without CAP_SETUID")]
    #[test_case("000001fffffbffff", Warning, "without CAP_SYS_CHROOT: the stores that images of containers bring with them do not get the local CA"; "without CAP_SYS_CHROOT")]
    #[test_case("x", Failed, "/proc/self/status does not tell"; "no number")]
    fn the_effective_capabilities_count(hex: &str, status: Status, seen: &str) {
        let check = capabilities(&format!("{STATUS}CapEff:\t{hex}\nCapBnd:\t000001ffffffffff\n"), false);
        assert_eq!((check.status, check.seen.as_str()), (status, seen));
        assert_eq!(check.advice.is_none(), status == Ok);
    }

    #[test_case(false, Warning, "without CAP_SETPCAP: `tidegate run` fails where no daemon is at work"; "alone")]
    #[test_case(true, Ok, "all that the daemon needs, without CAP_SETPCAP"; "beside a daemon")]
    fn what_only_a_command_without_a_daemon_takes_is_no_fault(has_daemon: bool, status: Status, seen: &str) {
        // Those of the DaemonSet's container.
        let check = capabilities(&format!("{STATUS}CapEff:\t00000000012c14c5\n"), has_daemon);
        assert_eq!((check.status, check.seen.as_str()), (status, seen));
    }

    #[test_case(""; "no file")]
    #[test_case("CapPrm:\t000001ffffffffff\nCapEffective:\t000001ffffffffff"; "other fields")]
    fn capabilities_that_are_not_told_are_not_held(text: &str) {
        assert_eq!(capabilities(text, true).status, Failed);
    }

    #[test_case(0, Ok; "root")]
    #[test_case(65534, Failed; "nobody")]
    fn only_root_will_do(user: u32, expected: Status) {
        assert_eq!(root(user).status, expected);
    }

    #[test_case("4026531837", Ok; "initial")]
    #[test_case("4026532512", Failed; "another")]
    fn programs_need_the_machines_user_namespace(number: &str, expected: Status) {
        assert_eq!(user_namespace(Some(&format!("user:[{number}]"))).status, expected);
    }

    #[test_case("4026531836", Ok; "initial")]
    #[test_case("4026532512", Warning; "another")]
    fn another_pid_namespace_blurs_the_records(number: &str, expected: Status) {
        assert_eq!(pid_namespace(Some(&format!("pid:[{number}]"))).status, expected);
    }
}
