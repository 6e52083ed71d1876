//! The process that does it: it looks at the container's files from outside, makes copies, enters the container's mount
//! namespace with them, and ends.

use super::{
    Covered, Failure, Task,
    mounts::{self, Inside},
    process::{self, Process},
};
use crate::{
    config::CgroupPattern,
    health::told,
    trust::{self, Found, Surroundings, uncovered},
};
use rustix::{
    io::Errno,
    net::sockopt::socket_peercred,
    process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal},
};
use std::{
    collections::BTreeMap,
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
/// How much all copies for a container may take, which are kept in the machine's memory: real images have some two.
const MAX_COPIES: u64 = 16 << 20;

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
    let unprepared = |message| Failure { message, is_passing: false };
    let answer = prepare().map_err(unprepared).and_then(|task| cover(&task).map_err(Failure::from));
    let written = serde_json::to_vec(&answer)
        .map_err(io::Error::from)
        .and_then(|answer| io::stdout().write_all(&answer));
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let is_passing = matches!(&error, Error::Process(error) if error.is_passing());
        Self { message: told(&error), is_passing }
    }
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
    if is_asker(&groups) {
        Ok(())
    } else {
        Err(format!("does this for `{ASKER}` alone, and not for process {asker}"))
    }
}

/// Whether these are the cgroups of the unit, which below a unit of another's have any name that it likes.
fn is_asker(groups: &str) -> bool {
    let Some(cgroup) = groups.lines().find_map(|line| line.strip_prefix("0::")).map(Path::new) else {
        return false;
    };
    let is_named = cgroup.file_name() == Some(OsStr::new(ASKER));
    let is_in_slices = |unit: CgroupPattern| unit.outermost(cgroup) == Some(cgroup.components().count() - 1);
    is_named && CgroupPattern::unit(ASKER).is_ok_and(is_in_slices)
}

fn cover(task: &Task) -> Result<Covered, Error> {
    let anchors = trust::anchors_of_pem(&task.anchors)?;
    let process = Process::open(task.pid, &task.cgroup)?;
    let (root, namespace) = process.surroundings()?;
    if task.is_new && task.made_with.is_none() {
        process.check_program()?;
    }
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
        if copies.len() == MAX_STORES {
            covered.warnings.push("it has more stores than are covered".into());
            break;
        }
        let copy = task.copies.join(format!("{}-{number}", store.kind.word()));
        match store.merge_into(&anchors, &copy) {
            Ok(_) if !fits(&copy, &mut left) => {
                let path = store.path.display();
                covered.warnings.push(format!(
                    "`{path}` is not covered: all copies would take more than {MAX_COPIES} bytes"
                ));
            }
            Ok(warning) => {
                covered.warnings.extend(warning);
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

/// Takes what the copy takes off what is left; one for which that is too little is taken away.
fn fits(copy: &Path, left: &mut u64) -> bool {
    let rest = left.checked_sub(size(copy));
    if let Some(rest) = rest {
        *left = rest;
    } else {
        // What stays for all that goes with the container.
        let _is_gone = fs::remove_file(copy).or_else(|_| fs::remove_dir_all(copy));
    }
    rest.is_some()
}

/// What a copy takes; what cannot be told counts as all there is.
fn size(copy: &Path) -> u64 {
    let Ok(status) = fs::symlink_metadata(copy) else { return MAX_COPIES };
    let inside = if status.is_dir() { fs::read_dir(copy).ok() } else { None };
    let inside = inside.into_iter().flatten().flatten().map(|entry| size(&entry.path()));
    inside.fold(status.blocks().saturating_mul(512), u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("0::/system.slice/tidegate.service\n", true; "the daemon")]
    #[test_case("12:pids:/x\n0::/tidegate.service\n", true; "in no slice, with a hierarchy of version 1")]
    #[test_case("0::/system.slice/other.service/tidegate.service\n", false; "made by another")]
    #[test_case("0::/user.slice/user-0.slice/user@0.service/app.slice/tidegate.service\n", false; "a user's")]
    #[test_case("0::/system.slice/tidegate.service/below\n", false; "below it")]
    #[test_case("0::/../tidegate.service\n", false; "elsewhere in the tree")]
    #[test_case("0::/system.slice/tidegate-early.service\n", false; "another unit")]
    #[test_case("0::/\n", false; "the root")]
    #[test_case("", false; "nothing")]
    fn the_daemons_unit_alone_may_ask(groups: &str, expected: bool) {
        assert_eq!(is_asker(groups), expected);
    }

    #[test]
    fn a_copy_that_takes_too_much_is_taken_away() {
        let scratch = tempfile::tempdir().unwrap();
        let (small, large, directory) =
            (scratch.path().join("small"), scratch.path().join("large"), scratch.path().join("directory"));
        fs::write(&small, [1; 4096]).unwrap();
        fs::write(&large, vec![1; 64 << 10]).unwrap();
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("one"), vec![1; 64 << 10]).unwrap();
        let mut left = 32 << 10;
        assert_eq!([&small, &large, &directory].map(|copy| fits(copy, &mut left)), [true, false, false]);
        assert!((16 << 10..32 << 10).contains(&left), "{left}");
        assert_eq!([&small, &large, &directory].map(|copy| copy.exists()), [true, false, false]);
    }
}
