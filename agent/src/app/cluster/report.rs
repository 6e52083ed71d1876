//! What is written into the status of objects, and when.

use crate::cluster::{Kind, Names, turn, view::View};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout};

/// As whom the API server notes the writes.
const MANAGER: &str = "tidegate";
/// How long a write may take, while nothing else is heard.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to rest after one that failed.
const REST: Duration = Duration::from_secs(10);

/// An object, as it was when it was looked at.
type Place = (Kind, String);

/// What is to be written.
pub(super) struct Reports {
    client: Client,
    node: String,
    planned: BTreeMap<Place, Planned>,
}

struct Planned {
    due: Instant,
    /// Of which object, of which generation, and how often contradicted: where these change, so does the turn.
    of: (String, i64, u32),
}

impl Reports {
    pub(super) fn new(client: Client, node: String) -> Self {
        Self { client, node, planned: BTreeMap::new() }
    }

    /// When the next is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.planned.values().map(|planned| planned.due).min()
    }

    /// Plans what is not said yet, each for this node's turn, and forgets what others have said meanwhile.
    pub(super) fn plan(&mut self, view: &View, names: &Names) {
        let mut planned = BTreeMap::new();
        for (kind, name, entry, condition) in view.unsaid(names) {
            let place = (kind, name.to_owned());
            let of = (entry.seen.uid.clone(), condition.generation, entry.changes);
            let before = self.planned.remove(&place).filter(|before| before.of == of);
            let due = before.map_or_else(
                || Instant::now() + turn::delay(&self.node, &of.0, of.1, of.2),
                |before| before.due,
            );
            planned.insert(place, Planned { due, of });
        }
        self.planned = planned;
    }

    /// Writes what is due. Where another agent has written meanwhile, the API server refuses, and the news of what it wrote
    /// are on their way.
    pub(super) async fn send(&mut self, view: &View, names: &Names) {
        let now = Instant::now();
        for (kind, name, entry, condition) in view.unsaid(names) {
            let Some(planned) = self.planned.get_mut(&(kind, name.to_owned())) else { continue };
            if planned.due > now {
                continue;
            }
            planned.due = now + REST;
            let resource =
                ApiResource::from_gvk(&GroupVersionKind::gvk("tidegate.dev", "v1alpha1", kind.word()));
            let api = Api::<DynamicObject>::all_with(self.client.clone(), &resource);
            let body = json!({
                "metadata": { "resourceVersion": entry.seen.resource_version },
                "status": condition.put_into(&entry.seen.status, OffsetDateTime::now_utc()),
            });
            let parameters =
                PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            let patch = Patch::Merge(&body);
            let writing = api.patch_status(name, &parameters, &patch);
            match timeout(PATIENCE, writing).await {
                Ok(Ok(_)) => {
                    let (kind, accepted) = (kind.word(), condition.is_accepted);
                    tracing::info!(
                        kind,
                        name,
                        accepted,
                        reason = condition.reason,
                        "said what becomes of it"
                    );
                }
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                    tracing::debug!(name, code = status.code, "another was first, or it is gone");
                }
                Ok(Err(error)) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(kind = kind.word(), name, error, "its status cannot be written");
                }
                Err(_) => tracing::warn!(kind = kind.word(), name, "its status is not written in time"),
            }
        }
    }
}
