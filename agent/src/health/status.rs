//! What `tidegate status` tells: the document, and its text.

mod kubernetes;

pub use kubernetes::{Kubernetes, Object};

use super::{Health, Part, Problem};
use crate::record::redact::escape_control;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

/// The state of a running agent. Keys that one version writes and another does not know are no error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// How long it has been running, in seconds.
    pub up_seconds: u64,
    /// Whether every part is well.
    pub healthy: bool,
    /// Whether each of them is.
    pub parts: BTreeMap<Part, bool>,
    /// The parts that are not.
    pub problems: Vec<Problem>,
    /// How long ago the canary last came to the gate, in seconds; null where it does not.
    pub canary_seconds_ago: Option<u64>,
    /// Where the programs are attached.
    pub cgroup_root: Option<PathBuf>,
    /// Where maps and links are pinned.
    pub pins: Option<PathBuf>,
    /// The attached programs.
    pub programs: Vec<Program>,
    /// Where subjects are redirected to.
    pub listeners: Vec<Listener>,
    /// The workloads of the configuration.
    pub workloads: Vec<Workload>,
    /// Why the policies in force are not those of the files, where a mistake keeps them from it.
    pub policies_refused: Option<String>,
    /// What is known of the Kubernetes cluster; absent where nobody asks its API server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Kubernetes>,
    /// The addresses of protected hosts.
    pub protected: Vec<IpAddr>,
    /// What has happened since the start.
    pub counters: Counters,
}

/// An attached program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// The kernel's number for it.
    pub id: u32,
}

/// A listener in a network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Listener {
    /// The namespace's cookie.
    pub netns_cookie: u64,
    /// Its address there.
    pub address: SocketAddr,
}

/// A workload and whom it is made of now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// Its policy.
    pub policy: String,
    /// The cgroups that match.
    pub cgroups: Vec<PathBuf>,
    /// The user ids that match.
    pub users: Vec<u32>,
    /// Whether it is everybody.
    pub everybody: bool,
    /// The globs that no cgroup matches now.
    pub unmatched: Vec<String>,
}

/// Counts since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Counters {
    /// Connections that came to the gate.
    pub redirected: u64,
    /// Connections that are open now.
    pub open: u64,
    /// What the kernel side refused.
    pub refused: u64,
    /// Refusals that there was no room to report.
    pub lost_events: u64,
    /// Connections from before that were ended.
    pub ended: u64,
    /// Audit records that could not be written.
    pub unwritten_records: u64,
}

impl Status {
    /// With what `health` knows; the rest is the caller's to fill in.
    pub fn of(health: &Health) -> Self {
        let problems = health.problems();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            up_seconds: health.seconds_up(),
            healthy: problems.is_empty(),
            parts: health.parts_well(),
            problems,
            canary_seconds_ago: health.checked_seconds_ago(Part::Canary),
            ..Self::default()
        }
    }

    /// Writes it for people.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let word = if self.healthy { "healthy" } else { "UNHEALTHY" };
        let up = duration(self.up_seconds);
        writeln!(out, "tidegate {}, process {}, up {up}: {word}", self.version, self.pid)?;
        for Problem { part, why, seconds } in &self.problems {
            writeln!(out, "  {}: {} (for {})", part.as_str(), escape_control(why), duration(*seconds))?;
        }
        if let Some(why) = &self.policies_refused {
            writeln!(out, "  {}", escape_control(why))?;
        }
        writeln!(out)?;
        for (name, value) in self.facts() {
            writeln!(out, "{name:<12} {value}")?;
        }
        if self.workloads.is_empty() {
            writeln!(out, "\nNo workloads are configured.")?;
        } else {
            writeln!(out, "\nWorkloads:")?;
            self.workloads.iter().try_for_each(|workload| workload.write_text(out))?;
        }
        self.kubernetes.as_ref().map_or(Ok(()), |kubernetes| kubernetes.write_text(out))
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let path = |path: &Option<PathBuf>| {
            path.as_ref().map(|path| escape_control(&path.display().to_string()).into_owned())
        };
        let canary = self.canary_seconds_ago.map_or_else(
            || "does not come to the gate".to_owned(),
            |seconds| format!("came to the gate {} ago", duration(seconds)),
        );
        let programs: Vec<String> = self
            .programs
            .iter()
            .map(|program| format!("{} ({})", escape_control(&program.name), program.id))
            .collect();
        let listeners: Vec<String> = self.listeners.iter().map(|one| one.address.to_string()).collect();
        let protected: Vec<String> = self.protected.iter().map(ToString::to_string).collect();
        let Counters { redirected, open, refused, lost_events, ended, unwritten_records } = self.counters;
        let mut facts = vec![("canary", canary)];
        facts.extend(path(&self.cgroup_root).map(|root| ("attached at", root)));
        facts.extend(path(&self.pins).map(|pins| ("pinned at", pins)));
        facts.extend([
            ("programs", list(&programs)),
            ("listeners", list(&listeners)),
            ("protected", list(&protected)),
            ("connections", format!("{redirected} redirected, {open} open, {ended} from before ended")),
            ("refused", format!("{refused} by the kernel side, {lost_events} of them not reported")),
        ]);
        if unwritten_records > 0 {
            facts.push(("audit log", format!("{unwritten_records} records could not be written")));
        }
        facts
    }
}

impl Workload {
    fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let mut made_of: Vec<String> = self
            .cgroups
            .iter()
            .map(|cgroup| escape_control(&cgroup.display().to_string()).into_owned())
            .collect();
        made_of.extend(self.users.iter().map(|uid| format!("user {uid}")));
        if self.everybody {
            made_of.push("everybody else".to_owned());
        }
        let made_of = if made_of.is_empty() { "nobody now".to_owned() } else { made_of.join(", ") };
        writeln!(
            out,
            "  {} (policy {}): {made_of}",
            escape_control(&self.name),
            escape_control(&self.policy)
        )?;
        if self.unmatched.is_empty() {
            return Ok(());
        }
        writeln!(out, "    no cgroup now matches {}", escape_control(&list(&self.unmatched)))
    }
}

/// As many of a list as one reads, and how many more there are.
fn list(words: &[String]) -> String {
    const SHOWN: usize = 16;
    let shown = words.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match words.len() {
        0 => "none".to_owned(),
        number if number > SHOWN => format!("{shown} and {} more", number - SHOWN),
        _ => shown,
    }
}

/// A duration as people say it.
pub(crate) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {} min", minutes % 60),
        (days, hours, _) => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn text(status: &Status) -> String {
        let mut out = Vec::new();
        status.write_text(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_text_tells_what_is_wrong_first() {
        let health = Health::new(&[Part::Canary, Part::Programs]);
        health.report(Part::Canary, Err("nobody\x1b[2J came".into()));
        health.report(Part::Programs, Ok(()));
        let status = Status {
            pid: 7,
            version: "1.2.3".into(),
            up_seconds: 3_700,
            cgroup_root: Some("/sys/fs/cgroup".into()),
            pins: Some("/sys/fs/bpf/tidegate/v1".into()),
            programs: vec![Program { name: "connect4".into(), id: 41 }],
            listeners: vec![Listener { netns_cookie: 1, address: "127.0.0.1:1023".parse().unwrap() }],
            workloads: vec![
                Workload {
                    name: "ci".into(),
                    policy: "builder".into(),
                    cgroups: vec!["/ci.slice/a\nb".into()],
                    users: vec![1000],
                    everybody: false,
                    unmatched: Vec::new(),
                },
                Workload {
                    name: "bots".into(),
                    policy: "read-only".into(),
                    unmatched: vec!["/bots/**".into()],
                    ..Workload::default()
                },
            ],
            ..Status::of(&health)
        };
        let expected = [
            "tidegate 1.2.3, process 7, up 1 h 1 min: UNHEALTHY",
            "  canary: nobody\\u{1b}[2J came (for 0 s)",
            "",
            "canary       does not come to the gate",
            "attached at  /sys/fs/cgroup",
            "pinned at    /sys/fs/bpf/tidegate/v1",
            "programs     connect4 (41)",
            "listeners    127.0.0.1:1023",
            "protected    none",
            "connections  0 redirected, 0 open, 0 from before ended",
            "refused      0 by the kernel side, 0 of them not reported",
            "",
            "Workloads:",
            "  ci (policy builder): /ci.slice/a\\u{a}b, user 1000",
            "  bots (policy read-only): nobody now",
            "    no cgroup now matches /bots/**",
            "",
        ];
        assert_eq!(text(&status), expected.join("\n"));
    }

    #[test]
    fn refused_policies_are_told_of_an_agent_that_is_well() {
        let health = Health::new(&[]);
        let refused = Some("the policies stay as they are: p.toml:1: \x1b".to_owned());
        let text = text(&Status { policies_refused: refused, ..Status::of(&health) });
        let told = "healthy\n  the policies stay as they are: p.toml:1: \\u{1b}\n\n";
        assert!(text.contains(told), "{text}");
    }

    #[test]
    fn a_healthy_agent_says_so() {
        let health = Health::new(&[Part::Canary]);
        health.report(Part::Canary, Ok(()));
        let status = Status::of(&health);
        assert!(status.healthy && status.problems.is_empty() && status.canary_seconds_ago == Some(0));
        let text = text(&status);
        assert!(text.contains(": healthy\n") && text.contains("came to the gate 0 s ago"), "{text}");
    }

    #[test]
    fn parts_are_told_by_the_words_of_metrics() {
        let health = Health::new(&[Part::Canary, Part::Programs, Part::Subjects, Part::AuditLog]);
        let told = serde_json::to_value(Status::of(&health)).unwrap();
        let words: Vec<&str> = told["parts"].as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected: Vec<&str> = health.parts_well().keys().map(|part| part.word()).collect();
        expected.sort_unstable();
        assert_eq!(words, expected);
        assert_eq!((&told["parts"]["canary"], &told["parts"]["event_loop"]), (&false.into(), &true.into()));
    }

    #[test]
    fn keys_of_other_versions_are_no_error() {
        let read: Status = serde_json::from_str(r#"{"healthy":true,"new":[1],"counters":{"x":1}}"#).unwrap();
        assert_eq!(read, Status { healthy: true, ..Status::default() });
        let written = serde_json::to_string(&Status { canary_seconds_ago: None, ..read.clone() }).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&written).unwrap(), read);
    }

    #[test_case(0, "0 s")]
    #[test_case(59, "59 s")]
    #[test_case(60, "1 min")]
    #[test_case(3_599, "59 min")]
    #[test_case(3_600, "1 h 0 min")]
    #[test_case(90_000, "1 d 1 h")]
    fn durations_are_told_in_two_units(seconds: u64, expected: &str) {
        assert_eq!(duration(seconds), expected);
    }

    #[test]
    fn a_long_list_is_cut() {
        let words: Vec<String> = (0..18).map(|number| number.to_string()).collect();
        assert!(list(&words).ends_with("14, 15 and 2 more"));
    }
}
