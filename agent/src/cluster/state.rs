//! The file by which the process that asks the API server tells the daemon what it has learnt.

use crate::config::pods::Labels;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
    time::SystemTime,
};

/// The file's name, in the directory of the configuration.
pub const FILE_NAME: &str = "state.json";
/// The name of what the daemon keeps for its next start, in its own directory.
pub const KEPT: &str = "cluster.json";
/// What a file is read by that says another number.
const VERSION: u32 = 1;
/// A node's pods are some hundreds, and a policy some kilobytes.
const MAX_BYTES: u64 = 32 * 1024 * 1024;
/// So many objects of each kind count.
pub const MAX_OBJECTS: usize = 1024;
const MAX_PODS: usize = 8192;
const MAX_LABELS: usize = 1024;
/// Whoever may make pods writes their labels: no pod has more of the file than this, and all have no more than that.
const POD_BYTES: usize = 64 * 1024;
const PODS_BYTES: usize = 16 * 1024 * 1024;

/// Everything that is known.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    pub(crate) version: u32,
    /// Why the API server tells nothing at present, if so.
    pub unreached: Option<String>,
    /// Why the node keeps the taint of nodes that are new, if it should not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taint: Option<String>,
    /// The ScopePolicies that there are.
    pub policies: Vec<Object>,
    /// The ScopeBindings that there are.
    pub bindings: Vec<Object>,
    /// This node's pods.
    pub pods: Vec<Pod>,
}

/// A ScopePolicy or ScopeBinding.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// Its unique id.
    pub uid: String,
    /// The generation of what the problem is about, or the `spec`.
    pub generation: i64,
    /// The last `spec` that was in order; none where nobody here has seen one.
    pub spec: Option<Value>,
    /// What is wrong with the object as it is.
    pub problem: Option<String>,
}

/// A pod of this node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The unique ids that the runtime may know it by. Whoever makes pods can choose one, but not another pod's name with it.
    pub uids: Vec<String>,
    /// Its labels.
    pub labels: Labels,
    /// Its service account.
    pub service_account: String,
}

/// Why a file is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read it")]
    Io(#[from] io::Error),
    /// Others than its owner can write it.
    #[error("it is writable by group or others (mode {0:04o})")]
    Writable(u32),
    /// It is no regular file.
    #[error("it is no regular file")]
    NotRegular,
    /// It is of another shape.
    #[error("it is not what `tidegate cluster` writes")]
    Shape(#[from] serde_json::Error),
    /// It is of another version.
    #[error("it has version {0}, and version {VERSION} is read; run the same release in both containers")]
    Version(u32),
    /// There is more in it than there can be.
    #[error("it holds too much: {0}")]
    TooMuch(&'static str),
    /// Something has two contents.
    #[error("it has `{0}` twice")]
    Twice(String),
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: VERSION,
            unreached: None,
            taint: None,
            policies: Vec::new(),
            bindings: Vec::new(),
            pods: Vec::new(),
        }
    }
}

impl State {
    /// Reads a file, and when it was last touched.
    ///
    /// # Errors
    /// When it is not to be believed.
    pub fn read(path: &Path) -> Result<(Self, SystemTime), Error> {
        use rustix::fs::{Mode, OFlags, open};
        // Neither does a link lead elsewhere, nor is a pipe waited for.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(open(path, flags, Mode::empty()).map_err(io::Error::from)?);
        let facts = file.metadata()?;
        if !facts.is_file() {
            return Err(Error::NotRegular);
        }
        if facts.mode() & 0o022 != 0 {
            return Err(Error::Writable(facts.mode() & 0o7777));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        Ok((Self::parse(&bytes)?, facts.modified()?))
    }

    /// What the bytes of a file say.
    ///
    /// # Errors
    /// When they are not to be believed.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Error::TooMuch("bytes"));
        }
        let state: Self = serde_json::from_slice(bytes)?;
        if state.version != VERSION {
            return Err(Error::Version(state.version));
        }
        let Self { policies, bindings, pods, .. } = &state;
        if policies.len() > MAX_OBJECTS || bindings.len() > MAX_OBJECTS {
            return Err(Error::TooMuch("objects"));
        }
        if pods.len() > MAX_PODS || pods.iter().any(|pod| pod.labels.len() > MAX_LABELS) {
            return Err(Error::TooMuch("pods"));
        }
        for objects in [policies, bindings] {
            distinct(objects.iter().map(|object| object.name.clone()))?;
        }
        distinct(pods.iter().map(Pod::key))?;
        Ok(state)
    }

    /// The bytes of a file that says this.
    ///
    /// # Errors
    /// Never, for what was read or comes from the API server.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        Ok(serde_json::to_vec(self)?)
    }
}

impl Pod {
    /// As many as there is room for, and how many there are besides. Of those the agent goes by what it was told before, or
    /// by what their runtime says.
    pub fn bounded<'p>(pods: impl Iterator<Item = &'p Self>) -> (Vec<Self>, usize) {
        let (mut taken, mut bytes, mut others) = (Vec::new(), 0, 0);
        for pod in pods {
            let size = pod.size();
            if pod.labels.len() > MAX_LABELS
                || size > POD_BYTES
                || taken.len() >= MAX_PODS
                || bytes + size > PODS_BYTES
            {
                others += 1;
            } else {
                bytes += size;
                taken.push(pod.clone());
            }
        }
        (taken, others)
    }

    fn size(&self) -> usize {
        let labels: usize = self.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        let ids: usize = self.uids.iter().map(String::len).sum();
        labels + ids + self.namespace.len() + self.name.len() + self.service_account.len()
    }

    /// What no other pod has at the same time.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

fn distinct(names: impl Iterator<Item = String>) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for name in names {
        if seen.contains(&name) {
            return Err(Error::Twice(name));
        }
        seen.insert(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt, symlink},
    };
    use test_case::test_case;

    fn state() -> State {
        let object = Object {
            name: "a".into(),
            uid: "u".into(),
            generation: 2,
            spec: Some(json!({ "allow": ["droplet:read"] })),
            problem: Some("spec.alow: unknown key `alow`".into()),
        };
        let labels = [("app".to_owned(), "bot".to_owned())].into();
        let pod = Pod {
            namespace: "n".into(),
            name: "p".into(),
            uids: vec!["u".into()],
            labels,
            service_account: "runner".into(),
        };
        State { policies: vec![object], pods: vec![pod], ..State::default() }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        fs::write(&path, state().to_bytes().unwrap()).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let (read, touched) = State::read(&path).unwrap();
        assert_eq!(read, state());
        assert!(touched.elapsed().is_ok_and(|age| age.as_secs() < 60));
    }

    #[test]
    fn a_file_that_others_could_have_made_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join(FILE_NAME), directory.path().join("link"));
        fs::write(&path, state().to_bytes().unwrap()).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        assert!(matches!(State::read(&path), Err(Error::Writable(0o664))));
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        symlink(&path, &link).unwrap();
        assert!(matches!(State::read(&link), Err(Error::Io(_))));
        assert!(matches!(State::read(directory.path()), Err(Error::NotRegular)));
    }

    fn altered(alter: impl FnOnce(&mut Value)) -> Result<State, Error> {
        let mut value = serde_json::to_value(state()).unwrap();
        alter(&mut value);
        State::parse(&serde_json::to_vec(&value).unwrap())
    }

    #[test_case("/more", json!(1); "an unknown key")]
    #[test_case("/version", json!(2); "another version")]
    #[test_case("/policies/0/more", json!(1); "an unknown key of an object")]
    #[test_case("/pods/0/labels", json!({ "a": 1 }); "a label that is no text")]
    fn a_file_of_another_shape_is_refused(pointer: &str, wrong: Value) {
        let altering = |value: &mut Value| {
            let (above, key) = pointer.rsplit_once('/').unwrap();
            value.pointer_mut(above).unwrap()[key] = wrong.clone();
        };
        altered(altering).unwrap_err();
        let whole = state().to_bytes().unwrap();
        for length in 0..whole.len() {
            State::parse(&whole[..length]).unwrap_err();
        }
    }

    #[test]
    fn one_pod_with_too_much_keeps_no_other_out() {
        let pod = |name: &str, labels: usize, length: usize| Pod {
            name: name.into(),
            labels: (0..labels).map(|number| (number.to_string(), "x".repeat(length))).collect(),
            ..Pod::default()
        };
        let all =
            [pod("a", 1, 63), pod("many", MAX_LABELS + 1, 1), pod("long", 1, POD_BYTES), pod("z", 1, 63)];
        let (taken, others) = Pod::bounded(all.iter());
        assert_eq!((taken.iter().map(|pod| &*pod.name).collect::<Vec<_>>(), others), (vec!["a", "z"], 2));
        let long: Vec<Pod> = (0..1000).map(|number| pod(&number.to_string(), 1, POD_BYTES / 2)).collect();
        let (pods, others) = Pod::bounded(long.iter());
        assert_eq!(pods.len() + others, 1000);
        let state = State { pods, ..State::default() };
        assert_eq!(State::parse(&state.to_bytes().unwrap()).unwrap(), state);
    }

    #[test]
    fn nothing_is_there_twice_and_not_too_much() {
        let twice = altered(|value| {
            let policies = value["policies"].as_array_mut().unwrap();
            policies.push(policies[0].clone());
        });
        assert!(matches!(twice, Err(Error::Twice(name)) if name == "a"));
        let many = altered(|value| {
            let pod = |number: usize| json!({ "namespace": "n", "name": number.to_string(), "uids": [], "labels": {}, "service_account": "x" });
            value["pods"] = (0..=MAX_PODS).map(pod).collect();
        });
        assert!(matches!(many, Err(Error::TooMuch("pods"))));
    }
}
