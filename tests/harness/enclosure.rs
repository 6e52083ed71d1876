//! `enclosure run RUN_DIR CGROUP_ROOT ANCHOR USER -- CMD…`: what `tidegate run` does, without a gate. `-` is
//! root as USER, and the caller's own cgroup as CGROUP_ROOT.

use anyhow::Context;
use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};
use tidegate::run::{
    self, Enclosure, Order, child, limits::OpenFiles, reaper, signals::Forwarder, user::User,
};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let (head, command) = match arguments.iter().position(|argument| argument == "--") {
        Some(at) => (arguments.get(..at).unwrap_or_default(), arguments.get(at + 1..).unwrap_or_default()),
        None => (arguments.as_slice(), [].as_slice()),
    };
    let result = match head {
        [name, directory] if name == child::SUBCOMMAND => return child::main(Path::new(directory), command),
        [name, directory] if name == reaper::SUBCOMMAND => return reaper::main(Path::new(directory)),
        [name, run_dir, root, anchor, user] if name == "run" => {
            enclosed(Path::new(run_dir), Path::new(root), Path::new(anchor), user, command)
        }
        _ => Err(anyhow::anyhow!("usage: enclosure run RUN_DIR CGROUP_ROOT ANCHOR USER -- CMD…")),
    };
    result.map_or_else(
        |error| {
            let _ = writeln!(io::stderr(), "tidegate: {error:#}");
            ExitCode::from(error.downcast_ref().map_or(child::FAILED, run::Error::exit_status))
        },
        ExitCode::from,
    )
}

fn enclosed(
    run_dir: &Path,
    root: &Path,
    anchor: &Path,
    user: &OsString,
    command: &[OsString],
) -> anyhow::Result<u8> {
    let trust_anchor =
        fs::read_to_string(anchor).with_context(|| format!("cannot read {}", anchor.display()))?;
    let name = user.to_str().context("a user's name is UTF-8")?;
    let user = if name == "-" { None } else { Some(User::lookup(name)?) };
    let forwarder = Forwarder::start(|| writeln!(io::stdout(), "asked to reload").is_ok())?;
    let enclosure = Enclosure::open(run_dir, Some(root).filter(|root| *root != Path::new("-")))?;
    let running = enclosure.spawn(Order {
        command: command.to_vec(),
        user,
        // A file and a directory of the test's, beside the anchor.
        hidden: ["hidden-file", "hidden-directory"].map(|name| anchor.with_file_name(name)).to_vec(),
        read_only: vec![anchor.with_file_name("read-only")]
            .into_iter()
            .filter(|path| path.exists())
            .collect(),
        trust_anchor,
        open_files: OpenFiles::raise()?,
    })?;
    forwarder.attach(running.id())?;
    let status = running.wait();
    enclosure.close()?;
    Ok(status?)
}
