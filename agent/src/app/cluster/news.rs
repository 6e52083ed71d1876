//! What the API server tells, as long as it is asked: three lists, each of them followed by itself.

use crate::{
    cluster::{state, view::Seen},
    manifest::{BINDING, POLICY},
};
use futures_util::{Stream, StreamExt, stream};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{WatchStreamExt, utils::Backoff, watcher},
};
use std::{error::Error as StdError, pin::Pin, time::Duration};

/// Where the kubelet writes by which id a runtime knows a pod that comes from a file of the node's, and that it is one: no
/// API server lets anybody else make a pod that says so.
const OF_FILE: &str = "kubernetes.io/config.hash";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// How long a list that failed rests, at first and at most.
const REST: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of {
    Policies,
    Bindings,
    Pods,
}

impl Of {
    pub(super) const ALL: [Self; 3] = [Self::Policies, Self::Bindings, Self::Pods];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Policies => "ScopePolicies",
            Self::Bindings => "ScopeBindings",
            Self::Pods => "pods",
        }
    }
}

/// What has happened to a list, or why that is not known.
pub(super) struct News {
    pub(super) of: Of,
    pub(super) event: Result<Event, String>,
}

/// What has happened to a list.
pub(super) enum Event {
    /// These are all.
    All(Vec<DynamicObject>),
    /// This one is there, or has changed.
    Is(DynamicObject),
    /// This one is gone.
    Gone(DynamicObject),
}

type Streamed = Pin<Box<dyn Stream<Item = News> + Send>>;

/// Follows all three. What fails is tried again for good.
pub(super) fn follow(client: &Client, node: &str) -> impl Stream<Item = News> + use<> {
    let of_group = |kind: &str| {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("tidegate.dev", "v1alpha1", kind));
        Api::<DynamicObject>::all_with(client.clone(), &resource)
    };
    let pods = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
    let pods = Api::<DynamicObject>::all_with(client.clone(), &pods);
    // Pods as the kubelet asks for them: from the server's memory, and this node's alone. Of policies and bindings there
    // are few, and no old ones may count.
    let of_node = watcher::Config::default().any_semantic().fields(&format!("spec.nodeName={node}"));
    let all = [
        (Of::Policies, of_group(POLICY), watcher::Config::default()),
        (Of::Bindings, of_group(BINDING), watcher::Config::default()),
        (Of::Pods, pods, of_node),
    ];
    stream::select_all(all.map(|(of, api, config)| events(of, api, config)))
}

fn events(of: Of, api: Api<DynamicObject>, config: watcher::Config) -> Streamed {
    let mut listed = Vec::new();
    let events = watcher(api, config).backoff(Resting::default());
    Box::pin(events.filter_map(move |event| {
        let event = match event {
            Ok(watcher::Event::Init) => {
                listed.clear();
                None
            }
            Ok(watcher::Event::InitApply(object)) => {
                listed.push(object);
                None
            }
            Ok(watcher::Event::InitDone) => Some(Ok(Event::All(std::mem::take(&mut listed)))),
            Ok(watcher::Event::Apply(object)) => Some(Ok(Event::Is(object))),
            Ok(watcher::Event::Delete(object)) => Some(Ok(Event::Gone(object))),
            Err(error) => Some(Err(told(&error))),
        };
        std::future::ready(event.map(|event| News { of, event }))
    }))
}

/// The error with its causes, each once.
pub(super) fn told(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let causes = std::iter::successors(error.source(), |error: &&dyn StdError| (*error).source());
    for cause in causes.map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text.truncate((0..=500.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0));
    text
}

/// What an object is to the view.
pub(super) fn seen(object: DynamicObject) -> (String, Seen) {
    let DynamicObject { metadata, mut data, .. } = object;
    let mut taken = |key: &str| data.get_mut(key).map(serde_json::Value::take).unwrap_or_default();
    let seen = Seen {
        uid: metadata.uid.unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
        created: metadata.creation_timestamp.map(|time| time.0.to_string()).unwrap_or_default(),
        resource_version: metadata.resource_version.unwrap_or_default(),
        spec: taken("spec"),
        status: taken("status"),
    };
    (metadata.name.unwrap_or_default(), seen)
}

/// What counts of a pod.
pub(super) fn pod(object: &DynamicObject) -> state::Pod {
    let metadata = &object.metadata;
    let annotations = metadata.annotations.as_ref().filter(|annotations| annotations.contains_key(MIRROR));
    let of_file = annotations.and_then(|annotations| annotations.get(OF_FILE));
    let account = object.data.pointer("/spec/serviceAccountName").and_then(serde_json::Value::as_str);
    state::Pod {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        uids: metadata.uid.iter().chain(of_file).cloned().collect(),
        labels: metadata.labels.clone().unwrap_or_default(),
        service_account: account.unwrap_or_default().to_owned(),
    }
}

/// How long to rest after the next failure: not all agents at once, nor soon again and again.
#[derive(Debug)]
pub(super) struct Resting(Duration);

impl Default for Resting {
    fn default() -> Self {
        Self(REST.0)
    }
}

impl Iterator for Resting {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let rest = self.0;
        self.0 = (rest * 2).min(REST.1);
        Some(spread(rest))
    }
}

/// Between the half and the whole of it.
pub(super) fn spread(rest: Duration) -> Duration {
    let mut random = [0; 2];
    // Without random numbers they rest alike.
    let _is_random = aws_lc_rs::rand::fill(&mut random);
    rest / 2 + (rest / 2).mul_f64(f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX))
}

impl Backoff for Resting {
    fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: serde_json::Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn of_a_pod_labels_and_account_count() {
        let mut value = json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "a", "namespace": "n", "uid": "u", "labels": { "app": "bot" } },
            "spec": { "serviceAccountName": "runner", "containers": [] } });
        let expected = state::Pod {
            namespace: "n".into(),
            name: "a".into(),
            uids: vec!["u".into()],
            labels: [("app".to_owned(), "bot".to_owned())].into(),
            service_account: "runner".into(),
        };
        assert_eq!(pod(&object(value.clone())), expected);
        // The runtime may know it by what its file sums to, and not by the mirror's id.
        value["metadata"]["annotations"] = json!({ "kubernetes.io/config.hash": "h" });
        assert_eq!(pod(&object(value.clone())).uids, ["u"], "anybody can write that");
        value["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "h".into();
        assert_eq!(pod(&object(value)).uids, ["u", "h"]);
    }

    #[test]
    fn of_an_object_spec_and_status_are_taken() {
        let value = json!({ "apiVersion": "tidegate.dev/v1alpha1", "kind": "ScopePolicy",
            "metadata": { "name": "a", "uid": "u", "generation": 3, "creationTimestamp": "2026-11-02T03:04:05Z",
                "resourceVersion": "77", "managedFields": [] },
            "spec": { "allow": [] }, "status": { "observedGeneration": 2 } });
        let expected = Seen {
            uid: "u".into(),
            generation: 3,
            created: "2026-11-02T03:04:05Z".into(),
            resource_version: "77".into(),
            spec: json!({ "allow": [] }),
            status: json!({ "observedGeneration": 2 }),
        };
        assert_eq!(seen(object(value)), ("a".to_owned(), expected));
    }

    #[test]
    fn whatever_fails_rests_longer_each_time_and_not_too_long() {
        let mut resting = Resting::default();
        let rests: Vec<Duration> = resting.by_ref().take(10).collect();
        assert!(rests.iter().all(|rest| *rest >= REST.0 / 2 && *rest <= REST.1), "{rests:?}");
        assert!(rests[9] >= REST.1 / 2);
        resting.reset();
        assert!(resting.next().unwrap() <= REST.0);
    }
}
