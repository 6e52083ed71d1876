//! The demo: an unmodified curl under `tidegate run`, with a stand-in for the API in a private world. It shows
//! what happened, and fails when that is not what it promises.

use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};
use tidegate_tests::{
    agent::Tidegate,
    audit::{self, Record},
    client::{self, Answer},
    netns::addresses::API_NAME,
    process::{Finished, Process},
    scene::Scene,
};

/// The keys of a record that the demo shows; the log has more.
const SHOWN: [&str; 10] = [
    "http.request.method",
    "url.path",
    "tidegate.operation",
    "tidegate.scopes.required",
    "tidegate.scopes.missing",
    "tidegate.decision",
    "tidegate.verdict",
    "tidegate.reason",
    "http.response.status_code",
    "process.executable.path",
];

fn main() -> Result<()> {
    let policy = std::env::args_os().nth(1).map(PathBuf::from).context("usage: tidegate-demo POLICY")?;
    show(&policy, &mut io::stdout().lock())
}

fn show(policy: &Path, out: &mut impl Write) -> Result<()> {
    writeln!(out, "A stand-in for {API_NAME} in a private network namespace; nothing leaves this machine.")?;
    let scene = Scene::new()?;
    let absolute = fs::canonicalize(policy).with_context(|| format!("reading {}", policy.display()))?;
    let tidegate = scene.tidegate("demo")?.policy_file(&absolute);

    writeln!(out, "\nThe policy, {}:\n", policy.display())?;
    for line in fs::read_to_string(policy)?.lines().filter(|line| !line.trim_start().starts_with('#')) {
        writeln!(out, "    {line}")?;
    }

    let list = format!("https://{API_NAME}/v2/droplets");
    let one = format!("{list}/3164444");
    let direct = scene.ask_directly(&client::curl(&[], &list, ""))?;
    let before = scene.requests()?.len();

    let read = call(&tidegate, &scene, policy, &[], &list, out)?;
    ensure!(read.status == 200 && read.body == direct.body, "the list is not what the API sent: {read:?}");
    writeln!(out, "    {}  {}", read.status, droplets(&read)?)?;

    let write = call(&tidegate, &scene, policy, &["--request", "DELETE"], &one, out)?;
    writeln!(out, "    {}  {}", write.status, write.text())?;
    ensure!(write.status == 403, "not refused: {write:?}");
    ensure!(write.json()?.get("id").is_some_and(|id| id == "forbidden"), "another refusal: {write:?}");
    ensure!(write.text().contains("droplet:delete"), "the refusal does not name the scope: {write:?}");

    writeln!(out, "\nThe audit log:\n")?;
    let records = tidegate.records()?;
    for record in &records {
        writeln!(out, "    {}", shown(record))?;
    }
    let outcome = |request: &str| audit::only(&records, request, |record| record.request() == request);
    let allowed = outcome("GET /v2/droplets")?;
    ensure!(allowed.decision() == "allow" && allowed.verdict() == "forwarded", "{allowed:?}");
    let denied = outcome("DELETE /v2/droplets/3164444")?;
    ensure!(denied.decision() == "deny" && denied.verdict() == "refused", "{denied:?}");

    let requests = scene.requests()?;
    let reached: Vec<String> =
        requests.iter().skip(before).map(|seen| format!("{} {}", seen.method, seen.target)).collect();
    writeln!(out, "\nWhat reached the API, by its own log: {}", reached.join(", "))?;
    ensure!(reached == ["GET /v2/droplets"], "something else reached the API: {reached:?}");
    let after = scene.ask_directly(&client::curl(&[], &list, ""))?;
    ensure!(after.body == direct.body, "the Droplets have changed: {after:?}");

    let left = tidegate.root().children()?;
    ensure!(left.is_empty(), "cgroups are left behind: {left:?}");
    drop(tidegate);
    let Scene { standin, world } = scene;
    drop(standin);
    world.close()?;
    writeln!(
        out,
        "\nThe read went through unchanged, the deletion never left this machine, and nothing is left behind."
    )?;
    Ok(())
}

/// Runs curl under tidegate, and says so.
fn call(
    tidegate: &Tidegate<'_>,
    scene: &Scene,
    policy: &Path,
    options: &[&str],
    url: &str,
    out: &mut impl Write,
) -> Result<Answer> {
    let words = [&["curl"], options, &[url]].concat().join(" ");
    writeln!(out, "\n$ tidegate run --policy {} -- {words}\n", policy.display())?;
    out.flush()?;
    let mut command = tidegate.command(&client::curl(options, url, ""))?;
    let finished = Process::run(&mut command, scene.directory(), Duration::from_secs(60))?;
    answer(&finished)
}

fn answer(finished: &Finished) -> Result<Answer> {
    let answer = Answer::of(finished)?;
    if !finished.status.success() {
        bail!("curl failed ({}): {answer:?} {}", finished.status, finished.stderr);
    }
    Ok(answer)
}

/// `3 Droplets: NAME (REGION), …`.
fn droplets(answer: &Answer) -> Result<String> {
    let body = answer.json()?;
    let droplets =
        body.get("droplets").and_then(|droplets| droplets.as_array()).context("no list of Droplets")?;
    let text =
        |value: Option<&serde_json::Value>| value.and_then(|value| value.as_str()).unwrap_or("?").to_owned();
    let names = droplets
        .iter()
        .map(|droplet| format!("{} ({})", text(droplet.get("name")), text(droplet.pointer("/region/slug"))));
    Ok(format!("{} Droplets: {}", droplets.len(), names.collect::<Vec<_>>().join(", ")))
}

fn shown(record: &Record) -> String {
    let pairs = SHOWN.iter().filter_map(|key| Some(format!("\"{key}\":{}", record.value(key)?)));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
}
