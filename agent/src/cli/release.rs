//! `tidegate release`: takes away what the daemon left in the kernel, and with it everything that it enforced.

use super::{Error, run::configuration};
use crate::{
    app::daemon::commands,
    capture::{
        canary::{self, Canary},
        pins::{self, removal},
    },
    run::cgroup,
};
use clap::Args;
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// `tidegate release`.
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// The configuration, whose cgroup root tells which agent must have ended [default: the installed one, if any]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Release while an agent is at work, too, and without a look at the configuration
    #[arg(long)]
    pub force: bool,
}

/// Detaches and unpins everything of every layout, and says what.
///
/// # Errors
/// While an agent is at work, or when something cannot be removed; what stays then, another call removes.
pub fn run(args: &ReleaseArgs, out: &mut impl Write) -> Result<u8, Error> {
    let root = if args.force { None } else { configuration(args.config.as_ref())?.0.capture.cgroup_root };
    // A root that is gone has no agent.
    let roots: Vec<&Path> = root.as_deref().into_iter().filter(|root| root.is_dir()).collect();
    let bpffs = Path::new(pins::BPFFS);
    let removed = removal::release(bpffs, &roots, args.force)?;
    for path in &removed {
        writeln!(out, "removed {}", path.display())?;
    }
    let cannot = |path: PathBuf| {
        move |source| Error::Pins(pins::Error::Io { action: "remove the cgroup", path, source })
    };
    // Without a configured one it is the mount's; where none is mounted there is nothing to remove.
    let root = roots.first().map_or_else(|| cgroup::root(None).ok(), |root| Some(root.to_path_buf()));
    if let Some(root) = root {
        Canary::remove(&root).map_err(cannot(root.join(canary::CGROUP)))?;
        for left in commands::remove(&root).map_err(cannot(root.clone()))? {
            writeln!(out, "left {}, where commands are still running; nothing holds them", left.display())?;
        }
    }
    if removed.is_empty() {
        writeln!(out, "nothing to release in {}", pins::base(bpffs).display())?;
    } else {
        writeln!(out, "released: the daemon's workloads are no longer held by anything")?;
    }
    out.flush()?;
    Ok(0)
}
