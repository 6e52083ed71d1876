//! `cargo xtask vm`: the kernels that tidegate supports, each in a virtual machine of its own.

mod boot;
mod expected;
mod image;
mod kernels;
mod report;
mod results;

use crate::{cargo, packages, setup, test};
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use image::Image;
use kernels::{KERNELS, Kernel, Unpacked};
use report::Run;
use results::Results;
use std::{
    fmt::Write as _,
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

/// What is asked for.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Only this kernel, such as 5.10; may be given again.
    #[arg(long)]
    kernel: Vec<String>,
    /// Only say which kernels there are.
    #[arg(long)]
    list: bool,
    /// Look for newer point versions of kernels that were fetched before.
    #[arg(long)]
    refresh: bool,
    /// A shell in the machine instead of the tests; needs one kernel.
    #[arg(long)]
    shell: bool,
    /// Write the tables to docs/kernels.md.
    #[arg(long)]
    write: bool,
    /// Every test, and not only those that stand for all: hours without KVM.
    #[arg(long)]
    all: bool,
    /// Only this test program; may be given again.
    #[arg(long)]
    suite: Vec<String>,
    /// How many seconds a machine may take.
    #[arg(long, default_value_t = 1800)]
    limit: u64,
    /// Only the tests whose names contain one of these, of all tests.
    filters: Vec<String>,
}

/// A test program of the package tidegate-tests, and how many of its tests run at once.
struct Suite {
    name: &'static str,
    threads: u32,
    /// For tests that are ignored elsewhere, since they attach to the whole machine.
    options: &'static str,
    /// Parts of the names of tests that stand for all: what differs between kernels, once each.
    chosen: &'static [&'static str],
}

/// In the order in which they run.
const SUITES: [Suite; 4] = [
    Suite {
        name: "hooks",
        threads: 2,
        options: "",
        chosen: &[
            "lands_on_the_listener",
            "captured_at_its_port",
            "process_outside",
            "datagrams_to_captured_ports",
            "without_a_listener",
            "the_flow_names",
            "evasion::",
            "learn::",
            "packets::",
            "canary_that_lands",
            "killed_agent",
            "taken_away_is_named",
            "takeover_changes",
            "release_opens",
            "subjects::",
            "listeners_port",
            "another_port_of_a_protected",
        ],
    },
    Suite {
        name: "upkeep",
        threads: 1,
        options: "",
        chosen: &["ends_where_it_leads_past_the_gate::test_case_1", "users_connections", "well_is_told"],
    },
    Suite {
        name: "capture",
        threads: 2,
        options: "",
        chosen: &[
            "upstreams_bytes::test_case_1",
            "upstreams_bytes::test_case_2",
            "refused_write_never_reaches_the_upstream::test_case_1",
            "either_family",
            "stopped_agent",
            "cannot_undo",
            "commands::test_case_5",
            "leaves_nothing_behind",
        ],
    },
    Suite {
        name: "escape",
        threads: 1,
        options: "--include-ignored",
        chosen: &["reaches_the_api::", "wherever_it_goes", "fail_at_once", "from_before"],
    },
];

/// Loads the eBPF programs and counts what the verifier looked at.
const LOADER: &str = "tidegate-load";

/// What tests start, beside the test programs.
const PROGRAMS: [&str; 3] = ["tidegate", "tidegate-standin", LOADER];

/// What tests read of this tree.
const TREES: [&str; 2] = ["policies", "tests/programs"];

/// What machines are made with.
const TOOLS: [packages::Program; 6] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("modprobe", "kmod"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
    ("mke2fs", "e2fsprogs"),
];

/// Boots the kernels, one after the other, and fails when one of them shows a problem.
pub(crate) fn run(arguments: &Arguments, workspace: &Path, out: &mut impl Write) -> Result<()> {
    let kernels = chosen(&arguments.kernel)?;
    if arguments.list {
        for kernel in kernels {
            writeln!(out, "{} {}", kernel.name, kernel.parameters)?;
        }
        return Ok(());
    }
    let is_narrowed = !arguments.filters.is_empty() || !arguments.suite.is_empty();
    ensure!(
        !arguments.write || (!is_narrowed && arguments.kernel.is_empty()),
        "--write is for all kernels and all tests: leave --kernel, --suite and the filters out"
    );
    cargo::require_root("the machines' disk holds files of root")?;
    setup::ensure()?;
    packages::ensure(&packages::WORLD)?;
    packages::ensure(&packages::CLIENTS)?;
    packages::ensure(&TOOLS)?;
    test::python(workspace)?;

    let target = cargo::target_directory(workspace)?;
    let cache = target.join("vm");
    fs::create_dir_all(&cache)?;
    writeln!(out, "kernels: fetching")?;
    let unpacked = kernels::unpacked(&kernels, &cache.join("kernels"), arguments.refresh)?;
    writeln!(out, "disk: building tidegate and its tests, and packing them")?;
    let suites = built_suites(workspace, &arguments.suite)?;
    let disk = cache.join("disk.img");
    let plan = plan(workspace, &target, &suites, arguments)?;
    pack(&cache.join("root"), &disk, workspace, &target, &unpacked, &suites, &plan)?;
    if arguments.shell {
        let [kernel] = &kernels[..] else { bail!("--shell needs one --kernel") };
        return boot::shell(kernel, unpacked.first().context("one kernel was unpacked")?, &disk);
    }
    let mut runs = Vec::new();
    let mut is_good = true;
    for (kernel, files) in kernels.iter().zip(&unpacked) {
        writeln!(out, "{}: booting {}", kernel.name, files.release)?;
        out.flush()?;
        let booted =
            boot::boot(kernel, files, &disk, &cache.join("logs"), Duration::from_secs(arguments.limit))?;
        let run = Run { kernel: *kernel, results: Results::parse(&booted.results), took: booted.took };
        let problems = run.problems(arguments.all && !is_narrowed);
        for problem in &problems {
            writeln!(out, "{}: {problem}", kernel.name)?;
        }
        if run.results.release.is_empty() {
            writeln!(out, "{}", last_lines(&booted.console, 20))?;
        }
        is_good &= problems.is_empty();
        runs.push(run);
    }
    writeln!(out, "\n{}", report::tables(&runs))?;
    ensure!(
        is_good,
        "not every kernel does everything: see above, and the logs in {}",
        cache.join("logs").display()
    );
    if arguments.write {
        let path = workspace.join("docs/kernels.md");
        fs::write(&path, report::document(&runs))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<Kernel>> {
    if names.is_empty() {
        return Ok(KERNELS.to_vec());
    }
    let known = KERNELS.map(|kernel| kernel.name).join(", ");
    let find = |name: &String| {
        let found = KERNELS.iter().find(|kernel| kernel.name == name).copied();
        found.with_context(|| format!("no kernel `{name}`: there are {known}"))
    };
    names.iter().map(find).collect()
}

/// Builds the test programs and what they start; answers each program's name, file and threads.
fn built_suites(workspace: &Path, only: &[String]) -> Result<Vec<(&'static Suite, PathBuf)>> {
    if let Some(unknown) = only.iter().find(|name| SUITES.iter().all(|suite| suite.name != **name)) {
        bail!("no test program `{unknown}`: there are {}", SUITES.map(|suite| suite.name).join(", "));
    }
    let packages = ["--package", "tidegate", "--package", "tidegate-tests"];
    cargo::run(workspace, &[&["build", "--quiet", "--bins"][..], &packages].concat())?;
    let mut build =
        cargo::command(workspace, &["test", "--quiet", "--no-run", "--package", "tidegate-tests"]);
    for suite in &SUITES {
        build.args(["--test", suite.name]);
    }
    let messages = crate::command::output(build.args(["--message-format", "json"]))?;
    let mut suites = Vec::new();
    for suite in SUITES.iter().filter(|suite| only.is_empty() || only.iter().any(|name| name == suite.name)) {
        let file = messages.lines().find_map(|line| test_program(line, suite.name));
        suites.push((suite, file.with_context(|| format!("cargo built no test program {}", suite.name))?));
    }
    Ok(suites)
}

/// The file of a test program in one of cargo's messages.
fn test_program(message: &str, name: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let target = message.get("target")?;
    let is_it = target.get("name")?.as_str()? == name && target.get("kind")?.get(0)?.as_str()? == "test";
    is_it.then(|| message.get("executable")?.as_str().map(PathBuf::from)).flatten()
}

/// What the machine does, in its shell's words.
fn plan(
    workspace: &Path,
    target: &Path,
    suites: &[(&Suite, PathBuf)],
    arguments: &Arguments,
) -> Result<String> {
    let loader = target.join("debug").join(LOADER);
    let mut plan = format!("cd {}\nsuite load {}\n", quoted(&workspace.join("tests")), quoted(&loader));
    for (suite, program) in suites {
        write!(
            plan,
            "suite {} {} -Z unstable-options --format json --report-time",
            suite.name,
            quoted(program)
        )?;
        write!(plan, " --test-threads {} {}", suite.threads, suite.options)?;
        for filter in &arguments.filters {
            write!(plan, " {}", quoted(Path::new(filter)))?;
        }
        if !arguments.all && arguments.filters.is_empty() {
            write!(plan, " {}", suite.chosen.join(" "))?;
        }
        plan.push('\n');
    }
    Ok(plan)
}

/// Makes the disk. Everything of this tree lies where it lies here, since test programs remember such paths.
fn pack(
    root: &Path,
    disk: &Path,
    workspace: &Path,
    target: &Path,
    kernels: &[Unpacked],
    suites: &[(&Suite, PathBuf)],
    plan: &str,
) -> Result<()> {
    let mut image = Image::new(root)?;
    for kernel in kernels {
        image.add_modules(kernel)?;
    }
    for tree in TREES {
        image.add_tree(&workspace.join(tree), &[])?;
    }
    let python = target.join("python");
    image.add_tree(&python, &["pip", "setuptools"])?;
    image.add_python(&python.join("bin/python3"))?;
    for program in PROGRAMS {
        image.add(&target.join("debug").join(program))?;
    }
    for (_, program) in suites {
        image.add(program)?;
    }
    image.write("suites", plan)?;
    image.finish(disk)
}

/// A word for the shell.
fn quoted(word: &Path) -> String {
    format!("'{}'", word.display().to_string().replace('\'', r"'\''"))
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_program_is_found_in_cargos_messages() {
        let message = r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"hooks"},"executable":"/t/hooks-1"}"#;
        assert_eq!(test_program(message, "hooks"), Some("/t/hooks-1".into()));
        assert_eq!(test_program(message, "capture"), None);
        assert_eq!(test_program(&message.replace(r#"["test"]"#, r#"["bin"]"#), "hooks"), None);
        assert_eq!(test_program("warning: x", "hooks"), None);
    }

    #[test]
    fn kernels_are_chosen_by_name() {
        assert_eq!(chosen(&[]).unwrap().len(), KERNELS.len());
        assert_eq!(chosen(&["6.1".to_owned()]).unwrap()[0].name, "6.1");
        let error = chosen(&["2.6".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("there are 5.10, 5.10-bpf"), "{error}");
    }

    #[test]
    fn words_reach_the_shell_whole() {
        assert_eq!(quoted(Path::new("a b")), "'a b'");
        assert_eq!(quoted(Path::new("it's")), r"'it'\''s'");
    }
}
