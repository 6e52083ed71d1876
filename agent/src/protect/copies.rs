//! The merged copies that protected units see: made when the daemon starts, and made anew when the CA, a store or a
//! unit changes. What runs sees what has changed, as far as it looks again: a JVM reads its keystore once, when it
//! starts, and Node its extra certificates.

use super::{COPIES, Error, drop_in, failed, protected, replace, unit_file::Unit};
use crate::{
    config::RUN_DIR,
    host_trust::{Root, bundle},
    terminate::certificate,
    trust::{self, Kind, Store, Surroundings, variables::Value},
    whole_file,
};
use aws_lc_rs::digest::{SHA256, digest};
use rustix::fs::{FlockOperation, flock};
use rustls_pki_types::CertificateDer;
use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error as StdError,
    ffi::OsString,
    fmt::Write,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// The local CA's certificates.
const ANCHORS: &str = "ca.pem";
/// The system's and the local CA's.
const BUNDLE: &str = "ca-bundle.pem";
/// Where copies are made, before they are shown.
const DRAFTS: &str = ".new";
const LOCK: &str = ".lock";

/// What one unit's programs read.
pub(super) struct OfUnit {
    /// The merged copies, and what they lie over.
    pub(super) binds: Vec<(PathBuf, PathBuf)>,
    pub(super) variables: Vec<(String, String)>,
    pub(super) warnings: Vec<String>,
}

/// Finds what a drop-in of the unit has to cover. What cannot be copied is left out, since a copy that is missing
/// would keep the unit from starting.
pub(super) fn of_unit(root: &Root, unit: &Unit) -> Result<OfUnit, Error> {
    let found = stores(root, unit)?;
    let mut warnings = found.warnings;
    let drafts = Scratch::make(&std::env::temp_dir())?;
    let mut usable = Vec::new();
    for store in found.stores {
        let draft = drafts.0.join(name(&store.path));
        match store.merge_into(&[], &draft) {
            Ok(warning) => {
                warnings.extend(warning);
                usable.push(store);
            }
            Err(error) => warnings.push(format!(
                "{}; it stays as it is, and programs that read it will refuse tidegate's certificates",
                told(&error)
            )),
        }
        drafts.empty()?;
    }
    let copies = Path::new(COPIES);
    let outer = usable.iter().filter(|store| holder(&usable, store).is_none());
    let binds = outer.map(|store| (copies.join(name(&store.path)), store.path.clone())).collect();
    let is_usable = |path: &PathBuf| usable.iter().any(|store| store.path == *path);
    let mut variables = Vec::new();
    for variable in found.variables {
        let value = match variable.value {
            Value::Bundle => format!("{COPIES}/{BUNDLE}"),
            Value::Anchors => format!("{COPIES}/{ANCHORS}"),
            Value::Word(word) => word.to_owned(),
            Value::Theirs(named) => {
                let lost = named.iter().filter(|named| !named.store.as_ref().is_some_and(is_usable));
                warnings.extend(lost.map(|named| {
                    format!(
                        "{} is `{}`, which holds no certificates; it stays, and programs that use it will refuse tidegate's \
                         certificates",
                        variable.name,
                        named.given.display()
                    )
                }));
                continue;
            }
        };
        variables.push((variable.name.to_owned(), value));
    }
    Ok(OfUnit { binds, variables, warnings })
}

fn stores(root: &Root, unit: &Unit) -> Result<trust::Found, Error> {
    // What our own drop-in sets was not read with the unit.
    let lookup = |name: &str| unit.environment.get(name).map(OsString::from);
    Ok(trust::find(&Surroundings {
        root: root.path(),
        home: unit.home.as_deref(),
        working_directory: unit.working_directory.as_deref(),
        command: &unit.command,
        lookup: &lookup,
    })?)
}

/// The directory among the stores that this one lies in.
fn holder<'a>(stores: &'a [Store], store: &Store) -> Option<&'a Store> {
    let holds = |other: &&Store| {
        other.kind == Kind::HashedDirectory && other.path != store.path && store.path.starts_with(&other.path)
    };
    // The outermost is the one that is bound.
    stores.iter().filter(holds).min_by_key(|other| other.path.components().count())
}

/// A copy's name: the store's path, so that it can be recognised, and each path has its own.
fn name(store: &Path) -> String {
    const MAX_LENGTH: usize = 200;
    let path = store.as_os_str().as_bytes();
    let mut name = String::new();
    for &byte in path.strip_prefix(b"/").unwrap_or(path) {
        match byte {
            b'/' => name.push('-'),
            b'.' if name.is_empty() => name.push_str("_2e"),
            b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => name.push(char::from(byte)),
            _ => {
                let _ = write!(name, "_{byte:02x}");
            }
        }
    }
    // The two files of ours are in the same directory.
    if name.len() <= MAX_LENGTH && name != ANCHORS && name != BUNDLE {
        return name;
    }
    digest(&SHA256, path).as_ref().iter().fold("sha256_".to_owned(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

/// What was seen of a file: its time, its inode, its length.
type Facts = (PathBuf, Option<(i64, i64, u64, u64)>);

/// The copies of one system.
#[derive(Debug)]
pub struct Copies {
    root: PathBuf,
    directory: PathBuf,
    /// The files that they were made from.
    made_from: Vec<Facts>,
    /// What was wrong with them, to be told once.
    told: BTreeSet<String>,
}

impl Copies {
    /// Those of the machine's own system, where its units look for them.
    pub fn of_machine() -> Self {
        Self::new("/".into(), COPIES.into())
    }

    /// Those of the system below `root`, kept in `directory`.
    pub fn new(root: PathBuf, directory: PathBuf) -> Self {
        Self { root, directory, made_from: Vec::new(), told: BTreeSet::new() }
    }

    /// Whether a store or a protected unit has changed since the copies were made.
    pub fn are_stale(&self) -> bool {
        let Ok(root) = Root::open(&self.root) else { return false };
        let known: BTreeSet<&Path> = self.made_from.iter().map(|(path, _)| path.as_path()).collect();
        let is_known = |path: &PathBuf| known.contains(path.as_path());
        !drop_ins(&root).is_ok_and(|paths| paths.iter().all(is_known))
            || self.made_from.iter().any(|(path, facts)| facts_of(path) != *facts)
    }

    /// Makes the copies what they are to be with these anchors. What is wrong with single ones is logged, once.
    ///
    /// # Errors
    /// When there can be none at all.
    pub fn fill(&mut self, anchors: &[CertificateDer<'_>]) -> Result<(), Error> {
        let _lock = self.lock()?;
        self.fill_locked(anchors)
    }

    /// Makes them with the anchors of the daemon that runs, if one does; answers with what was done.
    pub(super) fn fill_for_running_daemon(&mut self) -> Result<Vec<String>, Error> {
        let published = Path::new(RUN_DIR).join(ANCHORS);
        if !published.exists() {
            return Ok(vec!["the daemon makes the copies of the trust stores when it starts".to_owned()]);
        }
        let _lock = self.lock()?;
        let text = fs::read_to_string(&published).map_err(failed("read", &published))?;
        self.fill_locked(&trust::anchors_of_pem(&text)?)?;
        Ok(vec![format!("copied the trust stores to {}", self.directory.display())])
    }

    fn lock(&self) -> Result<File, Error> {
        if let Some(parent) = self.directory.parent() {
            replace::make_directory(parent, 0o755).map_err(failed("make", parent))?;
        }
        replace::make_directory(&self.directory, 0o755).map_err(failed("make", &self.directory))?;
        let path = self.directory.join(LOCK);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(failed("open", &path))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|errno| failed("lock", &path)(errno.into()))?;
        Ok(file)
    }

    fn fill_locked(&mut self, anchors: &[CertificateDer<'_>]) -> Result<(), Error> {
        // The newest last, so that it only adds to what there is.
        let mut anchors: Vec<CertificateDer<'_>> = anchors.to_vec();
        anchors.sort_by_key(|anchor| certificate::read(anchor).ok().map(|facts| facts.not_before));
        let anchors = anchors.as_slice();
        let root = Root::open(&self.root)?;
        // Before they are read, so that what changes meanwhile is seen the next time.
        let mut made_from: Vec<Facts> = drop_ins(&root)?.into_iter().map(with_facts).collect();
        let pem: String = anchors.iter().map(|anchor| certificate::pem(anchor)).collect();
        self.show(ANCHORS, pem.as_bytes())?;
        let (bundle, _) = bundle::merged(&self.root, anchors)?;
        self.show(BUNDLE, bundle.as_bytes())?;
        let mut problems = BTreeSet::new();
        let mut wanted: BTreeMap<PathBuf, Store> = BTreeMap::new();
        let units = protected(&root)?;
        for (unit, _) in &units {
            match Unit::read(&root, unit).and_then(|unit| stores(&root, &unit)) {
                Ok(found) => {
                    wanted.extend(
                        found
                            .system_bundle
                            .into_iter()
                            .chain(found.stores)
                            .map(|one| (one.path.clone(), one)),
                    );
                }
                Err(error) => {
                    problems.insert(format!("the copies for `{unit}` stay as they are: {}", told(&error)));
                }
            }
        }
        let wanted: Vec<Store> = wanted.into_values().collect();
        made_from.extend(wanted.iter().map(|store| with_facts(self.within(&store.path))));
        let drafts = Scratch::at(self.directory.join(DRAFTS))?;
        for store in wanted.iter().filter(|store| holder(&wanted, store).is_none()) {
            let within =
                wanted.iter().filter(|other| holder(&wanted, other).is_some_and(|it| it.path == store.path));
            if let Err(error) = self.copy(store, within, anchors, &drafts.0, &mut problems) {
                problems.insert(format!(
                    "the copy of `{}` stays as it is: {}",
                    store.path.display(),
                    told(&error)
                ));
                drafts.empty()?;
            }
        }
        for (unit, text) in &units {
            for missing in drop_in::copies(text).iter().filter(|copy| !self.shown(copy).exists()) {
                problems.insert(format!(
                    "`{unit}` cannot start, since there is nothing to make `{}` from; run `tidegate protect {unit}` again",
                    missing.display()
                ));
            }
        }
        for problem in problems.difference(&self.told) {
            tracing::error!("{problem}");
        }
        (self.told, self.made_from) = (problems, made_from);
        Ok(())
    }

    /// Makes the copy of one store that is bound, with those that lie within.
    fn copy<'a>(
        &self,
        store: &Store,
        within: impl Iterator<Item = &'a Store>,
        anchors: &[CertificateDer<'_>],
        drafts: &Path,
        problems: &mut BTreeSet<String>,
    ) -> Result<(), Error> {
        let name = name(&store.path);
        let (draft, shown) = (drafts.join(&name), self.directory.join(&name));
        store.merge_into(anchors, &draft)?;
        if store.kind != Kind::HashedDirectory {
            let content = fs::read(&draft).map_err(failed("read", &draft))?;
            replace::rewrite(&shown, &content).map_err(failed("write", &shown))?;
            return fs::remove_file(&draft).map_err(failed("remove", &draft));
        }
        for inner in within {
            let Ok(below) = inner.path.strip_prefix(&store.path) else { continue };
            // Its owner may have changed it since it was searched.
            if !is_straight(&draft, below) {
                continue;
            }
            let place = draft.join(below);
            // Beside first: what cannot be merged stays as it is.
            let merged = drafts.join("inner");
            let done = inner.merge_into(anchors, &merged).and_then(|_| match inner.kind {
                Kind::Bundle | Kind::Keystore => fs::rename(&merged, &place).map_err(trust_io(&place)),
                Kind::HashedDirectory => fs::remove_dir_all(&place)
                    .and_then(|()| fs::rename(&merged, &place))
                    .map_err(trust_io(&place)),
            });
            if let Err(error) = done {
                problems.insert(format!("`{}` is copied as it is: {}", inner.path.display(), told(&error)));
            }
        }
        replace::refill(&shown, &draft).map_err(failed("fill", &shown))
    }

    fn show(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let path = self.directory.join(name);
        whole_file::put(&path, content, 0o644).map_err(failed("write", &path))
    }

    /// Where a copy that units look for in [`COPIES`] is really.
    fn shown(&self, copy: &Path) -> PathBuf {
        copy.strip_prefix(COPIES).map_or_else(|_| copy.to_owned(), |name| self.directory.join(name))
    }

    fn within(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

fn trust_io(path: &Path) -> impl FnOnce(io::Error) -> trust::Error {
    let path = path.to_owned();
    move |source| trust::Error::Io { action: "put a copy at", path, source }
}

fn told(error: &dyn StdError) -> String {
    let causes = std::iter::successors(error.source(), |cause: &&dyn StdError| (*cause).source());
    causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"))
}

/// Whether no link stands on the way to the place within the directory.
fn is_straight(directory: &Path, below: &Path) -> bool {
    let mut path = directory.to_owned();
    below.parent().is_none_or(|parents| {
        parents.components().all(|name| {
            path.push(name);
            fs::symlink_metadata(&path).is_ok_and(|facts| facts.is_dir())
        })
    })
}

fn drop_ins(root: &Root) -> Result<Vec<PathBuf>, Error> {
    protected(root)?.iter().map(|(unit, _)| super::drop_in_path(root, unit)).collect()
}

fn with_facts(path: PathBuf) -> Facts {
    let facts = facts_of(&path);
    (path, facts)
}

fn facts_of(path: &Path) -> Option<(i64, i64, u64, u64)> {
    let facts = fs::metadata(path).ok()?;
    Some((facts.mtime(), facts.mtime_nsec(), facts.ino(), facts.len()))
}

/// A directory for nobody but the owner, which ends with this.
struct Scratch(PathBuf);

impl Scratch {
    fn make(parent: &Path) -> Result<Self, Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Self::at(parent.join(format!("tidegate-{}-{now}", std::process::id())))
    }

    /// Without what an interrupted one has left there.
    fn at(path: PathBuf) -> Result<Self, Error> {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &path)(error));
            }
            Ok(()) | Err(_) => {}
        }
        DirBuilder::new().mode(0o700).create(&path).map_err(failed("make", &path))?;
        Ok(Self(path))
    }

    fn empty(&self) -> Result<(), Error> {
        for entry in fs::read_dir(&self.0).map_err(failed("read", &self.0))? {
            let path = entry.map_err(failed("read", &self.0))?.path();
            let is_directory = fs::symlink_metadata(&path).is_ok_and(|facts| facts.is_dir());
            let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(failed("remove", &path))?;
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests;
