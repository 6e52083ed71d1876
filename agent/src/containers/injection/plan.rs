//! Which mounts and variables: pure.

use super::{ANCHORS, Adjustment, BUNDLE, Mount, Spec};
use crate::trust::variables::{Value, Variable};
use std::path::{Path, PathBuf};

/// Where the system's certificates are in an image that nobody can look into: Debian's and Alpine's place, which Go
/// reads, too; Fedora's; OpenSSL's and musl's. What is not there yet is made by the mount.
pub(super) const PLACES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Where the container sees the published directory: the first of these that is not in one of its own mounts.
const SHOWN: [&str; 3] = ["/run/tidegate-trust", "/var/lib/tidegate-trust", "/tidegate-trust"];

/// What is known of the stores that a container reads.
#[derive(Clone, Debug)]
pub struct Stores {
    /// Whether the image's tree was looked through; otherwise only what the pod mounts is known.
    pub is_known: bool,
    /// The agent's directory with [`ANCHORS`] and [`BUNDLE`].
    pub published: PathBuf,
    /// Stores as the container names them, and the copies in which the local CA is trusted.
    pub copies: Vec<(PathBuf, PathBuf)>,
    /// The image's own bundle, where it was found and has a copy.
    pub system: Option<PathBuf>,
    /// What to set.
    pub variables: Vec<Variable>,
    /// What could not be done so far.
    pub warnings: Vec<String>,
}

impl Stores {
    /// None is known.
    pub fn new(published: &Path) -> Self {
        Self {
            is_known: false,
            published: published.to_owned(),
            copies: Vec::new(),
            system: None,
            variables: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// What the container is to be given.
pub fn plan(spec: &Spec, stores: Stores) -> Adjustment {
    let Stores { is_known, published, copies, system, variables, warnings } = stores;
    let mut adjustment = Adjustment { warnings, ..Adjustment::default() };
    let lay = |source: &Path, destination: &Path| Mount {
        destination: destination.to_owned(),
        source: source.to_owned(),
        is_bind: true,
    };
    for (store, copy) in &copies {
        // What the image has under one of the pod's mounts nobody sees; a mount could only change what is above it.
        if is_known && is_mounted(spec, store) {
            let message = format!("`{}` lies in a mount of the pod's, which is left alone", store.display());
            adjustment.warnings.push(message);
        } else {
            adjustment.mounts.push(lay(copy, store));
        }
    }
    if !is_known {
        let is_free =
            |place: &Path| !is_mounted(spec, place) && copies.iter().all(|(store, _)| store != place);
        let places = PLACES.iter().map(Path::new).filter(|place| is_free(place));
        adjustment.mounts.extend(places.map(|place| lay(&published.join(BUNDLE), place)));
    }
    let shown = SHOWN.iter().map(Path::new).find(|place| !is_mounted(spec, place));
    if let Some(shown) = shown {
        adjustment.mounts.push(lay(&published, shown));
    } else {
        adjustment
            .warnings
            .push("every place for the local CA's certificates lies in a mount of the pod's".into());
    }
    let system = system.filter(|system| !is_mounted(spec, system));
    let bundle = system.or_else(|| shown.map(|shown| shown.join(BUNDLE)));
    let anchors = shown.map(|shown| shown.join(ANCHORS));
    for Variable { name, value } in variables {
        let value = match value {
            Value::Bundle => bundle.clone(),
            Value::Anchors => anchors.clone(),
            Value::Word(word) => Some(word.into()),
            Value::Theirs(named) => {
                let has_copy = |path: &PathBuf| copies.iter().any(|(store, _)| store == path);
                let lost = named.iter().filter(|named| !named.store.as_ref().is_some_and(has_copy));
                adjustment.warnings.extend(lost.map(|named| left_alone(name, &named.given)));
                None
            }
        };
        let is_theirs = spec.variable(name).is_some_and(|value| !value.is_empty());
        // Whatever was found: the container's own word stands.
        if let Some(value) = value.filter(|_| !is_theirs) {
            adjustment.environment.push((name.to_owned(), value.to_string_lossy().into_owned()));
        }
    }
    adjustment
}

/// Whether the path is in, or is, one of the pod's mounts.
fn is_mounted(spec: &Spec, path: &Path) -> bool {
    let covers = |mount: &Mount| mount.destination != Path::new("/") && path.starts_with(&mount.destination);
    spec.mounts.iter().any(covers)
}

fn left_alone(name: &str, given: &Path) -> String {
    format!(
        "{name}=`{}` is the pod's own and not a file that it mounts; it stays, and programs that use it will refuse \
         tidegate's certificates",
        given.display()
    )
}
