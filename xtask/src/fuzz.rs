//! `cargo xtask fuzz`: runs the targets in tests/fuzz, each for a while, from the samples in tests/fixtures.
//!
//! libFuzzer comes with the crate `libfuzzer-sys`, and the toolchain's own coverage pass feeds it, so that neither
//! cargo-fuzz nor a nightly toolchain is needed. The code under test has no unsafe, hence no sanitizer.

use crate::{cargo, command, setup};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// As cargo-fuzz has them. Panics of debug assertions count as findings.
const FLAGS: [&str; 7] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
];

/// What to fuzz.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long each target runs.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// A file in tests/fuzz/fuzz_targets, without `.rs` [default: all of them]
    target: Option<String>,
}

/// Builds the targets and runs what is asked for; what made one fail stays in a file that is named.
pub(crate) fn run(arguments: &Arguments, workspace: &Path, out: &mut impl Write) -> Result<()> {
    setup::ensure()?;
    let known = targets(&workspace.join("tests/fuzz/fuzz_targets"))?;
    let chosen = match &arguments.target {
        None => known,
        Some(target) if known.contains(target) => vec![target.clone()],
        Some(target) => bail!("no fuzz target `{target}`; there are: {}", known.join(", ")),
    };
    let directory = cargo::target_directory(workspace)?.join("fuzz");
    writeln!(out, "building the fuzz targets; the first time takes some minutes")?;
    out.flush()?;
    let programs = build(workspace, &directory)?;
    let mut failed = Vec::new();
    for target in chosen {
        writeln!(out, "fuzz: {target}, {} s", arguments.seconds)?;
        out.flush()?;
        let seeds = workspace.join("tests/fixtures").join(&target);
        let fuzzer = fuzz(&programs.join(&target), &seeds, &directory, arguments.seconds)?;
        // All that libFuzzer says, a dictionary above all, is of use only where it found something.
        let told = String::from_utf8_lossy(&fuzzer.stderr);
        if fuzzer.status.success() {
            writeln!(
                out,
                "  nothing found in {} inputs",
                executions(&told).context("libFuzzer counted nothing")?
            )?;
        } else {
            writeln!(out, "{told}")?;
            failed.push(target);
        }
    }
    ensure!(failed.is_empty(), "findings: {}; see above for the input's file", failed.join(", "));
    Ok(())
}

/// The names of the targets, in order.
fn targets(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// Builds all targets and answers the directory of their programs.
fn build(workspace: &Path, directory: &Path) -> Result<PathBuf> {
    // Named, the target keeps the flags away from build scripts and macros, which have no fuzzer to link with.
    let host = command::output(Command::new("rustc").args(["--print", "host-tuple"]))?;
    let arguments = ["build", "--quiet", "--release", "--manifest-path", "tests/fuzz/Cargo.toml", "--bins"];
    let mut build = cargo::command(workspace, &arguments);
    build.args(["--target", host.trim(), "--target-dir"]).arg(directory);
    command::run(build.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f")))?;
    Ok(directory.join(host.trim()).join("release"))
}

/// Runs a target. Inputs that reach new code are kept, for the next time to begin with.
fn fuzz(program: &Path, seeds: &Path, directory: &Path, seconds: u32) -> Result<Output> {
    ensure!(seeds.is_dir(), "{} is missing: put some inputs there to begin with", seeds.display());
    let name = program.file_name().context("a target's program has a name")?;
    let (corpus, findings) = (directory.join("corpus").join(name), directory.join("findings").join(name));
    for made in [&corpus, &findings] {
        fs::create_dir_all(made).with_context(|| format!("making {}", made.display()))?;
    }
    let mut fuzzer = Command::new(program);
    fuzzer.arg(format!("-max_total_time={seconds}"));
    // With the slash, it is a directory rather than the beginning of names.
    fuzzer.arg(format!("-artifact_prefix={}/", findings.display()));
    fuzzer.args(["-timeout=5", "-print_final_stats=1"]).arg(&corpus).arg(seeds);
    fuzzer.output().with_context(|| format!("starting {}", program.display()))
}

/// How many inputs libFuzzer tried, by its final statistics.
fn executions(told: &str) -> Option<u64> {
    let number = told.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?;
    number.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_final_statistics_are_read() {
        let told = "Done\nstat::number_of_executed_units: 5774741\nstat::average_exec_per_sec:     94667\n";
        assert_eq!(executions(told), Some(5_774_741));
        assert_eq!(executions("ERROR: libFuzzer: deadly signal\n"), None);
    }

    #[test]
    fn every_target_has_inputs_to_begin_with() {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests");
        let targets = targets(&tests.join("fuzz/fuzz_targets")).unwrap();
        assert_eq!(targets, ["body", "cel", "client_hello", "filter", "path", "policy", "query"]);
        for target in targets {
            assert!(tests.join("fixtures").join(&target).is_dir(), "{target}");
        }
    }
}
