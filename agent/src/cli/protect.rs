//! `tidegate protect` and `tidegate unprotect`: systemd units whose programs trust the local CA.

use super::{Error, run::configuration};
use crate::{
    config::file,
    protect::{self, UnitName},
};
use clap::Args;
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// `tidegate protect`.
#[derive(Debug, Args)]
pub struct ProtectArgs {
    /// The service, such as `gitlab-runner.service` or a template `job@.service`
    pub unit: String,
    /// Fail unless the configuration makes the unit this workload
    #[arg(long, value_name = "NAME")]
    pub workload: Option<String>,
    /// The configuration [default: /etc/tidegate/tidegate.toml of that system]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The root of the system that the unit is of, such as an unpacked image's [default: /]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Print the drop-in, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `tidegate unprotect`.
#[derive(Debug, Args)]
pub struct UnprotectArgs {
    /// The service
    pub unit: String,
    /// The root of the system that the unit is of [default: /]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// Writes the unit's drop-in, or prints it.
///
/// # Errors
/// When the unit or the configuration cannot be used, or something not be written.
pub fn protect(args: &ProtectArgs, out: &mut impl Write) -> Result<u8, Error> {
    let unit = parse(&args.unit)?;
    let root = args.root.as_deref().unwrap_or(Path::new("/"));
    let of_root = root.join(Path::new(file::DEFAULT_PATH).strip_prefix("/").unwrap_or(Path::new("")));
    let named = args.config.clone().or_else(|| of_root.exists().then_some(of_root));
    let (config, config_path) = configuration(named.as_ref())?;
    let plan = protect::plan(root, &unit, &config, &config_path, args.workload.as_deref())?;
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    if args.dry_run {
        write!(out, "# {}\n{}", plan.path.display(), plan.text)?;
        return Ok(0);
    }
    for line in plan.carry_out()? {
        writeln!(out, "{line}")?;
    }
    let instance =
        if plan.unit.is_template() { " each instance: systemctl restart" } else { ": systemctl restart" };
    writeln!(
        out,
        "`{}` is the workload `{}` from its next start on{instance} {}",
        plan.unit,
        plan.workloads.join("`, `"),
        plan.unit
    )?;
    Ok(0)
}

/// Removes the unit's drop-in.
///
/// # Errors
/// When there is none of ours, or it cannot be removed.
pub fn unprotect(args: &UnprotectArgs, out: &mut impl Write) -> Result<u8, Error> {
    let unit = parse(&args.unit)?;
    for line in protect::unprotect(args.root.as_deref().unwrap_or(Path::new("/")), &unit)? {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "`{unit}` is as it was before from its next start on: systemctl restart {unit}")?;
    writeln!(out, "its requests are decided as long as the configuration has it as a workload")?;
    Ok(0)
}

fn parse(text: &str) -> Result<UnitName, Error> {
    Ok(UnitName::parse(text).map_err(protect::Error::from)?)
}

#[cfg(test)]
mod tests;
