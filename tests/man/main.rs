//! Writes tidegate's manual into a directory: a page for each command, made of what `--help` says.

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tidegate::cli::Cli;

/// What `--help` has no room for. Commands of administration are in this section, too: all of them are one program.
const SECTION: &str = "1";

const FILES: [(&str, &str); 7] = [
    ("/etc/tidegate/tidegate.toml", "The configuration: workloads, and what else differs from the defaults."),
    ("/etc/tidegate/policies/*.toml", "The policies. None may be writable by a group or by everybody."),
    ("/var/log/tidegate/audit.jsonl", "The audit log, one JSON object a line."),
    ("/var/lib/tidegate", "The local CA, the key that signs the audit log, and what the daemon knows."),
    ("/run/tidegate/control.sock", "Where the daemon is asked how it is."),
    (
        "/run/tidegate/ca-bundle.pem",
        "The system's certificates and the local CA's, for SSL_CERT_FILE and its like.",
    ),
    ("/sys/fs/bpf/tidegate", "What holds the workloads in the kernel, also while no daemon runs."),
];

const STATUSES: [(&str, &str); 5] = [
    ("0", "It is done, or well."),
    ("1", "It could not be done, or is not well."),
    ("2", "The command line, the configuration or a policy is wrong."),
    ("125", "run: tidegate could not run the command."),
    (
        "126, 127",
        "run: the command cannot be started, or is not there; every other status is the command's own.",
    ),
];

fn main() -> Result<()> {
    let directory = std::env::args_os().nth(1).context("usage: tidegate-man DIRECTORY")?;
    let directory = PathBuf::from(directory);
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    for (name, page) in manual()? {
        write(&directory.join(name), &page)?;
    }
    Ok(())
}

fn write(path: &Path, page: &[u8]) -> Result<()> {
    fs::write(path, page).with_context(|| format!("writing {}", path.display()))
}

/// Every page with its file's name.
fn manual() -> Result<Vec<(String, Vec<u8>)>> {
    // Each page would otherwise have one of its `help` beside it.
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add_pages(&command, &mut pages)?;
    Ok(pages)
}

fn add_pages(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let man = Man::new(command.clone())
        .section(SECTION)
        .source(concat!("tidegate ", env!("CARGO_PKG_VERSION")))
        .manual("tidegate's manual");
    let mut page = Vec::new();
    man.render(&mut page)?;
    let is_whole = command.get_name() == Cli::command().get_name();
    let more = if is_whole { surroundings() } else { see_also() };
    more.to_writer(&mut page)?;
    pages.push((man.get_filename(), page));
    command.get_subcommands().try_for_each(|command| add_pages(command, pages))
}

fn surroundings() -> Roff {
    let mut roff = Roff::new();
    for (heading, rows) in [("FILES", FILES.as_slice()), ("EXIT STATUS", STATUSES.as_slice())] {
        roff.control("SH", [heading]);
        for (term, meaning) in rows {
            roff.control("TP", []).text([bold(*term)]).text([roman(*meaning)]);
        }
    }
    roff
}

fn see_also() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]).text([bold("tidegate"), roman(format!("({SECTION})"))]);
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of this command and all of its commands, as their pages have them.
    fn names(command: &Command, before: &str) -> Vec<String> {
        let name = format!("{before}{}", command.get_name());
        let below = command.get_subcommands().flat_map(|command| names(command, &format!("{name}-")));
        std::iter::once(format!("{name}.{SECTION}")).chain(below).collect()
    }

    #[test]
    fn every_command_has_a_page() {
        let pages = manual().unwrap();
        let found: Vec<&String> = pages.iter().map(|(name, _)| name).collect();
        let expected = names(&Cli::command(), "");
        assert_eq!(found, expected.iter().collect::<Vec<_>>());
        for name in ["tidegate.1", "tidegate-run.1", "tidegate-audit-verify.1", "tidegate-completions.1"] {
            assert!(expected.iter().any(|one| one == name), "{name} in {expected:?}");
        }
    }

    #[test]
    fn a_page_tells_name_synopsis_and_options() {
        for (name, page) in manual().unwrap() {
            let text = String::from_utf8(page).unwrap();
            let is_whole = name == "tidegate.1";
            let parts = [".TH tidegate", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH OPTIONS"];
            let last = if is_whole { ".SH \"EXIT STATUS\"" } else { ".SH \"SEE ALSO\"" };
            for part in parts.into_iter().chain([last]) {
                assert!(text.contains(part), "{part} in {name}:\n{text}");
            }
        }
    }
}
