//! `cargo xtask bench`: tidegate beside HAProxy, nginx, squid, mitmproxy and a proxy that does nothing. `tests/bench`
//! measures; here the peers are installed, and what was measured is told.

mod facts;
mod goals;
mod peers;
mod plot;
mod report;
mod samples;

use crate::{cargo, packages, setup};
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use facts::Facts;
use samples::{Sample, Samples};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::{BufRead as _, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const PROGRAM: &str = "tidegate-bench";
/// Where the raw samples lie beside the tables that `--write` writes.
const RAW: &str = "samples.json";

/// What is asked for.
#[derive(Args)]
pub(crate) struct Arguments {
    /// How often each peer has its turn in each scenario; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only this scenario; may be given again.
    #[arg(long)]
    scenario: Vec<String>,
    /// Only this peer; may be given again.
    #[arg(long)]
    peer: Vec<String>,
    /// Short turns, to try the benchmark itself: the numbers mean nothing.
    #[arg(long)]
    quick: bool,
    /// Instead: how tidegate's costs grow with workloads, policies, connections and the audit log.
    #[arg(long)]
    scale: bool,
    /// Measure the development build, to try the benchmark itself.
    #[arg(long)]
    dev: bool,
    /// Write tables, plots and samples to docs/benchmarks.
    #[arg(long)]
    write: bool,
    /// Measure nothing: tell again what an earlier run wrote to this file.
    #[arg(long)]
    from: Option<PathBuf>,
}

/// A whole run, as it is kept.
#[derive(Serialize, Deserialize)]
struct Run {
    facts: Facts,
    samples: Samples,
}

/// Installs, measures, and tells.
pub(crate) fn run(arguments: &Arguments, workspace: &Path, out: &mut impl Write) -> Result<()> {
    let run = match &arguments.from {
        Some(file) => {
            let text = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
            serde_json::from_slice(&text).with_context(|| format!("in {}", file.display()))?
        }
        None => measure(arguments, workspace, out)?,
    };
    writeln!(out, "{}", report::told(&run))?;
    if arguments.write {
        let directory = workspace.join("docs/benchmarks");
        write(&run, arguments, &directory).with_context(|| format!("writing {}", directory.display()))?;
        writeln!(out, "written to {}", directory.display())?;
    }
    let problems = run.samples.problems();
    ensure!(problems.is_empty(), "{} turns failed:\n{}", problems.len(), problems.join("\n"));
    Ok(())
}

fn measure(arguments: &Arguments, workspace: &Path, out: &mut impl Write) -> Result<Run> {
    cargo::require_root("the benchmark attaches eBPF programs and makes namespaces")?;
    setup::ensure()?;
    packages::ensure(&packages::WORLD)?;
    packages::ensure(&peers::PROGRAMS)?;
    let target = cargo::target_directory(workspace)?;
    let needs_mitmproxy = !arguments.scale
        && (arguments.peer.is_empty() || arguments.peer.iter().any(|peer| peer == "mitmproxy"));
    let mitmdump = if needs_mitmproxy { Some(peers::mitmproxy(&target)?) } else { None };
    let profile = if arguments.dev { "dev" } else { "release" };
    let mut build = vec!["build", "--quiet", "--profile", profile, "--package", "tidegate"];
    build.extend(["--package", "tidegate-tests", "--bin", "tidegate", "--bin", PROGRAM]);
    cargo::run(workspace, &build)?;
    let program = target.join(if arguments.dev { "debug" } else { profile }).join(PROGRAM);
    let mut command = Command::new(program);
    command.arg(if arguments.scale { "scale" } else { "measure" });
    command.args(["--rounds", &arguments.rounds.to_string()]);
    command.args(arguments.scenario.iter().map(|name| format!("--scenario={name}")));
    command.args(arguments.peer.iter().map(|name| format!("--peer={name}")));
    command.args(arguments.quick.then_some("--quick"));
    command.args(mitmdump.iter().map(|program| format!("--mitmdump={}", program.display())));
    let mut samples = turns(&mut command, out)?;
    let is_whole = arguments.scenario.is_empty() && arguments.peer.is_empty();
    if is_whole && !arguments.scale && !arguments.quick {
        samples.extend(peers::connects(workspace)?);
    }
    let run = Run { facts: Facts::of_this_machine(profile, arguments.quick, mitmdump.as_deref())?, samples };
    // Whatever is told, a run of an hour is kept.
    let kept = target.join("bench");
    fs::create_dir_all(&kept)?;
    let kept = kept.join(file_name(arguments));
    fs::write(&kept, serde_json::to_string_pretty(&run)?)?;
    writeln!(out, "kept as {}", kept.display())?;
    Ok(run)
}

/// Runs the measuring program, and tells every turn as it ends.
fn turns(command: &mut Command, out: &mut impl Write) -> Result<Samples> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("starting the measuring program")?;
    let stdout = child.stdout.take().context("the measuring program's output")?;
    let mut samples = Samples::default();
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        let sample: Sample = serde_json::from_str(&line).with_context(|| format!("in `{line}`"))?;
        writeln!(out, "{}", sample.told())?;
        out.flush()?;
        samples.push(sample);
    }
    let status = child.wait()?;
    ensure!(status.success(), "the measuring program failed ({status})");
    Ok(samples)
}

fn file_name(arguments: &Arguments) -> String {
    if arguments.scale { format!("scale-{RAW}") } else { RAW.to_owned() }
}

fn write(run: &Run, arguments: &Arguments, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    for (name, drawing) in report::drawings(run) {
        fs::write(directory.join(name), drawing)?;
    }
    fs::write(directory.join(file_name(arguments)), serde_json::to_string_pretty(run)? + "\n")?;
    // Either kind of run leaves the other's part as it was.
    let kept = |name: String| -> Result<Option<Run>> {
        match fs::read(directory.join(name)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(problem) => Err(problem.into()),
        }
    };
    let (peers, scale) = (kept(RAW.to_owned())?, kept(format!("scale-{RAW}"))?);
    Ok(fs::write(directory.join("README.md"), report::page(peers.as_ref(), scale.as_ref()))?)
}
