//! What a container is given so that its programs trust the local CA: read-only mounts over the stores that they read,
//! and variables for runtimes with roots of their own.
//!
//! A container's own variables stay. Where one names a file that the pod mounts, a copy in which the local CA is trusted,
//! too, is laid over that file. Mounts of the pod's are never changed otherwise.

mod plan;

pub use plan::{Stores, plan};

use crate::trust::{self, Found, Surroundings, variables::Value};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

/// The local CA's certificates, in the published directory.
pub const ANCHORS: &str = "ca.pem";
/// The machine's certificates and the local CA's, in the same directory.
pub const BUNDLE: &str = "ca-bundle.pem";

/// With what a container is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Spec {
    /// Its variables, those of the image among them.
    pub environment: Vec<(String, String)>,
    /// Its program and what that is given.
    pub arguments: Vec<String>,
    /// Its mounts.
    pub mounts: Vec<Mount>,
}

/// A mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Mount {
    /// Where the container sees it.
    pub destination: PathBuf,
    /// Where the machine has it.
    pub source: PathBuf,
    /// Whether it shows a file or directory of the machine's.
    pub is_bind: bool,
}

/// What a container is given besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adjustment {
    /// Variables, none of which it has.
    pub environment: Vec<(String, String)>,
    /// Mounts, to be read only.
    pub mounts: Vec<Mount>,
    /// What could not be done.
    pub warnings: Vec<String>,
}

/// The tree of the container's image.
#[derive(Clone, Copy, Debug)]
pub enum Image<'a> {
    /// Nobody can look into it yet: runtimes that ask through NRI have not mounted it.
    Unknown,
    /// Its root.
    Tree(&'a Path),
}

/// What the agent has for containers.
#[derive(Clone, Copy, Debug)]
pub struct Published<'a> {
    /// A directory with [`ANCHORS`] and [`BUNDLE`] and nothing that is not for everybody to read.
    pub directory: &'a Path,
    /// The local CA's certificates, PEM.
    pub anchors: &'a str,
}

/// Why a container's trust could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no place for copies.
    #[error("cannot make `{}`", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The stores cannot be found or copied.
    #[error(transparent)]
    Trust(#[from] trust::Error),
}

/// Finds out what the container reads, makes copies of it in `copies`, a directory of this container's own that lives as
/// long as it does, and answers what it is to be given.
///
/// # Errors
/// When the image cannot be entered, or there is no place for copies.
pub fn prepare(
    spec: &Spec,
    image: Image<'_>,
    published: &Published<'_>,
    copies: &Path,
) -> Result<Adjustment, Error> {
    let directory = |path: &Path| {
        let failed = |source| Error::Directory { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(failed)
    };
    directory(copies)?;
    let anchors = trust::anchors_of_pem(published.anchors)?;
    // Of an image that nobody can look into, what its mounts show where certificates may be.
    let sketch = copies.join("sketch");
    let (root, is_known) = match image {
        Image::Tree(root) => (root, true),
        Image::Unknown => {
            directory(&sketch)?;
            draw(spec, &sketch)?;
            (sketch.as_path(), false)
        }
    };
    let found = find(spec, root)?;
    let mut stores = Stores { is_known, ..Stores::new(published.directory) };
    stores.warnings.extend(found.warnings);
    for (number, store) in found.stores.iter().enumerate() {
        let is_system = found.system_bundle.as_ref().is_some_and(|system| system.path == store.path);
        let copy = copies.join(format!("{}-{number}", store.kind.word()));
        match store.merge_into(&anchors, &copy) {
            Ok(warning) => {
                stores.warnings.extend(warning);
                if is_system && is_known {
                    stores.system = Some(store.path.clone());
                }
                stores.copies.push((store.path.clone(), copy));
            }
            Err(error) => stores.warnings.push(trust::uncovered(&error)),
        }
    }
    stores.variables = found.variables;
    if !is_known {
        fs::remove_dir_all(&sketch).map_err(|source| Error::Directory { path: sketch.clone(), source })?;
    }
    Ok(plan(spec, stores))
}

fn find(spec: &Spec, root: &Path) -> Result<Found, trust::Error> {
    let lookup = |name: &str| spec.variable(name).map(OsString::from);
    let command: Vec<OsString> = spec.arguments.iter().map(OsString::from).collect();
    let home = lookup("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    trust::find(&Surroundings {
        root,
        home: home.as_deref(),
        working_directory: None,
        command: &command,
        lookup: &lookup,
    })
}

impl Spec {
    /// A variable's value. Of two of the same name, programs differ in which they see; runtimes keep the last.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let found = self.environment.iter().rev().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The mount of the machine's that shows a path, and the rest of the path in it.
    fn shown_by<'s>(&'s self, path: &'s Path) -> Option<(&'s Mount, &'s Path)> {
        // The last and deepest covers the others.
        let covering = self.mounts.iter().filter(|mount| path.starts_with(&mount.destination));
        let mount = covering.max_by_key(|mount| mount.destination.components().count())?;
        Some((mount, path.strip_prefix(&mount.destination).ok()?)).filter(|(mount, _)| mount.is_bind)
    }
}

/// Makes a tree of the files that the spec's mounts show at the places where certificates may be.
fn draw(spec: &Spec, sketch: &Path) -> Result<(), Error> {
    // An empty tree has no store, but tells which files the variables name.
    let named = find(spec, sketch)?.variables.into_iter().filter_map(|variable| match variable.value {
        Value::Theirs(named) => Some(named),
        Value::Bundle | Value::Anchors | Value::Word(_) => None,
    });
    let named = named.flatten().map(|named| named.given);
    let places: BTreeSet<PathBuf> = named.chain(plan::PLACES.iter().map(PathBuf::from)).collect();
    for path in places {
        let Some((mount, rest)) = spec.shown_by(&path) else { continue };
        let Ok(content) = trust::read_in(&mount.source, rest) else { continue };
        let Some(place) = path.strip_prefix("/").ok().map(|path| sketch.join(path)) else { continue };
        let written = place.parent().map_or(Ok(()), fs::create_dir_all);
        written
            .and_then(|()| fs::write(&place, content))
            .map_err(|source| Error::Directory { path: place, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
