//! The process that does it: it looks at the container's files from outside, makes copies, enters the container's mount
//! namespace with them, and ends.

use super::{
    Covered, Task,
    mounts::{self, Inside},
    process::{self, Process},
};
use crate::trust::{self, Found, Kind, Surroundings};
use rustix::{
    io::Errno,
    net::sockopt::socket_peercred,
    process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal},
};
use std::{
    collections::BTreeMap,
    error::Error as StdError,
    ffi::{OsStr, OsString},
    fs,
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The hidden subcommand that runs [`main`]; standard input tells what to do.
pub const SUBCOMMAND: &str = "__cover";

/// The unit that may ask.
const ASKER: &str = "tidegate.service";

/// More stores than any image has.
const MAX_STORES: usize = 128;
/// How much all copies for a container may take, which are kept in memory.
const MAX_COPIES: u64 = 32 << 20;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Process(#[from] process::Error),
    #[error("cannot look for the stores that its programs read")]
    Trust(#[from] trust::Error),
    #[error(transparent)]
    Mounts(#[from] mounts::Error),
}

/// Does what standard input says, and tells on standard output what came of it.
pub fn main() -> ExitCode {
    let answer = prepare().and_then(|task| cover(&task).map_err(|error| told(&error)));
    let written = serde_json::to_vec(&answer)
        .map_err(io::Error::from)
        .and_then(|answer| io::stdout().write_all(&answer));
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn prepare() -> Result<Task, String> {
    // Whoever is in the container must not come to look into it, and it must not outlive the agent.
    let kept = set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .and_then(|()| set_parent_process_death_signal(Some(Signal::KILL)));
    kept.map_err(|errno| format!("cannot keep to itself: {errno}"))?;
    check_asker()?;
    serde_json::from_reader(io::stdin()).map_err(|error| format!("does not understand its task: {error}"))
}

/// Who could have a container trust what it likes would need no more: by the service manager's socket nobody else may ask,
/// root or not. A pipe is the agent's own.
fn check_asker() -> Result<(), String> {
    let asker = match socket_peercred(io::stdin()) {
        Ok(asker) => asker.pid.as_raw_nonzero(),
        Err(Errno::NOTSOCK) => return Ok(()),
        Err(errno) => return Err(format!("cannot tell who asks: {errno}")),
    };
    let groups = fs::read_to_string(format!("/proc/{asker}/cgroup"))
        .map_err(|error| format!("cannot tell who asks (process {asker}): {error}"))?;
    let cgroup = groups.lines().find_map(|line| line.strip_prefix("0::")).map(Path::new);
    if cgroup.and_then(Path::file_name) == Some(OsStr::new(ASKER)) {
        Ok(())
    } else {
        Err(format!("does this for `{ASKER}` alone, and not for process {asker}"))
    }
}

fn cover(task: &Task) -> Result<Covered, Error> {
    let anchors = trust::anchors_of_pem(&task.anchors)?;
    let process = Process::open(task.pid, &task.cgroup)?;
    let (root, namespace) = process.surroundings()?;
    let private = process.private_mounts()?;
    let again =
        root.try_clone().map_err(|source| process::Error::Read { pid: task.pid, name: "root", source })?;
    let found = find(task, &process, again)?;
    let mut covered = Covered { warnings: found.warnings, ..Covered::default() };
    let mut copies = Vec::new();
    let mut left = MAX_COPIES;
    for (number, store) in found.stores.iter().enumerate() {
        if store.trusts(&anchors) {
            continue;
        }
        if copies.len() == MAX_STORES || left == 0 {
            covered.warnings.push("it has more stores than are covered".into());
            break;
        }
        let copy = task.copies.join(format!("{}-{number}", name(store.kind)));
        match store.merge_into(&anchors, &copy) {
            Ok(warning) => {
                covered.warnings.extend(warning);
                left = left.saturating_sub(size(&copy));
                copies.push((store.path.clone(), copy));
            }
            Err(error) => covered.warnings.push(uncovered(&error)),
        }
    }
    if copies.is_empty() {
        return Ok(covered);
    }
    let (stores, copies): (Vec<PathBuf>, Vec<PathBuf>) = copies.into_iter().unzip();
    let detached = mounts::detach(&task.copies, &copies)?;
    let mut inside = Inside::enter(root, &namespace, private)?;
    for (store, copy) in stores.into_iter().zip(&detached) {
        match inside.lay(copy, &store) {
            Ok(()) => covered.stores.push(store),
            Err(error) => covered.warnings.push(uncovered(&error)),
        }
    }
    Ok(covered)
}

fn find(task: &Task, process: &Process, root: OwnedFd) -> Result<Found, Error> {
    let (environment, command): (BTreeMap<OsString, OsString>, Vec<OsString>) = match &task.made_with {
        Some(spec) => {
            let pair = |(name, value): &(String, String)| (name.into(), value.into());
            (spec.environment.iter().map(pair).collect(), spec.arguments.iter().map(OsString::from).collect())
        }
        None => (process.environment()?, process.command()?),
    };
    let lookup = |name: &str| environment.get(OsStr::new(name)).cloned();
    let home = lookup("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let working_directory = process.working_directory();
    let surroundings = Surroundings {
        root: Path::new("/"),
        home: home.as_deref(),
        working_directory: working_directory.as_deref(),
        command: &command,
        lookup: &lookup,
    };
    Ok(trust::find_in(root, &surroundings)?)
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bundle => "bundle",
        Kind::HashedDirectory => "directory",
        Kind::Keystore => "keystore",
    }
}

/// What a copy takes; what cannot be told counts as all there is.
fn size(copy: &Path) -> u64 {
    let Ok(status) = fs::symlink_metadata(copy) else { return MAX_COPIES };
    let inside = if status.is_dir() { fs::read_dir(copy).ok() } else { None };
    let inside = inside.into_iter().flatten().flatten().map(|entry| size(&entry.path()));
    inside.fold(status.blocks().saturating_mul(512), u64::saturating_add)
}

fn uncovered(error: &dyn StdError) -> String {
    format!("{}; programs that use it will refuse tidegate's certificates", told(error))
}

fn told(error: &dyn StdError) -> String {
    let causes = std::iter::successors(Some(error), |error: &&dyn StdError| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
