//! Units of a real systemd: the machine's own, started over a copy of the machine's tree that keeps every change to
//! itself, in a world with a stand-in for the API. Root only.

mod units {
    mod protect;
    mod service;
}

use anyhow::{Context as _, Result, ensure};
use std::{fs, time::Duration};
use tidegate_tests::{
    agent::READ_ONLY,
    audit::{self, Record},
    process::{Process, patience},
    programs,
    scene::Scene,
};

const LIMIT: Duration = Duration::from_secs(90);

/// Makes the tree and becomes its systemd. $1 the world's directory, $2 the program under test.
const BOOT: &str = r#"
set -eu
directory="$1" program="$2" scratch="$1/systemd"
mkdir "$scratch"
mount -t tmpfs -o mode=755 none "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/tree"
tree="$scratch/tree"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$tree"
mount -t proc proc "$tree/proc"
mount -t sysfs -o ro sysfs "$tree/sys"
mount -t cgroup2 cgroup2 "$tree/sys/fs/cgroup"
mount -t bpf bpf "$tree/sys/fs/bpf"
mount --rbind /dev "$tree/dev"
mount -t tmpfs -o mode=755 none "$tree/run"
mount -t tmpfs -o mode=755 none "$tree/var/lib"
mkdir -p "$tree$directory"
mount --bind "$directory" "$tree$directory"
mount --bind /etc/hosts "$tree/etc/hosts"
if [ -e /etc/nsswitch.conf ]; then mount --bind /etc/nsswitch.conf "$tree/etc/nsswitch.conf"; fi
touch "$tree/usr/local/bin/tidegate"
mount --bind "$program" "$tree/usr/local/bin/tidegate"
# Nothing of the machine's own is started.
rm -rf "$tree"/etc/systemd/system/*.wants
mkdir -p "$tree/etc/systemd/system"
cp "$directory"/units/* "$tree/etc/systemd/system/"
# A bundle that is one file, as certifi's is.
mkdir -p "$tree/opt/tidegate-test"
cp "$tree/etc/ssl/certs/ca-certificates.crt" "$tree/opt/tidegate-test/cert.pem"
cp "$directory/corp.pem" "$tree/etc/corp.pem"
mkdir "$tree/old-root"
cd "$tree"
pivot_root . old-root
umount -l /old-root
for init in /usr/lib/systemd/systemd /lib/systemd/systemd; do
    if [ -x "$init" ]; then
        exec env -i container=test PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$init" --system \
            --unit=check.service --log-target=console --show-status=0 < /dev/null
    fi
done
echo "there is no systemd to start: install the package systemd" >&2
exit 1
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

/// Runs the test's script, and ends systemd with it.
const CHECK_UNIT: &str = "[Unit]\nDefaultDependencies=no\nSuccessAction=exit-force\nFailureAction=exit-force\n\
                          [Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=/bin/sh DIRECTORY/check.sh\n\
                          StandardOutput=append:DIRECTORY/check.log\nStandardError=append:DIRECTORY/check.log\n";

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
        fs::create_dir(directory.join("units"))?;
        let own = [("tidegate.service", self.daemon.as_str()), ("check.service", CHECK_UNIT)];
        for (name, text) in own.iter().chain(self.units) {
            scene.world.write(&format!("units/{name}"), text.replace("DIRECTORY", shown))?;
        }
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
        scene.world.write("check.sh", self.check)?;
        let unshared =
            ["unshare", "--mount", "--propagation", "private", "--cgroup", "--pid", "--fork", "--kill-child"];
        let program = programs::built("tidegate")?;
        let program = program.to_str().context("the program's name")?;
        let line =
            [unshared.as_slice(), &["--ipc", "--uts", "sh", "-c", BOOT, "boot", shown, program]].concat();
        let booted = Process::run(&mut scene.world.command(&line), directory, LIMIT * patience());
        let log = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
        let all = || format!("{booted:?}\n{}\n{}\n{}", log("check.log"), log("job.log"), log("daemon.log"));
        ensure!(log("check.log").lines().last() == Some("done"), "{}", all());
        audit::read(&directory.join("audit.jsonl"))
    }
}
