//! cgroup2: where a command's cgroup would be made, and whether it can be.

use super::{Check, kernel::Version, read, told};
use crate::run::cgroup::{self, Cgroup};
use std::{path::Path, time::Duration};

/// How long the removal of an empty cgroup may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Before this one, a socket with a class or priority of cgroup v1 counted as one of the root cgroup.
const INDEPENDENT_OF_V1: Version = Version(5, 15);

pub(super) fn examine(configured: Option<&Path>) -> Vec<Check> {
    let mounts = read("/proc/self/mountinfo").unwrap_or_default();
    let layout = layout(&hierarchies(&mounts), Version::running());
    let parent = match cgroup::parent(configured) {
        Ok(parent) => parent,
        Err(error) => return vec![layout, parent_missing(&error)],
    };
    let seen = format!("commands get one below {}", parent.display());
    let attempt = Cgroup::at(parent.join(format!("tidegate-doctor-{}", std::process::id())));
    vec![
        layout,
        Check::ok("cgroup", seen),
        creation(attempt.create().and_then(|()| attempt.remove(PATIENCE))),
    ]
}

/// The cgroup hierarchies of version 1 that are mounted, by their controllers, and whether there is a version 2.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchies<'a> {
    has_v2: bool,
    v1: Vec<&'a str>,
}

/// Of each line of mountinfo, the type and the superblock's options stand behind ` - `.
fn hierarchies(mountinfo: &str) -> Hierarchies<'_> {
    let mut found = Hierarchies { has_v2: false, v1: Vec::new() };
    for line in mountinfo.lines() {
        let Some((_, filesystem)) = line.split_once(" - ") else { continue };
        let mut fields = filesystem.split(' ');
        match (fields.next(), fields.nth(1)) {
            (Some("cgroup2"), _) => found.has_v2 = true,
            (Some("cgroup"), Some(options)) => {
                found.v1.extend(options.split(',').filter(|word| *word != "rw"))
            }
            _ => {}
        }
    }
    found
}

fn layout(hierarchies: &Hierarchies<'_>, kernel: Option<Version>) -> Check {
    const NAME: &str = "cgroup_layout";
    let classifies = hierarchies.v1.iter().any(|controller| matches!(*controller, "net_cls" | "net_prio"));
    match hierarchies {
        Hierarchies { has_v2: false, .. } => Check::failed(
            NAME,
            "no cgroup2 is mounted",
            "mount one (`mount -t cgroup2 cgroup2 DIRECTORY`), or boot with systemd.unified_cgroup_hierarchy=1",
        ),
        _ if classifies && kernel.is_some_and(|kernel| kernel < INDEPENDENT_OF_V1) => Check::failed(
            NAME,
            "cgroup v1 has net_cls or net_prio, and this kernel then forgets which cgroup2 a socket is in",
            "unmount them, boot with cgroup_no_v1=net_cls,net_prio, or boot Linux 5.15 or later",
        ),
        Hierarchies { v1, .. } if v1.is_empty() => Check::ok(NAME, "unified: cgroup2 alone"),
        Hierarchies { v1, .. } => {
            Check::ok(NAME, format!("hybrid: cgroup2 beside version 1 ({})", v1.join(", ")))
        }
    }
}

fn parent_missing(error: &cgroup::Error) -> Check {
    let advice = match error {
        cgroup::Error::Container { .. } => {
            "run tidegate on the machine, or give the container the machine's cgroups (`--cgroupns=host`)"
        }
        cgroup::Error::NotMounted => "mount a cgroup2",
        cgroup::Error::NotCgroup2 { .. } => "correct capture.cgroup_root in the configuration",
        cgroup::Error::OutOfSight { .. } => "set capture.cgroup_root in the configuration",
        cgroup::Error::Io { .. } | cgroup::Error::StillPopulated { .. } => {
            "make the directory readable for root"
        }
    };
    Check::failed("cgroup", told(error), advice)
}

fn creation(result: Result<(), cgroup::Error>) -> Check {
    const NAME: &str = "cgroup_creation";
    match result {
        Ok(()) => Check::ok(NAME, "made and removed one"),
        Err(error) => Check::failed(
            NAME,
            told(&error),
            "run as root with cgroup2 mounted writable; a container needs `--privileged`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::Status::{self, Failed, Ok},
        *,
    };
    use test_case::test_case;

    const UNIFIED: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot";
    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
    const LEGACY: &str = "32 31 0:29 / /sys/fs/cgroup/net rw - cgroup cgroup rw,net_cls,net_prio";
    const CLASSIFYING: &str = "\
32 31 0:29 / /sys/fs/cgroup/net rw - cgroup cgroup rw,net_cls,net_prio
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test_case("", false, &[]; "nothing")]
    #[test_case("9 1 0:5 / /cgroup2 rw - tmpfs cgroup2 rw", false, &[]; "names mean nothing")]
    #[test_case("9 1 0:5 / /a rw - cgroup2", true, &[]; "line cut short")]
    #[test_case(UNIFIED, true, &[]; "unified")]
    #[test_case(HYBRID, true, &["cpu", "cpuacct", "name=systemd"]; "hybrid")]
    #[test_case(LEGACY, false, &["net_cls", "net_prio"]; "version 1")]
    fn hierarchies_are_found_in_mountinfo(mountinfo: &str, has_v2: bool, v1: &[&str]) {
        assert_eq!(hierarchies(mountinfo), Hierarchies { has_v2, v1: v1.to_vec() });
    }

    #[test_case(UNIFIED, Some(Version(5, 14)), Ok, "unified: cgroup2 alone"; "unified")]
    #[test_case(HYBRID, Some(Version(5, 14)), Ok, "hybrid: cgroup2 beside version 1 (cpu, cpuacct, name=systemd)"; "hybrid")]
    #[test_case(LEGACY, Some(Version(6, 1)), Failed, "no cgroup2 is mounted"; "version 1")]
    #[test_case(CLASSIFYING, Some(Version(5, 15)), Ok, "hybrid: cgroup2 beside version 1 (net_cls, net_prio)"; "classes on a kernel that keeps them apart")]
    #[test_case(CLASSIFYING, Some(Version(5, 14)), Failed, "cgroup v1 has net_cls or net_prio, and this kernel then forgets which cgroup2 a socket is in"; "classes on a kernel that mixes them")]
    fn the_layout_is_judged(mountinfo: &str, kernel: Option<Version>, status: Status, seen: &str) {
        let check = layout(&hierarchies(mountinfo), kernel);
        assert_eq!((check.status, check.seen.as_str()), (status, seen));
    }

    #[test]
    fn a_containers_root_fails_with_a_way_out() {
        let check = parent_missing(&cgroup::Error::Container { path: "/sys/fs/cgroup".into() });
        assert_eq!(check.status, Failed);
        assert!(check.advice.unwrap().contains("--cgroupns=host"));
    }

    #[test]
    fn a_refused_creation_tells_what_the_kernel_said() {
        let source = std::io::Error::from_raw_os_error(30);
        let error = cgroup::Error::Io { action: "make cgroup", path: "/c/x".into(), source };
        let check = creation(Err(error));
        assert_eq!(check.status, Failed);
        assert_eq!(check.seen, "cannot make cgroup `/c/x`: Read-only file system (os error 30)");
    }
}
