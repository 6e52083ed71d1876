//! The kernel itself.

use super::{Check, read, told};
use crate::capture::netns;
use std::{fs, io, net::UdpSocket, path::Path};

/// Before this one, kernels lack hooks and helpers that no distribution ports back together.
const OLDEST: Version = Version(5, 10);
/// From here on, everything that this version of tidegate uses is there.
const SUFFICIENT: Version = Version(5, 14);

/// A kernel's version: major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32, pub(super) u32);

impl Version {
    /// Reads `6.8.0-45-generic`.
    fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|byte: char| !byte.is_ascii_digit());
        Some(Self(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }

    /// The running kernel's.
    pub(super) fn running() -> Option<Self> {
        Self::parse(&release())
    }
}

pub(super) fn examine() -> Vec<Check> {
    let cookie = UdpSocket::bind(("127.0.0.1", 0)).and_then(|socket| netns::cookie(&socket));
    vec![
        version(&release()),
        netns_cookie(cookie),
        btf(Path::new("/sys/kernel/btf/vmlinux").exists()),
        lockdown(fs::read_to_string("/sys/kernel/security/lockdown").ok().as_deref()),
        unprivileged_bpf(read("/proc/sys/kernel/unprivileged_bpf_disabled").as_deref()),
    ]
}

fn release() -> String {
    read("/proc/sys/kernel/osrelease").unwrap_or_default()
}

fn version(release: &str) -> Check {
    const NAME: &str = "kernel";
    let Version(major, minor) = SUFFICIENT;
    let advice = format!("boot Linux {major}.{minor} or later");
    match Version::parse(release) {
        None => Check::warning(NAME, format!("`{release}` is no version"), "go by the checks below"),
        Some(version) if version < OLDEST => Check::failed(NAME, release, advice),
        Some(version) if version < SUFFICIENT => Check::warning(
            NAME,
            release,
            format!("{advice}, or go by the checks below if it has later features"),
        ),
        Some(_) => Check::ok(NAME, release),
    }
}

fn netns_cookie(cookie: io::Result<u64>) -> Check {
    const NAME: &str = "netns_cookie";
    match cookie {
        Ok(_) => Check::ok(NAME, "the kernel tells a socket's network namespace"),
        Err(error) => Check::failed(
            NAME,
            format!("the kernel does not tell a socket's network namespace: {}", told(&error)),
            "run as root with CAP_BPF and CAP_NET_ADMIN, or boot Linux 5.14 or later, which has SO_NETNS_COOKIE",
        ),
    }
}

/// The programs carry no relocations against the kernel's types; only sticky tags read them.
fn btf(is_present: bool) -> Check {
    Check::ok("btf", if is_present { "present" } else { "absent, and needed for `sticky_tags` alone" })
}

/// Lockdown for confidentiality bars programs from reading kernel memory, as those of sticky tags do.
fn lockdown(file: Option<&str>) -> Check {
    const NAME: &str = "lockdown";
    let mode = file.map_or("this kernel has none", |text| {
        let chosen = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
        chosen.unwrap_or("unreadable")
    });
    if mode == "confidentiality" {
        return Check::warning(
            NAME,
            "confidentiality: no program may read the kernel's memory, so there are no sticky tags",
            "boot with lockdown=integrity, or set capture.sticky_tags = false",
        );
    }
    Check::ok(NAME, mode)
}

fn unprivileged_bpf(setting: Option<&str>) -> Check {
    const NAME: &str = "unprivileged_bpf";
    match setting {
        Some("0") => Check::warning(
            NAME,
            "every user may load BPF programs: their bugs have been ways to root",
            "set sysctl kernel.unprivileged_bpf_disabled=2; tidegate needs no such programs",
        ),
        Some(value) => Check::ok(NAME, format!("disabled ({value})")),
        None => Check::ok(NAME, "this kernel has no such setting"),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::Status::{self, Failed, Ok, Warning},
        *,
    };
    use test_case::test_case;

    #[test_case("6.18.44-fc-v669", Some(Version(6, 18)); "long")]
    #[test_case("5.14.0-427.el9.x86_64", Some(Version(5, 14)); "enterprise")]
    #[test_case("5.10-rc3", Some(Version(5, 10)); "no third number")]
    #[test_case("6.1", Some(Version(6, 1)); "short")]
    #[test_case("6", None; "major only")]
    #[test_case("6.", None; "no minor")]
    #[test_case("", None; "empty")]
    #[test_case("99999999999.1", None; "too large")]
    #[test_case("v6.1", None; "letter first")]
    fn versions_are_read(release: &str, expected: Option<Version>) {
        assert_eq!(Version::parse(release), expected);
    }

    #[test_case("4.18.0-553.el8", Failed; "enterprise, old")]
    #[test_case("5.9.16", Failed; "below the oldest")]
    #[test_case("5.10.0", Warning; "the oldest")]
    #[test_case("5.13.19", Warning; "below the sufficient")]
    #[test_case("5.14.0", Ok; "sufficient")]
    #[test_case("6.2.1", Ok; "a larger major has any minor")]
    #[test_case("", Warning; "unknown")]
    fn the_version_is_judged(release: &str, expected: Status) {
        assert_eq!(version(release).status, expected);
    }

    #[test]
    fn a_kernel_without_the_cookie_fails() {
        let error = io::Error::from_raw_os_error(92);
        let check = netns_cookie(Err(error));
        assert_eq!(check.status, Failed);
        assert!(check.seen.contains("Protocol not available"), "{}", check.seen);
        assert_eq!(netns_cookie(Result::Ok(1)).status, Ok);
    }

    #[test_case(Some("none [integrity] confidentiality\n"), "integrity"; "integrity")]
    #[test_case(Some("[none] integrity confidentiality\n"), "none"; "off")]
    #[test_case(Some("none integrity [confidentiality]\n"), "confidentiality: no program may read the kernel's memory, so there are no sticky tags"; "confidentiality")]
    #[test_case(Some("\n"), "unreadable"; "nothing chosen")]
    #[test_case(None, "this kernel has none"; "no file")]
    fn the_chosen_lockdown_is_told(file: Option<&str>, expected: &str) {
        assert_eq!(lockdown(file).seen, expected);
    }

    #[test_case(Some("0"), Warning; "allowed")]
    #[test_case(Some("1"), Ok; "disabled for good")]
    #[test_case(Some("2"), Ok; "disabled")]
    #[test_case(None, Ok; "no setting")]
    fn everybodys_bpf_is_warned_of(setting: Option<&str>, expected: Status) {
        assert_eq!(unprivileged_bpf(setting).status, expected);
    }
}
