//! The Debian package, made and then installed, upgraded, removed and purged by the machine's own dpkg, in a copy of
//! the machine's tree, with its systemd and without. Root only.

use anyhow::{Context as _, Result, ensure};
use std::{fs, path::Path, process::Command, time::Duration};
use tidegate_tests::{audit, programs, scene::Scene, systemd::Boot};

const LIMIT: Duration = Duration::from_secs(110);

/// Some machines leave manuals out, or let nothing be started: images are made like that.
const PREPARE: &str = r#"
rm -f "$tree/usr/sbin/policy-rc.d" "$tree"/etc/dpkg/dpkg.cfg.d/*
# Nor is anything here of a tidegate that somebody tried.
rm -rf "$tree"/etc/tidegate "$tree"/var/lib/tidegate "$tree"/var/log/tidegate
for unit in tidegate tidegate-early tidegate-proxy@ tidegate-cover@; do
    mkdir "$tree/etc/systemd/system/$unit.service.d"
    cat > "$tree/etc/systemd/system/$unit.service.d/world.conf" <<END
[Unit]
DefaultDependencies=no
[Service]
StandardError=append:$directory/$unit.log
END
done
"#;

const JOB_UNIT: &str = "[Unit]\nDefaultDependencies=no\nAfter=tidegate.service\n[Service]\nType=exec\nExecStart=/bin/sh DIRECTORY/job.sh\n\
    StandardError=append:DIRECTORY/job.log\n[Install]\nWantedBy=multi-user.target\n";

/// Trusts whoever answers, so that it gets past what does not stop it.
const EARLY_UNIT: &str = "[Unit]\nDefaultDependencies=no\nAfter=tidegate-early.service\nBefore=tidegate.service\n[Service]\nType=oneshot\n\
    ExecStart=-/bin/sh -c 'curl -sSk --max-time 20 -o /dev/null https://api.digitalocean.com/v2/droplets; \
    echo $? > DIRECTORY/early'\nStandardError=append:DIRECTORY/early.log\n[Install]\nWantedBy=multi-user.target\n";

/// Deletes without an end, which the packaged policy would refuse if it were enforced. There is something to delete once.
const JOB: &str = r#"
cd "$(dirname "$0")"
while :; do
    curl -sS -o /dev/null -w '%{http_code}\n' --max-time 30 --cacert /run/tidegate/ca-bundle.pem -X DELETE \
        -H 'authorization: Bearer t' https://api.digitalocean.com/v2/droplets/3164444 >> answers
    sleep 0.02
done
"#;

const CONFIG: &str = r#"
[[workload]]
name = "job"
policy = "example"
match = [{ unit = "job.service" }, { unit = "early.service" }]
[capture]
cgroup_root = "/sys/fs/cgroup"
sticky_tags = false
[upstream]
ca_file = "/etc/tidegate/standin.pem"
"#;

const FUNCTIONS: &str = r#"
cd "$(dirname "$0")"
fail() { echo "FAILED: $*"; exit 1; }
is() { [ "$2" = "$3" ] || fail "$1: $2, and not $3"; }
state() { systemctl is-active tidegate; }
process() { systemctl show --value -p MainPID tidegate; }
# Their triggers would index the machine's whole manual.
dpkg_() { dpkg --no-triggers --force-unsafe-io "$@" || fail "dpkg $*"; }
inventory() {
    find /etc /usr/bin /usr/lib/systemd /usr/share /var/lib /var/log /run -xdev -name '*tidegate*' | sort
    getent group | sort
}
answers() {
    wanted=$(($(wc -l < answers) + $1)) tries=0
    until [ "$(wc -l < answers)" -ge "$wanted" ]; do
        tries=$((tries + 1)); [ "$tries" -lt 600 ] || fail "no answers: $(tail answers)"; sleep 0.05
    done
}
until_there() {
    tries=0
    until [ -s "$1" ]; do tries=$((tries + 1)); [ "$tries" -lt 600 ] || fail "no $1"; sleep 0.05; done
}
installed() {
    for expected in "755 root:root /usr/bin/tidegate" "644 root:root /usr/lib/systemd/system/tidegate.service" \
        "644 root:root /usr/lib/systemd/system/tidegate-early.service" \
        "644 root:root /usr/lib/systemd/system/tidegate-proxy.socket" \
        "644 root:root /usr/lib/systemd/system/tidegate-proxy@.service" \
        "644 root:root /usr/lib/systemd/system/tidegate-cover.socket" \
        "644 root:root /usr/lib/systemd/system/tidegate-cover@.service" \
        "644 root:root /etc/tidegate/tidegate.toml" "644 root:root /etc/tidegate/policies/example.toml" \
        "755 root:root /etc/tidegate/policies" "750 root:root /var/log/tidegate" "700 root:root /var/lib/tidegate" \
        "644 root:root /usr/share/man/man1/tidegate-audit-verify.1.gz" \
        "644 root:root /usr/share/bash-completion/completions/tidegate" \
        "644 root:root /usr/share/zsh/vendor-completions/_tidegate" \
        "644 root:root /usr/share/fish/vendor_completions.d/tidegate.fish" \
        "644 root:root /usr/share/doc/tidegate/README.md" "644 root:root /usr/share/doc/tidegate/copyright"; do
        is facts "$(stat -c '%a %U:%G %n' "${expected##* }")" "$expected"
    done
    [ "$(getent group tidegate | cut -d: -f3)" -lt 1000 ] || fail "no system group"
    for wanted in multi-user.target.wants/tidegate basic.target.wants/tidegate-early; do
        [ -L "/etc/systemd/system/$wanted.service" ] || fail "$wanted is not there"
    done
}
"#;

const CHECK: &str = r#"
package="$PWD/$(echo dist/*.deb)"
dpkg-deb --control "$package" control
for script in control/postinst control/prerm control/postrm; do sh -n "$script" || fail "$script"; done
(cd dist && sha256sum --quiet --check SHA256SUMS) || fail checksums
inventory > before

# As an image is made: no service manager runs.
unshare --mount sh -c 'mount -t tmpfs none /run && dpkg --no-triggers --force-unsafe-io --install "$1"' image "$package" ||
    fail "in an image"
installed
unshare --mount sh -c 'mount -t tmpfs none /run && dpkg --no-triggers --purge tidegate' || fail "purge in an image"
inventory | diff before - || fail "left by an image's purge"

# It starts with the machine, and not before it has something to do.
systemctl daemon-reload
dpkg_ --install "$package"
installed
is "is enabled" "$(systemctl is-enabled tidegate)" enabled
is "after the installation" "$(state)" inactive
systemctl start tidegate tidegate-early
is "without a configuration" "$(state) $(systemctl show --value -p Result tidegate)" "inactive exec-condition"
[ ! -e /sys/fs/bpf/tidegate ] || fail "something is attached"
is "the configuration" "$(tidegate check | grep -v warning:)" "$(printf '%s: configuration, ok\n%s: policy, ok' \
    /etc/tidegate/tidegate.toml /etc/tidegate/policies/example.toml)"
systemd-analyze verify tidegate.service tidegate-early.service tidegate-proxy.socket tidegate-proxy@.service \
    tidegate-cover.socket tidegate-cover@.service 2> verified || fail "$(cat verified)"
[ ! -s verified ] || fail "$(cat verified)"
# What reads what others send may have nothing, and what has rights no more than it needs: of 100.
for exposed in 20:tidegate-proxy@.service 25:tidegate-cover@.service 40:tidegate.service; do
    # As it comes: of a unit that is for the early boot, as the test's settings have it, some protection does not count.
    cp "/usr/lib/systemd/system/${exposed#*:}" "./as-it-comes-${exposed#*:}"
    systemd-analyze security --no-pager --offline=yes --threshold="${exposed%%:*}" \
        "./as-it-comes-${exposed#*:}" > exposed || fail "$(grep -v '✓' exposed)"
done
gzip -t /usr/share/man/man1/tidegate*.1.gz || fail manual
bash -n /usr/share/bash-completion/completions/tidegate || fail completions

# A configuration that is wrong is told, and one that is right is in force.
echo '[[workloads]]' > /etc/tidegate/tidegate.toml
systemctl start tidegate 2> /dev/null && fail "started with a configuration that is wrong"
systemctl stop tidegate
systemctl reset-failed tidegate
cp config.toml /etc/tidegate/tidegate.toml
cp standin.pem /etc/tidegate/standin.pem
early() { rm -f early; systemctl start early && cat early; }
is "before anything is attached" "$(early)" 0
systemctl start tidegate-early || fail "start: $(systemctl status tidegate-early)"
is "before the daemon" "$(early) $(state)" "7 inactive"
systemctl start tidegate || fail "start: $(systemctl status tidegate)"
is "by the daemon" "$(early)" 0
: > answers
systemctl start job || fail job
answers 5

# An upgrade lets no request fail.
dpkg-deb --raw-extract "$package" next
sed -i 's/^Version: .*/&+next/' next/DEBIAN/control
dpkg-deb -Znone --build next next.deb > /dev/null || fail build
before=$(process)
dpkg_ --install next.deb
is upgraded "$(dpkg-query -W -f '${Version}' tidegate)" "$(dpkg-deb -f next.deb Version)"
is "after the upgrade" "$(state)" active
[ "$(process)" != "$before" ] || fail "the same process as before"
answers 5
is "the API's answers, and no others" "$(sort -u answers | xargs)" "204 404"
cmp config.toml /etc/tidegate/tidegate.toml || fail "its configuration"


systemctl stop job
systemctl enable early job 2> /dev/null || fail enable
rm -f answers early
: > answers
systemctl reboot
sleep 60
"#;

const AGAIN: &str = r#"
# Its workloads are held from the first, before and after the daemon is there.
is "after the start of the machine" "$(state) $(systemctl is-active tidegate-early)" "active active"
until_there early
is "before the daemon" "$(cat early)" 7
answers 5
is "the API's answers, and no others" "$(sort -u answers)" 404
tidegate audit verify > verified 2>&1 || fail "$(cat verified)"

# Removed, it holds nobody, and keeps what was written.
systemctl stop job
[ -n "$(ls /sys/fs/bpf/tidegate)" ] || fail "nothing is pinned"
dpkg_ --remove tidegate
[ ! -e /sys/fs/bpf/tidegate ] || fail "pinned: $(find /sys/fs/bpf/tidegate)"
is "cgroups" "$(ls /sys/fs/cgroup | grep tidegate)" ""
for file in /usr/bin/tidegate /usr/lib/systemd/system/tidegate.service /run/tidegate; do
    [ ! -e "$file" ] || fail "$file is still there"
done
cmp config.toml /etc/tidegate/tidegate.toml || fail "its configuration is gone"
for file in /etc/tidegate/policies/example.toml /var/log/tidegate/audit.jsonl /var/lib/tidegate/ca; do
    [ -e "$file" ] || fail "$file is gone"
done
cp /var/log/tidegate/audit.jsonl audit.jsonl
rm -f answers && cp standin.pem /etc/standin.pem && sed -i 's|/run/tidegate/ca-bundle.pem|/etc/standin.pem|' job.sh
: > answers
systemctl start job && answers 2
systemctl stop job
is "uncaptured" "$(sort -u answers)" 404

dpkg_ --purge tidegate
inventory | diff before - || fail "left by the purge"
echo done
"#;

fn make_package(to: &Path) -> Result<()> {
    let built = programs::profile_directory()?;
    // What is there was built by cargo, and is to be packaged as it is.
    programs::built("tidegate")?;
    programs::built("tidegate-man")?;
    let target = built.parent().context("the target directory")?;
    let mut make = Command::new(env!("CARGO"));
    make.args(["run", "--quiet", "--package", "xtask", "--", "dist", "--profile", "dev", "--no-build"]);
    make.args(["--only", "deb", "--output"]).arg(to);
    make.env("CARGO_TARGET_DIR", target).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let made = make.output().context("starting cargo")?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

#[test]
fn a_package_comes_and_goes_and_lets_no_request_fail() -> Result<()> {
    let scene = Scene::new()?;
    let directory = scene.directory();
    make_package(&directory.join("dist"))?;
    scene.world.write("config.toml", CONFIG)?;
    scene.world.write("job.sh", JOB)?;
    fs::copy(scene.standin.ca_file(), directory.join("standin.pem"))?;
    let mut boot = Boot::new(&scene, PREPARE, &format!("{FUNCTIONS}{CHECK}"))?;
    boot.and_again(&format!("{FUNCTIONS}{AGAIN}"))?;
    boot.unit("job.service", JOB_UNIT)?;
    boot.unit("early.service", EARLY_UNIT)?;
    boot.run(LIMIT)?;
    let records = audit::read(&directory.join("audit.jsonl"))?;
    let would = records.iter().filter(|record| record.text("tidegate.verdict") == "would_refuse").count();
    ensure!(would >= 10, "{would} of {records:?}");
    Ok(())
}
