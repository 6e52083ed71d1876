//! `tidegate protect`: a unit trusts the gate, and is as before once its protection is taken away.

use crate::{Machine, daemon_unit};
use anyhow::{Result, ensure};
use tidegate_tests::scene::Scene;

const UNITS: [(&str, &str); 2] = [
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
    scene.world.write("job.sh", JOB)?;
    let workloads = "[[workload]]\nname = \"job\"\npolicy = \"look\"\n\
                     match = [{ unit = \"job.service\" }, { unit = \"late.service\" }]\n";
    let machine = Machine { daemon: daemon_unit(), units: &UNITS, workloads, check: CHECK };
    let records = machine.boot(&scene)?;
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
