//! The names of systemd's services, and the cgroups that systemd gives them.

use std::fmt::{self, Write};

const SUFFIX: &str = ".service";
/// What systemd takes for a name.
const MAX_LENGTH: usize = 255;
/// What other kinds of units end with.
const OTHER_KINDS: [&str; 10] =
    [".socket", ".device", ".mount", ".automount", ".swap", ".target", ".path", ".timer", ".slice", ".scope"];

/// A service's full name: `name.service`, `name@.service` or `name@instance.service`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnitName(String);

/// Why a text names no service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing before the suffix.
    #[error("`{0}` names no unit; write for example `gitlab-runner.service`")]
    Empty(String),
    /// It would lead out of the directory of units, or means several.
    #[error(
        "`{name}` has `{character}`, which no unit's name has; write the name alone, as `systemctl list-units` does"
    )]
    Character {
        /// What was given.
        name: String,
        /// What is wrong in it.
        character: String,
    },
    /// It begins with a dot or an `@`.
    #[error(
        "`{0}` begins with `.` or `@`, and no unit's name does; write for example `name@.service` for a template"
    )]
    Beginning(String),
    /// Longer than systemd takes.
    #[error("a unit's name of {0} bytes is longer than systemd's {MAX_LENGTH}; check what was given")]
    Long(usize),
    /// Not a service.
    #[error(
        "`{0}` is no service; only services have programs that can be protected, so name the service that it starts"
    )]
    Kind(String),
}

impl UnitName {
    /// Reads a name as `systemctl` does: the suffix is added, and what a name cannot have is escaped.
    ///
    /// # Errors
    /// When it can be no service's name.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if let Some(character) = text.chars().find(|&c| matches!(c, '/' | '*' | '?' | '[') || c.is_control())
        {
            let (name, character) = (text.escape_debug().to_string(), character.escape_debug().to_string());
            return Err(InvalidName::Character { name, character });
        }
        if OTHER_KINDS.iter().any(|kind| text.ends_with(kind)) {
            return Err(InvalidName::Kind(text.to_owned()));
        }
        let stem = text.strip_suffix(SUFFIX).unwrap_or(text);
        if stem.is_empty() {
            return Err(InvalidName::Empty(text.to_owned()));
        }
        if stem.starts_with(['.', '@']) {
            return Err(InvalidName::Beginning(text.to_owned()));
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
        let name = escape(stem, is_plain) + SUFFIX;
        if name.len() > MAX_LENGTH { Err(InvalidName::Long(name.len())) } else { Ok(Self(name)) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a workload of this unit could be called.
    pub(super) fn workload_name(&self) -> String {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        self.prefix().chars().take(64).map(|c| if is_plain(c) { c } else { '-' }).collect()
    }

    /// What the name says before `@` or the suffix.
    pub(super) fn prefix(&self) -> &str {
        self.stem().split_once('@').map_or(self.stem(), |(prefix, _)| prefix)
    }

    /// The template that this one is an instance of.
    pub(super) fn template(&self) -> Option<Self> {
        let (prefix, instance) = self.stem().split_once('@')?;
        (!instance.is_empty()).then(|| Self(format!("{prefix}@{SUFFIX}")))
    }

    /// Whether all instances are meant.
    pub fn is_template(&self) -> bool {
        self.stem().ends_with('@') && self.template().is_none()
    }

    /// The slice of a unit that names none.
    pub(super) fn default_slice(&self) -> String {
        if !self.stem().contains('@') {
            return "system.slice".to_owned();
        }
        // A dash in a slice's name leads one level down.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":_.".contains(&byte);
        let prefix = self.prefix();
        let first = if prefix.starts_with('.') { "\\x2e" } else { "" };
        let rest = prefix.strip_prefix('.').unwrap_or(prefix);
        format!("system-{first}{}.slice", escape(rest, is_plain))
    }

    /// The unit's cgroup below the cgroup2 mount, as a glob for a template, when it is in this slice.
    pub fn cgroup(&self, slice: &str) -> String {
        let name = if self.is_template() { format!("{}@*{SUFFIX}", self.prefix()) } else { self.0.clone() };
        let mut path = String::new();
        let stem = slice.strip_suffix(".slice").unwrap_or(slice);
        if stem != "-" {
            let ends = stem.match_indices('-').map(|(end, _)| end).chain([stem.len()]);
            for end in ends {
                path.push('/');
                path.push_str(&cgroup_name(&format!("{}.slice", stem.get(..end).unwrap_or(stem))));
            }
        }
        format!("{path}/{}", cgroup_name(&name))
    }

    fn stem(&self) -> &str {
        self.0.strip_suffix(SUFFIX).unwrap_or(&self.0)
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn escape(text: &str, is_plain: impl Fn(u8) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "\\x{byte:02x}");
        }
    }
    escaped
}

/// What systemd puts before a name that would read like one of the kernel's own files.
fn cgroup_name(name: &str) -> String {
    const CONTROLLERS: [&str; 13] = [
        "cpu",
        "cpuacct",
        "cpuset",
        "io",
        "blkio",
        "memory",
        "devices",
        "pids",
        "freezer",
        "hugetlb",
        "rdma",
        "misc",
        "perf_event",
    ];
    let files = ["cgroup.", "bpf-firewall.", "bpf-devices.", "bpf-foreign."];
    let is_like_a_file = name.starts_with(['_', '.'])
        || files.iter().any(|file| name.starts_with(file))
        || CONTROLLERS
            .iter()
            .any(|controller| name.strip_prefix(controller).is_some_and(|rest| rest.starts_with('.')));
    if is_like_a_file { format!("_{name}") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("web", "web.service"; "the suffix is added")]
    #[test_case("web.service", "web.service"; "the suffix is there")]
    #[test_case("web.server", "web.server.service"; "another dot")]
    #[test_case("job@", "job@.service"; "a template")]
    #[test_case("job@a@b.service", "job@a@b.service"; "an instance")]
    #[test_case("my unit", "my\\x20unit.service"; "a blank")]
    #[test_case("größe", "gr\\xc3\\xb6\\xc3\\x9fe.service"; "not ascii")]
    #[test_case("dev-\\x2d", "dev-\\x2d.service"; "escaped already")]
    #[test_case("a$b", "a\\x24b.service"; "a dollar")]
    fn names_are_made_whole_as_systemctl_does(text: &str, expected: &str) {
        assert_eq!(UnitName::parse(text).unwrap().as_str(), expected);
    }

    #[test_case("../cron"; "a path up")]
    #[test_case("/etc/passwd"; "a path")]
    #[test_case("a/../b.service"; "a path within")]
    #[test_case(".."; "dots")]
    #[test_case(".hidden"; "hidden")]
    #[test_case("@x"; "no template")]
    #[test_case(""; "nothing")]
    #[test_case(".service"; "the suffix alone")]
    #[test_case("web*"; "a glob")]
    #[test_case("we?b"; "another glob")]
    #[test_case("[ab]"; "a set")]
    #[test_case("a\nb"; "a line end")]
    #[test_case("a\0b"; "a null")]
    #[test_case("web.socket"; "a socket")]
    #[test_case("web.timer"; "a timer")]
    #[test_case("ci.slice"; "a slice")]
    fn what_names_no_service_is_refused(text: &str) {
        let told = UnitName::parse(text).unwrap_err().to_string();
        assert!(!told.contains(['\n', '\0']), "{told}");
    }

    #[test]
    fn a_name_is_as_long_as_systemd_takes_it() {
        assert!(UnitName::parse(&"a".repeat(247)).is_ok());
        assert_eq!(UnitName::parse(&"a".repeat(248)), Err(InvalidName::Long(256)));
        assert_eq!(UnitName::parse(&" ".repeat(62)), Err(InvalidName::Long(256)));
    }

    #[test_case("web", "system.slice", "/system.slice/web.service"; "a service")]
    #[test_case("web", "ci-jobs.slice", "/ci.slice/ci-jobs.slice/web.service"; "in a slice of its own")]
    #[test_case("web", "-.slice", "/web.service"; "in the root slice")]
    #[test_case("job@7", "", "/system.slice/system-job.slice/job@7.service"; "an instance")]
    #[test_case("job@", "", "/system.slice/system-job.slice/job@*.service"; "all instances")]
    #[test_case("my-job@7", "", "/system.slice/system-my\\x2djob.slice/my-job@7.service"; "a dash before the instance")]
    #[test_case("memory", "system.slice", "/system.slice/_memory.service"; "like a controller's file")]
    #[test_case("memoryless", "system.slice", "/system.slice/memoryless.service"; "less like one")]
    #[test_case("cgroup.x", "system.slice", "/system.slice/_cgroup.x.service"; "like the kernel's file")]
    #[test_case("_web", "system.slice", "/system.slice/__web.service"; "like an escaped name")]
    fn cgroups_lie_where_systemd_makes_them(name: &str, slice: &str, expected: &str) {
        let unit = UnitName::parse(name).unwrap();
        let default = unit.default_slice();
        assert_eq!(unit.cgroup(if slice.is_empty() { &default } else { slice }), expected);
    }

    #[test]
    fn an_instance_has_a_template() {
        let template = |name: &str| UnitName::parse(name).unwrap().template();
        assert_eq!(template("job@7").unwrap().as_str(), "job@.service");
        assert_eq!((template("job@"), template("job")), (None, None));
    }
}
