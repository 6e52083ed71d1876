//! Takes away what is pinned: what is no longer needed beside the programs of a new agent, or everything.

use super::{
    super::{program, sys},
    Error, LINKS, Pins, RETIRED, base, io_error,
    lock::Lock,
    names,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Detaches and removes everything of every layout on the bpffs mounted at `bpffs`; answers what was removed, in the
/// order of removal. Nothing is touched while an agent is at work on these pins or on one of the cgroup `roots`, unless
/// `force` is set.
///
/// # Errors
/// [`Error::Held`] while an agent is at work; else what could not be removed: the rest can be removed by another call.
pub fn release(bpffs: &Path, roots: &[&Path], force: bool) -> Result<Vec<PathBuf>, Error> {
    let base = base(bpffs);
    if !base.try_exists().map_err(io_error("inspect", &base))? {
        return Ok(Vec::new());
    }
    let directories: Vec<&Path> = std::iter::once(base.as_path()).chain(roots.iter().copied()).collect();
    let _lock = (!force).then(|| Lock::take(&directories)).transpose()?;
    let mut removed = Vec::new();
    for layout in names(&base)? {
        remove_layout(&base.join(layout), &mut removed)?;
    }
    remove_directory(&base)?;
    Ok(removed)
}

/// Removes the other layouts, the links that were retired, and links and maps that are none of `kept`.
pub(in super::super) fn retire(pins: &Pins, links: &[&str], maps: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let mut removed = Vec::new();
    let (Pins::Shared(own), Some(base)) = (pins, pins.base()) else { return Ok(removed) };
    for layout in names(base)?.into_iter().map(|name| base.join(name)).filter(|layout| layout != own) {
        remove_layout(&layout, &mut removed)?;
    }
    for (directory, kept) in [(pins.retired(), &[][..]), (Some(pins.links()), links), (pins.maps(), maps)] {
        let Some(directory) = directory else { continue };
        remove_entries(&directory, kept, &mut removed)?;
    }
    Ok(removed)
}

/// Links first, since a program whose maps can no longer be found could not be governed.
fn remove_layout(layout: &Path, removed: &mut Vec<PathBuf>) -> Result<(), Error> {
    if !layout.is_dir() {
        return Ok(());
    }
    let mut directories: Vec<String> = vec![LINKS.to_owned(), RETIRED.to_owned()];
    directories.extend(names(layout)?.into_iter().filter(|name| name != LINKS && name != RETIRED));
    for directory in directories.iter().map(|name| layout.join(name)) {
        remove_entries(&directory, &[], removed)?;
        remove_directory(&directory)?;
    }
    remove_directory(layout)
}

/// Removes every entry that is not `kept`, the links in the reverse of the order in which they were attached. What
/// redirects goes first: the connects that are then no longer redirected are still dropped by the backstop, and the flows
/// of those before are still found and forgotten. The gate opens in one step, when the backstop goes, and a removal that
/// ends before has opened nothing. What only refuses ways round, and what tells who is a subject, follows.
fn remove_entries(directory: &Path, kept: &[&str], removed: &mut Vec<PathBuf>) -> Result<(), Error> {
    let mut entries = names(directory)?;
    entries.sort_by_key(|name| std::cmp::Reverse(program::order(name)));
    for path in entries.iter().filter(|name| !kept.contains(&name.as_str())).map(|name| directory.join(name))
    {
        unpin(&path).map_err(io_error("remove", &path))?;
        removed.push(path);
    }
    Ok(())
}

/// Removes a pin; if it is a link's, what the link attached is detached when this returns.
pub(in super::super) fn unpin(path: &Path) -> io::Result<()> {
    // The kernel detaches an unpinned link a little later, and not while anybody has it open. Other objects than links,
    // and links of tracepoints, cannot be detached, and need not be.
    if let Ok(link) = sys::Link::open(path) {
        let _ = link.detach();
    }
    fs::remove_file(path)
}

fn remove_directory(directory: &Path) -> Result<(), Error> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", directory)(error)),
        _ => Ok(()),
    }
}
