//! What the API server tells of pods beyond what their runtime does, and what is held until it has.

use super::{Known, News, Registry, Rules};
use crate::{
    config::pods::Labels,
    containers::{Member, Pod, rules::Claim},
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// What runtimes add to a pod's labels.
const OF_RUNTIME: &str = "io.kubernetes.";

/// What the API server has told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Whether it has told anything yet, to this agent or to one before.
    pub is_known: bool,
    /// The pods of this node, by namespace and name.
    pub pods: BTreeMap<(String, String), ToldPod>,
    /// The namespaces whose pods go free as long as nothing is known.
    pub spared: Vec<String>,
    /// The agent's own cgroup, from the mount's root: pods of its namespace go free then, too, one of which asks.
    pub own: Option<PathBuf>,
}

/// What it has told of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToldPod {
    /// The unique ids that the runtime may know it by: what is told of the next pod of a name is not the last one's.
    pub uids: Vec<String>,
    /// Its labels as they are now.
    pub labels: Labels,
    /// Its service account.
    pub service_account: String,
}

impl Told {
    /// Puts what is told of the pod in the place of what the runtime knows from its start.
    pub(super) fn apply(&self, pod: &mut Pod) {
        let told = self.pods.get(&(pod.namespace.clone(), pod.name.clone()));
        let Some(told) = told.filter(|told| told.uids.contains(&pod.uid)) else { return };
        pod.labels.retain(|key, _| key.starts_with(OF_RUNTIME));
        pod.labels.extend(told.labels.clone());
        pod.service_account = Some(told.service_account.clone());
    }
}

/// Who claims a pod and each of its containers, and whether that is still to be told.
type Governance = (Vec<Claim>, Vec<Vec<Claim>>, bool);

impl Registry {
    /// Takes other rules, and what the API server has told by now, and tells of every pod that this changes something for.
    /// Answers those, once they were seen to. What `along` does is seen by whoever sees any of it.
    pub async fn govern(&self, rules: Rules, told: Option<Told>, along: impl FnOnce()) -> Vec<Arc<Pod>> {
        let (changed, news) = {
            let mut known = self.write_after(along);
            let before = known.governance();
            known.rules = Arc::new(rules);
            let earlier = known.told.take();
            known.told = told.map(|told| known.keeping(told, earlier));
            known.apply_told();
            let after = known.governance();
            let changed: Vec<Arc<Pod>> = known
                .pods
                .iter()
                .filter(|(id, _)| before.get(*id) != after.get(*id))
                .map(|(_, pod)| Arc::clone(pod))
                .collect();
            let news: Vec<News> = changed.iter().flat_map(|pod| known.news_of(pod)).collect();
            (changed, news)
        };
        self.tell_all(news).await;
        changed
    }

    /// Whether the API server is still to tell what tells the member's workloads apart.
    pub fn awaits_of(&self, member: &Member) -> bool {
        self.read().awaits(member)
    }
}

impl Known {
    fn governance(&self) -> BTreeMap<String, Governance> {
        let of_pod = |(id, pod): (&String, &Arc<Pod>)| {
            let member = Member { pod: Some(Arc::clone(pod)), container: None };
            let inside = self.containers.values().filter(|container| container.pod.as_ref() == Some(id));
            let inside = inside.map(|container| self.rules.claims(&self.member(container))).collect();
            (id.clone(), (self.rules.claims(&member), inside, self.awaits(&member)))
        };
        self.pods.iter().map(of_pod).collect()
    }

    /// Also what was told of pods whose object is gone while their runtime still has them: they did not become others.
    fn keeping(&self, mut told: Told, earlier: Option<Told>) -> Told {
        for (place, pod) in earlier.into_iter().flat_map(|earlier| earlier.pods) {
            if self.pods.values().any(|known| pod.uids.contains(&known.uid)) {
                told.pods.entry(place).or_insert(pod);
            }
        }
        told
    }

    fn apply_told(&mut self) {
        let Some(told) = &self.told else { return };
        for pod in self.pods.values_mut() {
            let mut now = Pod::clone(pod);
            told.apply(&mut now);
            if now != **pod {
                *pod = Arc::new(now);
            }
        }
    }

    fn news_of(&self, pod: &Arc<Pod>) -> Vec<News> {
        let inside = self.containers.values().filter(|container| container.pod.as_deref() == Some(&*pod.id));
        let inside = inside.map(|container| News::Container(self.member(container)));
        std::iter::once(News::Pod(Arc::clone(pod))).chain(inside).collect()
    }

    /// As long as nothing is known, anybody may be governed; after that, whoever a rule would have to be told more of.
    pub(super) fn awaits(&self, member: &Member) -> bool {
        let (Some(told), Some(pod)) = (&self.told, &member.pod) else { return false };
        if told.is_known {
            return pod.service_account.is_none() && self.rules.are_unsure_of(member);
        }
        let own = self.pods.values().find(|pod| {
            told.own.as_ref().zip(pod.cgroup.as_ref()).is_some_and(|(own, cgroup)| own.starts_with(cgroup))
        });
        let is_spared = told.spared.contains(&pod.namespace);
        !is_spared && own.is_none_or(|own| own.namespace != pod.namespace)
    }
}

#[cfg(test)]
mod tests;
