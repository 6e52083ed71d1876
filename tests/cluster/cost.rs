//! What a thousand agents cost the API server: `cargo xtask agents`.

use crate::{
    asker::{config, policy, wait_for_condition},
    objects::with_manifests,
};
use anyhow::{Context as _, Result, ensure};
use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};
use tidegate_tests::{
    cluster::Cluster,
    netns::World,
    process::{Process, wait_until},
    programs,
};

const AGENTS: usize = 1000;
/// How long nothing happens while it is measured.
const REST: Duration = Duration::from_secs(30);
/// The kernel's ticks in a second.
const TICKS: f64 = 100.0;

/// A process's resident memory in MiB, and the seconds of a CPU that it has used.
fn used(pid: u32) -> Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let resident: f64 = resident.trim().trim_end_matches(" kB").parse()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let behind_name = stat.rsplit_once(')').context("no name")?.1;
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok((resident / 1024.0, ticks / TICKS))
}

fn knowing(directory: &Path, word: &str) -> usize {
    let knows = |number: &usize| {
        let file = directory.join(format!("node-{number}/state.json"));
        fs::read_to_string(file).is_ok_and(|text| text.contains(word))
    };
    (1..=AGENTS).filter(knows).count()
}

/// One pod on each node.
fn make_pods(cluster: &Cluster<'_>) -> Result<()> {
    let mut text = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: runner}\n\
        secrets: [{name: none}]\nautomountServiceAccountToken: false\n"
        .to_owned();
    for number in 1..=AGENTS {
        write!(
            text,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: pod-{number}, labels: {{app: bot}}}}\n\
             spec: {{nodeName: node-{number}, serviceAccountName: runner, containers: [{{name: a, image: b}}]}}\n"
        )?;
    }
    let file = cluster.world().write("pods.yaml", text)?;
    let create = ["create", "--validate=false", "--filename", &file.display().to_string()];
    let mut command = cluster.kubectl(&create)?;
    let created = Process::run(&mut command, cluster.world().directory(), Duration::from_secs(600))?;
    ensure!(created.status.success(), "{created:?}");
    Ok(())
}

#[test]
#[ignore = "takes some minutes: `cargo xtask agents` runs it"]
fn what_a_thousand_agents_cost_the_api_server() -> Result<()> {
    let world = World::new()?;
    let cluster = with_manifests(&world)?;
    make_pods(&cluster)?;
    // On a disk, a thousand files at once would be measured.
    let directory = tempfile::tempdir_in("/dev/shm")?;
    let token = cluster.token("tidegate-system", "tidegate")?;
    let kubeconfig = world.write("agents.kubeconfig", cluster.configuration(&token))?;
    let pid = cluster.server_id()?;
    let mut report = String::new();
    let rest = |what: &str, report: &mut String| -> Result<f64> {
        let before = used(pid)?;
        thread::sleep(REST);
        let after = used(pid)?;
        let load = (after.1 - before.1) / REST.as_secs_f64();
        writeln!(report, "{what}: {:.0} MiB, {:.1} % of a CPU", after.0, load * 100.0)?;
        Ok(after.0)
    };
    thread::sleep(Duration::from_secs(10));
    let alone = rest("without agents", &mut report)?;

    let program = programs::built("tidegate-agents")?;
    let (path, place) = (config(&cluster)?, directory.path().display().to_string());
    let line = [
        program.display().to_string(),
        AGENTS.to_string(),
        kubeconfig.display().to_string(),
        path.display().to_string(),
        place,
    ];
    let (before, begun) = (used(pid)?, Instant::now());
    let mut command = world.command(&line);
    let agents = Process::start(command.stdin(std::process::Stdio::null()), world.directory())?;
    let limit = Duration::from_secs(300);
    let all = |word: &'static str| {
        let waited = wait_until(word, limit, || Ok(knowing(directory.path(), word) == AGENTS));
        waited.with_context(|| format!("{} know: {:?}", knowing(directory.path(), word), agents.stderr()))
    };
    all("uid")?;
    let (took, cost) = (begun.elapsed().as_secs_f64(), used(pid)?.1 - before.1);
    writeln!(report, "{AGENTS} agents start at once: {took:.0} s, {cost:.1} s of a CPU")?;
    thread::sleep(Duration::from_secs(10));
    let with = rest("with agents", &mut report)?;
    writeln!(report, "an agent: {:.0} KiB", (with - alone) * 1024.0 / AGENTS as f64)?;

    let (before, begun) = (used(pid)?, Instant::now());
    cluster.apply(&policy("thousand", "{allow: [\"api:read\"]}"))?;
    all("thousand")?;
    let took = begun.elapsed().as_secs_f64();
    wait_for_condition(&cluster, ("scopepolicy", "thousand"), ("True", "Accepted"))?;
    // Every other would have written by then.
    thread::sleep(Duration::from_secs(5));
    let cost = used(pid)?.1 - before.1;
    let object = cluster.object(&["scopepolicy", "thousand"])?;
    writeln!(report, "a new ScopePolicy: known to all after {took:.1} s, {cost:.1} s of a CPU")?;
    let writes = metric(&cluster, "scopepolicies", "PATCH")?;
    writeln!(report, "answers to writes of its status: {writes}")?;
    ensure!(object["status"]["observedGeneration"] == 1, "{object}");
    writeln!(std::io::stdout(), "{report}")?;
    drop(agents);
    world.close()
}

/// How often the API server has answered so, by the status of its answers.
fn metric(cluster: &Cluster<'_>, resource: &str, verb: &str) -> Result<String> {
    let text = cluster.tell(&["get", "--raw", "/metrics"])?;
    let wanted =
        [format!("resource=\"{resource}\""), format!("verb=\"{verb}\""), "subresource=\"status\"".into()];
    let lines = text.lines().filter(|line| line.starts_with("apiserver_request_total{"));
    let lines = lines.filter(|line| wanted.iter().all(|word| line.contains(word)));
    let told = lines.map(|line| {
        let code = line.split("code=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        format!("{code}: {}", line.rsplit(' ').next().unwrap_or_default())
    });
    Ok(told.collect::<Vec<_>>().join(", "))
}
