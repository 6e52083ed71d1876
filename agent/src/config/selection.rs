//! Which pods a ScopeBinding selects, in Kubernetes' words: names are themselves, and no globs.

use super::pods::{Labels, Meant, PodFacts};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Pods: those that fit all that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The namespaces, by name; empty: any.
    pub namespaces: Vec<String>,
    /// The pods, by their labels; None: any.
    pub pods: Option<Selector>,
    /// The service accounts, one of which the pod runs as; empty: any.
    pub service_accounts: Vec<String>,
}

/// Labels, all of which must be as it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Labels with these values.
    pub labels: BTreeMap<String, String>,
    /// What is said of other labels.
    pub requirements: Vec<Requirement>,
}

/// What is said of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// What is said of it.
    pub operator: Operator,
    /// Of which values.
    pub values: Vec<String>,
}

/// What can be said of a label, in Kubernetes' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Operator {
    /// It has one of the values.
    In,
    /// It has none of them, or is not there.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl Selection {
    /// Whether it means this pod. One that says nothing means none.
    pub fn means(&self, pod: &PodFacts<'_>) -> Meant {
        let is_empty = self.namespaces.is_empty() && self.pods.is_none() && self.service_accounts.is_empty();
        let parts = [
            if is_empty { Meant::No } else { one_of(&self.namespaces, Some(pod.namespace)) },
            match &self.pods {
                Some(selector) if !selector.fits(pod.labels) => Meant::No,
                Some(_) | None => Meant::Yes,
            },
            one_of(&self.service_accounts, pod.service_account),
        ];
        parts.into_iter().min().unwrap_or(Meant::No)
    }
}

impl Selector {
    fn fits(&self, labels: &Labels) -> bool {
        let has = |(key, value): (&String, &String)| labels.get(key) == Some(value);
        self.labels.iter().all(has) && self.requirements.iter().all(|requirement| requirement.fits(labels))
    }
}

impl Requirement {
    fn fits(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let is_listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            Operator::In => is_listed,
            Operator::NotIn => !is_listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

fn one_of(names: &[String], found: Option<&str>) -> Meant {
    match found {
        _ if names.is_empty() => Meant::Yes,
        None => Meant::Perhaps,
        Some(found) if names.iter().any(|name| name == found) => Meant::Yes,
        Some(_) => Meant::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn requirement(key: &str, operator: Operator, values: &[&str]) -> Selection {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        let requirements = vec![Requirement { key: key.to_owned(), operator, values }];
        Selection { pods: Some(Selector { requirements, ..Selector::default() }), ..Selection::default() }
    }

    fn means(selection: &Selection, account: Option<&str>) -> Meant {
        let labels = Labels::from([("app".to_owned(), "bot".to_owned())]);
        let pod = PodFacts { namespace: "ci", name: "job-1", labels: &labels, service_account: account };
        selection.means(&pod)
    }

    #[test_case("app", Operator::In, &["x", "bot"], Meant::Yes; "one of the values")]
    #[test_case("app", Operator::In, &["b*"], Meant::No; "values are no globs")]
    #[test_case("tier", Operator::In, &["x"], Meant::No; "a label that is not there is in nothing")]
    #[test_case("app", Operator::NotIn, &["x"], Meant::Yes; "another value")]
    #[test_case("app", Operator::NotIn, &["bot"], Meant::No; "the value itself")]
    #[test_case("tier", Operator::NotIn, &["x"], Meant::Yes; "a label that is not there has no value")]
    #[test_case("app", Operator::Exists, &[], Meant::Yes; "it is there")]
    #[test_case("tier", Operator::Exists, &[], Meant::No; "it is not there")]
    #[test_case("app", Operator::DoesNotExist, &[], Meant::No; "there though it must not be")]
    #[test_case("tier", Operator::DoesNotExist, &[], Meant::Yes; "rightly not there")]
    fn a_requirement_means_what_it_does_in_kubernetes(
        key: &str,
        operator: Operator,
        values: &[&str],
        expected: Meant,
    ) {
        assert_eq!(means(&requirement(key, operator, values), None), expected);
    }

    #[test]
    fn all_that_is_given_must_fit_and_nothing_given_fits_nobody() {
        assert_eq!(means(&Selection::default(), Some("runner")), Meant::No);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
        let of = |namespaces: &[&str], accounts: &[&str]| Selection {
            namespaces: names(namespaces),
            service_accounts: names(accounts),
            ..Selection::default()
        };
        assert_eq!(means(&of(&["a", "ci"], &["runner"]), Some("runner")), Meant::Yes);
        assert_eq!(means(&of(&["c*"], &["runner"]), Some("runner")), Meant::No);
        assert_eq!(means(&of(&["ci"], &["runner"]), Some("default")), Meant::No);
        assert_eq!(means(&of(&["ci"], &["runner"]), None), Meant::Perhaps);
        assert_eq!(means(&of(&["web"], &["runner"]), None), Meant::No);
        let mut labelled = requirement("app", Operator::Exists, &[]);
        labelled.namespaces = names(&["web"]);
        assert_eq!(means(&labelled, None), Meant::No);
    }
}
