//! Where in a bpffs maps and links are kept, so that they outlive the agent.
//!
//! ```text
//! BPFFS/tidegate/          locked by the agent, or by `tidegate release`
//! └── v1/                  what the layout of the maps is
//!     ├── maps/NAME        adopted as they are
//!     ├── links/NAME       adopted, and their programs replaced
//!     └── retired/NAME-ID  links at another cgroup, until those in `links` are known to do their work
//! ```

pub(super) mod adopt;
pub mod lock;
pub mod removal;

use rustix::fs::statfs;
use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tidegate_ebpf_common::LAYOUT;

/// Where a bpffs is mounted by convention.
pub const BPFFS: &str = "/sys/fs/bpf";

const NAME: &str = "tidegate";
const MAPS: &str = "maps";
const LINKS: &str = "links";
const RETIRED: &str = "retired";

/// The filesystem's number in linux/magic.h.
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;

/// Root alone may open what is pinned.
const MODE: u32 = 0o700;

/// What is pinned, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pins {
    /// Links alone, right in a directory of a bpffs that whoever made it takes away.
    Private(PathBuf),
    /// Maps and links, in a directory of one layout, which the next agent adopts.
    Shared(PathBuf),
}

/// Why what is pinned could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The place has another filesystem.
    #[error(
        "`{}` is on no bpffs, so that nothing can be pinned there; mount one with `mount -t bpf bpf {BPFFS}`",
        path.display()
    )]
    NotBpffs {
        /// The place.
        path: PathBuf,
    },
    /// Somebody else could have put the pins there.
    #[error("`{}` belongs to user {owner}, not to the agent's; remove it", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A file, directory or pinned object cannot be used.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A pinned map cannot be examined.
    #[error("cannot examine the pinned map `{}`", path.display())]
    Map {
        /// Where.
        path: PathBuf,
        /// The kernel's answer.
        source: aya::maps::MapError,
    },
    /// A pinned map is not what the programs need.
    #[error(
        "the map pinned at `{}` has {found}, and this tidegate needs {expected}: another build made it; \
         stop its agent, run `tidegate release`, and start again", path.display()
    )]
    Shape {
        /// Where.
        path: PathBuf,
        /// What it is.
        found: adopt::Shape,
        /// What it should be.
        expected: adopt::Shape,
    },
    /// Another process has the lock.
    #[error("another tidegate holds `{}`: {}; stop it first", path.display(), lock::named(holder.as_ref()))]
    Held {
        /// The locked directory.
        path: PathBuf,
        /// Who, if `/proc` tells.
        holder: Option<lock::Holder>,
    },
    /// The object's maps cannot be listed.
    #[error("cannot read the eBPF object")]
    Object(#[source] aya_obj::ParseError),
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

/// The directory of every layout on the bpffs mounted at `bpffs`.
pub fn base(bpffs: &Path) -> PathBuf {
    bpffs.join(NAME)
}

impl Pins {
    /// The pins of this build's layout on the bpffs mounted at `bpffs`.
    pub fn on(bpffs: &Path) -> Self {
        Self::Shared(base(bpffs).join(format!("v{LAYOUT}")))
    }

    /// The directory of the maps; None where they are not pinned.
    pub(super) fn maps(&self) -> Option<PathBuf> {
        match self {
            Self::Private(_) => None,
            Self::Shared(directory) => Some(directory.join(MAPS)),
        }
    }

    /// The directory of the links.
    pub(super) fn links(&self) -> PathBuf {
        match self {
            Self::Private(directory) => directory.clone(),
            Self::Shared(directory) => directory.join(LINKS),
        }
    }

    /// The directory of links that have been replaced and still hold; None where nothing is adopted.
    pub(super) fn retired(&self) -> Option<PathBuf> {
        match self {
            Self::Private(_) => None,
            Self::Shared(directory) => Some(directory.join(RETIRED)),
        }
    }

    /// The directory of all layouts; None where there is only one.
    pub(super) fn base(&self) -> Option<&Path> {
        match self {
            Self::Private(_) => None,
            Self::Shared(directory) => directory.parent(),
        }
    }

    /// Makes the directories that are missing.
    pub(super) fn prepare(&self) -> Result<(), Error> {
        let Self::Shared(directory) = self else { return Ok(()) };
        let above = directory.ancestors().find(|above| above.is_dir()).unwrap_or(directory);
        if !is_bpffs(above).map_err(io_error("inspect the filesystem of", above))? {
            return Err(Error::NotBpffs { path: above.to_owned() });
        }
        let directories =
            [directory.clone(), directory.join(MAPS), directory.join(LINKS), directory.join(RETIRED)];
        for directory in self.base().map(Path::to_owned).into_iter().chain(directories) {
            make_private(&directory)?;
        }
        Ok(())
    }
}

fn make_private(directory: &Path) -> Result<(), Error> {
    DirBuilder::new().mode(MODE).recursive(true).create(directory).map_err(io_error("make", directory))?;
    let metadata = fs::symlink_metadata(directory).map_err(io_error("inspect", directory))?;
    if metadata.uid() != rustix::process::geteuid().as_raw() || !metadata.is_dir() {
        return Err(Error::NotOurs { path: directory.to_owned(), owner: metadata.uid() });
    }
    fs::set_permissions(directory, Permissions::from_mode(MODE)).map_err(io_error("close", directory))
}

fn is_bpffs(path: &Path) -> io::Result<bool> {
    let magic = statfs(path)?.f_type;
    // The numbers have 32 bits; the field is signed and as wide as a pointer.
    Ok(u32::try_from(magic & 0xffff_ffff).is_ok_and(|magic| magic == BPF_FS_MAGIC))
}

/// The names in a directory, sorted; none where there is no directory.
pub(super) fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("read", directory)(error)),
    };
    let names: io::Result<Vec<String>> =
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect();
    let mut names = names.map_err(io_error("read", directory))?;
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_of_a_build_lie_under_its_layout() {
        let pins = Pins::on(Path::new("/b"));
        assert_eq!(pins.links(), Path::new(&format!("/b/tidegate/v{LAYOUT}/links")));
        assert_eq!(pins.maps().unwrap(), Path::new(&format!("/b/tidegate/v{LAYOUT}/maps")));
        assert_eq!(pins.base(), Some(base(Path::new("/b")).as_path()));
    }

    #[test]
    fn another_filesystem_is_refused_with_the_command_that_mounts_one() {
        let directory = tempfile::tempdir().unwrap();
        let error = Pins::on(directory.path()).prepare().unwrap_err();
        assert!(error.to_string().contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
        assert!(names(directory.path()).unwrap().is_empty());
    }
}
