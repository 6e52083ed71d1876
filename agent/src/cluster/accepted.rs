//! What counts of what the API server knows: of each object the last content that was in order.

use super::{
    Kind, State,
    state::{Object, Pod},
    verdict::{self, Content},
};
use crate::{classify::Catalogue, config::Config, manifest::Binding, toml_file::Source};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What files have already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The policies' names.
    pub policies: BTreeSet<String>,
    /// The workloads'.
    pub workloads: BTreeSet<String>,
}

impl Names {
    /// The workloads that the configuration knows by what they are. One that is only for commands takes no binding's name.
    pub fn of_workloads(config: &Config) -> BTreeSet<String> {
        let matched = config.workloads.iter().filter(|workload| !workload.matches.is_empty());
        matched.map(|workload| workload.name.clone()).collect()
    }

    /// Why no object of this kind can have the name, if a file has it.
    pub fn conflict(&self, kind: Kind, name: &str) -> Option<String> {
        match kind {
            Kind::Policy if self.policies.contains(name) => Some(format!(
                "the agents have a policy `{name}` in a file, which counts; give this one another name"
            )),
            Kind::Binding if self.workloads.contains(name) => Some(format!(
                "the agents' configuration has a workload `{name}`, which counts; give this one another name"
            )),
            Kind::Policy | Kind::Binding => None,
        }
    }
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Accepted {
    /// The ScopePolicies that there are.
    pub policies: BTreeMap<String, Held>,
    /// The ScopeBindings that there are.
    pub bindings: BTreeMap<String, Held>,
    /// The node's pods, by namespace and name.
    pub pods: BTreeMap<String, Pod>,
}

/// An object.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    uid: String,
    /// The generation that was looked at.
    pub generation: i64,
    /// What counts; none where nothing ever did.
    pub content: Option<(Value, Content)>,
    /// What is wrong with the object as it is.
    pub problem: Option<String>,
}

impl Accepted {
    /// What counts after this was told. What is wrong keeps nothing else out, and leaves in force what was there before.
    #[must_use]
    pub fn after(&self, state: &State, names: &Names, catalogue: &Catalogue) -> Self {
        let held = |kind, objects: &[Object], before: &BTreeMap<String, Held>| {
            let held = |object: &Object| {
                let before = before.get(&object.name).filter(|held| held.uid == object.uid);
                (object.name.clone(), Held::of(kind, object, before, names, catalogue))
            };
            objects.iter().map(held).collect()
        };
        Self {
            policies: held(Kind::Policy, &state.policies, &self.policies),
            bindings: held(Kind::Binding, &state.bindings, &self.bindings),
            pods: state.pods.iter().map(|pod| (pod.key(), pod.clone())).collect(),
        }
    }

    /// The policies as the store takes them.
    pub fn sources(&self) -> Vec<Source> {
        let source = |(name, held): (&String, &Held)| {
            let (spec, _) = held.content.as_ref()?;
            verdict::source(Kind::Policy, name, spec).ok()
        };
        self.policies.iter().filter_map(source).collect()
    }

    /// The bindings that count.
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.values().filter_map(|held| match &held.content {
            Some((_, Content::Binding(binding))) => Some(binding),
            Some((_, Content::Policy)) | None => None,
        })
    }

    /// The file that brings all of it back.
    pub fn state(&self) -> State {
        let objects = |held: &BTreeMap<String, Held>| held.iter().map(Held::object).collect();
        State {
            policies: objects(&self.policies),
            bindings: objects(&self.bindings),
            pods: self.pods.values().cloned().collect(),
            ..State::default()
        }
    }
}

impl Held {
    fn of(kind: Kind, object: &Object, before: Option<&Self>, names: &Names, catalogue: &Catalogue) -> Self {
        let Object { name, uid, generation, spec, problem } = object;
        let known = || before.and_then(|held| held.content.clone());
        let (content, found) = match (names.conflict(kind, name), spec) {
            // Two policies of one name cannot be, whichever was first.
            (Some(conflict), _) => (None, Some(conflict)),
            (None, None) => (known(), None),
            (None, Some(spec)) => match known().filter(|(known, _)| known == spec) {
                Some(content) => (Some(content), None),
                None => match verdict::read(kind, name, spec, catalogue) {
                    Ok(content) => (Some((spec.clone(), content)), None),
                    Err(problem) => (known(), Some(problem)),
                },
            },
        };
        let problem = found.or_else(|| problem.clone());
        Self { uid: uid.clone(), generation: *generation, content, problem }
    }

    fn object((name, held): (&String, &Self)) -> Object {
        Object {
            name: name.clone(),
            uid: held.uid.clone(),
            generation: held.generation,
            spec: held.content.as_ref().map(|(spec, _)| spec.clone()),
            problem: held.problem.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(name: &str, spec: Option<Value>) -> Object {
        let uid = format!("uid-{name}");
        Object { name: name.into(), uid, generation: 1, spec, problem: None }
    }

    fn policies(objects: &[(&str, Option<Value>)]) -> State {
        let policies = objects.iter().map(|(name, spec)| object(name, spec.clone())).collect();
        State { policies, ..State::default() }
    }

    fn after(before: &Accepted, state: &State) -> Accepted {
        before.after(state, &Names::default(), Catalogue::embedded())
    }

    fn names(accepted: &Accepted) -> Vec<String> {
        accepted.sources().iter().map(|source| source.path.display().to_string()).collect()
    }

    #[test]
    fn what_is_wrong_keeps_nothing_else_out_and_its_last_content_stays() {
        let read = || Some(json!({ "allow": ["droplet:read"] }));
        let first = after(&Accepted::default(), &policies(&[("a", read()), ("b", read())]));
        assert_eq!(names(&first), ["a.yaml", "b.yaml"]);
        let wrong =
            policies(&[("a", Some(json!({ "allow": ["x"] }))), ("b", None), ("c", read()), ("d", None)]);
        let second = after(&first, &wrong);
        assert_eq!(names(&second), ["a.yaml", "b.yaml", "c.yaml"]);
        assert_eq!(second.policies["a"].content, first.policies["a"].content);
        assert!(second.policies["a"].problem.as_ref().unwrap().starts_with("spec.allow[0]: `x`"));
        assert_eq!(second.policies["d"].content, None);
        // After a start the same counts.
        let again = after(&Accepted::default(), &State::parse(&second.state().to_bytes().unwrap()).unwrap());
        assert_eq!(again, second);
        assert_eq!(after(&again, &wrong), second);
        let third = after(&second, &policies(&[("a", read())]));
        assert_eq!((names(&third), &third.policies["a"].problem), (vec!["a.yaml".to_owned()], &None));
    }

    #[test]
    fn the_content_of_another_object_of_the_same_name_does_not_stay() {
        let first =
            after(&Accepted::default(), &policies(&[("a", Some(json!({ "allow": ["droplet:read"] })))]));
        let mut another = policies(&[("a", None)]);
        another.policies[0].uid = "another".into();
        assert_eq!(names(&after(&first, &another)), Vec::<String>::new());
    }

    #[test]
    fn a_files_name_is_taken() {
        let taken = |name: &str| BTreeSet::from([name.to_owned()]);
        let names = Names { policies: taken("p"), workloads: taken("w") };
        let binding = Some(json!({ "policy": "p", "namespaces": ["n"] }));
        let state = State {
            policies: vec![
                object("p", Some(json!({ "allow": ["droplet:read"] }))),
                object("w", Some(json!({ "allow": [] }))),
            ],
            bindings: vec![object("p", binding.clone()), object("w", binding)],
            ..State::default()
        };
        let accepted = Accepted::default().after(&state, &names, Catalogue::embedded());
        let policies: Vec<_> = accepted.sources().into_iter().map(|source| source.path).collect();
        assert_eq!(policies, [std::path::Path::new("w.yaml")]);
        assert_eq!(accepted.bindings().map(|binding| &*binding.name).collect::<Vec<_>>(), ["p"]);
        assert!(accepted.policies["p"].problem.as_ref().unwrap().contains("in a file"));
        assert!(accepted.bindings["w"].problem.as_ref().unwrap().contains("workload `w`"));
    }
}
