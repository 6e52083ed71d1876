//! `tidegate protect` with a real systemd: the machine's own, started over a copy of the machine's tree that keeps
//! every change to itself, in a world with a stand-in for the API. Root only.

use anyhow::{Context as _, Result, ensure};
use std::{fs, time::Duration};
use tidegate_tests::{
    agent::READ_ONLY,
    audit,
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
    ];
    changes.into_iter().fold(INSTALLED.to_owned(), |unit, (from, to)| {
        assert!(unit.contains(from), "{from}");
        unit.replacen(from, to, 1)
    })
}

const UNITS: [(&str, &str); 3] = [
    // Tells what it sees, and again at each request, for as long as it runs.
    (
        "job.service",
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=exec\nEnvironment=NODE_EXTRA_CA_CERTS=/etc/corp.pem\n\
         ExecStart=/bin/sh DIRECTORY/job.sh\nStandardError=append:DIRECTORY/job.log\n",
    ),
    // Has a store of its own, and is protected while the daemon is at work.
    (
        "late.service",
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nEnvironment=CURL_CA_BUNDLE=/etc/late.pem\n\
         ExecStart=cmp /etc/late.pem /run/tidegate/trust/etc-late.pem\n\
         ExecStart=/bin/sh -c '[ \"$(grep -c BEGIN /etc/late.pem)\" = 2 ]'\n\
         StandardError=append:DIRECTORY/job.log\n",
    ),
    (
        "check.service",
        "[Unit]\nDefaultDependencies=no\nSuccessAction=exit-force\nFailureAction=exit-force\n\
         [Service]\nType=oneshot\nExecStart=/bin/sh DIRECTORY/check.sh\n\
         StandardOutput=append:DIRECTORY/check.log\nStandardError=append:DIRECTORY/check.log\n",
    ),
];

/// Answers each number that it is asked in the file `ask`: its programs have no variables, or its own ones.
const JOB: &str = r#"
cd "$(dirname "$0")"
get() { "$@" -sS -o /dev/null -w '%{http_code}\n' -H 'authorization: Bearer t' https://api.digitalocean.com/v2/droplets 2> /dev/null; }
hashed() {
    env -i openssl s_client -verify_return_error -no-CAfile -no-CAstore -CApath /etc/ssl/certs -connect api.digitalocean.com:443 \
        < /dev/null > /dev/null 2>&1 && echo 200 || echo 000
}
while :; do
    number=$(cat ask 2> /dev/null)
    if [ -n "$number" ] && [ ! -e "answer-$number" ]; then
        {
            echo "bundle $(get env -i curl)"
            echo "variables $(get curl)"
            echo "directory $(hashed)"
            echo "file $(get env -i curl --cacert /opt/tidegate-test/cert.pem)"
            echo "node $NODE_EXTRA_CA_CERTS $(grep -c BEGIN "$NODE_EXTRA_CA_CERTS")"
            echo "writable $(touch /etc/ssl/certs/x 2> /dev/null && echo yes || echo no)"
        } > draft
        mv draft "answer-$number"
    fi
    sleep 0.05
done
"#;

const CHECK: &str = r#"
cd "$(dirname "$0")"
fail() { echo "FAILED: $*"; cat answer-*; exit 1; }
answer() {
    echo "$1" > ask
    tries=0
    while [ ! -e "answer-$1" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 400 ] || fail "no answer $1"
        sleep 0.05
    done
}
is_trusted() {
    answer "$1"
    for how in bundle variables directory file; do grep -qx "$how 200" "answer-$1" || fail "$2: $how"; done
    grep -qx "node /etc/corp.pem $3" "answer-$1" || fail "$2: the unit's own setting"
    grep -qx "writable no" "answer-$1" || fail "$2: read-only"
}
systemd-analyze --version | head -1
facts() { (cd /etc/systemd && find . -printf '%y %m %p %l\n' | sort; cat system/*.service); }
facts > before
bundle=$(sha256sum < /etc/ssl/certs/ca-certificates.crt)

# Without: not captured, and no certificate of the stand-in's is trusted.
systemctl start job || fail "start before"
answer 1
for how in bundle variables directory file; do grep -qx "$how 000" answer-1 || fail "trusted before: $how"; done
systemctl stop job

tidegate protect job --workload job --config ./tidegate.toml > told || fail protect
grep -qx "ran systemctl daemon-reload" told && grep -q "systemctl restart job.service" told || fail "$(cat told)"
[ "$(systemctl show --value -p NeedDaemonReload job)" = no ] || fail reload
systemd-analyze verify job.service 2> verified || fail "$(cat verified)"
if [ -s verified ]; then fail "$(cat verified)"; fi
tidegate protect job --config ./tidegate.toml | grep -q "up to date" || fail "a second time"
[ "$(systemctl is-active tidegate)" = inactive ] || fail "nothing was started"

# The daemon comes with it, and has the copies ready.
systemctl start job || fail "start: $(systemctl status job tidegate; cat daemon.log)"
[ "$(systemctl is-active tidegate)" = active ] || fail "the daemon"
is_trusted 2 "the first start" 2
[ "$(sha256sum < /etc/ssl/certs/ca-certificates.crt)" = "$bundle" ] || fail "the system's own bundle"
[ "$(grep -c BEGIN /etc/corp.pem)" = 1 ] || fail "the unit's own file"

cp corp.pem /etc/late.pem
tidegate protect late --config ./tidegate.toml | grep -q "copied the trust stores" || fail "protect while it runs"
systemctl start late || fail "start late"
tidegate unprotect late > /dev/null || fail "unprotect late"

# What runs on trusts the next CA, and sees what the system's tools change.
process=$(systemctl show --value -p MainPID job)
tidegate ca rotate --now --config ./tidegate.toml > /dev/null || fail rotate
tries=0
until [ "$(tidegate ca bundle --anchors --config ./tidegate.toml | sha256sum)" = "$(sha256sum < /run/tidegate/trust/ca.pem)" ]; do
    tries=$((tries + 1)); [ "$tries" -lt 200 ] || fail "the next CA is not published"; sleep 0.05
done
is_trusted 3 "after a rotation" 2
[ "$(systemctl show --value -p MainPID job)" = "$process" ] || fail "started again"

# Without a copy it does not start, and nothing else happens.
systemctl stop job
mv /run/tidegate/trust/etc-ssl-certs away
systemctl start job 2> /dev/null && sleep 0.3
[ "$(systemctl is-active job)" = failed ] || fail "started without its stores"
mv away /run/tidegate/trust/etc-ssl-certs
systemctl start job || fail "start again"
systemctl stop tidegate
[ "$(systemctl is-active job)" = inactive ] || fail "goes on without the daemon"

tidegate unprotect job > told || fail unprotect
grep -qx "ran systemctl daemon-reload" told || fail "$(cat told)"
facts | diff before - || fail "as before"
systemctl start job
[ "$(systemctl is-active tidegate)" = inactive ] || fail "the daemon is started no more"
answer 4
grep -qx "node /etc/corp.pem 1" answer-4 || fail "its own setting again"
systemctl stop job
echo done
"#;

#[test]
fn a_protected_unit_trusts_the_gate_and_an_unprotected_one_is_as_before() -> Result<()> {
    let scene = Scene::new()?;
    let directory = scene.directory();
    let shown = directory.to_str().context("the directory's name")?;
    fs::create_dir(directory.join("units"))?;
    scene.world.write("units/tidegate.service", daemon_unit().replace("DIRECTORY", shown))?;
    for (name, text) in UNITS {
        scene.world.write(&format!("units/{name}"), text.replace("DIRECTORY", shown))?;
    }
    fs::create_dir(directory.join("policies"))?;
    scene.world.write("policies/look.toml", READ_ONLY)?;
    let ca_file = scene.standin.ca_file();
    fs::copy(&ca_file, directory.join("corp.pem"))?;
    let config = format!(
        "policy_dir = \"{shown}/policies\"\n[[workload]]\nname = \"job\"\npolicy = \"look\"\n\
         match = [{{ unit = \"job.service\" }}, {{ unit = \"late.service\" }}]\n[capture]\ncgroup_root = \"/sys/fs/cgroup\"\n\
         sticky_tags = false\n[upstream]\nca_file = {ca_file:?}\n[audit]\npath = \"{shown}/audit.jsonl\"\n"
    );
    scene.world.write("tidegate.toml", config)?;
    scene.world.write("job.sh", JOB)?;
    scene.world.write("check.sh", CHECK)?;
    let unshared =
        ["unshare", "--mount", "--propagation", "private", "--cgroup", "--pid", "--fork", "--kill-child"];
    let program = programs::built("tidegate")?;
    let program = program.to_str().context("the program's name")?;
    let line = [unshared.as_slice(), &["--ipc", "--uts", "sh", "-c", BOOT, "boot", shown, program]].concat();
    let booted = Process::run(&mut scene.world.command(&line), directory, LIMIT * patience());
    let log = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
    let all = || format!("{booted:?}\n{}\n{}\n{}", log("check.log"), log("job.log"), log("daemon.log"));
    ensure!(log("check.log").lines().last() == Some("done"), "{}", all());
    let records = audit::read(&directory.join("audit.jsonl"))?;
    // Four ways to ask, before and after the rotation.
    ensure!(records.len() >= 8, "{records:?}");
    for record in &records {
        ensure!(record.text("tidegate.workload") == "job", "{record:?}");
    }
    ensure!(
        records.iter().any(|record| record.text("tidegate.cgroup") == "/system.slice/job.service"),
        "{records:?}"
    );
    Ok(())
}
