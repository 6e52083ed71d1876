//! tidegate's build, test and maintenance tasks: `cargo xtask --help`.

mod agents;
mod apt;
mod bench;
mod cargo;
mod catalogue;
mod cluster;
mod command;
mod containerd;
mod demo;
mod dist;
mod fuzz;
mod hot_path;
mod image;
mod packages;
mod podman;
mod runtimes;
mod setup;
mod test;
mod tidy;
mod vm;

use clap::Parser;
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

/// tidegate's build, test and maintenance tasks.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Install what the eBPF build needs: rust-src of the running toolchain, and bpf-linker.
    Setup,
    /// Run the main job on a stand-in for the API: a read that passes, a deletion that is refused, the records.
    Demo,
    /// Lint, build the docs, and run every test of this machine; FILTERS go to the test runner.
    Test {
        /// Passed on to the test runner.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        filters: Vec<String>,
    },
    /// Make the runtimes, SDKs and tools that the trust tests start; `test` does so, too.
    Runtimes,
    /// Make the container runtime and the Podman that the tests of containers start; `test` does so, too.
    Containerd,
    /// Make the Kubernetes that the tests of clusters start, some five minutes once; `test` does so, too.
    Cluster,
    /// Measure what a thousand agents cost a Kubernetes API server.
    Agents,
    /// Make what users get, in target/dist: a Debian package, a static tarball, a bill of materials, checksums.
    Dist(dist::Arguments),
    /// Make the container image, in target/dist, and print its digest.
    Image(image::Arguments),
    /// Write the manual to target/man.
    Man,
    /// Check the rules of the tree that no lint knows.
    Tidy,
    /// Measure tidegate beside HAProxy, nginx, squid, mitmproxy and a proxy that does nothing.
    Bench(bench::Arguments),
    /// Count the instructions and allocations of classifying and deciding a request, against their budget.
    HotPath(hot_path::Arguments),
    /// Run the parsers of hostile bytes on made-up input, each for a while.
    Fuzz(fuzz::Arguments),
    /// Boot the kernels that tidegate supports, and load its programs and run its kernel tests on each.
    Vm(vm::Arguments),
    /// Write agent/catalogue/digitalocean.toml from the facts of DigitalOcean's OpenAPI spec.
    Catalogue(catalogue::Arguments),
}

fn main() -> ExitCode {
    match perform(Task::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody left to tell when standard error is closed.
            let _ = writeln!(io::stderr(), "xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Setup => setup::ensure(),
        Task::Demo => demo::run(&workspace()),
        Task::Test { filters } => test::run(&workspace(), &filters, &mut io::stdout().lock()),
        Task::Runtimes => runtimes::ensure(&workspace()),
        Task::Containerd => containerd::ensure(&workspace()).and_then(|()| podman::ensure(&workspace())),
        Task::Cluster => cluster::ensure(&workspace()),
        Task::Agents => agents::run(&workspace()),
        Task::Dist(arguments) => dist::run(&arguments, &workspace(), &mut io::stdout().lock()),
        Task::Image(arguments) => image::run(&arguments, &workspace(), &mut io::stdout().lock()),
        Task::Man => dist::man(&workspace(), &mut io::stdout().lock()),
        Task::Tidy => tidy::run(&workspace()),
        Task::Bench(arguments) => bench::run(&arguments, &workspace(), &mut io::stdout().lock()),
        Task::HotPath(arguments) => hot_path::run(&arguments, &workspace(), &mut io::stdout().lock()),
        Task::Fuzz(arguments) => fuzz::run(&arguments, &workspace(), &mut io::stdout().lock()),
        Task::Vm(arguments) => vm::run(&arguments, &workspace(), &mut io::stdout().lock()),
        Task::Catalogue(arguments) => catalogue::run(&arguments, &workspace(), &mut io::stdout().lock()),
    }
}

/// The workspace's root. Cargo sets the variable for `cargo run` and `cargo test`.
fn workspace() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    manifest.as_deref().and_then(|directory| directory.parent()).map_or_else(|| ".".into(), PathBuf::from)
}
