//! One agent for one root and one set of pins; what an agent takes over for good, and what release takes away.

use crate::world::{FLOWS, World, running};
use std::{fs, path::Path};
use tidegate::{
    capture::pins::{self, Pins, removal},
    cli::release::{self, ReleaseArgs},
};

#[test]
fn a_second_agent_is_refused_and_told_who_is_at_work() {
    let world = World::new();
    let first = world.adopt();
    let before = running(world.cgroup());
    let pid = format!("process {} (", std::process::id());
    let other_pins = Pins::Shared(world.bpffs().join("others/v1"));
    let other_root = world.cgroup().join("below");
    fs::create_dir(&other_root).unwrap();
    for (pins, cgroup) in [
        (Pins::on(world.bpffs()), world.cgroup()),
        (other_pins, world.cgroup()),
        (Pins::on(world.bpffs()), &other_root),
    ] {
        let Err(error) = world.start_with(&pins, cgroup, FLOWS) else { panic!("a second agent started") };
        assert!(error.to_string().contains(&pid), "{error}");
    }
    assert_eq!(running(world.cgroup()), before);
    drop(first);
    world.adopt();
}

#[test]
fn another_root_is_guarded_before_the_old_one_is_let_go() {
    let world = World::new();
    let old = world.cgroup().join("old");
    let new = world.cgroup().join("new");
    for cgroup in [&old, &new] {
        fs::create_dir(cgroup).unwrap();
    }
    let pins = Pins::on(world.bpffs());
    drop(world.start_with(&pins, &old, FLOWS).unwrap());
    let agent = world.start_with(&pins, &new, FLOWS).unwrap();
    agent.attached.verify().unwrap();
    for cgroup in [&old, &new] {
        assert!(running(cgroup).iter().all(|programs| programs.len() == 1));
    }
    let hooks = running(&old).len();
    assert_eq!(agent.attached.retire_others().unwrap().len(), hooks);
    assert!(running(&old).iter().all(Vec::is_empty));
    agent.attached.verify().unwrap();
}

#[test]
fn another_layout_holds_until_the_new_one_is_ready() {
    let world = World::new();
    let before = Pins::Shared(pins::base(world.bpffs()).join("v0"));
    let mut old = world.start_with(&before, world.cgroup(), FLOWS).unwrap();
    old.subjects.add(world.cgroup()).unwrap();
    drop(old);
    let agent = world.adopt();
    assert!(running(world.cgroup()).iter().all(|programs| programs.len() == 2));
    assert_eq!(world.connect().output(), "error 1");
    let (hooks, removed) = (running(world.cgroup()).len(), agent.attached.retire_others().unwrap());
    assert!(
        removed.len() > hooks
            && removed.iter().all(|path| path.starts_with(pins::base(world.bpffs()).join("v0")))
    );
    assert!(running(world.cgroup()).iter().all(|programs| programs.len() == 1));
    agent.attached.verify().unwrap();
}

#[test]
fn release_waits_for_the_agent_and_leaves_nothing() {
    let world = World::new();
    let agent = world.first();
    let root = [world.cgroup()];
    let error = removal::release(world.bpffs(), &root, false).unwrap_err();
    assert!(error.to_string().contains(&format!("process {} (", std::process::id())), "{error}");
    agent.capture.attached.verify().unwrap();
    drop(agent);
    drop(
        world.start_with(&Pins::Shared(pins::base(world.bpffs()).join("v0")), world.cgroup(), FLOWS).unwrap(),
    );

    let hooks = running(world.cgroup()).len();
    let removed = removal::release(world.bpffs(), &root, false).unwrap();
    assert!(removed.len() > 2 * hooks, "{removed:?}");
    assert!(running(world.cgroup()).iter().all(Vec::is_empty));
    assert_eq!(fs::read_dir(world.bpffs()).unwrap().filter(|entry| !is_debug(entry)).count(), 0);
    assert_eq!(world.connect().output(), "peer 192.0.2.7 443");
    world.server.accept().unwrap();
    assert!(removal::release(world.bpffs(), &root, false).unwrap().is_empty());
}

/// The kernel puts files of its own into every bpffs.
fn is_debug(entry: &std::io::Result<fs::DirEntry>) -> bool {
    entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|extension| extension == "debug"))
}

#[test]
fn release_opens_the_gate_in_one_step() {
    let world = World::new();
    drop(world.first());
    let removed = removal::release(world.bpffs(), &[], false).unwrap();
    let order: Vec<&str> =
        removed.iter().filter_map(|path| path.file_name().and_then(|name| name.to_str())).collect();
    let at = |name: &str| order.iter().position(|removed| *removed == name).unwrap();
    assert!(at("connect6") < at("egress") && at("connect4") < at("egress") && at("egress") < at("release"));
    assert!(at("release") < at("CGROUPS"));
}

#[test]
fn the_release_command_says_what_it_did() {
    let world = World::new();
    nix::mount::mount(
        Some(world.bpffs()),
        Path::new(pins::BPFFS),
        None::<&str>,
        nix::mount::MsFlags::MS_BIND,
        None::<&str>,
    )
    .unwrap();
    let config =
        world.bpffs().parent().unwrap().join(format!("tidegate-release-{}.toml", std::process::id()));
    fs::write(&config, format!("capture.cgroup_root = {:?}\n", world.cgroup())).unwrap();
    let run = |force| {
        let mut out = Vec::new();
        let result = release::run(&ReleaseArgs { config: Some(config.clone()), force }, &mut out);
        (result.map_err(|error| error.to_string()), String::from_utf8(out).unwrap())
    };
    let agent = world.first();
    let (result, out) = run(false);
    assert!(result.unwrap_err().contains("stop it first") && out.is_empty());
    let (result, out) = run(true);
    assert_eq!(result, Ok(0));
    assert!(out.contains("removed /sys/fs/bpf/tidegate/v1/links/connect4\n"), "{out}");
    assert!(out.trim_end().ends_with("the daemon's workloads are no longer held by anything"), "{out}");
    let missing = agent.capture.attached.verify().unwrap_err();
    let hooks = running(world.cgroup()).len();
    assert!(missing.0.len() > hooks, "{missing}");
    assert_eq!(run(false), (Ok(0), "nothing to release in /sys/fs/bpf/tidegate\n".to_owned()));
    fs::remove_file(config).unwrap();
}
