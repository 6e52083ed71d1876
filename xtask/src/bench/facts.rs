//! What a run was made on and with.

use super::peers::{read, version};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The machine, the build, and the peers' versions.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Facts {
    /// Name and value, in the order of the table.
    pub(super) rows: Vec<(String, String)>,
    /// Whether the turns were too short to mean anything.
    pub(super) quick: bool,
}

impl Facts {
    pub(super) fn of_this_machine(profile: &str, quick: bool, mitmdump: Option<&Path>) -> Result<Self> {
        let cpu = read("/proc/cpuinfo");
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_prefix(':'));
            line.map_or("unknown".to_owned(), |value| value.trim().to_owned())
        };
        let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
        let mut rows = vec![
            (
                "CPU".to_owned(),
                format!("{}, {cores} cores; proxies have one, all else the rest", field(&cpu, "model name")),
            ),
            (
                "memory".to_owned(),
                field(&read("/proc/meminfo").replace("MemTotal:", "MemTotal :"), "MemTotal"),
            ),
            ("kernel".to_owned(), read("/proc/sys/kernel/osrelease").trim().to_owned()),
            ("load before the report".to_owned(), read("/proc/loadavg").trim().to_owned()),
            ("tidegate".to_owned(), format!("{}, profile {profile}", env!("CARGO_PKG_VERSION"))),
        ];
        for (program, option) in [
            ("haproxy", "-v"),
            ("nginx", "-v"),
            ("squid", "-v"),
            ("h2load", "--version"),
            ("rustc", "--version"),
        ] {
            rows.push((program.to_owned(), version(Path::new(program), option)));
        }
        if let Some(mitmdump) = mitmdump {
            rows.push(("mitmproxy".to_owned(), version(mitmdump, "--version")));
        }
        Ok(Self { rows, quick })
    }
}
