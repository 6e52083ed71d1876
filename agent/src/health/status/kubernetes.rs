//! What the status tells of the API server's objects.

use crate::record::redact::escape_control;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

/// What is known of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Kubernetes {
    /// Whether anything is; pods are held as long as not.
    pub known: bool,
    /// Why nothing new comes at present; null where it does.
    pub unreached: Option<String>,
    /// Why the node keeps the taint `tidegate.dev/agent-not-ready`; null where nothing is wrong with that.
    pub taint: Option<String>,
    /// How many pods of the node it has told of.
    pub pods: usize,
    /// The ScopePolicies.
    pub policies: Vec<Object>,
    /// The ScopeBindings.
    pub bindings: Vec<Object>,
}

/// A ScopePolicy or ScopeBinding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// Whether it is in force, as it is or as it was last in order.
    pub in_force: bool,
    /// What is wrong with it as it is.
    pub problem: Option<String>,
}

impl Kubernetes {
    pub(super) fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let (policies, bindings) = (self.policies.len(), self.bindings.len());
        match self.known {
            false => writeln!(out, "\nKubernetes: nothing is known yet, and pods are held")?,
            true => writeln!(
                out,
                "\nKubernetes: {} pods, {policies} ScopePolicies, {bindings} ScopeBindings",
                self.pods
            )?,
        }
        if let Some(why) = &self.unreached {
            writeln!(out, "  not up to date: {}", escape_control(why))?;
        }
        if let Some(why) = &self.taint {
            writeln!(out, "  the taint of new nodes cannot be taken off this one: {}", escape_control(why))?;
        }
        let kinds = [("ScopePolicy", &self.policies), ("ScopeBinding", &self.bindings)];
        for (kind, object) in
            kinds.into_iter().flat_map(|(kind, objects)| objects.iter().map(move |object| (kind, object)))
        {
            object.write_text(kind, out)?;
        }
        Ok(())
    }
}

impl Object {
    fn write_text(&self, kind: &str, out: &mut impl Write) -> io::Result<()> {
        let name = escape_control(&self.name);
        match (&self.problem, self.in_force) {
            (None, true) => writeln!(out, "  {kind} {name}: in force"),
            (None, false) => writeln!(out, "  {kind} {name}: not in force"),
            (Some(problem), true) => {
                writeln!(
                    out,
                    "  {kind} {name}: in force as it was in order last: {}",
                    escape_control(problem)
                )
            }
            (Some(problem), false) => {
                writeln!(out, "  {kind} {name}: refused: {}", escape_control(problem))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_is_told_with_what_is_wrong() {
        let object = |name: &str, in_force, problem: Option<&str>| Object {
            name: name.into(),
            in_force,
            problem: problem.map(str::to_owned),
        };
        let told = Kubernetes {
            known: true,
            unreached: Some("the API server\x1b is gone".into()),
            taint: Some("forbidden\x1b".into()),
            pods: 2,
            policies: vec![object("a", true, None), object("b", true, Some("spec.allow: no"))],
            bindings: vec![object("c", false, Some("there is a workload `c`"))],
        };
        let mut text = Vec::new();
        told.write_text(&mut text).unwrap();
        let expected = [
            "",
            "Kubernetes: 2 pods, 2 ScopePolicies, 1 ScopeBindings",
            "  not up to date: the API server\\u{1b} is gone",
            "  the taint of new nodes cannot be taken off this one: forbidden\\u{1b}",
            "  ScopePolicy a: in force",
            "  ScopePolicy b: in force as it was in order last: spec.allow: no",
            "  ScopeBinding c: refused: there is a workload `c`",
            "",
        ];
        assert_eq!(String::from_utf8(text).unwrap(), expected.join("\n"));
        let mut text = Vec::new();
        Kubernetes::default().write_text(&mut text).unwrap();
        assert_eq!(text, b"\nKubernetes: nothing is known yet, and pods are held\n");
    }
}
