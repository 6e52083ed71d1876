//! What the daemon enforces beyond the hooks at the cgroup root, each by what it takes.

use super::{Check, read, told};
use crate::{
    capture::{connections, layout::Layout, pins},
    config,
};
use rustix::{
    fs::{FsWord, statfs},
    io::Errno,
};
use std::{io, path::Path};

/// What statfs tells of a bpffs.
const BPF_FS_MAGIC: FsWord = 0xcafe_4a11;

/// The list of security modules in force.
const LSM_LIST: &str = "/sys/kernel/security/lsm";

pub(super) fn examine(config: &config::Capture) -> Vec<Check> {
    vec![
        sticky_tags(config.sticky_tags, Layout::of_kernel().err().map(|error| told(&error))),
        packet_sockets(read(LSM_LIST).as_deref()),
        earlier_connections(connections::can_end()),
        pins(is_bpffs(Path::new(pins::BPFFS))),
    ]
}

/// A process that was a subject stays one when it moves to another cgroup or becomes another user.
fn sticky_tags(are_wanted: bool, problem: Option<String>) -> Check {
    const NAME: &str = "sticky_tags";
    match (are_wanted, problem) {
        (true, None) => Check::ok(
            NAME,
            "the kernel's structures are known: a subject stays one wherever it moves, if the task_ programs load",
        ),
        (true, Some(problem)) => Check::warning(
            NAME,
            format!("{problem}: the daemon does not start with them"),
            "boot a kernel with CONFIG_DEBUG_INFO_BTF, or set capture.sticky_tags = false and keep workloads from \
             moving to other cgroups",
        ),
        (false, _) => Check::warning(
            NAME,
            "switched off: root in a workload leaves it by moving to another cgroup",
            "remove capture.sticky_tags = false from the configuration",
        ),
    }
}

/// Packet sockets are made and used past every hook at a cgroup.
fn packet_sockets(list: Option<&str>) -> Check {
    const NAME: &str = "packet_sockets";
    let without = |seen: &str| {
        Check::warning(
            NAME,
            format!("{seen}: a subject with CAP_NET_RAW can send packets that no hook sees"),
            "add `bpf` to the list of the boot option lsm=, or take CAP_NET_RAW from workloads \
             (CapabilityBoundingSet=~CAP_NET_RAW in a unit, `--cap-drop NET_RAW` for a container)",
        )
    };
    match list {
        Some(list) if list.split(',').any(|module| module.trim() == "bpf") => {
            Check::ok(NAME, "BPF LSM is in force: no subject gets one")
        }
        Some(list) => without(&format!("no `bpf` among the security modules in force ({list})")),
        None => without(&format!("no {LSM_LIST}, so it is not known whether BPF LSM is in force")),
    }
}

/// What a workload had open when it became a subject is ended.
fn earlier_connections(result: io::Result<()>) -> Check {
    const NAME: &str = "earlier_connections";
    let Err(error) = result else {
        return Check::ok(NAME, "the kernel ends what a subject had open before");
    };
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let (seen, advice) = match errno {
        Some(Errno::OPNOTSUPP) => (
            "the kernel cannot end connections, so those from before hang until they time out".to_owned(),
            "boot a kernel with CONFIG_INET_DIAG_DESTROY, or restart workloads after the daemon's first start",
        ),
        Some(Errno::NOENT) => (
            "the kernel does not list connections, so those from before hang until they time out".to_owned(),
            "load the modules tcp_diag and udp_diag",
        ),
        Some(Errno::PERM | Errno::ACCESS) => {
            (format!("not allowed to end connections: {error}"), "run as root with CAP_NET_ADMIN")
        }
        _ => (format!("cannot end connections: {error}"), "report this line and the kernel's release"),
    };
    Check::warning(NAME, seen, advice)
}

fn is_bpffs(path: &Path) -> io::Result<bool> {
    Ok(statfs(path)?.f_type == BPF_FS_MAGIC)
}

/// Where the daemon's programs and lists outlive it.
fn pins(result: io::Result<bool>) -> Check {
    const NAME: &str = "pins";
    let at = pins::BPFFS;
    let advice = format!("mount one: `mount -t bpf bpf {at}`, which systemd does by itself");
    match result {
        Ok(true) => Check::ok(NAME, format!("a bpffs is mounted at {at}: the gate outlives the daemon")),
        Ok(false) => Check::warning(NAME, format!("no bpffs at {at}: the daemon does not start"), advice),
        Err(error) => Check::warning(NAME, format!("no bpffs at {at}: {error}"), advice),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::Status::{self, Ok, Warning},
        *,
    };
    use test_case::test_case;

    #[test_case(true, None, Ok, "stays one"; "had")]
    #[test_case(true, Some("cannot read it".into()), Warning, "cannot read it: the daemon does not start"; "not to be had")]
    #[test_case(false, None, Warning, "switched off"; "not wanted")]
    fn sticky_tags_are_judged(are_wanted: bool, problem: Option<String>, status: Status, seen: &str) {
        let check = sticky_tags(are_wanted, problem);
        assert!(check.status == status && check.seen.contains(seen), "{check:?}");
    }

    #[test_case(Some("lockdown,capability,landlock,yama,bpf"), Ok; "in force")]
    #[test_case(Some("lockdown,capability,landlock,yama"), Warning; "not in force")]
    #[test_case(Some("capability,bpfilter"), Warning; "a longer name")]
    #[test_case(Some(""), Warning; "none")]
    #[test_case(None, Warning; "unknown")]
    fn packet_sockets_need_bpf_in_the_list(list: Option<&str>, expected: Status) {
        assert_eq!(packet_sockets(list).status, expected);
    }

    #[test_case(95, "cannot end connections"; "no support")]
    #[test_case(2, "does not list connections"; "no list")]
    #[test_case(1, "not allowed"; "no capability")]
    #[test_case(12, "Cannot allocate memory"; "something else")]
    fn connections_that_cannot_be_ended_are_told(errno: i32, seen: &str) {
        let check = earlier_connections(Err(io::Error::from_raw_os_error(errno)));
        assert!(check.status == Warning && check.seen.contains(seen), "{check:?}");
        assert_eq!(earlier_connections(Result::Ok(())).status, Ok);
    }

    #[test]
    fn a_directory_that_is_no_bpffs_is_told() {
        assert!(!is_bpffs(Path::new("/proc")).unwrap());
        assert_eq!(pins(Result::Ok(true)).status, Ok);
        assert_eq!(pins(Result::Ok(false)).status, Warning);
        assert_eq!(pins(is_bpffs(Path::new("/nowhere"))).status, Warning);
    }
}
