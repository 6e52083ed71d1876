//! `tidegate daemon --attach-only`: makes subjects of the workloads before the daemon, and before anything of them runs.

use super::{Commands, Error, Kernel, Matching, Meant, Tagger, runs_lsm_programs, subjects};
use crate::{
    app::agent,
    capture::{
        self, Capture, Options, canary,
        pins::{BPFFS, Pins},
    },
    config::{Config, Mode},
    identify::{cgroups::Cgroups, members::Members},
    run::cgroup,
};
use std::{path::Path, sync::Arc};
use tidegate_ebpf_common::{SETTING_STICKY, SETTING_TARGETED, Settings};
use tokio::{runtime::Runtime, sync::mpsc};

/// Attaches as the daemon does, enters who is a subject and below what one may appear, and leaves it at that: nobody
/// listens, so that the kernel side refuses what subjects connect to, until a daemon has taken over.
///
/// # Errors
/// Says which part could not be had, or that a daemon is at work already.
pub fn attach(config: &Config) -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    // What is made below registers with it; nothing of it is ever waited for.
    let runtime = Runtime::new().map_err(|source| Error::System { action: "start the runtime", source })?;
    let _entered = runtime.enter();
    let root = cgroup::root(config.capture.cgroup_root.as_deref())?;
    let cgroups = Arc::new(Cgroups::new(agent::mount_of(&root), root.clone()));
    let matching = Matching::of(config, &cgroups, &Commands::of(config, &cgroups)?)?;
    let pins = Pins::on(Path::new(BPFFS));
    let mut capture = Capture::start(&Options {
        cgroup: &root,
        pins: &pins,
        sticky_tags: config.capture.sticky_tags,
        packet_sockets: config.capture.sticky_tags && runs_lsm_programs(),
        ports: &agent::ports(config),
        // Their names cannot be looked up before there is a network.
        forward_proxies: &[],
        flows: capture::DEFAULT_FLOWS,
    })?;
    let is_sticky = capture.attached.follows_threads();
    let mut flags = if config.capture.mode == Mode::Targeted { SETTING_TARGETED } else { 0 };
    flags |= if is_sticky { SETTING_STICKY } else { 0 };
    capture.settings.set(Settings { flags, reserved: 0 })?;
    subjects::enter_users(&matching.users(), &mut capture.subjects)?;
    matching.follow_programs(&mut capture.sticky, is_sticky)?;
    let kernel = Kernel { subjects: capture.subjects, sticky: is_sticky.then_some(capture.sticky) };
    // What it would go on to follow, the daemon follows. Of pods and containers nobody tells anything yet, so that each is
    // a subject for the kernel.
    let (tagged, _news) = mpsc::unbounded_channel();
    let (_reconsider, asked) = mpsc::unbounded_channel();
    let (patterns, own) = (Arc::clone(matching.list.patterns()), root.join(canary::CGROUP));
    let meant = Meant { patterns, members: members_of(config), own };
    Tagger::start(cgroups, meant, kernel, tagged, asked)?;
    Ok(())
}

#[cfg(feature = "kubernetes")]
fn members_of(config: &Config) -> Option<Arc<dyn Members>> {
    use crate::containers::{Registry, rules::Rules};
    let rules = Rules::of(&config.workloads);
    (!rules.is_empty() || config.kubernetes.watch).then(|| Arc::new(Registry::new(rules)) as Arc<dyn Members>)
}

#[cfg(not(feature = "kubernetes"))]
fn members_of(_config: &Config) -> Option<Arc<dyn Members>> {
    None
}
