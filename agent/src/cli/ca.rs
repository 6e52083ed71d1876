//! `tidegate ca`: the local CA, and who trusts it.

use super::{Error, run::configuration};
use crate::{
    config::Config,
    host_trust::{self, bundle},
    session::route::Names,
    terminate::{
        certificate::{self, fingerprint},
        store::{self, Generation, Store},
    },
};
use clap::{Args, Subcommand};
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// `tidegate ca`.
#[derive(Debug, Args)]
pub struct CaArgs {
    /// The configuration [default: /etc/tidegate/tidegate.toml, if it is there]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// The root of the system whose trust stores are meant, such as an unpacked image's [default: /]
    #[arg(long, value_name = "DIR", global = true)]
    pub root: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: CaCommand,
}

/// What can be done about the local CA.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Say which CA signs, until when, for which domains, and where it is installed
    Show {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the next CA; it signs once programs have had time to trust it (`ca.overlap`)
    Rotate {
        /// Sign with it at once and trust the earlier ones no more, for a key that somebody else may have
        #[arg(long)]
        now: bool,
    },
    /// Print what programs have to trust, PEM: the system's certificates and the local CA's
    Bundle {
        /// Where to write it [default: standard output]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// The local CA's certificates alone
        #[arg(long)]
        anchors: bool,
    },
    /// Make every program of this system trust the local CA, which is made where there is none
    Install,
    /// Take the local CA out of this system's trust stores
    Uninstall,
}

/// `ca show --json`.
#[derive(Debug, Serialize)]
struct Shown {
    source: &'static str,
    directory: Option<PathBuf>,
    overlap_hours: u64,
    generations: Vec<ShownGeneration>,
}

#[derive(Debug, Serialize)]
struct ShownGeneration {
    number: Option<u32>,
    id: String,
    state: &'static str,
    subject: String,
    fingerprint_sha256: String,
    not_before: String,
    not_after: String,
    signs_from: Option<String>,
    domains: Option<Vec<String>>,
    installed: Vec<PathBuf>,
}

/// Does what the arguments ask for.
///
/// # Errors
/// When the configuration or the CA cannot be used, or a trust store cannot be changed.
pub fn run(args: &CaArgs, out: &mut impl Write) -> Result<u8, Error> {
    let (config, _) = configuration(args.config.as_ref())?;
    let root = args.root.as_deref().unwrap_or(Path::new("/"));
    let now = SystemTime::now();
    match &args.command {
        CaCommand::Show { json } => show(&config, root, now, *json, out)?,
        CaCommand::Rotate { now: at_once } => rotate(&config, root, now, *at_once, out)?,
        CaCommand::Bundle { output, anchors } => {
            let certificates = open(&config)?.anchors(now)?;
            let text = if *anchors {
                certificates.iter().map(certificate::pem).collect()
            } else {
                system_and(root, &certificates)?
            };
            match output {
                Some(path) => bundle::write(path, &text)?,
                None => out.write_all(text.as_bytes())?,
            }
        }
        CaCommand::Install => {
            let store = open(&config)?;
            let anchors = match store.anchors(now) {
                Err(store::Error::None(_)) => store.start(now)?.anchors,
                anchors => anchors?,
            };
            tell(&host_trust::install(root, &anchors)?, out)?;
            writeln!(out, "programs that start from now on trust the local CA")?;
        }
        CaCommand::Uninstall => tell(&host_trust::uninstall(root)?, out)?,
    }
    out.flush()?;
    Ok(0)
}

fn open(config: &Config) -> Result<Store, Error> {
    // In memory there would be another one in each process.
    if config.ca.ephemeral {
        return Err(store::Error::InMemory.into());
    }
    Ok(Store::open(&config.ca, Names::new(&config.hosts).domains())?)
}

fn system_and(root: &Path, anchors: &[CertificateDer<'_>]) -> Result<String, Error> {
    let (text, of_system) = bundle::merged(root, anchors)?;
    if of_system == 0 {
        tracing::warn!(root = %root.display(), "the system has no bundle of certificates, so that this one has only the local CA's");
    }
    Ok(text)
}

fn tell(done: &[String], out: &mut impl Write) -> io::Result<()> {
    done.iter().try_for_each(|line| writeln!(out, "{line}"))
}

fn rotate(
    config: &Config,
    root: &Path,
    now: SystemTime,
    at_once: bool,
    out: &mut impl Write,
) -> Result<(), Error> {
    let made = open(config)?.rotate(now, at_once)?;
    writeln!(
        out,
        "made generation {} ({}), which signs from {}",
        made.number,
        made.id,
        told(made.signs_from)
    )?;
    if at_once {
        writeln!(out, "programs that run already trust only the earlier CA: start them again")?;
    } else {
        writeln!(out, "until then the earlier one signs; a running daemon needs no restart")?;
    }
    if !host_trust::installed(root)?.is_empty() {
        writeln!(out, "the earlier CA is installed here: run `tidegate ca install` for this one, too")?;
    }
    Ok(())
}

fn show(
    config: &Config,
    root: &Path,
    now: SystemTime,
    json: bool,
    out: &mut impl Write,
) -> Result<(), Error> {
    let store = open(config)?;
    let installed = host_trust::installed(root)?;
    let is_brought = config.ca.brought.is_some();
    let generations = if is_brought {
        let anchors = store.anchors(now)?;
        anchors.iter().filter_map(|anchor| of_brought(anchor, &installed)).collect()
    } else {
        let generations = store.generations()?;
        let signing = store::signing(&generations, now).map(|signing| signing.number);
        generations.iter().filter_map(|generation| of_kept(generation, signing, &installed)).collect()
    };
    let shown = Shown {
        source: if is_brought { "brought" } else { "kept" },
        directory: (!is_brought).then(|| config.ca.dir.clone()),
        overlap_hours: config.ca.overlap.as_secs() / 3600,
        generations,
    };
    if json {
        serde_json::to_writer_pretty(&mut *out, &shown).map_err(io::Error::from)?;
        writeln!(out)?;
        return Ok(());
    }
    shown.write_text(out)?;
    Ok(())
}

impl Shown {
    fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some(directory) = &self.directory {
            writeln!(out, "directory    {}", directory.display())?;
        }
        for generation in &self.generations {
            match generation.number {
                Some(number) => writeln!(out, "\ngeneration {number}, {}", generation.state)?,
                None => writeln!(out, "your own CA, {}", generation.state)?,
            }
            writeln!(out, "  subject      {}", generation.subject)?;
            writeln!(out, "  SHA-256      {}", generation.fingerprint_sha256)?;
            writeln!(out, "  valid        {} to {}", generation.not_before, generation.not_after)?;
            if let Some(signs_from) = &generation.signs_from {
                writeln!(out, "  signs from   {signs_from}")?;
            }
            match &generation.domains {
                Some(domains) => writeln!(out, "  constrained  {}", domains.join(", "))?,
                None => writeln!(out, "  constrained  no: it can vouch for every host")?,
            }
            if generation.installed.is_empty() {
                writeln!(out, "  installed    no")?;
            }
            for place in &generation.installed {
                writeln!(out, "  installed    {}", place.display())?;
            }
        }
        Ok(())
    }
}

fn of_kept(
    generation: &Generation,
    signing: Option<u32>,
    installed: &[(String, PathBuf)],
) -> Option<ShownGeneration> {
    let state = match signing {
        Some(number) if generation.number == number => "signs",
        Some(number) if generation.number < number => "trusted until its leaves have ended",
        Some(_) | None => "announced",
    };
    let mut shown = shown(&generation.root, state, installed)?;
    shown.number = Some(generation.number);
    shown.signs_from = Some(told(generation.signs_from));
    Some(shown)
}

fn of_brought(anchor: &CertificateDer<'_>, installed: &[(String, PathBuf)]) -> Option<ShownGeneration> {
    shown(anchor, "signs", installed)
}

fn shown(
    anchor: &CertificateDer<'_>,
    state: &'static str,
    installed: &[(String, PathBuf)],
) -> Option<ShownGeneration> {
    let facts = certificate::read(anchor).ok()?;
    let fingerprint_sha256 = fingerprint(anchor);
    let id = fingerprint_sha256.get(..store::ID_LENGTH)?.to_owned();
    let installed = installed.iter().filter(|(of, _)| *of == id).map(|(_, place)| place.clone()).collect();
    Some(ShownGeneration {
        number: None,
        id,
        state,
        subject: facts.subject,
        fingerprint_sha256,
        not_before: told(facts.not_before),
        not_after: told(facts.not_after),
        signs_from: None,
        domains: facts.permitted,
        installed,
    })
}

fn told(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    time.replace_nanosecond(0).unwrap_or(time).format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests;
