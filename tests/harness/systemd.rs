//! The machine's own systemd, started over a copy of the machine's tree that keeps every change to itself, in a world.

use crate::{process::Process, scene::Scene};
use anyhow::{Context as _, Result, ensure};
use std::{fmt::Write as _, fs, path::Path, process::Stdio, time::Duration};

/// Makes the tree, and boots it as often as it asks for that. $1 the world's directory.
const BOOT: &str = r#"
set -eu
directory="$1" scratch="$1/systemd"
mkdir "$scratch"
mount -t tmpfs -o mode=755 none "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/tree"
tree="$scratch/tree"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$tree"
mount -t proc proc "$tree/proc"
mount -t sysfs -o ro sysfs "$tree/sys"
mount -t cgroup2 cgroup2 "$tree/sys/fs/cgroup"
mount --rbind /dev "$tree/dev"
mkdir -p "$tree$directory"
mount --bind "$directory" "$tree$directory"
mount --bind /etc/hosts "$tree/etc/hosts"
if [ -e /etc/nsswitch.conf ]; then mount --bind /etc/nsswitch.conf "$tree/etc/nsswitch.conf"; fi
# Nothing of the machine's own is started.
rm -rf "$tree"/etc/systemd/system/*.wants
mkdir -p "$tree/etc/systemd/system"
cp -r "$directory"/units/* "$tree/etc/systemd/system/"
. "$directory/prepare.sh"
mkdir "$tree/old-root"
cd "$tree"
pivot_root . old-root
umount -l /old-root
for init in /usr/lib/systemd/systemd /lib/systemd/systemd; do
    [ ! -x "$init" ] || break
done
[ -x "$init" ] || { echo "there is no systemd to start: install the package systemd" >&2; exit 1; }
unit=check.service
while :; do
    status=0
    unshare --pid --fork --mount --propagation private sh -c "$2" boot "$init" "$unit" || status=$?
    # reboot(2) ends the first process of a pid namespace by a hangup.
    [ "$status" = 129 ] || exit "$status"
    unit=multi-user.target
done
"#;

/// What lives no longer than a machine runs, and its first process. $1 systemd, $2 the unit.
const ONCE: &str = r#"
set -eu
mount -t proc proc /proc
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs -o mode=755 none /run
# As on a machine, so that a unit's credentials reach it.
mount --make-rshared /
exec env -i container=test PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$1" --system "--unit=$2" \
    --log-target=console --show-status=0 < /dev/null
"#;

/// Ends the machine with its end.
const CHECK_UNIT: &str = "[Unit]\nDefaultDependencies=no\nSuccessAction=exit-force\nFailureAction=exit-force\n\
    [Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=/bin/sh DIRECTORY/check.sh\n\
    StandardOutput=append:DIRECTORY/check.log\nStandardError=append:DIRECTORY/check.log\n";

/// A tree that is made and not yet booted.
#[derive(Debug)]
pub struct Boot<'a> {
    scene: &'a Scene,
    shown: &'a str,
}

/// One that runs, until it is dropped.
#[derive(Debug)]
pub struct Booted<'a> {
    process: Process,
    scene: &'a Scene,
}

impl<'a> Boot<'a> {
    /// One that is prepared by a shell script, which is given `$tree` and `$directory`, before its systemd starts, and
    /// whose purpose is the script `check`; its last line is `done` where all is well.
    ///
    /// # Errors
    /// When the scripts cannot be written.
    pub fn new(scene: &'a Scene, prepare: &str, check: &str) -> Result<Self> {
        let directory = scene.directory();
        let shown = directory.to_str().context("the directory's name")?;
        fs::create_dir(directory.join("units"))?;
        scene.world.write("prepare.sh", prepare)?;
        scene.world.write("check.sh", check)?;
        let mut boot = Self { scene, shown };
        boot.unit("check.service", CHECK_UNIT)?;
        Ok(boot)
    }

    /// With a unit; `DIRECTORY` in it is the world's.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn unit(&mut self, name: &str, text: &str) -> Result<()> {
        let name = format!("units/{name}");
        if let Some(parent) = self.scene.directory().join(&name).parent() {
            fs::create_dir_all(parent)?;
        }
        self.scene.world.write(&name, text.replace("DIRECTORY", self.shown)).map(drop)
    }

    /// Where `check` ends by `systemctl reboot`, the machine is started again with all that is enabled, and then this
    /// script decides.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn and_again(&mut self, check: &str) -> Result<()> {
        self.scene.world.write("again.sh", check)?;
        let unit = CHECK_UNIT.replacen("[Unit]\n", "[Unit]\nAfter=tidegate.service\n", 1);
        self.unit("again.service", &unit.replace("check.sh", "again.sh"))?;
        self.unit("multi-user.target.d/again.conf", "[Unit]\nWants=again.service\n")
    }

    /// Boots it and waits for the end of the check.
    ///
    /// # Errors
    /// When the check has not come to its end, with every log of the world's directory.
    pub fn run(self, limit: Duration) -> Result<()> {
        self.begin()?.finish(limit)
    }

    /// Boots it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn begin(self) -> Result<Booted<'a>> {
        let unshared = ["unshare", "--mount", "--propagation", "private", "--cgroup", "--pid", "--fork"];
        let rest = ["--kill-child", "--ipc", "--uts", "sh", "-c", BOOT, "boot", self.shown, ONCE];
        let line = [unshared.as_slice(), &rest].concat();
        let mut command = self.scene.world.command(&line);
        let process = Process::start(command.stdin(Stdio::null()), self.scene.directory())?;
        Ok(Booted { process, scene: self.scene })
    }
}

impl Booted<'_> {
    /// Waits for the end of the check.
    ///
    /// # Errors
    /// As [`Boot::run`].
    pub fn finish(self, limit: Duration) -> Result<()> {
        let booted = self.process.finish(limit);
        let directory = self.scene.directory();
        let checked = fs::read_to_string(directory.join("check.log")).unwrap_or_default();
        ensure!(checked.lines().last() == Some("done"), "{booted:?}\n{}", logs(directory)?);
        Ok(())
    }

    /// Whether it has ended, in whatever way.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.process.ended()?.is_some())
    }
}

/// What the logs of a directory say.
///
/// # Errors
/// When they cannot be read.
pub fn logs(directory: &Path) -> Result<String> {
    let mut text = String::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let log = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
            writeln!(text, "== {}\n{log}", path.display())?;
        }
    }
    Ok(text)
}
