//! What has been seen of the API server's objects, and what is to be said of them.

use super::{
    Kind, Names, State,
    condition::{Condition, said},
    state::{MAX_OBJECTS, Object, Pod},
    verdict::{self, Content},
};
use crate::classify::Catalogue;
use serde_json::Value;
use std::collections::BTreeMap;

/// A ScopePolicy or ScopeBinding as the API server has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Its unique id.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// When it was made, so that what sorts first was there first.
    pub created: String,
    /// Its version, which changes with every write.
    pub resource_version: String,
    /// What it says.
    pub spec: Value,
    /// What was said of it.
    pub status: Value,
}

/// One object, and what became of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The object.
    pub seen: Seen,
    read: Result<Content, String>,
    /// The last `spec` that was in order.
    last: Option<Value>,
    /// How often others have said something else of this generation.
    pub changes: u32,
}

/// Everything.
#[derive(Debug, Default)]
pub struct View {
    policies: BTreeMap<String, Entry>,
    bindings: BTreeMap<String, Entry>,
    pods: BTreeMap<String, Pod>,
}

impl View {
    /// With the last content of objects that an earlier process has seen.
    pub fn after(state: &State) -> Self {
        let entry = |object: &Object| {
            let seen = Seen { uid: object.uid.clone(), generation: object.generation, ..Seen::default() };
            let read = Err(String::new());
            (object.name.clone(), Entry { seen, read, last: object.spec.clone(), changes: 0 })
        };
        Self {
            policies: state.policies.iter().map(entry).collect(),
            bindings: state.bindings.iter().map(entry).collect(),
            pods: state.pods.iter().map(|pod| (pod.key(), pod.clone())).collect(),
        }
    }

    /// An object is there, or has changed.
    pub fn apply(&mut self, kind: Kind, name: String, seen: Seen, catalogue: &Catalogue) {
        let before = self.objects_mut(kind).remove(&name).filter(|entry| entry.seen.uid == seen.uid);
        let entry = Entry::of(kind, &name, seen, before, catalogue);
        self.objects_mut(kind).insert(name, entry);
    }

    /// An object is gone.
    pub fn remove(&mut self, kind: Kind, name: &str) {
        self.objects_mut(kind).remove(name);
    }

    /// These are all that there are.
    pub fn replace(&mut self, kind: Kind, all: BTreeMap<String, Seen>, catalogue: &Catalogue) {
        self.objects_mut(kind).retain(|name, _| all.contains_key(name));
        for (name, seen) in all {
            self.apply(kind, name, seen, catalogue);
        }
    }

    /// A pod is there, or has changed.
    pub fn apply_pod(&mut self, pod: Pod) {
        self.pods.insert(pod.key(), pod);
    }

    /// A pod is gone.
    pub fn remove_pod(&mut self, pod: &Pod) {
        self.pods.remove(&pod.key());
    }

    /// These are all that there are.
    pub fn replace_pods(&mut self, all: Vec<Pod>) {
        self.pods = all.into_iter().map(|pod| (pod.key(), pod)).collect();
    }

    /// What the daemon is told.
    pub fn state(&self, names: &Names, unreached: Option<String>) -> State {
        let objects = |kind| {
            let last = self.last(kind);
            let counting = self.objects(kind).iter().filter(|(name, entry)| !is_behind(last, name, entry));
            let object = |(name, entry): (&String, &Entry)| {
                let condition = self.condition(kind, name, entry, names);
                Object {
                    name: name.clone(),
                    uid: entry.seen.uid.clone(),
                    generation: entry.seen.generation,
                    spec: entry.last.clone(),
                    problem: (!condition.is_accepted).then_some(condition.message),
                }
            };
            counting.map(object).collect()
        };
        State {
            unreached,
            policies: objects(Kind::Policy),
            bindings: objects(Kind::Binding),
            pods: Pod::bounded(self.pods.values()).0,
            ..State::default()
        }
    }

    /// How many pods the daemon is not told of, since there is too much of them.
    pub fn untold(&self) -> usize {
        Pod::bounded(self.pods.values()).1
    }

    /// What is to be said of each object whose status says something else.
    pub fn unsaid(&self, names: &Names) -> Vec<(Kind, &str, &Entry, Condition)> {
        let of = |kind| {
            let last = self.last(kind);
            self.objects(kind).iter().filter_map(move |(name, entry)| {
                let condition = if is_behind(last, name, entry) {
                    let message =
                        format!("there were {MAX_OBJECTS} of these before this one, and no more count");
                    Condition::refused(entry.seen.generation, "TooMany", message)
                } else {
                    self.condition(kind, name, entry, names)
                };
                (!condition.is_in(&entry.seen.status)).then_some((kind, name.as_str(), entry, condition))
            })
        };
        of(Kind::Policy).chain(of(Kind::Binding)).collect()
    }

    fn condition(&self, kind: Kind, name: &str, entry: &Entry, names: &Names) -> Condition {
        let generation = entry.seen.generation;
        if let Some(conflict) = names.conflict(kind, name) {
            return Condition::refused(generation, "NameConflict", conflict);
        }
        let binding = match &entry.read {
            Err(problem) => return Condition::refused(generation, "Invalid", problem.clone()),
            Ok(Content::Policy) => return Condition::accepted(generation, "it is in force"),
            Ok(Content::Binding(binding)) => binding,
        };
        let policy = &binding.policy;
        let of_objects = self.policies.get(policy);
        if names.policies.contains(policy) || of_objects.is_some_and(|policy| policy.read.is_ok()) {
            return Condition::accepted(generation, "it is in force");
        }
        let (reason, message) = match of_objects {
            Some(_) => (
                "PolicyRefused",
                format!(
                    "ScopePolicy `{policy}` is refused: its last content that was in order counts, and where there is \
                     none, everything is denied to these pods"
                ),
            ),
            None => (
                "PolicyNotFound",
                format!("there is no ScopePolicy `{policy}`: everything is denied to these pods"),
            ),
        };
        Condition::refused(generation, reason, message)
    }

    /// The last that counts, where there are too many: nothing new must push out what governs pods already.
    fn last(&self, kind: Kind) -> Option<(&str, &str)> {
        let objects = self.objects(kind);
        if objects.len() <= MAX_OBJECTS {
            return None;
        }
        let mut places: Vec<_> = objects.iter().map(|(name, entry)| place(name, entry)).collect();
        Some(*places.select_nth_unstable(MAX_OBJECTS - 1).1)
    }

    fn objects(&self, kind: Kind) -> &BTreeMap<String, Entry> {
        match kind {
            Kind::Policy => &self.policies,
            Kind::Binding => &self.bindings,
        }
    }

    fn objects_mut(&mut self, kind: Kind) -> &mut BTreeMap<String, Entry> {
        match kind {
            Kind::Policy => &mut self.policies,
            Kind::Binding => &mut self.bindings,
        }
    }
}

/// Whether there are too many, and this one came after those that count.
fn is_behind(last: Option<(&str, &str)>, name: &str, entry: &Entry) -> bool {
    last.is_some_and(|last| place(name, entry) > last)
}

fn place<'e>(name: &'e str, entry: &'e Entry) -> (&'e str, &'e str) {
    (&entry.seen.created, name)
}

impl Entry {
    fn of(kind: Kind, name: &str, seen: Seen, before: Option<Self>, catalogue: &Catalogue) -> Self {
        let is_same =
            |before: &Self| before.seen.spec == seen.spec && before.seen.generation == seen.generation;
        let (read, changes) = match &before {
            Some(before) if is_same(before) => {
                let (old, new) = (said(&before.seen.status), said(&seen.status));
                // What it said of another generation was right then.
                let is_changed = old.is_some() && old != new && old.map(|old| old.0) == new.map(|new| new.0);
                (before.read.clone(), before.changes.saturating_add(u32::from(is_changed)))
            }
            Some(_) | None => (verdict::read(kind, name, &seen.spec, catalogue), 0),
        };
        let last = match &read {
            Ok(_) => Some(seen.spec.clone()),
            Err(_) => before.and_then(|before| before.last),
        };
        Self { seen, read, last, changes }
    }
}

#[cfg(test)]
mod tests;
