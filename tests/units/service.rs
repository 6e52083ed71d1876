//! The daemon as a service: subjects from their first moment, and no request that fails while it is started again.

use crate::{Machine, daemon_unit};
use anyhow::{Result, ensure};
use std::{fs, process::Command};
use tidegate_tests::{audit::Record, scene::Scene};

const UNITS: [(&str, &str); 2] = [
    // Trusts the stand-in and not the gate: what is not captured gets an answer.
    (
        "burst@.service",
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\n\
         ExecStart=-/usr/bin/curl --silent --max-time 60 --output /dev/null --write-out '%%{http_code}\\n' \
         --cacert DIRECTORY/corp.pem --header 'Authorization: Bearer t' https://api.digitalocean.com/v2/droplets\n\
         StandardOutput=append:DIRECTORY/codes\n",
    ),
    // Asks again and again, each time by a new connection, until it is told to stop.
    (
        "load.service",
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=exec\nExecStart=/bin/sh DIRECTORY/load.sh\n\
         StandardOutput=append:DIRECTORY/load\nStandardError=append:DIRECTORY/job.log\n",
    ),
];

const WORKLOADS: &str = "[[workload]]\nname = \"burst\"\npolicy = \"look\"\nmatch = [{ unit = \"burst@.service\" }]\n\
                         [[workload]]\nname = \"load\"\npolicy = \"look\"\nmatch = [{ unit = \"load.service\" }]\n";

const LOAD: &str = r#"
cd "$(dirname "$0")"
while [ ! -e enough ]; do
    curl -sS --max-time 60 -o /dev/null -w '%{http_code}\n' --cacert /run/tidegate/ca.pem \
        -H 'authorization: Bearer t' https://api.digitalocean.com/v2/droplets
done
curl -sS -X DELETE -o /dev/null -w '%{http_code} for a deletion\n' --cacert /run/tidegate/ca.pem \
    -H 'authorization: Bearer t' https://api.digitalocean.com/v2/droplets/3164444
"#;

const FUNCTIONS: &str = r#"
cd "$(dirname "$0")"
fail() { echo "FAILED: $*"; exit 1; }
until_true() {
    what="$1"; shift; tries=0
    until "$@"; do tries=$((tries + 1)); [ "$tries" -lt 600 ] || fail "$what"; sleep 0.05; done
}
process() { systemctl show --value -p MainPID tidegate; }
is_new() { now=$(process); [ "$now" != 0 ] && [ "$now" != "$before" ] && [ "$(systemctl is-active tidegate)" = active ]; }
goes_on() { count=$(wc -l < load); until_true "the load goes on" more; }
more() { [ "$(wc -l < load)" -gt $((count + 5)) ]; }
systemctl start tidegate || fail "start: $(systemctl status tidegate; cat daemon.log)"
"#;

const STARTS: &str = r#"
number=0
while [ "$number" -lt 1000 ]; do
    names=""
    for _ in $(seq 50); do number=$((number + 1)); names="$names burst@$number"; done
    systemctl start $names || fail "start up to $number"
done
echo done
"#;

#[test]
fn a_template_units_jobs_are_subjects_before_their_first_connect() -> Result<()> {
    let scene = Scene::new()?;
    let check = format!("{FUNCTIONS}{STARTS}");
    let machine = Machine { daemon: daemon_unit(), units: &UNITS, workloads: WORKLOADS, check: &check };
    let records = machine.boot(&scene)?;
    let codes = fs::read_to_string(scene.directory().join("codes"))?;
    let (count, answered) = (codes.lines().count(), codes.lines().filter(|code| *code != "000").count());
    ensure!((count, answered) == (1000, 0), "{count} jobs, of which {answered} got past the gate");
    ensure!(scene.requests()?.is_empty(), "a request reached the API");
    let rejected = |record: &&Record| {
        record.text("tidegate.workload") == "burst" && record.reason() == "client_rejected_ca"
    };
    let count: u64 =
        records.iter().filter(rejected).map(|record| record.number("tidegate.count").unwrap_or(1)).sum();
    ensure!(count == 1000, "{count} of 1000 jobs have a record");
    Ok(())
}

const RESTARTS: &str = r#"
systemctl start systemd-journald || fail "start the journal"
systemctl start load || fail "start the load"
until_true "the first answers" [ -s load ]

# Whatever is wrong with a file is told, and changes nothing.
systemctl reload tidegate || fail "a reload without changes"
echo 'allow = ["droplet:raed"]' > policies/look.toml
systemctl reload tidegate && fail "a bad policy is loaded"
goes_on
echo 'allow = ["droplet:read"]' > policies/look.toml
systemctl reload tidegate || fail "a good policy is not loaded"
goes_on

for _ in 1 2 3; do
    before=$(process)
    systemctl restart tidegate || fail "restart"
    is_new || fail "not restarted"
    goes_on
done

# A crash, and an event loop that stands still.
before=$(process)
kill -KILL "$before"
until_true "started after a crash" is_new
goes_on
before=$(process)
kill -STOP "$before"
until_true "started by the watchdog" is_new
goes_on
systemctl show --value -p Result tidegate
touch enough
until_true "the deletion" grep -q deletion load
tidegate status > status || fail "the status: $(cat status)"
in_journal() { journalctl --no-pager -o cat TIDEGATE_WORKLOAD=load TIDEGATE_DECISION=deny > journal 2>&1; [ -s journal ]; }
until_true "the journal" in_journal
grep -qx 'load: deny DELETE /v2/droplets/3164444 (missing_scope)' journal || fail "$(cat journal)"
echo done
"#;

#[test]
fn no_request_fails_while_the_daemon_is_started_again() -> Result<()> {
    let scene = Scene::new()?;
    scene.world.write("load.sh", LOAD)?;
    let check = format!("{FUNCTIONS}{RESTARTS}");
    let daemon = daemon_unit().replace("WatchdogSec=30s", "WatchdogSec=3s");
    let machine = Machine { daemon, units: &UNITS, workloads: WORKLOADS, check: &check };
    let records = machine.boot(&scene)?;
    let told = fs::read_to_string(scene.directory().join("load"))?;
    let of = |code: &str| told.lines().filter(|line| *line == code).count();
    let others: Vec<_> = told.lines().filter(|line| *line != "200").collect();
    // What a killed daemon held open cannot be saved: as many requests as there were at once, each time.
    let (lost, [deletion]) = (of("000"), &others[others.len() - 1..]) else { unreachable!() };
    ensure!(*deletion == "403 for a deletion" && lost <= 2 && others.len() == lost + 1, "{others:?}");
    ensure!(of("200") >= 30, "{told}");
    let is_known = |record: &&Record| {
        // What was in flight at a kill is counted at the next start.
        record.text("tidegate.workload") == "load" || record.reason() == "records_lost"
    };
    let unknown: Vec<_> = records.iter().filter(|record| !is_known(record)).collect();
    ensure!(unknown.is_empty(), "{unknown:?}");
    Ok(())
}

const CREDENTIAL: &str = r#"
[ ! -e /var/lib/tidegate/audit.key ] || fail "a key was made beside the credential"
touch enough
systemctl start load || fail "start the load"
until_true "the deletion" grep -q deletion load
systemctl stop tidegate
public=$(openssl pkey -in audit-key.pem -pubout -outform DER | tail -c 32 | od -An -v -tx1 | tr -d ' \n')
[ "$(cat /var/lib/tidegate/audit.pub)" = "$public" ] || fail "the public key is $(cat /var/lib/tidegate/audit.pub)"
tidegate audit verify audit.jsonl --key /var/lib/tidegate/audit.pub > verified 2>&1 || fail "$(cat verified)"
grep -q "tidegate.signature.key\":\"$(echo "$public" | cut -c1-16)\"" audit.jsonl || fail "nothing is signed by it"
echo done
"#;

#[test]
fn the_logs_key_can_be_a_credential_that_no_file_keeps() -> Result<()> {
    let scene = Scene::new()?;
    scene.world.write("load.sh", LOAD)?;
    let key = scene.directory().join("audit-key.pem");
    let made =
        Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&key).output()?;
    ensure!(made.status.success(), "{made:?}");
    let check = format!("{FUNCTIONS}{CREDENTIAL}");
    let credential = "[Service]\nLoadCredential=audit-key:DIRECTORY/audit-key.pem\n";
    let daemon = daemon_unit().replace("[Service]\n", credential);
    let machine = Machine { daemon, units: &UNITS, workloads: WORKLOADS, check: &check };
    let records = machine.boot(&scene)?;
    ensure!(records.iter().any(|record| record.reason() == "missing_scope"), "{records:?}");
    Ok(())
}
