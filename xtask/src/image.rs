//! `cargo xtask image`: the container image, as an archive that every container tool reads, made without any of them.
//!
//! ```text
//! tidegate-VERSION-image.tar
//! ├── oci-layout
//! ├── index.json                  one entry, tagged: the index of platforms
//! └── blobs/sha256/…              index → manifest → configuration, layer
//! ```
//!
//! The same program makes the same bytes: what is in the layer is sorted, and of one time (`SOURCE_DATE_EPOCH`, else that
//! of the commit).

mod archive;
mod layout;
mod root;

use crate::{cargo, command, dist, setup};
use anyhow::{Context as _, Result, bail};
use layout::{Image, Layout};
use std::{
    env, fs,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::Command,
};

/// What to make, and of what.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The profile to build with
    #[arg(long, default_value = "release")]
    profile: String,
    /// For this target; may be repeated, for an image of several architectures [default: this machine's]
    #[arg(long, value_name = "TRIPLE")]
    target: Vec<String>,
    /// Put this program into the image of the one target, in the place of one that is built
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// PEM certificates to verify the API with [default: Mozilla's, of Debian's package ca-certificates]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// What the image is called where it is loaded
    #[arg(long, default_value = concat!("tidegate:", env!("CARGO_PKG_VERSION")))]
    name: String,
    /// Where to put it [default: target/dist]
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

/// Makes the archive, and prints its digest.
pub(crate) fn run(arguments: &Arguments, workspace: &Path, out: &mut impl Write) -> Result<()> {
    let mut targets = arguments.target.clone();
    if targets.is_empty() {
        targets.push(format!("{}-unknown-linux-gnu", env::consts::ARCH));
    }
    if arguments.program.is_some() && targets.len() != 1 {
        bail!("--program is for one target, and {} are named", targets.len());
    }
    let certificates = root::certificates(arguments.ca_file.as_deref())?;
    let seconds = seconds(workspace)?;
    let mut images = Vec::new();
    for target in &targets {
        let program = match &arguments.program {
            Some(program) => program.clone(),
            None => {
                setup::ensure()?;
                dist::static_program(workspace, &arguments.profile, target)?
            }
        };
        let program = fs::read(&program).with_context(|| format!("reading {}", program.display()))?;
        let layer = archive::tar(&root::entries(workspace, program, &certificates)?, seconds)?;
        images.push(Image { architecture: architecture(target)?, layer });
    }
    let layout = Layout::of(&images, &arguments.name, seconds)?;
    let directory = match &arguments.output {
        Some(directory) => directory.clone(),
        None => cargo::target_directory(workspace)?.join("dist"),
    };
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let path = directory.join(format!("tidegate-{}-image.tar", env!("CARGO_PKG_VERSION")));
    let file = File::create(&path).with_context(|| format!("writing {}", path.display()))?;
    let mut file = BufWriter::new(file);
    file.write_all(&archive::tar(&layout.entries, seconds)?)?;
    file.flush()?;
    writeln!(out, "made {}\n{}@{}", path.display(), arguments.name, layout.digest)?;
    Ok(())
}

/// As container tools call it.
fn architecture(target: &str) -> Result<&'static str> {
    match target.split('-').next().unwrap_or_default() {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("there is no image for {other}: the target begins with x86_64 or aarch64"),
    }
}

/// The time of everything in the image.
fn seconds(workspace: &Path) -> Result<u64> {
    if let Ok(text) = env::var("SOURCE_DATE_EPOCH") {
        return text.parse().with_context(|| format!("`SOURCE_DATE_EPOCH={text}` is no number of seconds"));
    }
    let mut git = Command::new("git");
    let told = command::output(git.args(["log", "-1", "--format=%ct"]).current_dir(workspace));
    // Outside of a checkout there is no commit, and the time says nothing.
    Ok(told.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests;
