//! Which pods and containers a `match` table means. Words are globs (`*`, `?`); the values of labels are themselves.

use super::cgroup_pattern::fits;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The labels of a pod or a container.
pub type Labels = BTreeMap<String, String>;

/// Whether something is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meant {
    /// It is not.
    No,
    /// What would tell is not known. A `match` counts it as meant, an `except` does not.
    Perhaps,
    /// It is.
    Yes,
}

/// The pods that `pod = { … }` means: all of its keys must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodPattern {
    /// In these namespaces.
    pub namespace: Option<String>,
    /// With these names.
    pub name: Option<String>,
    /// With all of these labels, among others.
    pub labels: Option<Labels>,
    /// With these service accounts.
    pub service_account: Option<String>,
}

/// The containers that `container = { … }` means: all of its keys must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerPattern {
    /// With these names.
    pub name: Option<String>,
    /// Of these images, with or without tag and digest.
    pub image: Option<String>,
    /// With all of these labels, among others.
    pub labels: Option<Labels>,
}

/// What is known of a pod.
#[derive(Clone, Copy, Debug)]
pub struct PodFacts<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a Labels,
    /// Its service account, where that is known.
    pub service_account: Option<&'a str>,
}

/// What is known of a container.
#[derive(Clone, Copy, Debug)]
pub struct ContainerFacts<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its image, where that is known.
    pub image: Option<&'a str>,
    /// Its labels.
    pub labels: &'a Labels,
}

impl PodPattern {
    /// Whether it means this pod.
    pub fn means(&self, pod: &PodFacts<'_>) -> Meant {
        all([
            word(self.namespace.as_deref(), Some(pod.namespace)),
            word(self.name.as_deref(), Some(pod.name)),
            labels(self.labels.as_ref(), pod.labels),
            word(self.service_account.as_deref(), pod.service_account),
        ])
    }

    /// Whether it would mean nothing, or everything by an empty word.
    pub(super) fn is_empty(&self) -> bool {
        all_empty([&self.namespace, &self.name, &self.service_account], self.labels.as_ref())
    }
}

impl ContainerPattern {
    /// Whether it means this container.
    pub fn means(&self, container: &ContainerFacts<'_>) -> Meant {
        let image = match (&self.image, container.image) {
            (Some(glob), Some(image)) if fits(glob, repository(image)) => Meant::Yes,
            (glob, image) => word(glob.as_deref(), image),
        };
        all([
            word(self.name.as_deref(), Some(container.name)),
            image,
            labels(self.labels.as_ref(), container.labels),
        ])
    }

    /// Whether it would mean nothing, or everything by an empty word.
    pub(super) fn is_empty(&self) -> bool {
        all_empty([&self.name, &self.image], self.labels.as_ref())
    }
}

fn all<const N: usize>(parts: [Meant; N]) -> Meant {
    parts.into_iter().min().unwrap_or(Meant::No)
}

fn word(glob: Option<&str>, found: Option<&str>) -> Meant {
    match (glob, found) {
        (None, _) => Meant::Yes,
        (Some(_), None) => Meant::Perhaps,
        (Some(glob), Some(found)) if fits(glob, found) => Meant::Yes,
        (Some(_), Some(_)) => Meant::No,
    }
}

fn labels(wanted: Option<&Labels>, found: &Labels) -> Meant {
    let has = |(key, value): (&String, &String)| found.get(key) == Some(value);
    if wanted.is_none_or(|wanted| wanted.iter().all(has)) { Meant::Yes } else { Meant::No }
}

/// An image's name without tag and digest. A colon before the last slash is a registry's port.
fn repository(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        Some(_) | None => image,
    }
}

/// Whether nothing has a value, or something is there whose value is empty.
fn all_empty<const N: usize>(words: [&Option<String>; N], labels: Option<&Labels>) -> bool {
    let given: Vec<&String> = words.into_iter().flatten().collect();
    given.iter().any(|word| word.is_empty())
        || labels.is_some_and(Labels::is_empty)
        || (given.is_empty() && labels.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    fn labels_of(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test_case(r#"namespace = "ci-*""#, Meant::Yes; "glob of the namespace")]
    #[test_case(r#"namespace = "ci""#, Meant::No; "part of the namespace")]
    #[test_case(r#"name = "runner-?""#, Meant::Yes; "name")]
    #[test_case(r#"labels = { app = "bot" }"#, Meant::Yes; "one of its labels")]
    #[test_case(r#"labels = { app = "bot", tier = "x" }"#, Meant::No; "a label that it has not")]
    #[test_case(r#"labels = { app = "b*" }"#, Meant::No; "labels are no globs")]
    #[test_case(r#"namespace = "ci-1", labels = { app = "other" }"#, Meant::No; "all keys must fit")]
    #[test_case(r#"service_account = "ci""#, Meant::Perhaps; "unknown service account")]
    #[test_case(r#"service_account = "ci", namespace = "prod""#, Meant::No; "unknown account in another namespace")]
    fn a_pod_is_told_by_all_keys(pattern: &str, expected: Meant) {
        let read: BTreeMap<String, PodPattern> = toml::from_str(&format!("pod = {{ {pattern} }}")).unwrap();
        let pattern = &read["pod"];
        let labels = labels_of(&[("app", "bot"), ("zone", "1")]);
        let pod = PodFacts { namespace: "ci-1", name: "runner-7", labels: &labels, service_account: None };
        assert_eq!(pattern.means(&pod), expected);
    }

    #[test_case("ci", Meant::Yes; "same")]
    #[test_case("ci-*", Meant::No; "other")]
    fn a_known_service_account_decides(glob: &str, expected: Meant) {
        let pattern = PodPattern { service_account: Some(glob.into()), ..PodPattern::default() };
        let labels = Labels::new();
        let pod = PodFacts { namespace: "a", name: "b", labels: &labels, service_account: Some("ci") };
        assert_eq!(pattern.means(&pod), expected);
    }

    #[test_case("docker.io/library/nginx", Some("docker.io/library/nginx:1.27"), Meant::Yes; "any tag")]
    #[test_case("docker.io/library/nginx:1.27", Some("docker.io/library/nginx:1.27"), Meant::Yes; "this tag")]
    #[test_case("docker.io/library/nginx:1.26", Some("docker.io/library/nginx:1.27"), Meant::No; "another tag")]
    #[test_case("r.example:5000/a", Some("r.example:5000/a"), Meant::Yes; "port and no tag")]
    #[test_case("r.example:5000/a", Some("r.example:5000/a:2@sha256:00"), Meant::Yes; "port tag and digest")]
    #[test_case("r.example/acme/*", Some("r.example/acme/b/c:1"), Meant::Yes; "all of a registry's folder")]
    #[test_case("nginx", Some("docker.io/library/nginx:1"), Meant::No; "no short names")]
    #[test_case("nginx", None, Meant::Perhaps; "unknown image")]
    fn an_image_is_told_with_or_without_its_tag(glob: &str, image: Option<&str>, expected: Meant) {
        let pattern = ContainerPattern { image: Some(glob.into()), ..ContainerPattern::default() };
        let labels = Labels::new();
        assert_eq!(pattern.means(&ContainerFacts { name: "a", image, labels: &labels }), expected);
    }

    #[test]
    fn a_container_is_told_by_name_and_labels() {
        let pattern = ContainerPattern {
            name: Some("build*".into()),
            image: None,
            labels: Some(labels_of(&[("com.example.gated", "yes")])),
        };
        let (with, without) = (labels_of(&[("com.example.gated", "yes")]), Labels::new());
        let means = |name, labels| pattern.means(&ContainerFacts { name, image: None, labels });
        assert_eq!(means("builder", &with), Meant::Yes);
        assert_eq!(means("builder", &without), Meant::No);
        assert_eq!(means("sidecar", &with), Meant::No);
    }
}
