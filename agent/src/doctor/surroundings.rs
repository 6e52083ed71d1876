//! What runs this system, and what runs beside a command: hints only, as whatever matters is tried elsewhere.

use super::{Check, field, read};
use std::path::Path;

/// gVisor's invented build date, the same in all of its releases.
const GVISOR: &str = "Sun Jan 10 15:06:54 PST 2016";

/// Files that containers have.
const CONTAINER_MARKS: [&str; 3] = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"];

/// Sockets of daemons that start processes for whoever may open them.
const LAUNCHERS: [&str; 7] = [
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/podman/podman.sock",
    "/run/libvirt/libvirt-sock",
    "/run/systemd/private",
    "/var/snap/lxd/common/lxd/unix.socket",
];

pub(super) fn examine() -> Vec<Check> {
    let existing = |paths: &[&'static str]| -> Vec<&'static str> {
        paths.iter().copied().filter(|path| Path::new(path).exists()).collect()
    };
    let status = read("/proc/self/status").unwrap_or_default();
    vec![
        system(&read("/proc/version").unwrap_or_default(), &existing(&CONTAINER_MARKS)),
        seccomp(&status),
        ptrace_scope(read("/proc/sys/kernel/yama/ptrace_scope").as_deref()),
        launchers(&existing(&LAUNCHERS)),
    ]
}

fn system(version: &str, container_marks: &[&str]) -> Check {
    const NAME: &str = "system";
    let lower = version.to_ascii_lowercase();
    if version.contains(GVISOR) {
        let advice = "run tidegate on the machine below gVisor";
        return Check::failed(NAME, "gVisor, which has no eBPF", advice);
    }
    if lower.contains("wsl2") {
        return Check::ok(NAME, "WSL 2: programs of Windows itself are out of reach");
    }
    if lower.contains("microsoft") {
        return Check::failed(NAME, "WSL 1, which has no eBPF", "convert the distribution to WSL 2");
    }
    match container_marks {
        [] => Check::ok(NAME, "Linux"),
        marks => Check::ok(NAME, format!("Linux, perhaps in a container ({})", marks.join(", "))),
    }
}

fn seccomp(status: &str) -> Check {
    const NAME: &str = "seccomp";
    match field(status, "Seccomp") {
        Some("0") => Check::ok(NAME, "no filter"),
        None => Check::ok(NAME, "this kernel has none"),
        Some(_) => Check::warning(
            NAME,
            "a filter is in force, which may refuse system calls without being asked here",
            "run tidegate without it (`--security-opt seccomp=unconfined` for a container)",
        ),
    }
}

fn ptrace_scope(setting: Option<&str>) -> Check {
    const NAME: &str = "ptrace_scope";
    match setting {
        Some(value) if value != "0" => Check::ok(NAME, format!("restricted ({value})")),
        _ => Check::warning(
            NAME,
            "a program can take over others of its user, also from within `run --user`",
            "set sysctl kernel.yama.ptrace_scope=1, or give commands a user of their own",
        ),
    }
}

fn launchers(sockets: &[&str]) -> Check {
    const NAME: &str = "launchers";
    if sockets.is_empty() {
        return Check::ok(NAME, "no daemon that starts processes for others");
    }
    Check::warning(
        NAME,
        format!("whoever may open {} can start processes that no policy holds", sockets.join(", ")),
        "give commands a user that may not, with `--user`",
    )
}

#[cfg(test)]
mod tests {
    use super::{
        super::Status::{self, Failed, Ok, Warning},
        *,
    };
    use test_case::test_case;

    #[test_case("Linux version 6.8.0-45-generic (buildd@lcy02) #45-Ubuntu SMP", &[], Ok, "Linux"; "plain")]
    #[test_case("Linux version 6.8.0", &["/.dockerenv"], Ok, "Linux, perhaps in a container (/.dockerenv)"; "container")]
    #[test_case("Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016", &["/.dockerenv"], Failed, "gVisor, which has no eBPF"; "gvisor")]
    #[test_case("Linux version 5.15.153.1-microsoft-standard-WSL2 (root@x)", &[], Ok, "WSL 2: programs of Windows itself are out of reach"; "wsl 2")]
    #[test_case("Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com)", &[], Failed, "WSL 1, which has no eBPF"; "wsl 1")]
    fn the_system_is_recognised(version: &str, marks: &[&str], status: Status, seen: &str) {
        let check = system(version, marks);
        assert_eq!((check.status, check.seen.as_str()), (status, seen));
    }

    #[test_case("Seccomp:\t0\nSeccomp_filters:\t0", Ok; "none")]
    #[test_case("Seccomp:\t2\nSeccomp_filters:\t1", Warning; "a filter")]
    #[test_case("Seccomp:\t1", Warning; "strict")]
    #[test_case("Seccomp_filters:\t1", Ok; "another field")]
    fn a_filter_is_warned_of(status: &str, expected: Status) {
        assert_eq!(seccomp(status).status, expected);
    }

    #[test_case(Some("0"), Warning; "off")]
    #[test_case(Some("1"), Ok; "descendants only")]
    #[test_case(None, Warning; "no yama")]
    fn taking_over_neighbours_is_warned_of(setting: Option<&str>, expected: Status) {
        assert_eq!(ptrace_scope(setting).status, expected);
    }

    #[test]
    fn each_launcher_is_named() {
        assert_eq!(launchers(&[]).status, Ok);
        let check = launchers(&["/run/docker.sock", "/run/systemd/private"]);
        assert_eq!(check.status, Warning);
        assert!(check.seen.contains("/run/docker.sock, /run/systemd/private"), "{}", check.seen);
    }
}
