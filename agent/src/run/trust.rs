//! Makes unmodified programs trust the local CA: its certificate joins every store that they look in.
//!
//! All of it exists in the command's own mount namespace only, and ends with it. Without root there is no such
//! namespace, and variables alone tell programs.

use crate::{
    control::Admission,
    run::namespace,
    trust::{
        self, Found, Kind, Store, Surroundings, uncovered,
        variables::{Named, Value, Variable},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
};

/// The merged bundle's name in the trust directory.
const BUNDLE: &str = "ca-bundle.crt";
/// The name of the file with the anchors alone.
const ANCHORS: &str = "tidegate-ca.crt";

/// Why the stores could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// There is no place for copies.
    #[error("cannot make `{}`", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The daemon's file cannot be used.
    #[error("cannot read the local CA's certificate `{}`", path.display())]
    Anchors {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A store cannot be found or copied.
    #[error(transparent)]
    Trust(#[from] trust::Error),
    /// A copy cannot be laid over its store.
    #[error("cannot put the local CA in place")]
    Mount(#[from] namespace::Error),
}

/// Copies of the stores, which are not in place yet.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Each store's path and its copy, a directory before what lies in it.
    copies: Vec<(PathBuf, PathBuf)>,
    anchors: PathBuf,
    /// The copy that stands for the system's roots.
    bundle: PathBuf,
    variables: Vec<Variable>,
    warnings: Vec<String>,
}

/// What the command gets besides the mounts.
#[derive(Debug)]
pub(super) struct Installed {
    /// Variables to set.
    pub(super) variables: Vec<(&'static str, OsString)>,
    /// What could not be done.
    pub(super) warnings: Vec<String>,
}

/// Makes copies, with the CA certificates `anchors` (PEM), of every store that the command could read. `directory`
/// is to stay visible to the command, and to be made read-only before the copies are put in place.
pub(super) fn prepare(
    directory: &Path,
    anchors: &str,
    surroundings: &Surroundings<'_>,
) -> Result<Prepared, Error> {
    let certificates = trust::anchors_of_pem(anchors)?;
    make(directory)?;
    let anchors = directory.join(ANCHORS);
    trust::write_anchors(&certificates, &anchors)?;
    let Found { stores, system_bundle, variables, mut warnings } = trust::find(surroundings)?;
    if system_bundle.is_none() {
        warnings.push("the system has no bundle of CA certificates, so only the local CA is trusted".into());
    }
    let mut bundle = anchors.clone();
    let mut copies = Vec::new();
    for (number, store) in stores.iter().enumerate() {
        let Store { path, kind, .. } = store;
        let is_system_bundle = system_bundle.as_ref().is_some_and(|bundle| bundle.path == *path);
        let name = match kind {
            Kind::Bundle if is_system_bundle => BUNDLE.to_owned(),
            Kind::Bundle => format!("bundle-{number}.crt"),
            Kind::HashedDirectory => format!("directory-{number}"),
            Kind::Keystore => format!("keystore-{number}"),
        };
        let copy = directory.join(name);
        match store.merge_into(&certificates, &copy) {
            Ok(warning) => warnings.extend(warning),
            Err(error) if is_system_bundle => return Err(error.into()),
            Err(error) => {
                warnings.push(uncovered(&error));
                continue;
            }
        }
        if is_system_bundle {
            bundle.clone_from(&copy);
        }
        copies.push((path.clone(), copy));
    }
    Ok(Prepared { copies, anchors, bundle, variables, warnings })
}

/// What to set where nothing can be laid over anything: of the stores that the user's variables name, copies are made
/// in `directory`, which lives as long as the command. The daemon keeps the other two files up to date.
pub(super) fn by_variables(
    directory: &Path,
    published: &Admission,
    surroundings: &Surroundings<'_>,
) -> Result<Installed, Error> {
    let anchors = fs::read_to_string(&published.anchors)
        .map_err(|source| Error::Anchors { path: published.anchors.clone(), source })?;
    let certificates = trust::anchors_of_pem(&anchors)?;
    make(directory)?;
    let Found { stores, variables, .. } = trust::find(surroundings)?;
    let (mut warnings, mut places) = (Vec::new(), BTreeMap::new());
    let named = variables.iter().filter_map(|variable| match &variable.value {
        Value::Theirs(named) => Some(named),
        Value::Bundle | Value::Anchors | Value::Word(_) => None,
    });
    let named: BTreeSet<_> = named.flatten().filter_map(|named| named.store.as_ref()).collect();
    for (number, store) in stores.iter().enumerate().filter(|(_, store)| named.contains(&store.path)) {
        let copy = directory.join(format!("store-{number}"));
        match store.merge_into(&certificates, &copy) {
            Ok(warning) => {
                warnings.extend(warning);
                places.insert(store.path.clone(), copy);
            }
            Err(error) => warnings.push(uncovered(&error)),
        }
    }
    let variables = set(variables, &published.bundle, &published.anchors, &places, &mut warnings);
    Ok(Installed { variables, warnings })
}

fn make(directory: &Path) -> Result<(), Error> {
    fs::create_dir_all(directory).map_err(|source| Error::Directory { path: directory.to_owned(), source })
}

impl Prepared {
    /// Lays each copy over its store, in this mount namespace.
    pub(super) fn install(self) -> Result<Installed, Error> {
        let Self { copies, anchors, bundle, variables, mut warnings } = self;
        // Where a program that is given a store's path finds the anchors.
        let mut places = BTreeMap::new();
        for (path, copy) in copies {
            let place = match namespace::lay(&copy, &path) {
                Ok(()) => path.clone(),
                Err(error) if copy == bundle => return Err(error.into()),
                Err(error) => {
                    warnings.push(uncovered(&error));
                    copy
                }
            };
            places.insert(path, place);
        }
        let variables = set(variables, &bundle, &anchors, &places, &mut warnings);
        Ok(Installed { variables, warnings })
    }
}

/// What each variable is to be, where stores have these places.
fn set(
    variables: Vec<Variable>,
    bundle: &Path,
    anchors: &Path,
    places: &BTreeMap<PathBuf, PathBuf>,
    warnings: &mut Vec<String>,
) -> Vec<(&'static str, OsString)> {
    let mut set = Vec::new();
    for Variable { name, value } in variables {
        let value = match value {
            Value::Bundle => Some(bundle.into()),
            Value::Anchors => Some(anchors.into()),
            Value::Word(word) => Some(word.into()),
            Value::Theirs(named) => theirs(name, &named, places, warnings),
        };
        set.extend(value.map(|value| (name, value)));
    }
    set
}

/// What to set a variable to that the user, or a tool's settings, have set: nothing, where what it names is covered.
fn theirs(
    name: &str,
    named: &[Named],
    places: &BTreeMap<PathBuf, PathBuf>,
    warnings: &mut Vec<String>,
) -> Option<OsString> {
    let place = |Named { given, store }: &Named| {
        let place = store.as_ref().and_then(|store| Some((store, places.get(store)?)));
        match place {
            Some((store, place)) if place == store => (given.clone(), false),
            Some((_, copy)) => (copy.clone(), true),
            None => (given.clone(), false),
        }
    };
    for Named { given, store } in named {
        // A store that is there and has no copy has its warning.
        if store.is_none() {
            warnings.push(format!(
                "{name}=`{}` is not a file or directory that can be read; it stays, and programs that use it will \
                 refuse tidegate's certificates",
                given.display()
            ));
        }
    }
    let places: Vec<_> = named.iter().map(place).collect();
    let values: Vec<_> = places.iter().map(|(path, _)| path.as_os_str()).collect();
    places.iter().any(|(_, is_copy)| *is_copy).then(|| values.join(OsStr::new(":")))
}
