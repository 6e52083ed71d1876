//! Units of a real systemd: the machine's own, started over a copy of the machine's tree that keeps every change to
//! itself, in a world with a stand-in for the API. Root only.

mod units {
    mod protect;
    mod service;
}

use anyhow::{Context as _, Result};
use std::{fs, os::unix::fs::symlink, time::Duration};
use tidegate_tests::{
    agent::READ_ONLY,
    audit::{self, Record},
    programs,
    scene::Scene,
    systemd::Boot,
};

const LIMIT: Duration = Duration::from_secs(90);

/// What is in the tree beside the machine's own.
const PREPARE: &str = r#"
mount -t tmpfs -o mode=755 none "$tree/var/lib"
touch "$tree/usr/local/bin/tidegate"
mount --bind "$directory/tidegate" "$tree/usr/local/bin/tidegate"
# A bundle that is one file, as certifi's is.
mkdir -p "$tree/opt/tidegate-test"
cp "$tree/etc/ssl/certs/ca-certificates.crt" "$tree/opt/tidegate-test/cert.pem"
cp "$directory/corp.pem" "$tree/etc/corp.pem"
"#;

/// The daemon's unit as it is installed, but for where things are.
fn daemon_unit() -> String {
    const INSTALLED: &str = include_str!("../deploy/systemd/tidegate.service");
    let changes = [
        ("[Unit]\n", "[Unit]\nDefaultDependencies=no\n"),
        (
            "ExecStart=/usr/bin/tidegate daemon\n",
            "ExecStart=/usr/local/bin/tidegate daemon --config DIRECTORY/tidegate.toml\n\
             StandardError=append:DIRECTORY/daemon.log\n",
        ),
        ("ReadWritePaths=", "ReadWritePaths=DIRECTORY "),
        // The world's directory is a temporary one.
        ("PrivateTmp=yes\n", ""),
        ("ExecReload=/usr/bin/tidegate", "ExecReload=/usr/local/bin/tidegate"),
    ];
    changes.into_iter().fold(INSTALLED.to_owned(), |unit, (from, to)| {
        assert!(unit.contains(from), "{from}");
        unit.replacen(from, to, 1)
    })
}

/// That of the process which serves.
fn proxy_unit() -> String {
    let unit = in_a_world(include_str!("../deploy/systemd/tidegate-proxy@.service"));
    let unit = unit.replace("/usr/bin/tidegate", "/usr/local/bin/tidegate");
    unit.replace("StandardError=journal", "StandardError=append:DIRECTORY/proxy.log")
}

/// A unit of a machine that starts nothing but what is asked for.
fn in_a_world(unit: &str) -> String {
    unit.replacen("[Unit]\n", "[Unit]\nDefaultDependencies=no\n", 1)
}

/// What is there when systemd starts.
struct Machine<'a> {
    /// The daemon's unit.
    daemon: String,
    /// The other units, with `DIRECTORY` for the world's directory.
    units: &'a [(&'a str, &'a str)],
    /// The `[[workload]]` tables.
    workloads: &'a str,
    /// The script that decides; its last line is `done` where all is well.
    check: &'a str,
}

impl Machine<'_> {
    /// Boots it, and gives the records of what happened until its script was done.
    fn boot(&self, scene: &Scene) -> Result<Vec<Record>> {
        let directory = scene.directory();
        let shown = directory.to_str().context("the directory's name")?;
        fs::create_dir(directory.join("policies"))?;
        scene.world.write("policies/look.toml", READ_ONLY)?;
        let ca_file = scene.standin.ca_file();
        fs::copy(&ca_file, directory.join("corp.pem"))?;
        let config = format!(
            "policy_dir = \"{shown}/policies\"\n{}[capture]\ncgroup_root = \"/sys/fs/cgroup\"\nsticky_tags = false\n\
             [upstream]\nca_file = {ca_file:?}\n[audit]\npath = \"{shown}/audit.jsonl\"\njournald = true\n",
            self.workloads
        );
        scene.world.write("tidegate.toml", config)?;
        symlink(programs::built("tidegate")?, directory.join("tidegate"))?;
        let mut boot = Boot::new(scene, PREPARE, self.check)?;
        boot.unit("tidegate.service", &self.daemon)?;
        boot.unit(
            "tidegate-proxy.socket",
            &in_a_world(include_str!("../deploy/systemd/tidegate-proxy.socket")),
        )?;
        boot.unit("tidegate-proxy@.service", &proxy_unit())?;
        // Whom the daemon requires, though nothing here is in a container.
        boot.unit(
            "tidegate-cover.socket",
            &in_a_world(include_str!("../deploy/systemd/tidegate-cover.socket")),
        )?;
        boot.unit(
            "tidegate-cover@.service",
            &in_a_world(include_str!("../deploy/systemd/tidegate-cover@.service")),
        )?;
        self.units.iter().try_for_each(|(name, text)| boot.unit(name, text))?;
        boot.run(LIMIT)?;
        audit::read(&directory.join("audit.jsonl"))
    }
}
