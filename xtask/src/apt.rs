//! apt with lists and caches of its own, so that the machine's are left alone.
//!
//! Packages come from the mirror that the machine itself uses; apt checks the signatures of the lists and the
//! sums of the packages.

use crate::command::{output, run};
use anyhow::{Context as _, Result};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Debian's archive keys, as its own installations have them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt, working in a directory of ours.
pub(crate) struct Apt<'a> {
    work: &'a Path,
    mirror: Mirror,
}

impl<'a> Apt<'a> {
    /// With these suites of Debian; nothing is fetched yet.
    pub(crate) fn new(work: &'a Path, suites: &[&str]) -> Result<Self> {
        for directory in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(work.join(directory))?;
        }
        let apt = Self { work, mirror: mirror(Path::new("/etc/apt"))? };
        let lines: String = suites.iter().map(|suite| apt.line("deb", suite)).collect();
        fs::write(work.join("sources.list"), lines)?;
        Ok(apt)
    }

    /// With this suite's source packages besides.
    pub(crate) fn with_sources(self, suite: &str) -> Result<Self> {
        let mut list = fs::File::options().append(true).open(self.work.join("sources.list"))?;
        list.write_all(self.line("deb-src", suite).as_bytes())?;
        Ok(self)
    }

    fn line(&self, kind: &str, suite: &str) -> String {
        let mirror = &self.mirror;
        let uri = if suite.ends_with("-security") { &mirror.security } else { &mirror.debian };
        format!("{kind} [signed-by={KEYRING}] {uri} {suite} main\n")
    }

    /// Runs apt-get or apt-cache in the directory.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        run(self.command(program).args(arguments))
    }

    /// As [`Apt::run`], and answers what it printed.
    pub(crate) fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        output(self.command(program).args(arguments))
    }

    fn command(&self, program: &str) -> Command {
        let at = |key: &str, place: &str| format!("{key}={}", self.work.join(place).display());
        let mut command = Command::new(program);
        command.current_dir(self.work);
        for option in [
            at("Dir::State", "state"),
            at("Dir::Cache", "cache"),
            at("Dir::Etc::SourceList", "sources.list"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            // A mirror's unstable suites may lag behind their own expiry date; the signature still holds.
            "Acquire::Check-Valid-Until=false".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }
}

/// Where Debian's packages come from.
#[derive(Debug, PartialEq, Eq)]
struct Mirror {
    debian: String,
    security: String,
}

/// The mirror that the machine's own apt configuration names.
fn mirror(apt: &Path) -> Result<Mirror> {
    let mut files: Vec<PathBuf> = vec![apt.join("sources.list")];
    if let Ok(parts) = fs::read_dir(apt.join("sources.list.d")) {
        files.extend(parts.filter_map(Result::ok).map(|entry| entry.path()));
    }
    files.sort();
    let texts: String =
        files.iter().filter_map(|file| fs::read_to_string(file).ok()).map(|text| text + "\n").collect();
    mirror_of(&texts).with_context(|| format!("{} names no Debian mirror", apt.display()))
}

fn mirror_of(sources: &str) -> Option<Mirror> {
    let debian = uri(sources, "/debian")?;
    let security = uri(sources, "/debian-security").unwrap_or_else(|| format!("{debian}-security"));
    Some(Mirror { debian, security })
}

/// The first URI of sources files, in either of apt's formats, that ends so.
fn uri(sources: &str, end: &str) -> Option<String> {
    sources
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_end_matches('/'))
        .find(|word| word.contains("://") && word.ends_with(end))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{Mirror, mirror_of};

    #[test]
    fn the_mirror_is_read_from_both_formats() {
        let rows = [
            (
                "deb http://mirror.example/debian bookworm main\n",
                Some(("http://mirror.example/debian", "http://mirror.example/debian-security")),
            ),
            (
                "# deb http://old.example/debian x main\nURIs: http://a.example/debian/\n\
                 URIs: http://b.example/debian-security/\n",
                Some(("http://a.example/debian", "http://b.example/debian-security")),
            ),
            ("URIs: http://a.example/debian-security\n", None),
            ("deb http://a.example/ubuntu jammy main\n", None),
        ];
        for (text, expected) in rows {
            let expected = expected
                .map(|(debian, security)| Mirror { debian: debian.into(), security: security.into() });
            assert_eq!(mirror_of(text), expected, "{text}");
        }
    }
}
