//! systemd units whose programs trust the local CA: drop-ins that lay merged copies over the stores that a unit's
//! programs read, and the copies.
//!
//! A drop-in is all that there is to know of a protected unit: the daemon finds it where it lies, and everything else
//! from the unit's own files, each time anew.

mod copies;
mod drop_in;
mod replace;
mod systemctl;
mod unit_file;
mod unit_name;
mod words;
mod workload;

pub use copies::Copies;
pub use unit_name::{InvalidName, UnitName};

use crate::{
    config::Config,
    host_trust::{self, Root},
    trust, whole_file,
};
use drop_in::DropIn;
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use unit_file::Unit;

/// Where merged copies lie.
pub const COPIES: &str = "/run/tidegate/trust";
/// How a file of ours begins, and nobody else's.
const MARK: &str = "# Written by tidegate protect";
/// Where an administrator's units and drop-ins are.
const UNITS: &str = "/etc/systemd/system";
const FILE_NAME: &str = "50-tidegate.conf";

/// Why a unit could not be protected, or its protection not be taken away.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is none.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// It is tidegate's own.
    #[error("`{0}` is the gate itself; name the service whose programs it is to hold")]
    Own(UnitName),
    /// No file makes the unit.
    #[error("no unit `{unit}` below `{}`; `systemctl list-unit-files` knows the names", root.display())]
    NoUnit {
        /// The name.
        unit: UnitName,
        /// The system's root.
        root: PathBuf,
    },
    /// It cannot be started.
    #[error("`{unit}` is masked by `{}`; run `systemctl unmask {unit}` first, if it is to run", path.display())]
    Masked {
        /// The name.
        unit: UnitName,
        /// The link to nothing.
        path: PathBuf,
    },
    /// It sees other files than the system's.
    #[error(
        "`{unit}` runs in a tree of its own (`{setting}`), whose stores are not this system's; put the local CA into that \
         tree with `tidegate ca install --root DIR`, and add Requires=tidegate.service to the unit"
    )]
    OwnRoot {
        /// The name.
        unit: UnitName,
        /// What says so.
        setting: String,
    },
    /// No workload matches the unit.
    #[error(
        "`{unit}` is no workload of `{}`, so that nothing would decide its requests; add these lines with a policy of yours, \
         and run this again once the daemon has them:\n[[workload]]\nname = \"{}\"\npolicy = \"read-only\"\nmatch = [{table}]",
        config.display(),
        unit.workload_name()
    )]
    NoWorkload {
        /// The name.
        unit: UnitName,
        /// The configuration.
        config: PathBuf,
        /// Its cgroup.
        cgroup: String,
        /// What would match it.
        table: String,
    },
    /// Another workload than the one that was asked for.
    #[error("workload `{workload}` of `{}` does not hold `{unit}`{instead}; add {table} to its `match`", config.display())]
    OtherWorkload {
        /// The name.
        unit: UnitName,
        /// What was asked for.
        workload: String,
        /// The configuration.
        config: PathBuf,
        /// What would match it.
        table: String,
        /// Whose it is.
        instead: String,
    },
    /// The cgroup is not known before the start.
    #[error(
        "`{unit}` is started in `Slice={slice}`, which only systemd resolves; write the slice's name into the unit"
    )]
    Slice {
        /// The name.
        unit: UnitName,
        /// Its slice.
        slice: String,
    },
    /// Somebody else's file is there.
    #[error("`{}` was not written by tidegate; move it away, or give it another name, and run this again", .0.display())]
    Foreign(PathBuf),
    /// There is no drop-in.
    #[error("`{unit}` is not protected: there is no `{}`", path.display())]
    NotProtected {
        /// The name.
        unit: UnitName,
        /// What is not there.
        path: PathBuf,
    },
    /// The system's tree cannot be used.
    #[error(transparent)]
    Root(#[from] host_trust::Error),
    /// The stores cannot be found or copied.
    #[error(transparent)]
    Trust(#[from] trust::Error),
    /// A file cannot be used.
    #[error("cannot {action} `{}`; it takes root", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// systemd runs, and its tool is nowhere.
    #[error(
        "found no `systemctl` in /usr/bin, /bin or the usual other places; make systemd read its units again by hand"
    )]
    NoSystemctl,
    /// systemd could not read its units.
    #[error("`systemctl daemon-reload` failed ({status}): {told}; run it again once that is corrected")]
    Reload {
        /// Its exit status.
        status: String,
        /// What it said.
        told: String,
    },
}

impl Error {
    /// Whether the command line or the configuration is to be corrected.
    pub fn is_of_configuration(&self) -> bool {
        matches!(
            self,
            Self::Name(_)
                | Self::Own(_)
                | Self::NoWorkload { .. }
                | Self::OtherWorkload { .. }
                | Self::Slice { .. }
        )
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

/// What protecting a unit takes.
#[derive(Debug)]
pub struct Plan {
    /// The unit's own name.
    pub unit: UnitName,
    /// The drop-in's place.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// The workloads that the unit is.
    pub workloads: Vec<String>,
    /// What programs of the unit will not trust, and why.
    pub warnings: Vec<String>,
    is_machine: bool,
}

/// Finds out what protecting the unit takes, and changes nothing. `config` was read from `config_path`.
///
/// # Errors
/// When there is no such unit, or it cannot be protected.
pub fn plan(
    root: &Path,
    unit: &UnitName,
    config: &Config,
    config_path: &Path,
    workload: Option<&str>,
) -> Result<Plan, Error> {
    let root = Root::open(root)?;
    let mut unit = Unit::read(&root, unit)?;
    if unit.name.prefix().starts_with("tidegate") {
        return Err(Error::Own(unit.name));
    }
    if let Some(setting) = unit.own_root.take() {
        return Err(Error::OwnRoot { unit: unit.name, setting });
    }
    let workloads: Vec<&str> = workload::of(config, config_path, &unit, workload)?
        .into_iter()
        .map(|workload| workload.name.as_str())
        .collect();
    let path = drop_in_path(&root, &unit.name)?;
    refuse_foreign(&path)?;
    let stores = copies::of_unit(&root, &unit)?;
    let cgroup = unit.name.cgroup(&unit.slice);
    let drop_in = DropIn {
        unit: &unit.name,
        workloads: &workloads,
        cgroup: &cgroup,
        binds: &stores.binds,
        variables: &stores.variables,
    };
    let (text, unwritten) = drop_in.text();
    let workloads = workloads.into_iter().map(str::to_owned).collect();
    let warnings = [unit.warnings, stores.warnings, unwritten].concat();
    Ok(Plan { unit: unit.name, path, text, workloads, warnings, is_machine: root.is_machine() })
}

impl Plan {
    /// Does it; answers a sentence for each thing that was done.
    ///
    /// # Errors
    /// When a file cannot be written, or systemd not be told. To run it again completes what is half done.
    pub fn carry_out(&self) -> Result<Vec<String>, Error> {
        let mut done = Vec::new();
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            done.push(format!("{} is up to date", self.path.display()));
        } else {
            refuse_foreign(&self.path)?;
            let directories: Vec<&Path> = self.path.ancestors().skip(1).collect();
            for missing in directories.into_iter().rev().filter(|directory| !directory.exists()) {
                replace::make_directory(missing, 0o755).map_err(failed("make", missing))?;
            }
            whole_file::put(&self.path, self.text.as_bytes(), 0o644).map_err(failed("write", &self.path))?;
            done.push(format!("wrote {}", self.path.display()));
        }
        if self.is_machine {
            done.extend(Copies::of_machine().fill_for_running_daemon()?);
        }
        done.push(reload(self.is_machine)?);
        Ok(done)
    }
}

/// Takes the unit's drop-in away; answers a sentence for each thing that was done.
///
/// # Errors
/// When there is none of ours, it cannot be removed, or systemd not be told.
pub fn unprotect(root: &Path, unit: &UnitName) -> Result<Vec<String>, Error> {
    let root = Root::open(root)?;
    let mut unit = unit.clone();
    let mut path = drop_in_path(&root, &unit)?;
    if !path.exists()
        && let Ok(found) = Unit::read(&root, &unit)
    {
        unit = found.name;
        path = drop_in_path(&root, &unit)?;
    }
    refuse_foreign(&path)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NotProtected { unit, path });
        }
        removed => removed.map_err(failed("remove", &path))?,
    }
    let mut done = vec![format!("removed {}", path.display())];
    if let Some(directory) = path.parent()
        && fs::remove_dir(directory).is_ok()
    {
        done.push(format!("removed {}", directory.display()));
    }
    done.push(reload(root.is_machine())?);
    Ok(done)
}

fn reload(is_machine: bool) -> Result<String, Error> {
    if is_machine {
        return systemctl::reload();
    }
    Ok("another system's tree: its systemd reads it when it starts".to_owned())
}

/// The drop-in's place in the tree, where its links lead; the last directories may have to be made.
fn drop_in_path(root: &Root, unit: &UnitName) -> Result<PathBuf, Error> {
    let mut within = PathBuf::from("/");
    let mut real = root.path().to_owned();
    for name in Path::new(UNITS).join(format!("{unit}.d")).components().skip(1) {
        within.push(name);
        match root.resolve(&within) {
            Some(path) => real = path,
            None => {
                real.push(name);
                // A link that leads nowhere in the tree would lead out of it.
                if fs::symlink_metadata(&real).is_ok() {
                    return Err(Error::Foreign(real));
                }
            }
        }
    }
    Ok(real.join(FILE_NAME))
}

fn refuse_foreign(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        facts => {
            // A link would lead out of the tree, or to somebody else's file.
            if !facts.map_err(failed("inspect", path))?.is_file() {
                return Err(Error::Foreign(path.to_owned()));
            }
        }
    }
    let text = fs::read(path).map_err(failed("read", path))?;
    if text.starts_with(MARK.as_bytes()) { Ok(()) } else { Err(Error::Foreign(path.to_owned())) }
}

/// The units that have a drop-in of ours, and those texts.
fn protected(root: &Root) -> Result<Vec<(UnitName, String)>, Error> {
    let Some(units) = root.resolve(Path::new(UNITS)) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in fs::read_dir(&units).map_err(failed("read", &units))? {
        let path = entry.map_err(failed("read", &units))?.path();
        let name =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".service.d"));
        let Some(unit) = name.and_then(|name| UnitName::parse(name).ok()) else { continue };
        let Ok(text) = fs::read_to_string(path.join(FILE_NAME)) else { continue };
        if text.starts_with(MARK) {
            found.push((unit, text));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests;
